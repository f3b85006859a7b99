"""Stage verify: graphs of float32, whatever is made of them, beside what PyTorch computed."""

from modelkiln.planning.graph import StepOutput
from tests.modelkiln.lower_precision import INT8, MODEL, NAME, Steps


def test_it_sees_the_graphs_and_the_reference(steps: Steps) -> None:
    step = steps(f"{MODEL}/image@opset20/onnx-fp32")[f"{NAME}/image@opset20/onnx-fp32/verify"]
    graphs = {
        name: StepOutput(step=f"{NAME}/image@opset20/convert", name=name)
        for name in ("encoder.onnx", "decoder.onnx")
    }
    # The reference does not depend on an opset.
    reference = {
        name: StepOutput(step=f"{NAME}/image/reference", name=name)
        for name in ("cases.json", "tensors.safetensors")
    }
    assert step.inputs == graphs | reference
    assert step.modules[1:] == ("exporters.sam2.image.verify",)
    assert (step.params["contract"]["name"], step.params["opset"]) == ("image", 20)


def test_what_is_replaced_is_verified_as_it_is(steps: Steps) -> None:
    fp32 = f"{NAME}/image/onnx-fp32/verify"
    assert steps(INT8)[fp32] == steps(f"{MODEL}/image/onnx-fp32")[fp32]
