"""Toy verification: the words are those of the reference."""

import json

from exporters.toy.behaviour import behave

from exporters.protocol import NOT_VERIFIED, Result, StageError, Step


def run(step: Step) -> Result:
    """Writes verification.json."""
    behave(step)
    found = step.input("words.txt").read_text().lower()
    wanted = "words: " + step.input("tensors.safetensors").read_text() + "."
    if found != wanted:
        raise StageError("words differ", f"{found!r}", "look", exit_code=NOT_VERIFIED)
    text = json.dumps({"parity": [], "masks": [], "timings": {}})
    (step.out / "verification.json").write_text(text)
    return Result(outputs=["verification.json"], metrics={"summary": "words agree"})
