"""The scheduler: runs the steps of a plan side by side, within slots of CPUs and memory.

A step starts as soon as what it needs is there; its key is made then, so a rebuilt step that yields
equal bytes leaves the steps behind it as hits. A failed step takes those behind it out of the run.
"""

import bisect
import heapq
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from modelkiln.errors import Interrupted, KilnError, StageFailure
from modelkiln.planning.graph import Plan, Step
from modelkiln.planning.keys import Resolved, Status
from modelkiln.store.records import Record
from modelkiln.util.signals import Inbox


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

    def are_taken(self, running: Mapping[str, Step]) -> bool:
        """Return whether no step at all may start beside those that run."""
        return len(running) >= self.jobs or (
            bool(running) and sum(one.cpus for one in running.values()) >= self.cpus
        )

    def fits(self, step: Step, running: Mapping[str, Step]) -> bool:
        """Return whether a step may start beside those that run; one step alone always may."""
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


Result = tuple[Step, Record | KilnError]


class Scheduler:
    """Takes each step of a plan through its states, each once, the earlier one of the plan first.

    waiting (for steps before it) → ready (they are done) → due (resolved, waits for a slot)
    → running → a record or an error; a hit has its record when it is resolved, and what comes
    behind an error is skipped.

    Args:
        resolve: Gives a step's key and its record, if there is one; called once a step.
        execute: Runs a step and publishes its record; called in threads.
        stop: Ends what runs, at once where its argument is true; called at Ctrl-C.
        keep_going: Go on with steps that do not depend on a failed one.
        on_event: Told of everything that happens, in the thread of `go`.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        resolve: Callable[[Step, Mapping[str, Record]], Resolved],
        execute: Callable[[Resolved], Record],
        stop: Callable[[bool], None],
        slots: Slots,
        keep_going: bool = False,
        on_event: Callable[[Step, Event, str], None] = lambda *_: None,
    ) -> None:
        self._resolve = resolve
        self._execute = execute
        self._stop = stop
        self._slots = slots
        self._keep_going = keep_going
        self._on_event = on_event
        self.run = Run(records={}, errors={}, skipped={})
        self._place = {name: place for place, name in enumerate(plan.steps)}
        self._behind: dict[str, list[Step]] = {name: [] for name in plan.steps}
        self._waiting: dict[str, Step] = {}
        self._unmet: dict[str, int] = {}
        self._ready: list[tuple[int, Step]] = []
        self._due: list[tuple[int, Resolved]] = []
        self._running: dict[str, Step] = {}
        self._inbox: Inbox[Result] = Inbox()
        for step in plan.steps.values():
            needs = step.needs
            self._waiting[step.id] = step
            self._unmet[step.id] = len(needs)
            for name in needs:
                self._behind[name].append(step)
        self._make_ready(step for step in plan.steps.values() if not self._unmet[step.id])

    def go(self) -> Run:
        """Run every step that is not yet done.

        Raises:
            Interrupted: Ctrl-C (or SIGTERM); everything that ran has been ended.
        """
        with self._inbox.open():
            while True:
                self._resolve_ready()
                self._start_due()
                if not self._running:
                    return self.run
                result = self._inbox.take()
                if result is None:
                    self._wind_down()
                    raise Interrupted(
                        "Stopped.",
                        "You interrupted the build; what was finished is kept.",
                        "Run the same command again to go on from there.",
                    )
                self._settle(*result)

    def _make_ready(self, steps: Iterable[Step]) -> None:
        for step in steps:
            del self._waiting[step.id]
            heapq.heappush(self._ready, (self._place[step.id], step))

    def _resolve_ready(self) -> None:
        while self._ready:
            _, step = heapq.heappop(self._ready)
            try:
                resolved = self._resolve(step, self.run.records)
            except KilnError as error:
                self._settle(step, error)
                continue
            if resolved.status is Status.HIT and resolved.record is not None:
                self._finish(step, resolved.record, Event.HIT)
            else:
                place = self._place[step.id]
                bisect.insort(self._due, (place, resolved), key=lambda one: one[0])

    def _start_due(self) -> None:
        index = 0
        while index < len(self._due) and not self._slots.are_taken(self._running):
            step = self._due[index][1].step
            if not self._slots.fits(step, self._running):
                index += 1
                continue
            self._running[step.id] = step
            self._on_event(step, Event.STARTED, "")
            arguments = (self._due.pop(index)[1],)
            threading.Thread(target=self._work, args=arguments, daemon=True).start()

    def _work(self, resolved: Resolved) -> None:
        step = resolved.step
        try:
            self._inbox.put((step, self._execute(resolved)))
        except KilnError as error:
            self._inbox.put((step, error))
        except BaseException as error:
            self._inbox.put((step, _unexpected(step, error)))

    def _settle(self, step: Step, result: Record | KilnError) -> None:
        self._running.pop(step.id, None)
        if not isinstance(result, KilnError):
            self._finish(step, result, Event.DONE)
            return
        self.run.errors[step.id] = result
        self._on_event(step, Event.FAILED, result.what)
        self._skip_behind(step)
        if not self._keep_going:
            self._skip_rest()

    def _finish(self, step: Step, record: Record, event: Event) -> None:
        self.run.records[step.id] = record
        self._on_event(step, event, "")
        for one in self._behind[step.id]:
            self._unmet[one.id] -= 1
        self._make_ready(
            one
            for one in self._behind[step.id]
            if not self._unmet[one.id] and one.id in self._waiting
        )

    def _skip_behind(self, failed: Step) -> None:
        queue = [failed]
        while queue:
            for one in self._behind[queue.pop().id]:
                if self._waiting.pop(one.id, None):
                    self._skip(one, failed.id)
                    queue.append(one)

    def _skip_rest(self) -> None:
        rest = [*self._waiting.values(), *(step for _, step in self._ready)]
        rest += [one.step for _, one in self._due]
        self._waiting.clear()
        self._ready.clear()
        self._due.clear()
        for step in sorted(rest, key=lambda one: self._place[one.id]):
            self._skip(step, "")

    def _skip(self, step: Step, cause: str) -> None:
        self.run.skipped[step.id] = cause
        self._on_event(step, Event.SKIPPED, cause)

    def _wind_down(self) -> None:
        self._stop(False)
        while self._running:
            result = self._inbox.take()
            if result is None:
                self._stop(True)
            else:
                self._running.pop(result[0].id, None)


def _unexpected(step: Step, error: BaseException) -> KilnError:
    import traceback

    failure = StageFailure(
        f"{step.id}: {type(error).__name__}: {error}",
        "".join(traceback.format_exception(error)[-2:]).strip(),
        "This is a fault of modelkiln; please report it with these lines.",
    )
    failure.__cause__ = error
    return failure
