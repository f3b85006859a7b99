"""A stage outside of any plan: what a signal does to it."""

import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from modelkiln.building import once
from modelkiln.building.kiln import Kiln
from modelkiln.errors import Interrupted
from modelkiln.runners.job import Job, Outcome
from modelkiln.util.console import OnProgress

MakeKiln = Callable[..., Kiln]
DONE = Outcome(outputs={}, metrics={}, seconds=0.0, peak_rss=0, seal={})


class Deaf:
    """A runner whose stage ends well, though only after it was asked to stop so many times."""

    name = "deaf"

    def __init__(self, signals: int) -> None:
        self.wanted = signals
        self.asked: list[bool] = []
        self.heard = threading.Event()

    def get_ready(self, environments: Iterable[str]) -> None:
        pass

    def run(self, job: Job, scratch: Path, on_progress: OnProgress) -> Outcome:
        main = threading.main_thread().ident
        assert main is not None
        for _ in range(self.wanted):
            self.heard.clear()
            signal.pthread_kill(main, signal.SIGINT)
            assert self.heard.wait(10)
        return DONE

    def stop(self, *, kill: bool) -> None:
        self.asked.append(kill)
        self.heard.set()


def run(kiln: Kiln, runner: Deaf, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    monkeypatch.setattr(once, "open_runner", lambda *_: runner)
    with once.run_once(
        kiln, "a stage", environment="bare", modules=("exporters.nothing",), params={}, inputs={}
    ) as outcome:
        return outcome


@pytest.mark.parametrize("signals", [1, 2])
def test_a_signal_stops_it_and_is_not_lost(
    make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch, signals: int
) -> None:
    kiln, runner = make_kiln(), Deaf(signals)
    monkeypatch.setattr(kiln.sources, "closure", lambda _: {})
    with pytest.raises(Interrupted):
        run(kiln, runner, monkeypatch)
    assert runner.asked == [False, True][:signals]
    assert list((kiln.artifacts / "scratch").iterdir()) == []


def test_without_one_its_outcome_is_given(
    make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    kiln, runner = make_kiln(), Deaf(0)
    monkeypatch.setattr(kiln.sources, "closure", lambda _: {})
    assert run(kiln, runner, monkeypatch) is DONE
    assert runner.asked == []
