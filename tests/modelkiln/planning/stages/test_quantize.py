"""Stage quantize: what it is told, and what its graphs need."""

import pytest

from tests.modelkiln.lower_precision import FP8, INT8, MODEL, NAME, Steps


def test_formats_without_calibration_have_no_such_step(steps: Steps) -> None:
    form = "onnx-int8-dynamic"
    found = steps(f"{MODEL}/tracker/{form}")
    step = found[f"{NAME}/tracker/{form}/quantize"]
    assert "calibrate" not in {one.stage for one in found.values()}
    assert set(step.inputs) == set(found[f"{NAME}/tracker/convert"].inputs)
    assert step.params["mode"] == form.removeprefix("onnx-")
    assert step.params["op_types"] == ["MatMul"]
    assert step.params["quantized"] == ["image_encoder"]
    assert len(step.params["graphs"]) == 4
    assert "modelkiln.calibration" not in step.params["metadata"]
    assert step.params["metadata"]["modelkiln.format"] == form


@pytest.mark.parametrize("contract", ["tracker", "tracker-ex", "tracker-legacy"])
def test_fp16_takes_every_graph_and_looks_at_all_their_values(steps: Steps, contract: str) -> None:
    found = steps(f"{MODEL}/{contract}/onnx-fp16")
    step = found[f"{NAME}/{contract}/onnx-fp16/quantize"]
    every = ["image_encoder", "mask_decoder", "memory_attention", "memory_encoder"]
    assert step.params["mode"] == "fp16"
    (calibrate,) = (one for one in found.values() if one.stage == "calibrate")
    assert step.params["quantized"] == calibrate.params["quantized"] == every
    assert calibrate.params["observe"] == "tensors"
    convert = set(found[f"{NAME}/{contract}/convert"].inputs)
    assert set(step.inputs) == {*convert, "calibration.json"}


def test_float16_for_the_rest_means_the_other_graphs_too(steps: Steps) -> None:
    form = "onnx-int8@explicit.fp16"
    found = steps(f"{MODEL}/tracker/{form}", INT8)
    step = found[f"{NAME}/tracker/{form}/quantize"]
    rest = ["mask_decoder", "memory_attention", "memory_encoder"]
    assert (step.params["quantized"], step.params["halved"]) == (["image_encoder"], rest)
    calibrate = found[step.inputs["calibration.json"].step]  # type: ignore[union-attr]
    assert calibrate.params["quantized"] == ["image_encoder", *rest]
    assert calibrate.params["halved"] == rest
    assert found[f"{NAME}/image/onnx-int8/quantize"].params["halved"] == []


def test_the_opset_is_the_most_that_contract_and_format_need(steps: Steps) -> None:
    found = steps(*(f"{MODEL}/image@opset{n}/onnx-int8@fp16" for n in (17, 20)), FP8)
    opsets = {s.id.split("/")[1]: s.params["opset"] for s in found.values() if "int8" in s.id
              and s.stage == "quantize"}  # fmt: skip
    assert opsets == {"image@opset17": 19, "image@opset20": 20}
    convert = found[f"{NAME}/image@opset17/export"]
    assert convert.params["opset"] == 17


def test_a_data_file_goes_where_weights_no_longer_need_it(steps: Steps) -> None:
    name = "dinov2_vitg14+random0/features"
    found = steps("dinov2_vitg14/features/onnx-int8")
    data = "features.onnx.data"
    (calibrate,) = (one for one in found.values() if one.stage == "calibrate")
    assert data in calibrate.inputs
    assert data in found[f"{name}/onnx-int8/quantize"].inputs
    assert "data" in calibrate.params["graphs"][0]
    assert "data" not in found[f"{name}/onnx-int8/quantize"].params["graphs"][0]
    assert {f"fp32/{data}"} == {
        one for one in found[f"{name}/onnx-int8/verify"].inputs if data in one
    }
