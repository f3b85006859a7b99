"""What every step of a plan has in common."""

from collections.abc import Iterable

import pytest

from modelkiln.errors import UsageError
from modelkiln.planning.maker import StepMaker
from tests.modelkiln.catalog.shared import CATALOG

MODEL = CATALOG.models["sam2.1_hiera_tiny"]
PARTS = {"exporters.sam2.export"}


def make() -> StepMaker:
    def digest(modules: Iterable[str]) -> dict[str, str]:
        modules = list(modules)
        if "exporters.gone" in modules:
            raise UsageError("There is no module exporters.gone.")
        return {f"{name}.py": "0" * 64 for name in modules}

    return StepMaker(CATALOG, exists=PARTS.__contains__, sources=digest)


def test_a_family_s_part_of_a_stage_is_used_where_there_is_one() -> None:
    maker = make()
    assert maker.modules("export", "exporters.sam2") == (
        "exporters.stages.export",
        "exporters.sam2.export",
    )
    assert maker.modules("convert", "exporters.sam2") == ("exporters.stages.convert",)
    assert maker.sources_of(["convert"], "exporters.sam2") == {
        "convert": {"exporters.stages.convert.py": "0" * 64}
    }


def test_limits_are_those_of_the_stage_and_grow_with_the_checkpoint() -> None:
    maker = make()
    assert maker.add("export", "a", MODEL, "exporters.sam2", {"one": 1}, {}) == "a"
    step, limits = maker.steps["a"], CATALOG.stages["export"]
    assert (step.cpus, step.timeout_s) == (limits.cpus, limits.timeout_s)
    assert step.memory == limits.memory(MODEL.checkpoint.bytes) > limits.memory(0)
    assert step.environment == MODEL.environment
    assert step.modules == ("exporters.stages.export", "exporters.sam2.export")


def test_what_differs_from_the_stage_is_taken() -> None:
    maker = make()
    words = {"environment": "quantize", "modules": ("exporters.other",), "gpu": True}
    maker.add("export", "a", MODEL, "exporters.sam2", {}, {}, **words)  # type: ignore[arg-type]
    step = maker.steps["a"]
    assert (step.environment, step.modules, step.gpu) == ("quantize", ("exporters.other",), True)
    assert step.key.count("gpu") == 1


def test_one_step_is_made_once_and_two_of_one_name_are_refused() -> None:
    maker = make()
    for _ in range(2):
        maker.add("export", "a", MODEL, "exporters.sam2", {"one": 1}, {})
    assert list(maker.steps) == ["a"]
    with pytest.raises(UsageError, match="two different steps of a"):
        maker.add("export", "a", MODEL, "exporters.sam2", {"one": 2}, {})


def test_a_module_that_is_missing_ends_planning() -> None:
    with pytest.raises(UsageError, match=r"exporters\.gone"):
        make().add("export", "a", MODEL, "x", {}, {}, modules=("exporters.gone",))
