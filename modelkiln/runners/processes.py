"""The local runner: a stage as a process of its own, in the environment of its lock.

It cleans the environment variables, hands inputs read-only, and drops the network where `unshare`
is allowed. The full seal is the Docker runner's; what held is kept in the record.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from shutil import which

from modelkiln.errors import Interrupted
from modelkiln.runners.base import GRACE_S, STAGE_ARGUMENTS, overdue_failure, read_progress
from modelkiln.runners.job import Job, Outcome, clean_environment, prepare
from modelkiln.runners.result import collect, failure, read_log
from modelkiln.util.atomic import disk_errors
from modelkiln.util.console import OnProgress
from modelkiln.util.machine import unshare_command


class LocalRunner:
    """Runs stages as local processes, several at once.

    Args:
        get_python: Gives the interpreter of an environment, which it may have to install first.
        settings: Environment variables that go before the runner's own.
        umask: The umask of the stages, None for the caller's.
    """

    name = "local"

    def __init__(
        self,
        get_python: Callable[[str], Path],
        settings: Mapping[str, str] | None = None,
        umask: int | None = None,
    ) -> None:
        self._get_python = get_python
        self._pythons: dict[str, Path] = {}
        self._settings = dict(settings or {})
        self._umask = -1 if umask is None else umask
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopping = False

    @cached_property
    def prefix(self) -> list[str]:
        """The command that drops the network and ties a stage to this process, where allowed."""
        tied = ["setpriv", "--pdeathsig", "KILL", "--"] if which("setpriv") else []
        return [*(unshare_command() or ()), *tied]

    def get_ready(self, environments: Iterable[str]) -> None:
        """Install the environments that are not there yet."""
        for name in environments:
            self._pythons[name] = self._get_python(name)

    def run(self, job: Job, scratch: Path, on_progress: OnProgress) -> Outcome:
        """Run a job, whose environment is ready, to its end.

        Raises:
            KilnError: as the stage's error.json says; StageFailure, OutOfSpace or Interrupted where
                it could not say anything.
        """
        with disk_errors(f"preparing {job.name}", scratch):
            prepare(job, scratch)
        log_path = scratch / "stage.log"
        started = time.monotonic()
        python = self._pythons[job.environment]
        command = [*self.prefix, str(python), *STAGE_ARGUMENTS]
        with log_path.open("wb") as log, self._lock:
            if self._stopping:
                raise Interrupted(f"{job.name}: stopped before it began.")
            process = subprocess.Popen(
                command,
                cwd=scratch,
                env={
                    **clean_environment(job, str(scratch), str(scratch / "tmp")),
                    **self._settings,
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                umask=self._umask,
            )
            self._running.add(process)
        overdue = threading.Event()

        def end_overdue() -> None:
            overdue.set()
            _signal(process, True)

        timer = threading.Timer(job.timeout_s, end_overdue)
        timer.daemon = True
        timer.start()
        reader = threading.Thread(target=_follow, args=(process, on_progress), daemon=True)
        reader.start()
        try:
            _, wait_status, usage = os.wait4(process.pid, 0)
            status = process.returncode = os.waitstatus_to_exitcode(wait_status)
        finally:
            timer.cancel()
            with self._lock:
                self._running.discard(process)
            # What a stage may have left in the background ends with it; it could hold the pipe.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            reader.join(GRACE_S)
        if self._stopping:
            raise Interrupted(f"{job.name}: stopped.")
        if overdue.is_set():
            raise overdue_failure(job)
        if status:
            raise failure(job, scratch, status, read_log(log_path))
        outputs, metrics = collect(job, scratch)
        return Outcome(
            outputs=outputs,
            metrics=metrics,
            seconds=round(time.monotonic() - started, 3),
            peak_rss=usage.ru_maxrss * 1024,
            seal={"sealed": "partial", "network": "none" if "--net" in command else "host"},
        )

    def stop(self, *, kill: bool) -> None:
        """End every job: TERM and, after a grace, KILL; with `kill` KILL at once."""
        with self._lock:
            self._stopping = True
            running = list(self._running)
        for process in running:
            _signal(process, kill)
        if not kill and running:

            def end_rest() -> None:
                for process in running:
                    _signal(process, True)

            deadline = threading.Timer(GRACE_S, end_rest)
            deadline.daemon = True
            deadline.start()


def _signal(process: subprocess.Popen[bytes], kill: bool) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL if kill else signal.SIGTERM)


def _follow(process: subprocess.Popen[bytes], on_progress: OnProgress) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            read_progress(line, on_progress)
