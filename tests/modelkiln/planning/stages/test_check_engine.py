"""Stage check_engine: it rests on the engines, their graphs, and the graphs' own verification."""

from modelkiln.planning.graph import StepOutput
from tests.modelkiln.lower_precision import MODEL, NAME, Steps


def test_it_sees_engines_graphs_and_their_verification(steps: Steps) -> None:
    found = steps(f"{MODEL}/image/rtx-int8")
    step = found[f"{NAME}/image/rtx-int8/check"]
    engine = f"{NAME}/image/rtx-int8/engine"
    source = f"{NAME}/image/onnx-int8@explicit.fp16"
    assert step.inputs == {
        **found[engine].inputs,
        "encoder.engine": StepOutput(step=engine, name="encoder.engine"),
        "decoder.engine": StepOutput(step=engine, name="decoder.engine"),
        "engines.json": StepOutput(step=engine, name="engines.json"),
        "verification.json": StepOutput(step=f"{source}/verify", name="verification.json"),
    }
    assert step.params == {**found[engine].params, "source": source}
    assert step.environment == "rtx"
