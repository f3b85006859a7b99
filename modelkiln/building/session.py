"""A build's work: what is fetched and installed first, and then each step, run and recorded."""

import threading
import time
from contextlib import ExitStack
from pathlib import Path

from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import make_keys, resolve_plan
from modelkiln.building.scheduler import Event, Run, Scheduler, Slots
from modelkiln.environments.cache import in_use
from modelkiln.errors import EnvironmentFailure, KilnError, PinError, StageFailure
from modelkiln.planning.graph import PinnedFile, Plan, SourceFile, Step, StepOutput
from modelkiln.planning.keys import Resolved, Status, resolve_step
from modelkiln.runners.base import Runner
from modelkiln.runners.choice import Choice
from modelkiln.runners.job import Job
from modelkiln.store.records import Blob, Record
from modelkiln.util import console
from modelkiln.util.hashing import sha256_file
from modelkiln.util.machine import cpu_count, memory_available, require_disk, require_gpu

MEMORY_SHARE = 0.9


class Session:
    """One build: what is to be done, the runner that does it, and what came of it.

    Attributes:
        seconds: Wall time of each step that ran, by its id.
        result: What became of the steps, once they have run.
    """

    def __init__(self, kiln: Kiln, plan: Plan, runner: Runner, choice: Choice | None) -> None:
        self._kiln = kiln
        self._plan = plan
        self._runner = runner
        self._choice = choice
        self._work: list[Resolved] = []
        self._checkpoints: dict[str, Path | KilnError] = {}
        self._stopped = threading.Event()
        self.seconds: dict[str, float] = {}
        self.result = Run(records={}, errors={}, skipped={})

    def find_work(self) -> None:
        """See which steps have no result: damage that was found may have taken one since."""
        resolved = resolve_plan(self._kiln, self._plan, self._choice)
        self._work = [one for one in resolved.values() if one.status is not Status.HIT]

    def require_gpu(self) -> None:
        """Raise EnvironmentFailure where a step needs a GPU and there is none."""
        for one in self._work:
            if one.step.gpu:
                require_gpu(bool(self._kiln.gpu), one.step.id)

    def require_disk(self) -> None:
        """Raise OutOfSpace where the disk has no room for what the steps write."""
        if self._work:
            need = sum(one.step.disk for one in self._work)
            require_disk(self._kiln.artifacts, need, "the build")

    def fetch_checkpoints(self) -> None:
        """Fetch the checkpoints that steps read."""
        for one in self._work:
            for source in one.step.inputs.values():
                if isinstance(source, PinnedFile) and source.sha256 not in self._checkpoints:
                    self._checkpoints[source.sha256] = self._try_checkpoint(source)

    def provide_environments(self) -> None:
        """Install the environments of the steps, or build their images."""
        self._runner.get_ready(self._environments)

    def run_steps(self) -> None:
        """Run the plan's steps, on environments that nobody removes meanwhile."""
        with ExitStack() as stack:
            for name in self._environments:
                wanted = self._kiln.provisioner.environment(name)
                stack.enter_context(in_use(wanted, cache=self._kiln.cache))
            self.result = self._run(stack.enter_context(console.open_board()))

    @property
    def _environments(self) -> list[str]:
        return list(dict.fromkeys(one.step.environment for one in self._work))

    def _try_checkpoint(self, pin: PinnedFile) -> Path | KilnError:
        """Fetch a checkpoint; with --keep-going one that is unavailable fails its own
        step alone.
        """
        try:
            return self._get_checkpoint(pin)
        except (EnvironmentFailure, PinError) as error:
            if self._kiln.options.keep_going:
                return error
            raise

    def _get_checkpoint(self, pin: PinnedFile) -> Path:
        if pin.path is not None:
            return Path(pin.path)
        from modelkiln.fetch.checkpoints import fetch

        model = self._kiln.catalog.models[pin.model]
        options = self._kiln.options
        with console.show_progress(f"checkpoint {model.checkpoint.file}") as on_progress:
            return fetch(
                model.checkpoint,
                cache=self._kiln.cache,
                mirrors=options.mirrors,
                offline=options.offline,
                on_progress=on_progress,
            )

    def _run(self, board: console.Board) -> Run:
        cpus = cpu_count()
        jobs = self._kiln.options.jobs or cpus
        slots = Slots(
            cpus=max(cpus, 2), memory=int(memory_available() * MEMORY_SHARE), jobs=max(1, jobs)
        )

        def on_event(step: Step, event: Event, detail: str) -> None:
            if event is Event.STARTED:
                board.start(step.id)
            elif event is Event.DONE:
                seconds = self.seconds.get(step.id)
                said = "made by another builder" if seconds is None else f"{seconds:.1f} s"
                board.end(step.id, f"done   {step.id}  {said}")
            elif event is Event.FAILED:
                board.end(step.id, f"FAILED {step.id}")
            elif event is Event.SKIPPED:
                board.end(step.id, f"skip   {step.id}  (after {detail or 'a failure'})")

        keys = make_keys(self._kiln, self._choice)
        return Scheduler(
            self._plan,
            resolve=lambda step, records: resolve_step(step, keys, records, self._kiln.store.hit),
            execute=lambda resolved: self._execute(resolved, board),
            stop=self._stop,
            slots=slots,
            keep_going=self._kiln.options.keep_going,
            on_event=on_event,
        ).go()

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
            record = store.hit(resolved.key)
            if record is None:
                record = self._run_step(resolved, board)
                self.seconds[step.id] = time.monotonic() - began
        return record

    def _run_step(self, resolved: Resolved, board: console.Board) -> Record:
        step, store = resolved.step, self._kiln.store
        job = Job(
            name=step.id,
            key=resolved.key,
            environment=step.environment,
            stage=step.stage,
            modules=step.modules,
            params=step.params,
            inputs={name: self._input(resolved, name) for name in step.inputs},
            sources=self._sources(resolved),
            threads=self._kiln.catalog.threads,
            seed=self._kiln.catalog.seed,
            timeout_s=step.timeout_s,
            cpus=step.cpus,
            memory=step.memory,
            gpu=step.gpu,
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
                ),
                step.unpromised,
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
                found = self._checkpoints[sha256]
                if isinstance(found, KilnError):
                    raise found
                return _unchanged(found, sha256)

    def _sources(self, resolved: Resolved) -> dict[str, Path]:
        files = self._kiln.sources.closure(resolved.step.modules)
        digests = resolved.document["source"]
        return {name: _unchanged(path, digests[name]) for name, path in files.items()}

    def _blob(self, resolved: Resolved, name: str) -> Blob:
        inputs = resolved.document["inputs"]
        path = self._kiln.store.blob_path(inputs[name])
        size = path.stat().st_size if path.is_file() else 0
        return Blob(sha256=inputs[name], bytes=size)


# What a build does before it publishes, in this order; again where a stored file proves damaged.
STEPS = (
    Session.find_work,
    Session.require_gpu,
    Session.require_disk,
    Session.fetch_checkpoints,
    Session.provide_environments,
    Session.run_steps,
)


def _unchanged(path: Path, sha256: str) -> Path:
    if sha256_file(path) != sha256:
        raise StageFailure(
            f"{path} changed while the build ran.",
            "Its bytes are no longer those that the plan was made for.",
            "Run the same command again.",
        )
    return path
