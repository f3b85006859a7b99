"""The Docker runner: a stage in a container of its own, which sees its inputs and nothing else.

The guard, started first in each container, checks from inside that the seal holds; see guard.py.
"""

import json
import os
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
import requests
from docker.models.containers import Container
from docker.types import Mount

from modelkiln.containers.engine import Engine, explain, no_gpu
from modelkiln.containers.sealing import PYTHON, create_sealed
from modelkiln.errors import EnvironmentFailure, Interrupted, KilnError, OutOfSpace
from modelkiln.runners import guard
from modelkiln.runners.base import GRACE_S, STAGE_ARGUMENTS, overdue_failure, read_progress
from modelkiln.runners.job import Job, Outcome, clean_environment, prepare
from modelkiln.runners.result import collect, failure, read_log
from modelkiln.util.atomic import disk_errors
from modelkiln.util.console import OnProgress
from modelkiln.util.units import human_bytes

Output = tuple[bytes | None, bytes | None]

GUARD = "/modelkiln/guard.py"
# For a caller who is root, whom no container may be.
NOBODY = 65532
# What the page cache of files just written and a stage's odd peak may take beyond its share.
_MEMORY_FACTOR, _MEMORY_FLOOR = 2, 1_000_000_000
# The guard is told its mounts in one argument, and an engine takes long over thousands.
_MOST_MOUNTS = 200
_KILLED = 137
# A stage that never ends its line, or its log, may not fill the memory or the disk of the host.
_LONGEST_LINE, _LONGEST_LOG = 1_000_000, 200_000_000


class DockerRunner:
    """Runs stages in containers, several at once.

    Args:
        get_image: Gives the id of an environment's image, which it may have to build first.
    """

    name = "docker"

    def __init__(self, engine: Engine, get_image: Callable[[str], str]) -> None:
        self._engine = engine
        self._get_image = get_image
        self._images: dict[str, str] = {}
        self._run = uuid.uuid4().hex[:12]
        self._lock = threading.Lock()
        self._running: set[Container] = set()
        self._stopping = False
        root = os.getuid() == 0
        self._user = (NOBODY, NOBODY) if root else (os.getuid(), os.getgid())

    def get_ready(self, environments: Iterable[str]) -> None:
        """Build the images that are not there yet."""
        for name in environments:
            self._images[name] = self._get_image(name)

    def run(self, job: Job, scratch: Path, on_progress: OnProgress) -> Outcome:
        """Run a job, whose environment is ready, to its end.

        Raises:
            KilnError: as the stage's error.json says; EnvironmentFailure where the engine fails or
                its seal does not hold; StageFailure, OutOfSpace or Interrupted where the stage
                could not say anything.
        """
        started = time.monotonic()
        with disk_errors(f"preparing {job.name}", scratch):
            prepare(job, scratch, mounted=True)
            mounts = self._mounts(job, scratch)
            if os.getuid() == 0:
                _give(scratch, *self._user)
            # Not the stage's: it may not write what is shown as its last words.
            log = scratch / "stage.log"
            log.touch()
        container: Container | None = None
        overdue = threading.Event()
        try:
            try:
                container = self._create(job, mounts)
                news, state = self._follow(container, job, log, overdue, on_progress)
            except (docker.errors.DockerException, requests.RequestException) as error:
                if self._stopping:
                    raise Interrupted(f"{job.name}: stopped.") from error
                raise explain(error, f"running {job.name}") from error
            if self._stopping:
                raise Interrupted(f"{job.name}: stopped.")
            if overdue.is_set():
                raise overdue_failure(job)
            self._require_seal(job, news, state, log)
            if state["ExitCode"]:
                raise self._failure(job, scratch, news, state, log)
            outputs, metrics = collect(job, scratch)
        finally:
            if container is not None:
                self._remove(container)
        return Outcome(
            outputs=outputs,
            metrics=metrics,
            seconds=round(time.monotonic() - started, 3),
            peak_rss=int(news.get("end", {}).get("peak_rss", 0)),
            seal={"sealed": "full", **news["seal"]["seal"], "engine": str(self._engine)},
        )

    def stop(self, *, kill: bool) -> None:
        """End every job: TERM and, after a grace, KILL; with `kill` KILL at once."""
        with self._lock:
            self._stopping = True
            running = list(self._running)
        for container in running:
            threading.Thread(target=_end, args=(container, kill), daemon=True).start()

    def _mounts(self, job: Job, scratch: Path) -> list[Mount]:
        # A copy, which the container's user may read whatever the checkout's modes.
        watcher = scratch / "guard.py"
        shutil.copyfile(guard.__file__, watcher)
        watcher.chmod(0o444)
        places = {
            guard.SCRATCH: (scratch, False),
            f"{guard.SCRATCH}/src": (scratch / "src", True),
            GUARD: (watcher, True),
        }
        mounted = _largest(job.inputs, _MOST_MOUNTS)
        for name, path in job.inputs.items():
            place = scratch / "inputs" / name
            if name in mounted and _may_read(path, *self._user):
                places[f"{guard.SCRATCH}/inputs/{name}"] = (path, True)
            else:
                shutil.copyfile(path, place)
        return [
            Mount(target=target, source=str(source.resolve()), type="bind", read_only=read_only)
            for target, (source, read_only) in places.items()
        ]

    def _create(self, job: Job, mounts: list[Mount]) -> Container:
        told = {
            "command": [PYTHON, *STAGE_ARGUMENTS],
            "environment": clean_environment(job, guard.SCRATCH, "/tmp"),
            "uid": self._user[0],
            "gpu": job.gpu,
            "timeout_s": job.timeout_s + 60,
            "mounts": [one["Target"] for one in mounts],
        }
        with self._lock:
            if self._stopping:
                raise Interrupted(f"{job.name}: stopped before it began.")
            container = create_sealed(
                self._engine,
                self._images[job.environment],
                [PYTHON, "-I", "-S", "-B", GUARD, json.dumps(told)],
                mounts=mounts,
                user=self._user,
                memory=memory_limit(job),
                # Fewer than its threads would stop them all for a part of each period.
                cpus=max(job.cpus, job.threads),
                gpu=job.gpu,
                folder=guard.SCRATCH,
                labels={
                    "io.modelkiln.run": self._run,
                    "io.modelkiln.step": job.name,
                    "io.modelkiln.key": job.key,
                },
            )
            self._running.add(container)
        return container

    def _follow(
        self,
        container: Container,
        job: Job,
        log: Path,
        overdue: threading.Event,
        on_progress: OnProgress,
    ) -> tuple[dict[str, Any], Mapping[str, Any]]:
        """Start a container, read what it says until it ends, and return the guard's news and the
        engine's view of the end."""

        def end_overdue() -> None:
            overdue.set()
            _end(container, True)

        timer = threading.Timer(job.timeout_s, end_overdue)
        timer.daemon = True
        news: dict[str, Any] = {}
        rest = b""
        stream = container.attach(stream=True, stdout=True, stderr=True, demux=True)
        try:
            if self._stopping:
                raise Interrupted(f"{job.name}: stopped before it began.")
            container.start()
            if self._stopping:
                # What came between found nothing to end.
                _end(container, True)
            timer.start()
            written = 0
            with disk_errors(f"writing the log of {job.name}", log), log.open("wb") as file:
                for out, err in _read(stream):
                    if err and written < _LONGEST_LOG:
                        written += file.write(err)
                    *lines, rest = (rest + (out or b"")).split(b"\n")
                    rest = rest[-_LONGEST_LINE:]
                    for line in lines:
                        if not _read_news(line, news):
                            read_progress(line, on_progress)
            container.wait()
            container.reload()
        finally:
            timer.cancel()
            with suppress(OSError):
                stream.close()
            # The library's own close leaves the connection to the garbage collector.
            stream._response.close()  # type: ignore[attr-defined]
        state: Mapping[str, Any] = container.attrs["State"]
        return news, state

    def _require_seal(
        self, job: Job, news: Mapping[str, Any], state: Mapping[str, Any], log: Path
    ) -> None:
        if "seal" not in news:
            if state.get("OOMKilled"):
                raise self._failure(job, log.parent, news, state, log)
            said = f"{state.get('Error') or ''}\n{read_log(log, 2000)}".strip()
            raise EnvironmentFailure(
                f"{job.name}: its container ended before it could be looked at.",
                f"{self._engine} gave status {state['ExitCode']}: {said or 'it said nothing'}.",
                "Run the same command again; or use another engine, or --runner local.",
            )
        broken = news["seal"]["broken"]
        if any(one.startswith("gpu:") for one in broken):
            raise no_gpu(f"{self._engine} took the request and gave no device.")
        if broken:
            raise EnvironmentFailure(
                f"{job.name}: the seal of its container does not hold, so it was not started.",
                f"{self._engine} was asked for it, and inside the container: {'; '.join(broken)}.",
                "Use another engine or version, or build with --runner local, which promises less.",
            )

    def _failure(
        self, job: Job, scratch: Path, news: Mapping[str, Any], state: Mapping[str, Any], log: Path
    ) -> KilnError:
        end = news.get("end", {})
        if state.get("OOMKilled") or end.get("oom"):
            return OutOfSpace(
                f"{job.name}: the stage hit its memory limit of {human_bytes(memory_limit(job))}.",
                "The container may take twice what the stage is expected to need, and no more.",
                "Raise `memory` of this stage in catalog/stages.toml if the model needs it.",
            )
        # Where the guard could not say its last word, the whole container was killed; Podman does
        # not say whether that was for want of memory.
        unsaid = "end" not in news and self._engine.kind == "docker"
        if end.get("status") == -signal.SIGTERM or (unsaid and state["ExitCode"] == _KILLED):
            return EnvironmentFailure(
                f"{job.name}: its container was stopped from outside.",
                "The engine was stopped or restarted, or somebody ended the container.",
                "Run the same command again; what was finished is kept.",
            )
        status = int(end.get("status", -9 if state["ExitCode"] == _KILLED else state["ExitCode"]))
        said = read_log(log) or str(state.get("Error") or "")
        return failure(job, scratch, status, said)

    def _remove(self, container: Container) -> None:
        with self._lock:
            self._running.discard(container)
        # Where the engine is gone, the next command removes it.
        with suppress(docker.errors.DockerException, requests.RequestException):
            container.remove(force=True, v=True)


def _read(stream: Iterator[Output]) -> Iterator[Output]:
    """Yield what a container says; an engine that is gone ends it."""
    try:
        yield from stream
    except (requests.RequestException, docker.errors.DockerException, ConnectionError):
        # What became of the container is asked for next, and told from that.
        return


def memory_limit(job: Job) -> int:
    """Return the bytes that a job's container may take."""
    return _MEMORY_FACTOR * job.memory + _MEMORY_FLOOR


def _read_news(line: bytes, news: dict[str, Any]) -> bool:
    """Keep a line of the guard's: its first word on the seal, its last on the end."""
    if not line.startswith(b'{"guard"'):
        return False
    with suppress(ValueError, KeyError, TypeError):
        told = json.loads(line)
        if told["guard"] == "seal":
            news.setdefault("seal", told)
        else:
            news["end"] = told
    return True


def _end(container: Container, kill: bool) -> None:
    with suppress(docker.errors.DockerException, requests.RequestException):
        if kill:
            container.kill()
        else:
            container.stop(timeout=int(GRACE_S))


def _largest(files: Mapping[str, Path], count: int) -> set[str]:
    """Return the names of so many of the files, those that take the most room."""
    return set(sorted(files, key=lambda name: -files[name].stat().st_size)[:count])


def _may_read(path: Path, uid: int, gid: int) -> bool:
    state = path.stat()
    mode = state.st_mode
    if state.st_uid == uid:
        return bool(mode & 0o400)
    return bool(mode & (0o040 if state.st_gid == gid else 0o004))


def _give(scratch: Path, uid: int, gid: int) -> None:
    """Make a user the owner of a scratch folder and what is in it."""
    for path in (scratch, *scratch.rglob("*")):
        os.chown(path, uid, gid, follow_symlinks=False)
