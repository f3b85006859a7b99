import json
import sys
from pathlib import Path

import pytest

from bench import null
from bench.null import Report, Runner, Times, bare_python, compare_starts, make_runner
from bench.process import Command
from modelkiln.errors import StageFailure, UsageError


def test_all_commands_run_in_turns_and_the_first_round_does_not_count(tmp_path: Path) -> None:
    note = "import sys; open('order', 'a').write(sys.argv[1])"
    runners = [
        Runner(name=name, command=Command(argv=(sys.executable, "-c", note, name), cwd=tmp_path))
        for name in "ab"
    ]
    report = compare_starts(runners, workspace=tmp_path, rounds=2, on_progress=lambda _: None)
    assert (tmp_path / "order").read_text() == "ababab"
    assert [len(one.seconds) for one in report.times] == [2, 2]


def test_make_has_nothing_left_to_do(tmp_path: Path) -> None:
    runner = make_runner(tmp_path, steps=5)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("step*")}
    compare_starts([runner], workspace=tmp_path, rounds=1, on_progress=lambda _: None)
    assert set(before) == {f"step{number}" for number in range(1, 6)}
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("step*")} == before


def test_a_command_that_fails_stops_the_bench(tmp_path: Path) -> None:
    broken = Runner(
        name="broken", command=Command(argv=(sys.executable, "-c", "exit(1)"), cwd=tmp_path)
    )
    with pytest.raises(StageFailure, match="status 1"):
        compare_starts([broken], workspace=tmp_path, rounds=1, on_progress=lambda _: None)


def test_no_round_is_no_bench(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        compare_starts([], workspace=tmp_path, rounds=0, on_progress=lambda _: None)


@pytest.mark.parametrize(
    ("seconds", "ours", "ok"),
    [
        ([0.1, 0.3, 9.0], True, True),
        ([0.1, 0.31, 0.4], True, False),
        ([5.0, 5.0, 5.0], False, True),
    ],
)
def test_the_bound_is_on_our_median(seconds: list[float], ours: bool, ok: bool) -> None:
    report = Report(rounds=3, times=[Times(name="one", ours=ours, seconds=seconds)], machine={})
    assert report.ok is ok
    assert ("MISSED" in null.table(report)[1][0][4]) is not ok


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    runner = bare_python(Path(sys.executable), tmp_path)
    report = compare_starts([runner], workspace=tmp_path, rounds=3, on_progress=lambda _: None)
    data, page = null.write(report, tmp_path / "bench")
    told = json.loads(data.read_text())
    assert told["times"][0]["name"] == "python -c pass"
    assert told["times"][0]["median"] == sorted(told["times"][0]["seconds"])[1]
    assert told["ok"] is True
    assert "python -c pass" in page.read_text()
