"""Building: from targets to verified files in out/.

Everything that a user can get wrong is found before the first step starts: targets, weights, disk,
environment, network. Then the scheduler runs what has no record, and publishes what was verified.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from modelkiln import console
from modelkiln.errors import KilnError, StageFailure, StoreError
from modelkiln.hashing import sha256_file
from modelkiln.keys import Resolved, Status, resolve_step
from modelkiln.kiln import Kiln
from modelkiln.machine import require_disk
from modelkiln.plan import PinnedFile, Plan, SourceFile, Step, StepOutput, TargetPlan
from modelkiln.publish import Published, find_resolved, publish
from modelkiln.records import Blob, Record
from modelkiln.runner import LocalRunner, Runner
from modelkiln.scheduler import Event, Run, Slots, run_plan
from modelkiln.stage import Job
from modelkiln.store import DamagedBlob
from modelkiln.target import Target

MEMORY_SHARE = 0.9
REPAIRS = 3


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A target that was not built, and why."""

    target: str
    step: str
    error: KilnError


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build did.

    Attributes:
        seconds: Wall time of each step that ran, by its id.
    """

    published: tuple[Published, ...]
    failed: tuple[Failed, ...]
    seconds: Mapping[str, float]
    records: Mapping[str, Record]


def build(
    kiln: Kiln,
    targets: Sequence[Target],
    *,
    until: str | None = None,
    runner: Runner | None = None,
) -> Built:
    """Build targets, each to its verified folder in out/.

    Args:
        until: Stop after this stage; nothing is published then.
        runner: What executes steps; the local runner unless given.

    Raises:
        KilnError: before the first step, where something is wrong or missing; Interrupted.
    """
    plan = kiln.plan(targets, until)
    resolved = kiln.resolve(plan)
    if all(one.status is Status.HIT for one in resolved.values()):
        run = Run(records=find_resolved(resolved), errors={}, skipped={})
        with suppress(DamagedBlob):
            return _finish(kiln, plan, run, {}, until)
    with kiln.store.in_use(on_wait=_say_waiting("the store")), _terminations():
        kiln.store.reap()
        session = _Session(kiln, runner or LocalRunner())
        for _ in range(REPAIRS):
            # A damaged file has been set aside, so the step that made it has no result any more.
            session.get_ready(kiln.resolve(plan))
            with console.open_board() as board:
                run = session.run(plan, board)
            if any(isinstance(error, DamagedBlob) for error in run.errors.values()):
                continue
            with suppress(DamagedBlob):
                return _finish(kiln, plan, run, session.seconds, until)
        raise StoreError(
            f"Files of the store {kiln.artifacts} keep being damaged.",
            f"{REPAIRS} rebuilds in a row met bytes that are not those that were written.",
            "Check the disk and the memory of this machine; then run: invoke store.verify",
        )


def _finish(
    kiln: Kiln, plan: Plan, run: Run, seconds: Mapping[str, float], until: str | None
) -> Built:
    published: list[Published] = []
    failed: list[Failed] = []
    for one in plan.targets:
        broken = next((name for name in plan.needed_by(one) if name not in run.records), None)
        if broken is not None:
            cause = run.skipped.get(broken) or broken
            if cause not in run.errors:
                cause = next(iter(run.errors))
            failed.append(Failed(target=one.target.name, step=cause, error=run.errors[cause]))
        elif until is None:
            published.append(_publish(kiln, plan, one, run.records))
    return Built(
        published=tuple(published),
        failed=tuple(failed),
        seconds=seconds,
        records=run.records,
    )


def _publish(kiln: Kiln, plan: Plan, one: TargetPlan, records: Mapping[str, Record]) -> Published:
    done = publish(kiln, plan, one, records)
    for name in done.restored:
        console.warn(f"{done.folder / name} had been changed or removed; it was restored.")
    return done


class _Session:
    """One build: its runner, its environments, its progress."""

    def __init__(self, kiln: Kiln, runner: Runner) -> None:
        self._kiln = kiln
        self._runner = runner
        self._python: dict[str, Path] = {}
        self._checkpoints: dict[str, Path] = {}
        self._stopped = threading.Event()
        self.seconds: dict[str, float] = {}

    def get_ready(self, resolved: Mapping[str, Resolved]) -> None:
        """Make sure of disk, environments and checkpoints before the first step starts."""
        work = [one for one in resolved.values() if one.status is not Status.HIT]
        self._require_disk(work)
        for one in work:
            for source in one.step.inputs.values():
                if isinstance(source, PinnedFile) and source.sha256 not in self._checkpoints:
                    self._checkpoints[source.sha256] = self._get_checkpoint(source)
        for name in dict.fromkeys(one.step.environment for one in work):
            self._python[name] = self._get_environment(name)

    def _require_disk(self, work: Sequence[Resolved]) -> None:
        need = sum(one.step.disk for one in work)
        if work:
            require_disk(self._kiln.artifacts, need, "the build")

    def _get_checkpoint(self, pin: PinnedFile) -> Path:
        if pin.path is not None:
            return Path(pin.path)
        from modelkiln.weights import fetch

        model = self._kiln.catalog.models[pin.model]
        options = self._kiln.options
        with console.open_board() as board:
            name = f"checkpoint {model.checkpoint.file}"
            board.start(name)
            path = fetch(
                model.checkpoint,
                cache=self._kiln.cache,
                mirrors=options.mirrors,
                offline=options.offline,
                on_progress=lambda share, text: board.update(name, share, text),
            )
            board.end(name, f"ready  {name}")
        return path

    def _get_environment(self, name: str) -> Path:
        from modelkiln.environments import ensure, find

        wanted = self._kiln.environment(name)
        cache = self._kiln.cache
        if (python := find(wanted, cache)) is not None:
            return python
        with console.open_board() as board:
            job = f"environment {name}"
            board.start(job, "installing from its lock; this happens once")
            python = ensure(
                wanted,
                cache=cache,
                offline=self._kiln.options.offline,
                on_progress=lambda share, text: board.update(job, share, text),
            )
            board.end(job, f"ready  {job}")
        return python

    def run(self, plan: Plan, board: console.Board) -> Run:
        """Run the plan's steps."""
        from modelkiln.machine import cpu_count, memory_available

        cpus = cpu_count()
        jobs = self._kiln.options.jobs or cpus
        slots = Slots(
            cpus=max(cpus, 2), memory=int(memory_available() * MEMORY_SHARE), jobs=max(1, jobs)
        )

        def on_event(step: Step, event: Event, detail: str) -> None:
            if event is Event.STARTED:
                board.start(step.id)
            elif event is Event.DONE:
                board.end(step.id, f"done   {step.id}  {self.seconds[step.id]:.1f} s")
            elif event is Event.FAILED:
                board.end(step.id, f"FAILED {step.id}")
            elif event is Event.SKIPPED:
                board.end(step.id, f"skip   {step.id}  (after {detail or 'a failure'})")

        return run_plan(
            plan,
            resolve=lambda step, records: resolve_step(
                step, self._kiln.keys, records, self._kiln.lookup
            ),
            execute=lambda resolved: self._execute(resolved, board),
            stop=self._stop,
            slots=slots,
            keep_going=self._kiln.options.keep_going,
            on_event=on_event,
        )

    def _stop(self, kill: bool) -> None:
        self._stopped.set()
        self._runner.stop(kill=kill)

    def _execute(self, resolved: Resolved, board: console.Board) -> Record:
        step = resolved.step
        store = self._kiln.store
        began = time.monotonic()

        def on_wait(holder: object) -> None:
            board.update(step.id, None, f"waiting for {holder}")

        with store.step_lock(resolved.key, on_wait, self._stopped.is_set):
            record = self._kiln.lookup(resolved.key)
            if record is None:
                record = self._run_step(resolved, board)
        self.seconds[step.id] = time.monotonic() - began
        return record

    def _run_step(self, resolved: Resolved, board: console.Board) -> Record:
        step, store = resolved.step, self._kiln.store
        job = Job(
            name=step.id,
            stage=step.stage,
            modules=step.modules,
            params=step.params,
            inputs={name: self._input(resolved, name) for name in step.inputs},
            sources=self._sources(resolved),
            python=self._python[step.environment],
            threads=self._kiln.catalog.threads,
            seed=self._kiln.catalog.seed,
            timeout_s=step.timeout_s,
        )
        scratch = store.scratch(step.stage)
        try:
            outcome = self._runner.run(
                job, scratch, lambda share, text: board.update(step.id, share, text)
            )
            return store.publish(
                Record(
                    key=resolved.key,
                    step=step.id,
                    document=resolved.document,
                    outputs={name: store.put(path) for name, path in outcome.outputs.items()},
                    metrics=outcome.metrics,
                    provenance={
                        "runner": self._runner.name,
                        "seconds": outcome.seconds,
                        "peak_rss": outcome.peak_rss,
                        **outcome.seal,
                    },
                )
            )
        finally:
            if self._kiln.options.keep_scratch:
                console.note(f"kept   {scratch}")
            else:
                store.discard(scratch)

    def _input(self, resolved: Resolved, name: str) -> Path:
        source = resolved.step.inputs[name]
        match source:
            case StepOutput():
                return self._kiln.store.check(self._blob(resolved, name))
            case SourceFile(path=path):
                return _unchanged(path, resolved.document["inputs"][name])
            case PinnedFile(sha256=sha256):
                return _unchanged(self._checkpoints[sha256], sha256)

    def _sources(self, resolved: Resolved) -> dict[str, Path]:
        files = self._kiln.sources.closure(resolved.step.modules)
        digests = resolved.document["source"]
        return {name: _unchanged(path, digests[name]) for name, path in files.items()}

    def _blob(self, resolved: Resolved, name: str) -> Blob:
        inputs = resolved.document["inputs"]
        path = self._kiln.store.blob_path(inputs[name])
        size = path.stat().st_size if path.is_file() else 0
        return Blob(sha256=inputs[name], bytes=size)


def _unchanged(path: Path, sha256: str) -> Path:
    if sha256_file(path) != sha256:
        raise StageFailure(
            f"{path} changed while the build ran.",
            "Its bytes are no longer those that the plan was made for.",
            "Run the same command again.",
        )
    return path


def _say_waiting(what: str) -> Callable[[object], None]:
    return lambda holder: console.note(f"waiting for {what}: it is held by {holder}")


@contextmanager
def _terminations() -> Iterator[None]:
    """SIGTERM and SIGHUP end a build as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {one: signal.signal(one, interrupt) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
