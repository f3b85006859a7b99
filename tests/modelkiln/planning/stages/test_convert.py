"""Stage convert: each target's own graphs, with what they say of themselves."""

from modelkiln.planning.graph import StepOutput
from tests.modelkiln.lower_precision import MODEL, NAME, Steps


def test_it_sees_the_exported_graphs_alone(steps: Steps) -> None:
    step = steps(f"{MODEL}/image/onnx-fp32")[f"{NAME}/image/convert"]
    assert step.inputs == {
        name: StepOutput(step=f"{NAME}/image/export", name=name)
        for name in ("decoder.onnx", "encoder.onnx")
    }
    assert step.modules == ("exporters.stages.convert",)


def test_it_is_told_the_simplifier_and_the_metadata(steps: Steps) -> None:
    step = steps(f"{MODEL}/image@opset20/onnx-fp32")[f"{NAME}/image@opset20/convert"]
    assert (step.params["opset"], step.params["simplifier"]) == (20, "onnxsim")
    assert step.params["metadata"]["modelkiln.contract"] == "image@opset20 v1"
