"""Builds through the command line, with the toy family: what a user sees, and what is left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelkiln.building.build import Built, rests_on
from modelkiln.paths import REPOSITORY
from modelkiln.store.store import Store
from tests.modelkiln.lower_precision import INT8, MakeKiln, own
from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke, assert_sound, folder, record_of


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


def test_keep_going_builds_the_rest(invoke: Invoke, toy: Path) -> None:
    done = invoke("build", "toy_wrong/words/toy-text," + TARGET, *RANDOM, "--keep-going")
    assert done.returncode == 6
    assert (folder(toy) / "manifest.json").is_file()


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


def test_a_remembered_answer_rests_on_the_pictures(make_kiln: MakeKiln, own_pictures: Path) -> None:
    kiln = make_kiln(parameters=own(own_pictures))
    built = Built(published=(), failed=(), seconds={}, records={})
    files = set(rests_on(kiln, built, kiln.targets(INT8)))
    assert files == {own_pictures, *(own_pictures / f"{number}.png" for number in range(3))}
    assert not set(rests_on(make_kiln(), built, make_kiln().targets(INT8)))
