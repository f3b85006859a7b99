"""Stage ingest: a checkpoint, or a seed, becomes `weights.safetensors`."""

from typing import Any

from modelkiln.catalog.weights import FileWeights, OfficialWeights, RandomWeights
from modelkiln.planning.graph import Input, PinnedFile
from modelkiln.planning.stages.making import Making, Stage, model_params


def plan(making: Making) -> str:
    """Make the step; every target of one model and one kind of weights shares it."""
    model, weights = making.target.model, making.target.weights
    inputs: dict[str, Input] = {}
    source: dict[str, Any]
    match weights:
        case RandomWeights(seed=seed):
            source = {"kind": "random", "seed": seed}
        case OfficialWeights():
            pin = model.checkpoint
            source = {"kind": "file", "format": "pt"}
            inputs["checkpoint"] = PinnedFile(sha256=pin.sha256, bytes=pin.bytes, model=model.name)
        case FileWeights():
            source = {"kind": "file", "format": weights.format}
            inputs["checkpoint"] = PinnedFile(
                sha256=weights.sha256, bytes=weights.bytes, model=model.name, path=weights.path
            )
    params = {**model_params(model), "source": source}
    name = f"{model.name}{weights.suffix}/ingest"
    return making.add("ingest", name, params, inputs, package=model.package)


STAGE = Stage(plan=plan)
