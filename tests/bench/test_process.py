import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.process import Command, Usage, describe_machine, run_measured, tree_memory
from modelkiln.errors import EnvironmentFailure, StageFailure
from modelkiln.paths import REPOSITORY

MEGABYTE = 1_000_000
pytestmark = pytest.mark.alone


def python(program: str, folder: Path) -> Command:
    return Command(argv=(sys.executable, "-c", program), cwd=folder)


def measure_apart(program: str, folder: Path) -> Usage:
    """Measure from a small process: a command's peak counts what started it, until it is itself."""
    outer = (
        "import json, sys; from dataclasses import asdict; from pathlib import Path\n"
        "from bench.process import Command, run_measured\n"
        "folder = Path(sys.argv[2])\n"
        "command = Command(argv=(sys.executable, '-c', sys.argv[1]), cwd=folder)\n"
        "print(json.dumps(asdict(run_measured(command, folder / 'log'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", outer, program, str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return Usage(**json.loads(done.stdout))


def test_wall_and_processor_time_are_the_command_s(tmp_path: Path) -> None:
    usage = run_measured(python("import time; time.sleep(0.3)", tmp_path), tmp_path / "log")
    assert 0.3 <= usage.wall_seconds < 5
    assert usage.cpu_seconds < usage.wall_seconds


def test_memory_of_a_process_and_its_child_is_added(tmp_path: Path) -> None:
    child = f"held = bytearray({60 * MEGABYTE}); import time; time.sleep(1)"
    program = (
        f"held = bytearray({90 * MEGABYTE})\n"
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}], check=True)"
    )
    usage = measure_apart(program, tmp_path)
    assert usage.samples > 3
    assert 150 * MEGABYTE <= usage.tree_bytes <= 250 * MEGABYTE
    assert 90 * MEGABYTE <= usage.largest_bytes < 140 * MEGABYTE
    assert usage.peak_bytes == usage.tree_bytes


def test_a_peak_too_short_to_be_sampled_is_still_seen(tmp_path: Path) -> None:
    program = f"held = bytearray({200 * MEGABYTE}); del held"
    usage = run_measured(python(program, tmp_path), tmp_path / "log")
    assert usage.peak_bytes >= 200 * MEGABYTE


def test_pages_that_processes_share_count_once() -> None:
    held = bytearray(os.urandom(1)) * (100 * MEGABYTE)
    alone = tree_memory(os.getpid())
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(reader, 1)
        os._exit(0)
    try:
        assert tree_memory(os.getpid()) < alone + 50 * MEGABYTE
    finally:
        os.write(writer, b"x")
        os.waitpid(child, 0)
    assert len(held) == 100 * MEGABYTE


def test_a_process_that_is_gone_holds_nothing() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert tree_memory(child) == 0


def test_without_memory_nothing_is_sampled(tmp_path: Path) -> None:
    usage = run_measured(python("pass", tmp_path), tmp_path / "log", memory=False)
    assert (usage.samples, usage.peak_bytes) == (0, 0)


def test_a_failed_command_shows_the_end_of_its_log(tmp_path: Path) -> None:
    program = "import sys; print('about to fail', file=sys.stderr); sys.exit(3)"
    with pytest.raises(StageFailure, match="status 3") as caught:
        run_measured(python(program, tmp_path), tmp_path / "log")
    assert "about to fail" in caught.value.why


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="cannot be started"):
        run_measured(Command(argv=("no-such-program",), cwd=tmp_path), tmp_path / "log")


def test_variables_reach_the_command(tmp_path: Path) -> None:
    command = Command(
        argv=(sys.executable, "-c", "import os; print(os.environ['KILN'], os.environ['PATH'])"),
        cwd=tmp_path,
        environment={"KILN": "hot"},
    )
    run_measured(command, tmp_path / "log")
    assert (tmp_path / "log").read_text() == f"hot {os.environ['PATH']}\n"


def test_the_machine_is_described() -> None:
    machine = describe_machine()
    assert int(machine["processors"]) >= 1
    assert machine["memory"].endswith(" GB")
