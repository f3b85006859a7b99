"""How containers end, on each engine: whatever happens, the error says it and nothing is left."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which

import pytest
from docker.models.containers import Container

from modelkiln.containers.engine import Engine, connect
from modelkiln.containers.images import Image, ensure_image
from modelkiln.containers.owner import LABEL, remove_orphans, this_process
from modelkiln.environments.base_images import BasePin
from modelkiln.environments.environment import environment
from modelkiln.errors import EnvironmentFailure, Interrupted, KilnError, OutOfSpace, StageFailure
from modelkiln.paths import REPOSITORY
from modelkiln.runners.containers import DockerRunner, memory_limit
from modelkiln.runners.job import Job
from modelkiln.util.units import human_bytes
from tests.containers.conftest import TOY_ROOMS, leave_out
from tests.jobs import WRITE, make_job


def fail(runner: DockerRunner, tmp_path: Path, job: Job) -> KilnError:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(KilnError) as caught:
        runner.run(job, scratch, lambda *_: None)
    assert isinstance(caught.value, Interrupted) or (caught.value.why and caught.value.next)
    return caught.value


def test_a_failure_shows_the_last_lines(runner: DockerRunner, tmp_path: Path) -> None:
    body = "sys.stderr.write('the last word\\n'); sys.stderr.flush(); os._exit(3)"
    error = fail(runner, tmp_path, make_job(tmp_path, body))
    assert isinstance(error, StageFailure)
    assert "status 3" in error.what
    assert "the last word" in error.why


def test_a_stages_own_error_is_told_as_it_is(runner: DockerRunner, tmp_path: Path) -> None:
    error = fail(runner, tmp_path, make_job(tmp_path, "raise StageError('what', 'why', 'next')"))
    assert (error.what, error.why, error.next) == ("toy/stage failed. what", "why", "next")


def test_a_segfault_is_told_by_its_signal(runner: DockerRunner, tmp_path: Path) -> None:
    error = fail(runner, tmp_path, make_job(tmp_path, "os.kill(os.getpid(), 11)"))
    assert "signal 11" in error.what


def test_progress_arrives_while_it_runs(runner: DockerRunner, tmp_path: Path) -> None:
    told: list[tuple[float, tuple[float | None, str]]] = []
    body = "print('noise'); report_progress(0.5, 'half'); time.sleep(1.5)\n" + WRITE
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def on_progress(share: float | None, text: str) -> None:
        told.append((time.monotonic(), (share, text)))

    runner.run(make_job(tmp_path, body), scratch, on_progress)
    assert [news for _, news in told] == [(0.5, "half")]
    assert time.monotonic() - told[0][0] > 1


def test_a_stage_that_hangs_is_ended(runner: DockerRunner, tmp_path: Path) -> None:
    began = time.monotonic()
    error = fail(runner, tmp_path, make_job(tmp_path, "time.sleep(60)", timeout_s=2))
    assert "longer than 2 s" in error.what
    assert time.monotonic() - began < 20


def test_the_memory_limit_is_told_as_such(runner: DockerRunner, tmp_path: Path) -> None:
    job = make_job(tmp_path, "big = bytearray(4_000_000_000)\n" + WRITE)
    error = fail(runner, tmp_path, job)
    assert isinstance(error, OutOfSpace)
    assert f"its memory limit of {human_bytes(memory_limit(job))}" in error.what


def test_many_processes_are_bounded(runner: DockerRunner, tmp_path: Path) -> None:
    body = (
        "children = []\n"
        "try:\n"
        "    for _ in range(600):\n"
        "        children.append(subprocess.Popen(['sleep', '60']))\n"
        "except OSError as error:\n"
        "    (step.out / 'out.txt').write_text(str(error.errno))\n"
    )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    outcome = runner.run(make_job(tmp_path, body), scratch, lambda *_: None)
    assert outcome.outputs["out.txt"].read_text() == "11"


def stop_when_started(runner: DockerRunner, tmp_path: Path, body: str, *kills: bool) -> float:
    """Run a stage and stop it as soon as it says that it runs; returns the seconds it took then."""
    said: list[float] = []

    def on_progress(*_: object) -> None:
        said.append(time.monotonic())
        for number, kill in enumerate(kills):
            threading.Timer(0.2 + 0.5 * number, lambda kill=kill: runner.stop(kill=kill)).start()

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    job = make_job(tmp_path, "report_progress(None, 'started')\n" + body)
    with pytest.raises(Interrupted):
        runner.run(job, scratch, on_progress)
    return time.monotonic() - said[0]


DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


def test_ctrl_c_once_lets_a_stage_end(runner: DockerRunner, tmp_path: Path) -> None:
    assert stop_when_started(runner, tmp_path, "time.sleep(60)", False) < 4


def test_ctrl_c_twice_kills_a_deaf_stage(runner: DockerRunner, tmp_path: Path) -> None:
    assert stop_when_started(runner, tmp_path, DEAF, False, True) < 4


def test_ctrl_c_once_ends_a_deaf_stage_after_a_grace(runner: DockerRunner, tmp_path: Path) -> None:
    assert 4 < stop_when_started(runner, tmp_path, DEAF, False) < 15


def test_nothing_begins_after_a_stop(runner: DockerRunner, tmp_path: Path) -> None:
    runner.stop(kill=False)
    assert isinstance(fail(runner, tmp_path, make_job(tmp_path, WRITE)), Interrupted)


def test_an_image_that_was_deleted_meanwhile_is_told(engine: Engine, tmp_path: Path) -> None:
    runner = DockerRunner(engine, lambda _: "sha256:" + "0" * 64)
    runner.get_ready(["bare"])
    error = fail(runner, tmp_path, make_job(tmp_path, WRITE))
    assert isinstance(error, EnvironmentFailure)
    assert "image is gone" in error.what


ORCHESTRATOR = """
import sys
from pathlib import Path
sys.path.insert(0, {repository!r})
from modelkiln.containers.engine import connect
from modelkiln.runners.containers import DockerRunner
from tests.containers.conftest import TOY_ROOMS, leave_out
from tests.jobs import make_job
folder = Path({folder!r})
runner = DockerRunner(connect({{"DOCKER_HOST": {host!r}}}), lambda _: {image!r})
runner.get_ready(["bare"])
job = make_job(folder, "report_progress(None, 'started')\\ntime.sleep(100)", timeout_s=120)
(folder / "scratch").mkdir()
runner.run(job, folder / "scratch", lambda *_: print("started", flush=True))
"""


@pytest.fixture
def orchestrator(
    engine: Engine, toy_image: Image, tmp_path: Path
) -> Callable[[], "subprocess.Popen[str]"]:
    """Starts another modelkiln process whose stage sleeps in a container."""

    def start() -> "subprocess.Popen[str]":
        program = ORCHESTRATOR.format(
            repository=str(REPOSITORY), folder=str(tmp_path), host=engine.host, image=toy_image.id
        )
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        return process

    return start


def test_after_kill_9_the_next_command_removes_the_containers(
    engine: Engine, orchestrator: Callable[[], "subprocess.Popen[str]"]
) -> None:
    process = orchestrator()
    assert remove_orphans(engine) == 0, "its process is alive"
    process.kill()
    process.communicate()
    (left,) = engine.client.api.containers(filters={"label": LABEL})
    assert left["State"] == "running"
    done = subprocess.run(
        [sys.executable, "-m", "invoke", "image.list"],
        cwd=REPOSITORY,
        env={**os.environ, "DOCKER_HOST": engine.host},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert engine.client.api.containers(all=True, filters={"label": LABEL}) == []


def test_what_an_engine_is_asked_for(
    engine: Engine, orchestrator: Callable[[], "subprocess.Popen[str]"]
) -> None:
    process = orchestrator()
    try:
        (one,) = engine.client.containers.list(filters={"label": LABEL})
        host, labels = one.attrs["HostConfig"], one.labels
        assert labels["io.modelkiln.key"] == "0" * 64
        assert labels["io.modelkiln.step"] == "toy/stage"
        assert labels["io.modelkiln.run"]
        assert host["Memory"] == host["MemorySwap"] == 1_200_000_000
        assert host["PidsLimit"] == 512
        assert host["NanoCpus"] == min(2, engine.cpus) * 1_000_000_000
        assert host["NetworkMode"] == "none"
        assert host["ReadonlyRootfs"] and host["Init"]
        writable = [mount["Destination"] for mount in one.attrs["Mounts"] if mount["RW"]]
        assert writable == ["/scratch"]
    finally:
        process.kill()
        process.communicate()
        remove_orphans(engine)


def test_several_commands_may_clean_up_at_once(
    engine: Engine, toy_image: Image, tmp_path: Path
) -> None:
    for _ in range(4):
        engine.client.containers.create(toy_image.id, ["true"], labels={LABEL: "gone:0:0:0"})
    errors: list[KilnError] = []

    def clean_up() -> None:
        try:
            remove_orphans(engine)
        except KilnError as error:
            errors.append(error)

    threads = [threading.Thread(target=clean_up) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert errors == []


def test_a_stop_that_comes_before_the_start_is_not_lost(
    runner: DockerRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Container.start

    def stopped_first(container: Container) -> None:
        runner.stop(kill=False)
        time.sleep(0.5)
        start(container)

    monkeypatch.setattr(Container, "start", stopped_first)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        runner.run(make_job(tmp_path, "time.sleep(60)"), scratch, lambda *_: None)
    assert time.monotonic() - began < 20


def test_a_stage_cannot_hide_how_it_ended(runner: DockerRunner, tmp_path: Path) -> None:
    """It holds the guard's own pipe: a line without an end, and one without bounds."""
    body = "from exporters import protocol\nprotocol._progress_stream.write({text}); "
    body += "protocol._progress_stream.flush()\n" + WRITE
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    job = make_job(tmp_path, body.format(text="'abc'"))
    assert runner.run(job, scratch, lambda *_: None).peak_rss > 1_000_000
    again = tmp_path / "again"
    again.mkdir()
    (again / "scratch").mkdir()
    job = make_job(again, body.format(text="'x' * 30_000_000"))
    assert runner.run(job, again / "scratch", lambda *_: None).metrics == {"answer": 42}


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_container_that_somebody_ended_is_told(
    runner: DockerRunner, engine: Engine, tmp_path: Path, how: str
) -> None:
    def end(*_: object) -> None:
        (one,) = engine.client.containers.list(filters={"label": f"{LABEL}={this_process()}"})
        # Podman kills at once where no time is given.
        ended = one.kill if how == "kill" else lambda: one.stop(timeout=10)
        threading.Thread(target=ended).start()

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    job = make_job(tmp_path, "report_progress(None, 'started'); time.sleep(60)")
    with pytest.raises(KilnError) as caught:
        runner.run(job, scratch, end)
    if engine.kind == "podman" and how == "kill":
        assert "killed" in caught.value.what
    else:
        assert isinstance(caught.value, EnvironmentFailure)
        assert "stopped from outside" in caught.value.what


@pytest.fixture
def own_engine(docker_engine: Engine, base: BasePin, image_cache: Path) -> Iterator[Engine]:
    """A Docker engine of the test's own, which it may stop."""
    with tempfile.TemporaryDirectory(prefix="engine-", dir="/var/tmp") as folder:
        if os.getuid() != 0 or not which("dockerd"):
            leave_out("only root, with dockerd, can start an engine")
        control("start", folder)
        try:
            engine = connect({"DOCKER_HOST": f"unix://{folder}/engine/engine.sock"})
            yield engine
            engine.client.close()
        finally:
            control("stop", folder)


def control(action: str, folder: str) -> None:
    script = REPOSITORY / ".ci" / "engine.sh"
    command = ["bash", str(script), action, "docker", "--dir", f"{folder}/engine"]
    subprocess.run([*command, "--alone"], check=True, capture_output=True, timeout=120)


def test_an_engine_that_stops_in_mid_stage_is_told(
    docker_engine: Engine, own_engine: Engine, base: BasePin, image_cache: Path, tmp_path: Path
) -> None:
    image = ensure_image(
        docker_engine,
        environment("bare", TOY_ROOMS),
        base,
        cache=image_cache / "docker",
        offline=False,
        on_progress=lambda *_: None,
    )
    (loaded,) = own_engine.client.images.load(
        b"".join(docker_engine.client.images.get(image.id).save())
    )
    assert loaded.id == image.id
    runner = DockerRunner(own_engine, lambda _: image.id)
    runner.get_ready(["bare"])

    def stop(*_: object) -> None:
        folder = str(own_engine.socket.parent.parent)
        threading.Thread(target=control, args=("stop", folder)).start()

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    job = make_job(tmp_path, "report_progress(None, 'started'); time.sleep(60)")
    began = time.monotonic()
    with pytest.raises(EnvironmentFailure) as caught:
        runner.run(job, scratch, stop)
    assert "does not answer" in caught.value.what or "stopped from outside" in caught.value.what
    assert time.monotonic() - began < 30
