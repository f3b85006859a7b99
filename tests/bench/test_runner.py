"""bench.runner, with runners whose times are known; and that a build with nothing to do calls no
engine."""

import json
import socket
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bench import null, runner
from bench.filled import fill_store
from bench.runner import Cost, Report, compare_runners, counted_engine, make_empty_job
from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import make_plan
from modelkiln.errors import NotReproducible, StageFailure, UsageError
from modelkiln.runners.job import Job, Outcome
from modelkiln.runners.processes import LocalRunner
from modelkiln.util.console import OnProgress

MakeKiln = Callable[..., Kiln]


@dataclass(kw_only=True)
class FakeRunner:
    """A runner that takes a known time, notes its calls and writes a known text."""

    name: str
    calls: list[str]
    seconds: float = 0.0
    text: str = "same"
    raises: BaseException | None = None
    stopped: list[bool] = field(default_factory=list)

    def get_ready(self, environments: Iterable[str]) -> None:
        raise AssertionError("the caller gets runners ready")

    def run(self, job: Job, scratch: Path, on_progress: OnProgress) -> Outcome:
        self.calls.append(f"{self.name} {job.name}")
        if self.raises:
            raise self.raises
        time.sleep(self.seconds)
        (scratch / "file").write_text(self.text)
        outputs = {"file": scratch / "file"}
        return Outcome(outputs=outputs, metrics={}, seconds=0.0, peak_rss=0, seal={})

    def stop(self, *, kill: bool) -> None:
        self.stopped.append(kill)


@dataclass(kw_only=True)
class Sides:
    """Two fake runners, an empty job, and the folder in which they work."""

    calls: list[str]
    local: FakeRunner
    docker: FakeRunner
    job: Job
    folder: Path
    made: int = 0

    def compare(self, jobs: Sequence[Job] = (), rounds: int = 1) -> list[Cost]:
        def scratch() -> Path:
            self.made += 1
            path = self.folder / f"scratch{self.made}"
            path.mkdir()
            return path

        def discard(path: Path) -> None:
            for one in path.iterdir():
                one.unlink()
            path.rmdir()

        return compare_runners(
            self.local,
            self.docker,
            jobs or [self.job],
            scratch=scratch,
            discard=discard,
            rounds=rounds,
            on_progress=lambda _: None,
        )


@pytest.fixture
def sides(make_kiln: MakeKiln, tmp_path: Path) -> Sides:
    calls: list[str] = []
    folder = tmp_path / "work"
    folder.mkdir()
    return Sides(
        calls=calls,
        local=FakeRunner(name="local", calls=calls),
        docker=FakeRunner(name="docker", calls=calls),
        job=replace(make_empty_job(make_kiln(), "bare"), name="a"),
        folder=folder,
    )


def test_runners_take_turns_and_the_first_round_does_not_count(sides: Sides) -> None:
    (first, second) = sides.compare([sides.job, replace(sides.job, name="b")], rounds=2)
    assert sides.calls == [
        *("docker a", "local a", "docker b", "local b"),
        *("local a", "docker a", "local b", "docker b"),
        *("docker a", "local a", "docker b", "local b"),
    ]
    assert (first.stage, second.stage) == ("a", "b")
    assert [len(one) for one in (first.local, first.docker, second.local)] == [2, 2, 2]


def test_the_overhead_is_what_docker_takes_more(sides: Sides) -> None:
    sides.docker.seconds = 0.2
    (cost,) = sides.compare()
    assert 0.19 < cost.overhead < 0.5
    assert min(cost.docker) > max(cost.local)


def test_scratch_folders_are_gone_after_each_run(sides: Sides) -> None:
    sides.compare(rounds=2)
    assert sides.made == 6
    assert list(sides.folder.iterdir()) == []


def test_a_job_that_fails_stops_the_bench_and_leaves_nothing(sides: Sides) -> None:
    sides.docker.raises = StageFailure("broken", "", "")
    with pytest.raises(StageFailure):
        sides.compare()
    assert list(sides.folder.iterdir()) == []


def test_an_interruption_ends_the_job(sides: Sides) -> None:
    sides.docker.raises = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        sides.compare()
    assert sides.docker.stopped == [True]
    assert sides.local.stopped == []


def test_other_bytes_in_a_container_are_an_error(sides: Sides) -> None:
    sides.docker.text = "other"
    with pytest.raises(NotReproducible, match="other bytes"):
        sides.compare()


def test_no_round_is_no_bench(sides: Sides) -> None:
    with pytest.raises(UsageError):
        sides.compare(rounds=0)
    assert sides.calls == []


def test_an_empty_stage_runs_and_leaves_nothing(make_kiln: MakeKiln, tmp_path: Path) -> None:
    kiln = make_kiln()
    job = make_empty_job(kiln, "bare")
    local = LocalRunner(lambda _: Path(sys.executable))
    local.get_ready(["bare"])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    outcome = local.run(job, scratch, lambda *_: None)
    assert dict(outcome.outputs) == {}


def test_the_ingest_job_is_that_of_the_plan(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    job = runner.make_ingest_job(kiln, "toy_a/words/toy-text")
    step = next(iter(make_plan(kiln, kiln.targets("toy_a/words/toy-text")).steps.values()))
    assert (job.name, job.modules, job.params) == (step.id, step.modules, step.params)
    assert job.stage == "ingest"
    assert "exporters/stages/ingest.py" in job.sources


@pytest.mark.parametrize(
    ("docker", "ok"),
    [([1.9, 2.0, 9.0], True), ([1.9, 2.1, 2.2], False), ([0.5, 0.5, 0.5], True)],
)
def test_the_bound_is_on_the_median_difference(docker: list[float], ok: bool) -> None:
    cost = Cost(stage="one", local=[1.0, 1.0, 1.0], docker=docker)
    assert cost.ok is ok
    assert ("MISSED" in runner.table(make_report([cost]))[1][0][4]) is not ok


def test_the_difference_is_taken_round_by_round() -> None:
    cost = Cost(stage="one", local=[1.0, 5.0, 9.0], docker=[1.5, 5.5, 9.5])
    assert cost.overhead == 0.5
    assert Cost(stage="one", local=[1, 5, 9], docker=[10, 5.5, 9.5]).overhead == 0.5


def make_report(costs: Sequence[Cost] = (), seconds: float = 0.2, asked: int = 0) -> Report:
    times = null.Times(name="nothing to do", ours=True, seconds=[seconds])
    nothing = null.Report(rounds=1, times=[times], machine={})
    return runner.make_report(1, "Docker 1.2.3", costs, nothing, asked)


def test_all_promises_count() -> None:
    good = Cost(stage="one", local=[1.0], docker=[1.5])
    bad = Cost(stage="one", local=[1.0], docker=[3.0])
    assert make_report([good]).ok
    assert not make_report([good, bad]).ok
    assert not make_report([good], seconds=0.31).ok
    assert not make_report([good], asked=1).ok
    assert runner.table(make_report([good], asked=1))[1][-1][-1] == "none MISSED"


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    report = make_report([Cost(stage="<one>", local=[1.0, 2.0, 3.0], docker=[1.5, 2.5, 3.5])])
    data, page = runner.write(report, tmp_path / "bench")
    told = json.loads(data.read_text())
    assert told["stages"][0]["overhead"] == 0.5
    assert told["engine"] == "Docker 1.2.3"
    assert told["engine_asked"] == 0
    assert told["ok"] is True
    text = page.read_text()
    assert "&lt;one&gt;" in text and "<one>" not in text
    assert "nothing to do" in text


def test_a_call_of_the_engine_is_counted() -> None:
    with counted_engine() as (host, calls):
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as caller:
                caller.connect(host.removeprefix("unix://"))
                assert caller.recv(1) == b""
    assert len(calls) == 2


@pytest.fixture
def sealed(toy_copy: Path) -> Path:
    """The toy catalog with a Dockerfile, so that the Docker runner has what it asks for."""
    (toy_copy / "docker" / "bare" / "Dockerfile").write_text("FROM nothing\n")
    return toy_copy


@pytest.mark.parametrize("name", ["docker", "auto"])
def test_a_build_with_nothing_to_do_calls_no_engine(
    sealed: Path, make_kiln: MakeKiln, invoke: Callable[..., Any], name: str
) -> None:
    kiln = make_kiln(runner=name)
    words = ("build", "toy_a+random0/words/toy-text", "--runner", name)
    fill_store(kiln, kiln.targets(words[1]))
    with counted_engine() as (host, calls):
        for _ in range(2):
            done = invoke(*words, settings={"DOCKER_HOST": host})
            assert done.returncode == 0, done.stderr
        assert calls == []


def test_a_build_with_something_to_do_calls_it(sealed: Path, invoke: Callable[..., Any]) -> None:
    """So the test above can fail."""
    with counted_engine() as (host, calls):
        words = ("build", "toy_a+random0/words/toy-text", "--runner", "docker")
        done = invoke(*words, settings={"DOCKER_HOST": host})
        assert done.returncode == 4, done.stderr
        assert calls
