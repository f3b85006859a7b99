"""Stages are open: one is added by files alone, and each of the package is whole."""

from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.building.build import build
from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import prepare
from modelkiln.errors import UsageError
from modelkiln.paths import REPOSITORY
from modelkiln.planning.stages import STAGES, find_stages

MakeKiln = Callable[..., Kiln]
TARGET = "toy_a/words/toy-counted"

FORMAT = """
summary = "text, and how many words it has"
stages = ["export", "convert", "count"]
runtimes = []
"""
LIMITS = """
[count]
cpus = 1
memory.base = 1
memory.weights = 0.0
disk.base = 1
disk.weights = 0.0
timeout_s = 60
"""
PLANNING = """
from modelkiln.planning.stages.making import Making, Stage


def plan(making: Making) -> str:
    inputs = making.output("convert", "words.txt")
    return making.add("count", f"{making.target.name}/count", {"more": 1}, inputs)


STAGE = Stage(plan=plan, describe=lambda making, target: {"toy.counted": "yes"})
"""
WORK = """
from exporters.protocol import Result, Step


def run(step: Step) -> Result:
    text = step.input("words.txt").read_text()
    (step.out / "words.txt").write_text(text)
    (step.out / "count.txt").write_text(str(len(text.split()) + step.params["more"]))
    return Result(outputs=["words.txt", "count.txt"], metrics={"graphs": {}})
"""


@pytest.fixture
def counting(toy_copy: Path) -> Path:
    """The toy's catalog with a stage `count` and a format that lists it."""
    for name, text in {
        "formats/toy-counted.toml": FORMAT,
        "planning/stages/count.py": PLANNING,
        "exporters/stages/count.py": WORK,
    }.items():
        path = toy_copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    limits = toy_copy / "stages.toml"
    limits.write_text(limits.read_text() + LIMITS)
    contract = toy_copy / "contracts" / "words.toml"
    formats = 'formats = ["toy-text", "toy-counted"]'
    contract.write_text(contract.read_text().replace('formats = ["toy-text"]', formats))
    return toy_copy


def test_a_stage_is_two_files_and_an_entry(counting: Path, make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    built = build(kiln, kiln.targets(TARGET))
    assert not built.failed, built.failed[0].error
    (done,) = built.published
    words = len((done.folder / "words.txt").read_text().split())
    assert (done.folder / "count.txt").read_text() == str(words + 1)
    assert "toy_a+random0/words/toy-counted/count" in built.records
    convert = prepare(kiln, TARGET).plan.steps["toy_a+random0/words/convert"]
    assert convert.params["metadata"]["toy.counted"] == "yes"


def test_a_stage_without_limits_is_refused(counting: Path, make_kiln: MakeKiln) -> None:
    limits = counting / "stages.toml"
    limits.write_text(limits.read_text().replace(LIMITS, ""))
    with pytest.raises(UsageError, match="has a stage 'count'"):
        prepare(make_kiln(), TARGET)


def test_a_stage_of_a_name_that_is_taken_is_refused(counting: Path) -> None:
    (counting / "planning" / "stages" / "export.py").write_text(PLANNING)
    with pytest.raises(UsageError, match="there is a stage export already"):
        find_stages([counting])


@pytest.mark.parametrize("text", ["STAGE = 3", "nothing = 1", "import nowhere", "def ("])
def test_a_file_that_is_no_stage_is_told(counting: Path, text: str) -> None:
    (counting / "planning" / "stages" / "count.py").write_text(text)
    with pytest.raises(UsageError, match=r"count\.py is not a stage"):
        find_stages([counting])


def test_each_stage_of_planning_has_its_work_and_its_limits(make_kiln: MakeKiln) -> None:
    work = {path.stem for path in (REPOSITORY / "exporters" / "stages").glob("*.py")}
    assert STAGES.keys() <= work
    assert STAGES.keys() == make_kiln().catalog.stages.keys()


def test_each_contract_has_a_module_for_what_it_is_for(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    contracts = kiln.catalog.contracts.values()
    assert {use for one in contracts for use in one.uses} == {"predict", "track"}
    for one in contracts:
        for use in one.uses:
            assert kiln.sources.find(f"exporters.stages.{use}") is not None
            assert kiln.sources.find(f"{one.provider}.{use}") is not None
