"""Toy weights: the seed, in words."""

from exporters.protocol import Result, Step
from exporters.toy.behaviour import behave


def run(step: Step) -> Result:
    """Writes weights.safetensors."""
    behave(step)
    source = step.param("source")
    text = f"seed {source.get('seed')}" if source["kind"] == "random" else "from a file"
    (step.out / "weights.safetensors").write_text(text)
    return Result(outputs=["weights.safetensors"])
