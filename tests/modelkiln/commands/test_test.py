"""`invoke test`: its parts, with stand-ins for their commands, and what it says at the end."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.commands import test as module
from modelkiln.environments.provisioner import Provisioner
from modelkiln.errors import StageFailure, UsageError

MakeKiln = Callable[..., Kiln]
BUSY = "import time\nwhile time.process_time() < 0.3: pass\nprint(7, 'passed in 0.3s')"


def run_python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


BUSY_ONE = run_python(BUSY)


@pytest.fixture
def kiln(make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch) -> Kiln:
    """A kiln whose lint fails at once, and whose other parts take 0.3 s of a processor."""
    monkeypatch.setattr(Provisioner, "tools", lambda *_: Path("tools"))
    monkeypatch.setattr(module, "_lint", lambda _: [run_python("raise SystemExit(1)"), BUSY_ONE])
    monkeypatch.setattr(module, "_pytest", lambda *_, **__: BUSY_ONE)
    monkeypatch.setattr(module, "_room_pytest", lambda *_: BUSY_ONE)
    return make_kiln()


def test_a_table_says_what_each_part_took(kiln: Kiln, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StageFailure, match="Tests failed: lint") as caught:
        module.run_tests(kiln, "lint,host")
    assert "invoke test --only lint" in caught.value.next
    *before, titles, lint, host = capfd.readouterr().out.splitlines()
    # What came after a failure ran too, and what pytest counts is not lost.
    assert before == ["7 passed in 0.3s"] * 2
    assert titles.split() == ["part", "result", "seconds", "CPU", "seconds"]
    assert lint.split()[:2] == ["lint", "failed"]
    name, result, seconds, cpu_seconds = host.split()
    assert (name, result) == ("host", "passed")
    assert 0.2 < float(seconds) < 60
    assert 0.2 < float(cpu_seconds) < 3


def test_the_table_as_json(kiln: Kiln, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StageFailure, match="Tests failed: lint"):
        module.run_tests(kiln, "host,lint,quantize", as_json=True)
    said = capfd.readouterr()
    told = json.loads(said.out)
    assert {name: one["passed"] for name, one in told.items()} == {
        "host": True, "lint": False, "quantize": True,
    }  # fmt: skip
    assert told["host"]["cpu_seconds"] > 0.2 and told["host"]["seconds"] > 0.2
    assert said.err.count("7 passed") == 3


def test_all_but_the_thorough_part_run_unless_told(
    kiln: Kiln, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_lint", lambda _: [])
    monkeypatch.setattr(module, "_pytest", lambda *_, **__: run_python(""))
    monkeypatch.setattr(module, "_room_pytest", lambda *_: run_python(""))
    module.run_tests(kiln)
    said = capfd.readouterr()
    names = ["lint", "host", "exporters", "quantize", "rtx", "containers", "full-size"]
    assert [line.split()[0] for line in said.out.splitlines()] == ["part", *names]
    assert f"passed: {', '.join(names)}" in said.err


def test_there_is_no_such_part(kiln: Kiln) -> None:
    with pytest.raises(UsageError, match="no part 'hosts'"):
        module.run_tests(kiln, "hosts")


@pytest.mark.parametrize(("processors", "workers"), [(1, "1"), (2, "2"), (64, "8")])
def test_the_host_tests_run_on_the_processors_that_there_are(
    make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch, processors: int, workers: str
) -> None:
    given: list[list[str]] = []

    def run(command: list[str], tools: Path, *, quiet: bool) -> int:
        given.append(command)
        return 0

    monkeypatch.setattr(Provisioner, "tools", lambda *_: Path("tools"))
    monkeypatch.setattr(module, "cpu_count", lambda: processors)
    monkeypatch.setattr(module, "_run", run)
    module.run_tests(make_kiln(), "host,containers")
    host, containers = given
    assert host[host.index("-n") + 1] == workers
    assert "-n" not in containers
