"""Toy graphs: the weights, in the case that was asked for."""

from exporters.toy.behaviour import behave

from exporters.protocol import Result, Step


def run(step: Step) -> Result:
    """Writes words.txt."""
    behave(step)
    words = "words: " + step.input("weights.safetensors").read_text()
    if step.param("case") == "upper":
        words = words.upper()
    (step.out / "words.txt").write_text(words)
    return Result(outputs=["words.txt"])
