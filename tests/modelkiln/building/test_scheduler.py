"""The scheduler: order, slots, failures, Ctrl-C."""

import signal
import threading
import time
from collections.abc import Mapping

import pytest

from modelkiln.building.scheduler import Event, Run, Scheduler, Slots
from modelkiln.errors import Interrupted, StageFailure
from modelkiln.planning.graph import Input, Plan, Step, StepOutput
from modelkiln.planning.keys import Resolved, Status
from modelkiln.store.records import Record


def step(name: str, *needs: str, cpus: int = 1, memory: int = 1) -> Step:
    inputs: dict[str, Input] = {one: StepOutput(step=one, name="out") for one in needs}
    return Step(
        id=name,
        stage="stage",
        environment="bare",
        modules=(),
        params={},
        inputs=inputs,
        cpus=cpus,
        memory=memory,
        disk=0,
        timeout_s=1,
    )


def record(name: str) -> Record:
    return Record(key="a" * 64, step=name, document={}, outputs={}, metrics={}, provenance={})


class Kitchen:
    """Executes steps as sleeps, and notes what ran beside what."""

    def __init__(self, failing: tuple[str, ...] = (), done: tuple[str, ...] = ()) -> None:
        self.failing = failing
        self.done = done
        self.lock = threading.Lock()
        self.running: set[str] = set()
        self.order: list[str] = []
        self.together: list[frozenset[str]] = []
        self.events: list[tuple[str, Event]] = []
        self.stopped = threading.Event()
        self.kills: list[bool] = []
        self.seconds = 0.02

    def resolve(self, one: Step, records: Mapping[str, Record]) -> Resolved:
        assert all(need in records for need in one.needs)
        hit = one.id in self.done
        return Resolved(
            step=one,
            status=Status.HIT if hit else Status.RUN,
            key="a" * 64,
            document={},
            record=record(one.id) if hit else None,
        )

    def execute(self, resolved: Resolved) -> Record:
        name = resolved.step.id
        with self.lock:
            self.running.add(name)
            self.order.append(name)
            self.together.append(frozenset(self.running))
        stopped = self.stopped.wait(self.seconds)
        with self.lock:
            self.running.discard(name)
        if stopped:
            raise Interrupted("stopped")
        if name in self.failing:
            raise StageFailure(f"{name} broke")
        return record(name)

    def stop(self, kill: bool) -> None:
        self.kills.append(kill)
        if kill or self.seconds < 50:
            self.stopped.set()

    def run(self, *steps: Step, slots: Slots | None = None, keep_going: bool = False) -> Run:
        plan = Plan(steps={one.id: one for one in steps}, targets=())
        return Scheduler(
            plan,
            resolve=self.resolve,
            execute=self.execute,
            stop=self.stop,
            slots=slots or Slots(cpus=2, memory=100, jobs=9),
            keep_going=keep_going,
            on_event=lambda one, event, _: self.events.append((one.id, event)),
        ).go()


def test_steps_run_after_what_they_need_and_side_by_side() -> None:
    kitchen = Kitchen()
    run = kitchen.run(step("a"), step("b"), step("c", "a", "b"), step("d", "c"))
    assert set(run.records) == {"a", "b", "c", "d"}
    assert kitchen.order[2:] == ["c", "d"]
    assert frozenset({"a", "b"}) in kitchen.together


def test_hits_are_not_run() -> None:
    kitchen = Kitchen(done=("a", "b"))
    run = kitchen.run(step("a"), step("b", "a"), step("c", "b"))
    assert kitchen.order == ["c"]
    assert set(run.records) == {"a", "b", "c"}


def test_slots_of_cpus_are_kept() -> None:
    kitchen = Kitchen()
    kitchen.run(step("a", cpus=2), step("b"), step("c"), step("d", cpus=2))
    assert all(not {"a", "d"} & running or len(running) == 1 for running in kitchen.together)


def test_slots_of_memory_are_kept() -> None:
    kitchen = Kitchen()
    kitchen.run(step("a", memory=60), step("b", memory=60), step("c", memory=30))
    assert not any({"a", "b"} <= running for running in kitchen.together)


def test_a_step_larger_than_the_machine_runs_alone() -> None:
    kitchen = Kitchen()
    run = kitchen.run(step("a", memory=1000), step("b"))
    assert set(run.records) == {"a", "b"}
    assert all(running == {"a"} or "a" not in running for running in kitchen.together)


def test_jobs_bound_what_runs_at_once() -> None:
    kitchen = Kitchen()
    kitchen.run(step("a"), step("b"), slots=Slots(cpus=8, memory=100, jobs=1))
    assert all(len(running) == 1 for running in kitchen.together)


def test_a_failure_takes_out_what_is_behind_it() -> None:
    kitchen = Kitchen(failing=("a",))
    run = kitchen.run(step("a"), step("b", "a"), step("c", "b"), step("d"), keep_going=True)
    assert set(run.errors) == {"a"}
    assert run.skipped == {"b": "a", "c": "a"}
    assert set(run.records) == {"d"}


def test_without_keep_going_nothing_new_starts() -> None:
    kitchen = Kitchen(failing=("a",))
    run = kitchen.run(step("a", cpus=2), step("b"), step("c"))
    assert kitchen.order == ["a"]
    assert set(run.skipped) == {"b", "c"}


def test_an_unexpected_error_is_told_as_a_fault() -> None:
    kitchen = Kitchen()

    def break_down(_: Resolved) -> Record:
        raise ZeroDivisionError("by zero")

    kitchen.execute = break_down  # type: ignore[method-assign, assignment]
    run = kitchen.run(step("a"))
    assert "ZeroDivisionError" in str(run.errors["a"])


def interrupt_after(seconds: float, times: int = 1) -> None:
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        for _ in range(times):
            time.sleep(seconds)
            signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()


def test_ctrl_c_stops_what_runs() -> None:
    kitchen = Kitchen()
    kitchen.seconds = 20
    interrupt_after(0.1)
    began = time.monotonic()
    with pytest.raises(Interrupted) as caught:
        kitchen.run(step("a"), step("b", "a"))
    assert time.monotonic() - began < 5
    assert kitchen.kills == [False]
    assert kitchen.order == ["a"]
    assert caught.value.exit_code == 130


def test_ctrl_c_twice_kills() -> None:
    kitchen = Kitchen()
    kitchen.seconds = 60
    interrupt_after(0.15, times=2)
    with pytest.raises(Interrupted):
        kitchen.run(step("a"))
    assert kitchen.kills == [False, True]


@pytest.mark.parametrize("when", [Event.STARTED, Event.DONE, Event.HIT])
def test_ctrl_c_between_any_two_lines_ends_the_run(when: Event) -> None:
    kitchen = Kitchen(done=("h",))
    kitchen.seconds = 0.3
    plan = Plan(steps={one: step(one) for one in ("h", "a", "b", "c")}, targets=())

    def interrupt(_: Step, event: Event, __: str) -> None:
        if event is when:
            signal.raise_signal(signal.SIGINT)

    began = time.monotonic()
    with pytest.raises(Interrupted):
        Scheduler(
            plan,
            resolve=kitchen.resolve,
            execute=kitchen.execute,
            stop=kitchen.stop,
            slots=Slots(cpus=1, memory=10, jobs=1),
            on_event=interrupt,
        ).go()
    assert time.monotonic() - began < 5
    assert not kitchen.running
