"""Toy conversion: a copy with a full stop."""

from exporters.toy.behaviour import behave

from exporters.protocol import Result, Step


def run(step: Step) -> Result:
    """Writes words.txt."""
    behave(step)
    (step.out / "words.txt").write_text(step.input("words.txt").read_text() + ".")
    return Result(outputs=["words.txt"], metrics={"graphs": {}})
