"""The local runner and the stage protocol, with real processes."""

import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from modelkiln.errors import (
    EnvironmentFailure,
    Interrupted,
    KilnError,
    OutOfSpace,
    PinError,
    StageFailure,
    UsageError,
    VerificationFailure,
)
from modelkiln.runners.job import Job, Outcome
from modelkiln.runners.processes import LocalRunner
from modelkiln.util.machine import can_unshare_net
from tests.jobs import WRITE, make_job


def job(tmp_path: Path, body: str, timeout_s: int = 30, **inputs: str) -> Job:
    return make_job(tmp_path, body, inputs, timeout_s=timeout_s)


def make_runner() -> LocalRunner:
    runner = LocalRunner(lambda _: Path(sys.executable))
    runner.get_ready(["bare"])
    return runner


def run(tmp_path: Path, one: Job, runner: LocalRunner | None = None) -> Outcome:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return (runner or make_runner()).run(one, scratch, lambda *_: None)


def fails(tmp_path: Path, body: str, **given: Any) -> KilnError:
    with pytest.raises(KilnError) as caught:
        run(tmp_path, job(tmp_path, body, **given))
    assert caught.value.why and caught.value.next
    return caught.value


def test_a_stage_sees_its_inputs_and_parameters(tmp_path: Path) -> None:
    body = "(step.out / 'out.txt').write_text(step.input('a').read_text() + str(step.param('one')))"
    outcome = run(tmp_path, job(tmp_path, body, a="in"))
    assert outcome.outputs["out.txt"].read_text() == "in1"
    assert outcome.metrics == {"answer": 42}
    assert outcome.seconds > 0
    assert outcome.peak_rss > 1_000_000
    assert outcome.seal["sealed"] == "partial"


def test_nothing_of_the_hosts_environment_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "canary")
    body = "(step.out / 'out.txt').write_text(json.dumps(dict(os.environ)))"
    seen = json.loads(run(tmp_path, job(tmp_path, body)).outputs["out.txt"].read_text())
    assert "SECRET_TOKEN" not in seen
    assert seen["TZ"] == "UTC"
    assert seen["PYTHONHASHSEED"] == "0"
    assert seen["HOME"].startswith(str(tmp_path))


def test_a_module_that_was_not_declared_cannot_be_imported(tmp_path: Path) -> None:
    error = fails(tmp_path, "import exporters.graphs.structure\n" + WRITE)
    assert "ModuleNotFoundError" in str(error)


@pytest.mark.skipif(not can_unshare_net(), reason="this kernel or user allows no unshare --net")
def test_the_network_is_gone(tmp_path: Path) -> None:
    body = (
        "try:\n"
        "    socket.create_connection(('127.0.0.1', 1), timeout=2)\n"
        "except OSError as error:\n"
        "    (step.out / 'out.txt').write_text(error.strerror or str(error))\n"
    )
    outcome = run(tmp_path, job(tmp_path, body))
    assert "unreachable" in outcome.outputs["out.txt"].read_text()
    assert outcome.seal["network"] == "none"


def test_progress_arrives_and_other_prints_do_not_disturb(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    told: list[tuple[float | None, str]] = []
    body = "print('noise')\nreport_progress(0.5, 'half')\nreport_progress(None, 'on')\n" + WRITE
    make_runner().run(job(tmp_path, body), scratch, lambda share, text: told.append((share, text)))
    assert told == [(0.5, "half"), (None, "on")]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (2, UsageError),
        (3, PinError),
        (4, EnvironmentFailure),
        (5, StageFailure),
        (6, VerificationFailure),
        (9, OutOfSpace),
    ],
)
def test_an_error_keeps_its_three_parts_and_its_code(
    tmp_path: Path, code: int, kind: type[KilnError]
) -> None:
    error = fails(tmp_path, f"raise StageError('what', 'why', 'next', exit_code={code})")
    assert type(error) is kind
    assert (error.what, error.why, error.next) == ("toy/stage failed. what", "why", "next")
    assert error.exit_code == code


def test_a_crash_shows_the_last_lines(tmp_path: Path) -> None:
    error = fails(tmp_path, "sys.stderr.write('the last word\\n')\nsys.stderr.flush()\nos._exit(3)")
    assert "status 3" in error.what
    assert "the last word" in error.why


def test_a_killed_stage_is_told_as_memory(tmp_path: Path) -> None:
    error = fails(tmp_path, "os.kill(os.getpid(), 9)")
    assert isinstance(error, OutOfSpace)


def test_a_segfault_is_told_by_its_signal(tmp_path: Path) -> None:
    assert "signal 11" in fails(tmp_path, "os.kill(os.getpid(), 11)").what


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("pass", "did not write"),
        (WRITE + "(step.out / 'more.txt').write_text('x')", "not named: more.txt"),
        ("(step.out / 'out.txt').touch()", "non-empty"),
        ("(step.out / 'out.txt').symlink_to('/etc/hostname')", "plain"),
        (WRITE + "os.link(step.out / 'out.txt', step.out.parent / 'other')", "plain"),
        (WRITE + "os._exit(0)", "without a result"),
        (
            "os.rename(step.out, step.out.parent / 'aside')\n"
            "step.out.symlink_to('aside')\n" + WRITE,
            "the folder of the outputs is a link",
        ),
        (WRITE + "os.mkfifo(step.out.parent / 'result.json')\nos._exit(0)", "without a result"),
    ],
)
def test_outputs_are_plain_files_that_the_result_names(
    tmp_path: Path, body: str, said: str
) -> None:
    assert said in str(fails(tmp_path, body))


def test_a_stage_that_hangs_is_ended(tmp_path: Path) -> None:
    began = time.monotonic()
    error = fails(tmp_path, "time.sleep(60)", timeout_s=1)
    assert "longer than 1 s" in error.what
    assert time.monotonic() - began < 20


def test_stop_ends_a_stage_that_ignores_nothing(tmp_path: Path) -> None:
    runner = make_runner()
    threading.Timer(0.5, lambda: runner.stop(kill=False)).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        run(tmp_path, job(tmp_path, "time.sleep(60)"), runner)
    assert time.monotonic() - began < 10


def test_stop_kills_a_stage_that_ignores_term(tmp_path: Path) -> None:
    runner = make_runner()
    body = (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "report_progress(None, 'deaf')\ntime.sleep(60)"
    )
    deaf = threading.Event()

    def on_progress(_: float | None, __: str) -> None:
        deaf.set()
        threading.Timer(0.1, lambda: runner.stop(kill=True)).start()

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        runner.run(job(tmp_path, body), scratch, on_progress)
    assert deaf.is_set()
    assert time.monotonic() - began < 10


def test_what_a_stage_leaves_in_the_background_ends_with_it(tmp_path: Path) -> None:
    body = (
        "import subprocess\n"
        "from exporters import protocol\n"
        "child = subprocess.Popen(['sleep', '60'], stdout=protocol._progress_stream)\n"
        "(step.out / 'out.txt').write_text(str(child.pid))\n"
    )
    outcome = run(tmp_path, job(tmp_path, body))
    pid = int(outcome.outputs["out.txt"].read_text())
    for _ in range(100):
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists() or stat.read_text().split()[2] == "Z":
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is still running")


@pytest.mark.parametrize("name", ["error.json", "stage.log"])
@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_nothing_but_a_plain_file_of_the_stages_is_read(
    tmp_path: Path, name: str, kind: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"what": "canary", "why": "canary", "next": "", "exit_code": 5}')
    left = f"step.out.parent / {name!r}"
    made = f"os.mkfifo({left})" if kind == "pipe" else f"({left}).symlink_to({str(secret)!r})"
    error = fails(tmp_path, f"({left}).unlink(missing_ok=True)\n{made}\nos._exit(3)")
    assert "status 3" in error.what
    assert "canary" not in str(error)
