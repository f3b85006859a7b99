"""What both sides of bench.engine start from."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import engine_sides
from bench.engine_sides import find_source_graphs
from modelkiln.building.kiln import Kiln
from modelkiln.building.manifest import NEEDED
from modelkiln.building.options import Options
from modelkiln.errors import EnvironmentFailure, StageFailure, UsageError

ENGINES = "sam2.1_hiera_tiny/image/rtx-int8"
SOURCE = "sam2.1_hiera_tiny+random0/image/onnx-int8@explicit.fp16"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The targets that were built: one by one published, as far as a bench looks."""
    names: list[str] = []

    def build(kiln: Kiln, targets: Any) -> Any:
        for one in targets:
            names.append(one.name)
            folder = kiln.artifacts / "out" / one.name
            folder.mkdir(parents=True)
            (folder / "manifest.json").write_text(json.dumps({key: {} for key in NEEDED}))
        return SimpleNamespace(failed=())

    monkeypatch.setattr(engine_sides, "build", build)
    return names


@pytest.fixture
def kiln(tmp_path: Path) -> Kiln:
    return Kiln(Options(weights="random"), artifacts=tmp_path)


def test_the_source_is_built_and_the_step_is_the_plan_s(kiln: Kiln, built: list[str]) -> None:
    source = find_source_graphs(kiln, ENGINES)
    assert built == [SOURCE] and source.made_from == SOURCE
    assert source.target == "sam2.1_hiera_tiny+random0/image/rtx-int8"
    assert (source.environment, source.weights) == ("rtx", "random")
    assert (source.threads, source.seed) == (kiln.catalog.threads, kiln.catalog.seed)
    assert source.graphs == ["encoder", "decoder"]
    assert source.files("encoder") == [kiln.artifacts / "out" / SOURCE / "encoder.onnx"]
    assert source.engine("decoder") == "decoder.engine"
    assert (source.is_fixed("encoder"), source.is_fixed("decoder")) == (True, False)


def test_our_side_is_told_of_one_graph_with_all_that_the_stage_checks(
    kiln: Kiln, built: list[str]
) -> None:
    source = find_source_graphs(kiln, ENGINES)
    told = source.step("decoder")
    json.dumps(told)
    assert [one["name"] for one in told["params"]["graphs"]] == ["decoder"]
    assert told["params"].keys() == source.params.keys()
    assert told["params"]["precision"] == "int8" and told["params"]["quantized"] == ["encoder"]
    # It says which nodes were left in float32.
    assert set(told["inputs"]) == {"encoder.onnx", "decoder.onnx", "quantization.json"}
    assert told["inputs"]["decoder.onnx"] == str(source.files("decoder")[0])


def test_the_script_is_told_shapes_and_settings_alone(kiln: Kiln, built: list[str]) -> None:
    told = find_source_graphs(kiln, ENGINES + "@sm86+sm89").settings("decoder")
    assert set(told) == {"shapes", "gpus", "tf32", "verbosity"}
    assert told["gpus"] == ["sm86", "sm89"] and told["tf32"] is False
    low, best, high = told["shapes"]["point_coords"]
    assert low[0] <= best[0] < high[0]


def test_flags_choose_gpus_and_shapes(tmp_path: Path, built: list[str]) -> None:
    given: Any = {"gpu": "sm86", "profile": "num_points=3"}
    kiln = Kiln(Options(parameters=given), artifacts=tmp_path)
    source = find_source_graphs(kiln, "sam2.1_hiera_tiny/image/rtx-fp16")
    # Of official weights, which are not in the cache, the flags are not forgotten.
    assert built == ["sam2.1_hiera_tiny+random0/image/onnx-fp16"]
    told = source.settings("decoder")
    assert told["gpus"] == ["sm86"]
    assert [one[1] for one in told["shapes"]["point_coords"]] == [3, 3, 3]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sam2.1_hiera_tiny/image/onnx-fp32", "has no engines"),
        ("sam2.1_hiera_tiny/image/onnx-int8", "has no engines"),
        ("sam2.1_hiera_tiny/image/rtx-*", "names 4 targets"),
        ("sam2.1_hiera_tiny/image/rtx-fp17", "no format"),
    ],
)
def test_what_is_not_one_target_of_engines_is_refused_before_anything_is_built(
    kiln: Kiln, built: list[str], name: str, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        find_source_graphs(kiln, name)
    assert built == []


def test_what_this_version_cannot_build_is_refused(kiln: Kiln, built: list[str]) -> None:
    with pytest.raises(EnvironmentFailure):
        find_source_graphs(kiln, "sam2.1_hiera_tiny/image/trt-fp16")
    assert built == []


def test_a_source_that_fails_or_is_not_published_is_no_side(
    kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = SimpleNamespace(error=StageFailure("It broke."))
    monkeypatch.setattr(engine_sides, "build", lambda *_: SimpleNamespace(failed=[failed]))
    with pytest.raises(StageFailure, match="It broke"):
        find_source_graphs(kiln, ENGINES)
    monkeypatch.setattr(engine_sides, "build", lambda *_: SimpleNamespace(failed=()))
    with pytest.raises(UsageError, match=r"onnx-int8@explicit\.fp16 has not been built"):
        find_source_graphs(kiln, ENGINES)
