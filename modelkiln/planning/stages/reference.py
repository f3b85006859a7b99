"""Stage reference: what unpatched PyTorch computes from weights and pictures."""

from modelkiln.planning.graph import SourceFile
from modelkiln.planning.stages.making import Making, Stage, model_params, parameters_of


def plan(making: Making) -> str:
    """Make the step; contracts of one provider share it."""
    target, contract = making.target, making.target.contract
    inputs = making.output("ingest", "weights.safetensors")
    for picture in contract.pictures:
        inputs[f"pictures/{picture.name}"] = SourceFile(path=picture)
    # Values are spelled, whatever a contract's default is.
    asked = parameters_of(target, "reference")
    tokens = sorted(contract.parameters[name].spell(value) for name, value in asked.items())
    provider = contract.provider.rpartition(".")[2] + ("@" + ".".join(tokens) if tokens else "")
    return making.add(
        "reference",
        f"{target.model_name}/{provider}/reference",
        {**model_params(target.model), **asked},
        inputs,
    )


STAGE = Stage(plan=plan)
