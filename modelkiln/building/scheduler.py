"""The scheduler: runs the steps of a plan side by side, within slots of CPUs and memory.

A step starts as soon as what it needs is there; its key is made then, so a rebuilt step that yields
equal bytes leaves the steps behind it as hits. A failed step takes those behind it out of the run.
"""

import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from types import FrameType
from typing import TypeAlias

from modelkiln.errors import Interrupted, KilnError, StageFailure
from modelkiln.planning.graph import Plan, Step
from modelkiln.planning.keys import Resolved, Status
from modelkiln.store.records import Record

# What ends: a step with its result; or None, a signal that asks to stop.
_News: TypeAlias = "queue.SimpleQueue[tuple[Step, Record | KilnError] | None]"


class Event(StrEnum):
    """What happened to a step."""

    HIT = "hit"
    STARTED = "started"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True)
class Slots:
    """What may be in use at once: CPUs, bytes of memory, steps."""

    cpus: int
    memory: int
    jobs: int

    def fits(self, step: Step, running: Mapping[str, Step]) -> bool:
        """Whether a step may start beside those that run; one step alone always may."""
        if not running:
            return True
        cpus = step.cpus + sum(one.cpus for one in running.values())
        memory = step.memory + sum(one.memory for one in running.values())
        return len(running) < self.jobs and cpus <= self.cpus and memory <= self.memory


@dataclass(kw_only=True)
class Run:
    """What became of a plan's steps: records, errors, and for each skipped step the failed one."""

    records: dict[str, Record]
    errors: dict[str, KilnError]
    skipped: dict[str, str]


def run_plan(
    plan: Plan,
    *,
    resolve: Callable[[Step, Mapping[str, Record]], Resolved],
    execute: Callable[[Resolved], Record],
    stop: Callable[[bool], None],
    slots: Slots,
    keep_going: bool = False,
    on_event: Callable[[Step, Event, str], None] = lambda *_: None,
) -> Run:
    """Run every step of a plan that is not yet done.

    Args:
        resolve: Gives a step's key and its record, if there is one.
        execute: Runs a step and publishes its record; called in threads.
        stop: Ends what runs, at once where its argument is true; called at Ctrl-C.
        keep_going: Go on with steps that do not depend on a failed one.
        on_event: Told of everything that happens, in this thread.

    Raises:
        Interrupted: Ctrl-C (or SIGTERM); everything that ran has been ended.
    """
    run = Run(records={}, errors={}, skipped={})
    waiting = dict(plan.steps)
    running: dict[str, Step] = {}
    finished: _News = queue.SimpleQueue()

    def work(resolved: Resolved) -> None:
        try:
            finished.put((resolved.step, execute(resolved)))
        except KilnError as error:
            finished.put((resolved.step, error))
        except BaseException as error:
            finished.put((resolved.step, _unexpected(resolved.step, error)))

    def settle(step: Step, result: Record | KilnError) -> None:
        running.pop(step.id, None)
        if isinstance(result, KilnError):
            run.errors[step.id] = result
            on_event(step, Event.FAILED, result.what)
        else:
            run.records[step.id] = result
            on_event(step, Event.DONE, "")

    def start_ready() -> None:
        for step in list(waiting.values()):
            broken = next((n for n in step.needs if n in run.errors or n in run.skipped), "")
            if broken or (run.errors and not keep_going):
                del waiting[step.id]
                run.skipped[step.id] = run.skipped.get(broken, broken)
                on_event(step, Event.SKIPPED, run.skipped[step.id])
            elif all(one in run.records for one in step.needs):
                _start(step)

    def _start(step: Step) -> None:
        try:
            resolved = resolve(step, run.records)
        except KilnError as error:
            del waiting[step.id]
            settle(step, error)
            return
        if resolved.status is Status.HIT and resolved.record is not None:
            del waiting[step.id]
            run.records[step.id] = resolved.record
            on_event(step, Event.HIT, "")
        elif slots.fits(step, running):
            del waiting[step.id]
            running[step.id] = step
            on_event(step, Event.STARTED, "")
            threading.Thread(target=work, args=(resolved,), daemon=True).start()

    with _interrupts(finished):
        while waiting or running:
            start_ready()
            if not running:
                continue
            news = _take(finished)
            if news is None:
                _wind_down(stop, running, finished)
                raise Interrupted(
                    "Stopped.",
                    "You interrupted the build; what was finished is kept.",
                    "Run the same command again to go on from there.",
                )
            settle(*news)
    return run


@contextmanager
def _interrupts(finished: _News) -> Iterator[None]:
    """Signals become news in the queue: an exception could come between any two lines, and lose a
    step that has just been started or has just ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def tell(_: int, __: FrameType | None) -> None:
        finished.put(None)

    before = {
        one: signal.signal(one, tell)
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(one) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _take(finished: _News) -> tuple[Step, Record | KilnError] | None:
    while True:
        try:
            return finished.get(timeout=0.5)
        except queue.Empty:
            continue


def _wind_down(stop: Callable[[bool], None], running: dict[str, Step], finished: _News) -> None:
    stop(False)
    while running:
        news = _take(finished)
        if news is None:
            stop(True)
        else:
            running.pop(news[0].id, None)


def _unexpected(step: Step, error: BaseException) -> KilnError:
    import traceback

    failure = StageFailure(
        f"{step.id}: {type(error).__name__}: {error}",
        "".join(traceback.format_exception(error)[-2:]).strip(),
        "This is a fault of modelkiln; please report it with these lines.",
    )
    failure.__cause__ = error
    return failure
