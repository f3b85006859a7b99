"""Toy reference: what the export should say."""

from exporters.toy.behaviour import behave

from exporters.protocol import Result, Step


def run(step: Step) -> Result:
    """Writes cases.json and tensors.safetensors."""
    behave(step)
    (step.out / "cases.json").write_text("{}")
    words = step.input("weights.safetensors").read_text()
    (step.out / "tensors.safetensors").write_text(words)
    return Result(outputs=["cases.json", "tensors.safetensors"])
