"""Builds through the command line, with the toy family: what a user sees, and what is left."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.commands.build import build_targets
from modelkiln.errors import EnvironmentFailure
from modelkiln.fetch import download
from modelkiln.fetch.download import Patience
from modelkiln.paths import REPOSITORY
from modelkiln.store.store import Store

Invoke = Callable[..., "subprocess.CompletedProcess[str]"]
RANDOM = ("--weights", "random")
TARGET = "toy_a/words/toy-text"


def folder(toy: Path, model: str = "toy_a", contract: str = "words") -> Path:
    return toy / "out" / f"{model}+random0" / contract / "toy-text"


def assert_sound(toy: Path) -> None:
    assert Store(toy).verify() == []
    assert not [one for one in (toy / "scratch").iterdir() if one.is_dir()]


def test_a_build_publishes_and_a_second_does_nothing(command_line: Invoke, toy: Path) -> None:
    first = command_line("build", TARGET, *RANDOM)
    assert first.returncode == 0, first.stderr
    assert "verified: words agree" in first.stdout
    names = {path.name for path in folder(toy).iterdir()}
    assert names == {"words.txt", "verification.json", "manifest.json"}
    second = command_line("build", TARGET, *RANDOM)
    assert second.returncode == 0
    assert "(up to date)" in second.stdout
    assert "start" not in second.stderr
    assert_sound(toy)


def test_the_manifest_names_everything_and_no_place(built: Path, shared_room: Path) -> None:
    text = (folder(built) / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["weights"] == {
        "kind": "random",
        "seed": 0,
        "warning": "random weights: this mask means nothing",
    }
    assert set(manifest["steps"]) == {
        "toy_a+random0/ingest",
        "toy_a+random0/words/export",
        "toy_a+random0/words/convert",
        "toy_a+random0/toy/reference",
        "toy_a+random0/words/toy-text/verify",
    }
    assert str(built) not in text and str(shared_room) not in text
    assert os.uname().nodename not in text.replace("localhost", "")


def test_as_json(invoke: Invoke) -> None:
    done = invoke("build", TARGET, *RANDOM, "--json")
    told = json.loads(done.stdout)
    assert told["published"][0]["target"] == "toy_a+random0/words/toy-text"
    assert told["failed"] == []
    assert len(told["seconds"]) == 5


def test_a_dry_run_does_nothing(invoke: Invoke, toy: Path) -> None:
    done = invoke("build", TARGET, *RANDOM, "--dry-run")
    assert done.returncode == 0
    assert "1 run, 4 pending" in done.stdout
    assert not (toy / "records").exists()


@pytest.mark.parametrize("how", ["edit", "remove", "link", "link to the same"])
def test_a_published_file_that_was_changed_is_restored(
    invoke: Invoke, built: Path, tmp_path: Path, how: str
) -> None:
    path = folder(built) / "words.txt"
    before = path.read_bytes()
    if how == "edit":
        path.chmod(0o644)
        path.write_bytes(b"Words: seed 0")
    else:
        path.unlink()
    elsewhere = b"other" if how == "link" else before
    if how.startswith("link"):
        (tmp_path / "elsewhere").write_bytes(elsewhere)
        path.symlink_to(tmp_path / "elsewhere")
    done = invoke("build", TARGET, *RANDOM)
    assert done.returncode == 0
    assert "was restored" in done.stderr
    assert path.read_bytes() == before
    assert not path.is_symlink()
    if how.startswith("link"):
        assert (tmp_path / "elsewhere").read_bytes() == elsewhere


def record_of(toy: Path, step: str) -> Any:
    record = Store(toy).latest(step)
    assert record is not None
    return record


@pytest.mark.parametrize("same_size", [True, False])
def test_a_damaged_file_of_the_store_is_rebuilt_with_one_warning(
    invoke: Invoke, built: Path, same_size: bool
) -> None:
    record = record_of(built, "toy_a+random0/ingest")
    path = Store(built).blob_path(record.outputs["weights.safetensors"].sha256)
    path.chmod(0o644)
    path.write_bytes(b"seed 1" if same_size else b"short")
    # Another variant has to read the damaged file.
    done = invoke("build", "toy_a/words@upper/toy-text", *RANDOM)
    assert done.returncode == 0, done.stderr
    # A missing or shorter file is known from stat and is no surprise to whoever rebuilds it.
    assert done.stderr.count("warning") == same_size
    assert path.read_bytes() == b"seed 0"
    assert_sound(built)


def test_what_fails_verification_goes_nowhere(invoke: Invoke, toy: Path) -> None:
    done = invoke("build", "toy_wrong/words/toy-text", *RANDOM)
    assert done.returncode == 6
    assert "words differ" in done.stderr and "next:" in done.stderr
    assert not folder(toy, "toy_wrong").exists()


def test_a_killed_stage_is_told_as_memory(invoke: Invoke, toy_copy: Path, toy: Path) -> None:
    models = toy_copy / "models" / "toy.toml"
    models.write_text(models.read_text().replace('"differ"', '"die"'))
    done = invoke("build", "toy_wrong/words/toy-text", *RANDOM)
    assert done.returncode == 9
    assert "memory" in done.stderr
    assert_sound(toy)


def test_keep_going_builds_the_rest(invoke: Invoke, toy: Path) -> None:
    done = invoke("build", "toy_wrong/words/toy-text," + TARGET, *RANDOM, "--keep-going")
    assert done.returncode == 6
    assert (folder(toy) / "manifest.json").is_file()


@dataclass(frozen=True, kw_only=True)
class Impatient(Patience):
    """Tries again at once."""

    pause: float = 0.0


def test_official_weights_that_cannot_be_had_are_never_replaced(
    make_kiln: Callable[..., Kiln], invoke: Invoke, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "Patience", Impatient)
    with pytest.raises(EnvironmentFailure, match=r"toy_a\.pt") as caught:
        build_targets(make_kiln(weights="official"), TARGET)
    assert caught.value.exit_code == 4
    assert not (toy / "out").exists()
    offline = invoke("build", TARGET, "--offline")
    assert offline.returncode == 4
    assert "offline" in offline.stderr
    assert not (toy / "out").exists()


def test_build_all_lists_what_it_cannot_build(command_line: Invoke) -> None:
    done = command_line("build-all", "--offline")
    assert done.returncode == 4
    assert "cannot build toy_a/words/toy-text: toy_a.pt is not in the cache" in done.stderr
    assert "cannot build sam2.1_hiera_tiny/image/onnx-fp32" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("build", "toy_c/words/toy-text"), 2, "toy_a"),
        (("build", "nothing*/words/toy-text"), 2, "There is no model"),
        (("build", TARGET, "--set", "case=middle"), 2, "lower, upper"),
        (("build", TARGET, "--set", "colour=red"), 2, "No contract or format has a parameter"),
        (("build", TARGET, "--runner", "docker"), 4, "No container engine listens"),
        (("build", TARGET, "--runner", "slurm"), 2, "auto, local and docker"),
        (("build", TARGET, "--weights", "/nowhere/model.pt"), 2, "/nowhere/model.pt"),
        (("build", TARGET, "--weights", "random:x"), 2, "seed"),
        (
            ("predict", TARGET, "cat.jpg"),
            2,
            "is for invoke track; made for invoke predict: features",
        ),
        (("track", TARGET, "cat.mp4", "--box", "0,0,9,9"), 2, "There is no video"),
        (("inspect", f"{TARGET}", *RANDOM), 2, "has not been built"),
        (("verify", f"{TARGET}", *RANDOM), 2, "has not been built"),
        (("report", f"{TARGET}", *RANDOM), 2, "has not been built"),
        (("inspect", "toy_*/words/toy-text", *RANDOM), 2, "names 4 targets"),
        (("reproduce", "toy_*/words/toy-text", *RANDOM), 2, "names 4 targets"),
        (("weights-check", *RANDOM), 2, "real weights"),
    ],
)
def test_wrong_commands_say_what_why_and_next(
    invoke: Invoke, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = invoke(*arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "why:" in done.stderr and "next:" in done.stderr


def start(toy: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=REPOSITORY,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(toy: Path, pattern: str) -> None:
    for _ in range(400):
        if list(toy.glob(pattern)):
            return
        time.sleep(0.05)
    raise AssertionError(f"{pattern} did not appear in {toy}")


def stages_alive(toy: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if path.readlink().is_relative_to(toy):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_build_leaves_nothing_behind(
    invoke: Invoke, toy: Path, sign: signal.Signals
) -> None:
    process = start(toy, "build", "toy_slow/words/toy-text", *RANDOM)
    wait_for(toy, "scratch/*/started")
    process.send_signal(sign)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130, said
    assert "Stopped" in said
    assert stages_alive(toy) == []
    assert_sound(toy)
    # What was finished is kept.
    assert "hit" in invoke("plan", "toy_slow/words/toy-text", *RANDOM).stdout


def test_a_killed_build_leaves_a_valid_store_and_no_stage(invoke: Invoke, toy: Path) -> None:
    process = start(toy, "build", "toy_slow/words/toy-text", *RANDOM)
    wait_for(toy, "scratch/*/started")
    process.kill()
    process.communicate(timeout=20)
    for _ in range(100):
        if not stages_alive(toy):
            break
        time.sleep(0.05)
    assert stages_alive(toy) == []
    assert Store(toy).verify() == []
    # The next command clears what the killed one left.
    assert invoke("build", TARGET, *RANDOM).returncode == 0
    assert_sound(toy)


def test_two_builders_share_the_work(toy: Path) -> None:
    builders = [start(toy, "build", TARGET, *RANDOM, "--json") for _ in range(2)]
    told = [json.loads(one.communicate(timeout=60)[0]) for one in builders]
    assert [one.returncode for one in builders] == [0, 0]
    assert all(one["published"] for one in told)
    # Each step ran in exactly one of them.
    ran = [step for one in told for step in one["seconds"]]
    assert sorted(ran) == sorted(json.loads(manifest(toy).read_text())["steps"])
    assert_sound(toy)


def manifest(toy: Path) -> Path:
    return folder(toy) / "manifest.json"


def test_a_waiting_builder_says_for_whom(toy: Path, toy_copy: Path) -> None:
    behaviour = toy_copy / "exporters" / "toy" / "behaviour.py"
    behaviour.write_text(behaviour.read_text().replace("time.sleep(60)", "time.sleep(3)"))
    first = start(toy, "build", "toy_slow/words/toy-text", *RANDOM)
    wait_for(toy, "scratch/*/started")
    second = start(toy, "build", "toy_slow/words/toy-text", *RANDOM)
    _, said = second.communicate(timeout=60)
    first.communicate(timeout=60)
    assert first.returncode == second.returncode == 0
    assert "made by another builder" in said


def test_dry_runs_and_json_everywhere(invoke: Invoke, toy: Path) -> None:
    for task in ("verify", "reproduce", "report", "predict", "track"):
        picture = ["cat.jpg"] if task in ("predict", "track") else []
        done = invoke(task, TARGET, *picture, *RANDOM, "--dry-run", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["would_use"]["targets"] == ["toy_a+random0/words/toy-text"]
    for task in ("quickstart", "weights-check", "test", "lint", "bench.export", "doctor"):
        assert invoke(task, "--dry-run").returncode == 0
    assert not (toy / "records").exists()


def test_inspect_tells_what_a_target_is(command_line: Invoke, invoke: Invoke, built: Path) -> None:
    done = command_line("inspect", TARGET, *RANDOM)
    assert done.returncode == 0, done.stderr
    for text in ("words.txt", "random weights", "words agree", "toy_a+random0/ingest"):
        assert text in done.stdout
    told = json.loads(invoke("inspect", TARGET, *RANDOM, "--json").stdout)
    assert told["signature"][0]["file"] == "words.txt"


def test_until_stops_there_and_publishes_nothing(invoke: Invoke, toy: Path) -> None:
    done = invoke("build", TARGET, *RANDOM, "--until", "export")
    assert done.returncode == 0, done.stderr
    assert "until export; nothing is published" in done.stdout
    assert not (toy / "out").exists()
    wrong = invoke("build", "toy_wrong/words/toy-text", *RANDOM, "--until", "export")
    assert wrong.returncode == 6
    assert "nothing is published" not in wrong.stdout
    assert invoke("build", TARGET, *RANDOM, "--until", "bake").returncode == 2


def make_official(toy_copy: Path, mirror: Path, *models: str) -> None:
    """Give toy models checkpoints that can be had from a mirror."""
    mirror.mkdir()
    path = toy_copy / "models" / "toy.toml"
    text = path.read_text()
    for number, model in enumerate(models, start=1):
        content = model.encode()
        (mirror / f"{model}.pt").write_bytes(content)
        text = text.replace(str(number) * 64, hashlib.sha256(content).hexdigest())
        at = text.index(f"[models.{model}]")
        text = text[:at] + text[at:].replace(
            "checkpoint.bytes = 4", f"checkpoint.bytes = {len(content)}", 1
        )
    path.write_text(text)


@pytest.mark.parametrize("by_flag", [True, False])
def test_a_mirror_serves_official_weights(
    invoke: Invoke, toy: Path, toy_copy: Path, tmp_path: Path, by_flag: bool
) -> None:
    mirror = tmp_path / "mirror"
    make_official(toy_copy, mirror, "toy_a")
    flags = ("--mirror", str(mirror)) if by_flag else ()
    settings = {} if by_flag else {"MODELKILN_MIRROR": str(mirror)}
    done = invoke("build", TARGET, *flags, settings=settings)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((toy / "out" / TARGET / "manifest.json").read_text())
    assert manifest["weights"]["kind"] == "official"


def test_weights_check_reports_every_target(
    command_line: Invoke, toy_copy: Path, tmp_path: Path
) -> None:
    mirror, page = tmp_path / "mirror", tmp_path / "check.html"
    make_official(toy_copy, mirror, "toy_a", "toy_b", "toy_wrong")
    done = command_line(
        "weights-check", "--models", "toy_a,toy_b,toy_wrong", "--out", str(page),
        "--mirror", str(mirror),
    )  # fmt: skip
    assert done.returncode == 6, done.stderr
    assert "2 of 3 targets pass every gate" in done.stdout
    text = page.read_text()
    assert all(name in text for name in ("toy_a/words", "toy_b/words", "words differ"))


def test_build_all_builds_what_a_mirror_has(
    invoke: Invoke, toy: Path, toy_copy: Path, tmp_path: Path
) -> None:
    make_official(toy_copy, tmp_path / "mirror", "toy_a", "toy_b")
    done = invoke("build-all", "--offline", "--mirror", str(tmp_path / "mirror"))
    assert done.returncode == 0, done.stderr
    assert "cannot build toy_wrong/words/toy-text" in done.stderr
    assert (toy / "out" / TARGET / "manifest.json").is_file()


def test_an_environment_can_be_removed_and_comes_back(
    command_line: Invoke, invoke: Invoke, toy: Path, tmp_path: Path
) -> None:
    settings = {"MODELKILN_CACHE": str(tmp_path / "cache")}
    assert invoke("build", TARGET, *RANDOM, settings=settings).returncode == 0
    listed = json.loads(command_line("env.list", "--json", settings=settings).stdout)
    assert [one["name"] for one in listed] == ["bare"]
    assert json.loads(invoke("env.prune", "--json", settings=settings).stdout) == []
    gone = json.loads(command_line("env.prune", "--all", "--json", settings=settings).stdout)
    assert [one["name"] for one in gone] == ["bare"]
    again = invoke("build", "toy_b/words/toy-text", *RANDOM, settings=settings)
    assert again.returncode == 0, again.stderr


def test_a_read_only_store_still_serves(built: Path) -> None:
    if os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"]).returncode:
        pytest.skip("root, and no mount namespace to make the store read-only in")
    command = f"{sys.executable} -m invoke build {TARGET} --weights random"
    if os.geteuid() == 0:
        script = f"mount --bind {built} {built} && mount -o remount,ro,bind {built} && {command}"
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
        )
    else:
        for path in (built, *(one for one in built.rglob("*") if one.is_dir())):
            path.chmod(0o555)
        done = subprocess.run(command.split(), cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(up to date)" in done.stdout


@pytest.mark.parametrize("size", ["40k", "64k", "90k"])
def test_a_full_disk_ends_with_9_and_leaves_a_valid_store(
    toy: Path, tmp_path: Path, size: str
) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mount = f"mount -t tmpfs -o size={size} none {place}"
    if subprocess.run(["unshare", "--mount", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("no right to mount a small tmpfs")
    check = (
        "from pathlib import Path; from modelkiln.store.store import Store;"
        f"s = Store(Path({str(place)!r})); assert s.verify() == [];"
        "assert not [one for one in (s.root / 'scratch').iterdir() if one.is_dir()]"
    )
    script = (
        f"{mount} && export MODELKILN_ARTIFACTS={place} && "
        f"{sys.executable} -m invoke build {TARGET} --weights random; echo status $?;"
        f'{sys.executable} -c "{check}" && echo sound'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert "status 9" in done.stdout, done.stderr
    assert "sound" in done.stdout, done.stderr
    assert "full" in done.stderr and "store.gc" in done.stderr


def test_another_time_zone_umask_and_seed_change_nothing(command_line: Invoke) -> None:
    done = command_line("reproduce", TARGET, *RANDOM)
    assert done.returncode == 0, done.stderr
    assert "the same bytes in build 1 and build 2" in done.stdout


def test_a_stage_that_reads_the_hash_seed_is_not_reproducible(
    invoke: Invoke, toy_copy: Path
) -> None:
    export = toy_copy / "exporters" / "stages" / "export.py"
    text = export.read_text()
    export.write_text(text.replace('"words: " +', 'f"{hash(str(step.stage))} words: " +'))
    done = invoke("reproduce", TARGET, *RANDOM)
    assert done.returncode == 7, done.stderr
    assert "words.txt" in done.stderr


def test_gc_keeps_what_is_published(command_line: Invoke, invoke: Invoke, built: Path) -> None:
    invoke("build", "toy_b/words/toy-text", *RANDOM)
    for path in sorted(folder(built, "toy_b").parent.parent.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    done = command_line("store.gc", "--json")
    told = json.loads(done.stdout)
    assert told["records"] and all("toy_b" in one for one in told["records"])
    assert "(up to date)" in invoke("build", TARGET, *RANDOM).stdout


def test_store_verify_names_the_damage(command_line: Invoke, invoke: Invoke, built: Path) -> None:
    assert invoke("store.verify").returncode == 0
    record = record_of(built, "toy_a+random0/words/convert")
    path = Store(built).blob_path(record.outputs["words.txt"].sha256)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().upper())
    done = command_line("store.verify")
    assert done.returncode == 8
    assert path.name in done.stdout and "toy_a+random0/words/convert" in done.stdout


def test_verify_notices_an_edited_file(command_line: Invoke, invoke: Invoke, built: Path) -> None:
    assert invoke("verify", TARGET, *RANDOM).returncode == 0
    path = folder(built) / "words.txt"
    path.chmod(0o644)
    path.write_text("other words")
    done = command_line("verify", TARGET, *RANDOM)
    assert done.returncode == 6
    assert "words.txt" in done.stderr


def test_the_list_of_tasks_is_a_manual(command_line: Invoke) -> None:
    listed = command_line("--list").stdout
    for name in (
        "build", "build-all", "plan", "verify", "predict", "inspect", "doctor", "weights-check",
        "store.verify", "store.gc", "env.list", "env.prune", "bench.export", "bench.null",
        "reproduce", "quickstart", "test", "targets", "report", "track",
    ):  # fmt: skip
        assert f"  {name} " in listed
    shared = command_line("--help", "build").stdout
    for flag in (
        "weights", "runner", "jobs", "keep-going", "dry-run", "offline", "json", "opset",
        "simplifier", "trust", "mirror",
    ):  # fmt: skip
        assert f"--{flag}" in shared
