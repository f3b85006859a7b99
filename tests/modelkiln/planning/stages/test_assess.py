"""Stage assess: both sets of graphs, and what judges them."""

from modelkiln.planning.graph import StepOutput
from tests.modelkiln.lower_precision import FP8, INT8, MODEL, NAME, Steps


def test_assessment_sees_both_sets_of_graphs(steps: Steps) -> None:
    found = steps(FP8)
    step = found[f"{NAME}/image/onnx-fp8/verify"]
    quantize, convert = f"{NAME}/image/onnx-fp8/quantize", f"{NAME}/image/convert"
    reference = f"{NAME}/image/reference"
    assert step.inputs == {
        "encoder.onnx": StepOutput(step=quantize, name="encoder.onnx"),
        "decoder.onnx": StepOutput(step=quantize, name="decoder.onnx"),
        "quantization.json": StepOutput(step=quantize, name="quantization.json"),
        "fp32/encoder.onnx": StepOutput(step=convert, name="encoder.onnx"),
        "fp32/decoder.onnx": StepOutput(step=convert, name="decoder.onnx"),
        "fp32/verification.json": StepOutput(
            step=f"{NAME}/image/onnx-fp32/verify", name="verification.json"
        ),
        "cases.json": StepOutput(step=reference, name="cases.json"),
        "tensors.safetensors": StepOutput(step=reference, name="tensors.safetensors"),
    }
    assert step.params["opset"] == 21
    assert step.params["contract"]["session"] == {"session.disable_quant_qdq": "1"}
    assert step.params["format"] == {
        "name": "onnx-fp8",
        "gates": {"snr_db": 20.0, "mask_iou": 0.98, "cosine": {"cls_token": 0.999}},
        "session": {"session.disable_quant_qdq": "1"},
        "integer_kernels": False,
        "mode": "fp8",
    }
    assert (step.params["binding"], step.params["cuda"]) == (False, False)


def test_gates_bind_with_real_weights_alone(steps: Steps) -> None:
    official = steps(INT8, weights="official")
    assert official[f"{INT8}/verify"].params["binding"] is True


def test_a_gpu_takes_part_in_the_assessment(steps: Steps) -> None:
    found = steps(INT8, f"{MODEL}/image/onnx-fp32", gpu=True)
    gpu = [name for name, one in found.items() if one.gpu]
    assert gpu == [f"{NAME}/image/onnx-int8/verify"]
    assert found[gpu[0]].params["cuda"] is True
