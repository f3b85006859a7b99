"""Stage engine: what it is made from, and what it is told."""

import pytest

from modelkiln.planning.graph import StepOutput
from tests.modelkiln.lower_precision import MODEL, NAME, Steps


def test_engines_are_built_from_the_source_s_last_graphs(steps: Steps) -> None:
    found = steps(f"{MODEL}/image/rtx-fp16")
    step = found[f"{NAME}/image/rtx-fp16/engine"]
    before = f"{NAME}/image/onnx-fp16/quantize"
    assert step.environment == "rtx"
    assert step.modules == ("exporters.stages.engine",)
    assert step.inputs == {
        name: StepOutput(step=before, name=name)
        for name in ("decoder.onnx", "encoder.onnx", "quantization.json")
    }
    params = step.params
    assert params["flavour"] == "rtx"
    assert params["engines"] == {"encoder": "encoder.engine", "decoder": "decoder.engine"}
    assert params["onnx"] == {"encoder": ["encoder.onnx"], "decoder": ["decoder.onnx"]}
    assert (params["precision"], params["quantized"]) == ("fp16", [])
    assert (params["gpus"], params["tf32"]) == (["portable"], False)
    assert params["shapes"]["encoder"] == {}
    assert params["shapes"]["decoder"]["point_coords"] == [[1, 1, 2], [1, 2, 2], [20, 8, 2]]
    # The source's own checks are there, for the engines' check rests on them.
    assert f"{NAME}/image/onnx-fp16/verify" in found
    assert not step.gpu
    # The decoder's shapes have a range, and a range has no promise.
    assert step.unpromised == {"decoder.engine"}
    assert [sorted(one) for one in params["graphs"]] == [["inputs", "name", "outputs"]] * 2


def test_float32_has_no_quantization_to_hand_on(steps: Steps) -> None:
    step = steps(f"{MODEL}/image/rtx-fp32")[f"{NAME}/image/rtx-fp32/engine"]
    assert sorted(step.inputs) == ["decoder.onnx", "encoder.onnx"]
    assert step.needs == [f"{NAME}/image/convert"]


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_quantized_graphs_are_named(precision: str, steps: Steps) -> None:
    found = steps(f"{MODEL}/tracker/rtx-{precision}")
    step = found[f"{NAME}/tracker/rtx-{precision}/engine"]
    assert step.params["quantized"] == ["image_encoder"]
    (quantize,) = step.needs
    assert found[quantize].params["dtype"] == "fp16"
    assert found[quantize].params["layout"] == "explicit"
    expected = {"int8": ["portable"], "fp8": ["sm89", "sm120", "sm121"]}
    assert step.params["gpus"] == expected[precision]


def test_gpus_and_shapes_are_parameters_and_in_the_name(steps: Steps) -> None:
    form = "rtx-fp16@profile-batch-1-1-4.sm86+sm120"
    step = steps(f"{MODEL}/tracker/{form}")[f"{NAME}/tracker/{form}/engine"]
    assert step.params["gpus"] == ["sm86", "sm120"]
    memory = step.params["shapes"]["memory_attention"]
    assert [one[0] for one in memory["memory_0"]] == [1, 1, 4]


def test_a_graph_in_two_files_is_handed_on_with_both(steps: Steps) -> None:
    step = steps("dinov2_vitg14/features/rtx-fp32")[
        "dinov2_vitg14+random0/features/rtx-fp32/engine"
    ]
    assert step.params["onnx"] == {"features": ["features.onnx", "features.onnx.data"]}
    assert sorted(step.inputs) == ["features.onnx", "features.onnx.data"]
