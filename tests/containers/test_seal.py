"""What a stage can see and do in its container, tried from inside, on each engine."""

import json
import os
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelkiln.containers.engine import Engine
from modelkiln.containers.images import Image
from modelkiln.containers.sealing import PYTHON
from modelkiln.errors import EnvironmentFailure, KilnError, StageFailure
from modelkiln.paths import REPOSITORY
from modelkiln.runners import guard
from modelkiln.runners.containers import GUARD, DockerRunner
from modelkiln.runners.job import Job, Outcome
from tests.jobs import WRITE, make_job


def run(runner: DockerRunner, tmp_path: Path, job: Job) -> Outcome:
    scratch = Path(tempfile.mkdtemp(prefix="scratch-", dir=tmp_path))
    return runner.run(job, scratch, lambda *_: None)


def find(runner: DockerRunner, tmp_path: Path, expression: str, **inputs: str) -> object:
    """The value of an expression inside the container."""
    body = f"(step.out / 'out.txt').write_text(json.dumps({expression}))"
    outcome = run(runner, tmp_path, make_job(tmp_path, body, inputs))
    return json.loads(outcome.outputs["out.txt"].read_text())


def fail(runner: DockerRunner, tmp_path: Path, body: str) -> KilnError:
    with pytest.raises(KilnError) as caught:
        run(runner, tmp_path, make_job(tmp_path, body))
    return caught.value


# Tries something in the container; gives the error's name, or "done".
ATTEMPT = """
def attempt(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__ + ': ' + (error.strerror or str(error))
    return 'done'
"""


def attempt(runner: DockerRunner, tmp_path: Path, *actions: str) -> list[str]:
    tried = ", ".join(f"attempt(lambda: {one})" for one in actions)
    body = f"{ATTEMPT}\n(step.out / 'out.txt').write_text(json.dumps([{tried}]))"
    outcome = run(runner, tmp_path, make_job(tmp_path, body, {"known": "input"}))
    found: list[str] = json.loads(outcome.outputs["out.txt"].read_text())
    return found


def test_a_stage_sees_its_inputs_and_its_outcome_says_the_seal(
    runner: DockerRunner, tmp_path: Path
) -> None:
    body = "(step.out / 'out.txt').write_text(step.input('a').read_text() + str(step.param('one')))"
    outcome = run(runner, tmp_path, make_job(tmp_path, body, {"a": "in"}))
    assert outcome.outputs["out.txt"].read_text() == "in1"
    assert outcome.metrics == {"answer": 42}
    assert outcome.peak_rss > 1_000_000
    assert outcome.seal["sealed"] == "full"
    assert outcome.seal["network"] == "none"


def test_there_is_no_network_and_no_name_is_found(runner: DockerRunner, tmp_path: Path) -> None:
    tcp, loopback, name = attempt(
        runner,
        tmp_path,
        "socket.create_connection(('1.1.1.1', 53), timeout=3)",
        "socket.create_connection(('127.0.0.1', 22), timeout=3)",
        "socket.getaddrinfo('example.org', 80)",
    )
    assert "unreachable" in tcp
    assert "refused" in loopback
    assert "name resolution" in name or "not known" in name
    assert find(runner, tmp_path, "sorted(os.listdir('/sys/class/net'))") == ["lo"]


def test_nothing_but_the_scratch_folder_can_be_written(
    runner: DockerRunner, tmp_path: Path
) -> None:
    refused = attempt(
        runner,
        tmp_path,
        "open('/canary', 'w')",
        "open('/opt/venv/canary', 'w')",
        "open('/etc/hosts', 'w')",
        "open('/modelkiln/guard.py', 'w')",
        "open('inputs/known', 'w')",
        "os.unlink('inputs/known')",
        "os.chmod('inputs/known', 0o666)",
        "open('src/exporters/protocol.py', 'w')",
        "open('src/new.py', 'w')",
        "open('/sys/fs/cgroup/canary', 'w')",
        "open('/proc/sys/kernel/hostname', 'w')",
    )
    assert [one for one in refused if one == "done"] == []
    assert (tmp_path / "known").read_text() == "input"


def test_scratch_and_temporary_files_can_be_written(runner: DockerRunner, tmp_path: Path) -> None:
    allowed = attempt(
        runner,
        tmp_path,
        "open('/scratch/mine', 'w')",
        "open('/tmp/mine', 'w')",
        "os.mkdir('home/a')",
    )
    assert allowed == ["done"] * 3


def test_it_is_not_root_and_cannot_become_it(runner: DockerRunner, tmp_path: Path) -> None:
    status = find(
        runner,
        tmp_path,
        "{l.split(':')[0]: l.split(':')[1].strip() for l in open('/proc/self/status')}",
    )
    assert isinstance(status, dict)
    uid = os.getuid() or 65532
    assert status["Uid"].split() == [str(uid)] * 4
    assert {status[name].strip("0") for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {""}
    assert status["NoNewPrivs"] == "1"


def test_no_other_steps_files_are_seen(runner: DockerRunner, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "secret").write_text("canary")
    host = [str(one) for one in (other, tmp_path, REPOSITORY, Path.home() / ".ssh")]
    host.append("/var/run/docker.sock")
    here = ["/scratch", "/tmp", "/proc", "/sys", "/dev", "/etc", "/usr", "/opt"]
    found = find(runner, tmp_path, f"[one for one in {host + here!r} if os.path.exists(one)]")
    assert found == here
    assert find(runner, tmp_path, "sorted(os.listdir('inputs'))", known="input") == ["known"]


def test_nothing_of_the_hosts_environment_is_seen(
    runner: DockerRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "canary")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:canary@127.0.0.1:1")
    seen = find(runner, tmp_path, "dict(os.environ)")
    assert isinstance(seen, dict)
    assert "canary" not in json.dumps(seen)
    assert seen["HOME"] == "/scratch/home"
    assert not {"HOSTNAME", "GPG_KEY", "container"} & seen.keys()


class Payload:
    """A pickle that runs code when it is opened: it leaves a canary wherever it can."""

    def __init__(self, places: list[str]) -> None:
        self.places = places

    def __reduce__(self) -> tuple[object, tuple[str]]:
        lines = [
            "import os, socket",
            f"for place in {self.places!r}:",
            "    try: open(place, 'w').write('canary')",
            "    except OSError: pass",
            "try: socket.create_connection(('127.0.0.1', 9), 1).send(b'canary')",
            "except OSError: pass",
            "os.environ['CANARY'] = 'sings'",
        ]
        return exec, ("\n".join(lines),)


def test_a_checkpoint_that_runs_code_changes_nothing_outside(
    runner: DockerRunner, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    job = make_job(
        tmp_path,
        "import pickle\n"
        "pickle.loads(step.input('checkpoint').read_bytes())\n"
        "(step.out / 'out.txt').write_text(os.environ['CANARY'])",
        {"checkpoint": ""},
    )
    places = [f"{outside}/canary", "/opt/venv/canary", "inputs/checkpoint", "/etc/canary"]
    checkpoint = tmp_path / "checkpoint"
    checkpoint.write_bytes(pickle.dumps(Payload(places)))
    whole = checkpoint.read_bytes()
    before = _files(tmp_path)
    outcome = run(runner, tmp_path, job)
    # It did run, so that what follows means something.
    assert outcome.outputs["out.txt"].read_text() == "sings"
    assert list(outside.iterdir()) == []
    assert checkpoint.read_bytes() == whole
    assert _files(tmp_path) == before


def _files(folder: Path) -> list[Path]:
    return sorted(one for one in folder.rglob("*") if "scratch-" not in str(one))


# A result of the stage's own making.
LIE = (
    "result = {{'outputs': [{}], 'metrics': {{}}, 'modules': []}}\n"
    "open('/scratch/result.json', 'w').write(json.dumps(result)); os._exit(0)"
)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("(step.out / 'out.txt').symlink_to('/etc/hostname')", "plain"),
        (WRITE + "os.link(step.out / 'out.txt', step.out.parent / 'other')", "plain"),
        (
            WRITE + "os.rename(step.out, '/scratch/aside'); step.out.symlink_to('/scratch/aside')",
            "link",
        ),
        (WRITE + "(step.out / 'more.txt').write_text('x')", "not named: more.txt"),
        ("os.mkfifo(step.out / 'out.txt')", "did not write"),
        (
            WRITE + "os.symlink('/etc/passwd', '/scratch/result.json'); os._exit(0)",
            "without a result",
        ),
        (WRITE + "os.mkfifo('/scratch/result.json'); os._exit(0)", "without a result"),
        (WRITE + LIE.format("{}"), "without a result"),
        (WRITE + LIE.format("'../../out.txt'"), "without a result"),
    ],
)
def test_outputs_are_plain_files_that_stay_inside(
    runner: DockerRunner, tmp_path: Path, body: str, said: str
) -> None:
    error = fail(runner, tmp_path, body)
    assert isinstance(error, StageFailure)
    assert said in str(error)


def test_files_that_only_the_caller_may_read_are_read(
    runner: DockerRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "guard.py"
    private.write_bytes(Path(guard.__file__).read_bytes())
    private.chmod(0o600)
    monkeypatch.setattr(guard, "__file__", str(private))
    job = make_job(
        tmp_path, "(step.out / 'out.txt').write_text(step.input('a').read_text())", {"a": "in"}
    )
    for path in (*job.inputs.values(), *job.sources.values()):
        if tmp_path in path.parents:
            path.chmod(0o600)
    assert run(runner, tmp_path, job).outputs["out.txt"].read_text() == "in"


def test_what_it_writes_belongs_to_the_caller_or_to_nobody(
    runner: DockerRunner, tmp_path: Path
) -> None:
    outcome = run(runner, tmp_path, make_job(tmp_path, WRITE))
    assert outcome.outputs["out.txt"].stat().st_uid == (os.getuid() or 65532)


BREACHES: dict[str, dict[str, object]] = {
    "network: it has": {"network_mode": "bridge"},
    "user: it runs as": {"user": "0:0"},
    "capabilities:": {"cap_drop": []},
    "privileges: new ones can be gained": {"security_opt": []},
    "files: the root is writable": {"read_only": False},
}


@pytest.mark.parametrize("said", BREACHES)
def test_the_guard_starts_nothing_where_the_seal_is_broken(
    engine: Engine, toy_image: Image, tmp_path: Path, said: str
) -> None:
    found = _examine(engine, toy_image, tmp_path, BREACHES[said])
    assert any(one.startswith(said) for one in found["broken"]), found
    assert not (tmp_path / "started").exists()


def test_the_guard_notices_a_file_that_is_no_input(
    engine: Engine, toy_image: Image, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("canary")
    found = _examine(engine, toy_image, tmp_path, {}, extra=str(tmp_path / "secret"))
    assert "files: it sees /secret" in found["broken"]


def _examine(
    engine: Engine,
    image: Image,
    scratch: Path,
    changes: Mapping[str, object],
    *,
    extra: str = "",
) -> dict[str, list[str]]:
    """What the guard finds in a container that was asked for with one thing missing."""
    from docker.types import Mount

    (scratch / "step.json").touch()
    scratch.chmod(0o777)
    mounts = [
        Mount("/scratch", str(scratch), type="bind"),
        Mount(GUARD, guard.__file__, type="bind", read_only=True),
    ]
    told = {
        "command": ["touch", "/scratch/started"],
        "environment": {"PATH": "/usr/bin:/bin"},
        "uid": 65532,
        "gpu": False,
        "timeout_s": 10,
        "mounts": [one["Target"] for one in mounts],
    }
    if extra:
        mounts.append(Mount("/secret", extra, type="bind", read_only=True))
    options = {
        "user": "65532:65532",
        "network_mode": "none",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "tmpfs": {"/tmp": "size=1000000"},
        **changes,
    }
    container = engine.client.containers.create(
        image.id,
        entrypoint=[PYTHON, "-I", "-S", "-B", GUARD, json.dumps(told)],
        mounts=mounts,
        **options,  # type: ignore[arg-type]
    )
    try:
        container.start()
        assert container.wait()["StatusCode"] == guard.REFUSED
        said = container.logs(stdout=True, stderr=False).splitlines()[0]
        found: dict[str, list[str]] = json.loads(said)
        return found
    finally:
        container.remove(force=True, v=True)


def test_a_gpu_is_asked_for_and_looked_for(runner: DockerRunner, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        run(runner, tmp_path, make_job(tmp_path, WRITE, gpu=True))
    assert "no GPU" in caught.value.what
    assert "toolkit" in caught.value.next
