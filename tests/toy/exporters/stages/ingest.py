"""Toy weights: the seed, in words."""

from exporters.toy.behaviour import behave

from exporters.protocol import Result, Step


def run(step: Step) -> Result:
    """Writes weights.safetensors."""
    behave(step)
    source = step.param("source")
    text = f"seed {source.get('seed')}" if source["kind"] == "random" else "from a file"
    (step.out / "weights.safetensors").write_text(text)
    return Result(outputs=["weights.safetensors"])
