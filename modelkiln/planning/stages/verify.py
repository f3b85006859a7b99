"""Stage verify: graphs held against their contract and against what PyTorch computed."""

from modelkiln.planning.graph import TargetStatus
from modelkiln.planning.stages.making import Making, Stage, parameters_of


def plan(making: Making) -> str:
    """Make the step that verifies the graphs that the target starts from."""
    base = making.base
    return making.add(
        "verify",
        f"{base.name}/verify",
        {"contract": dict(base.golden), **parameters_of(base, "verify")},
        {
            **making.base_graphs(),
            **making.output("reference", "cases.json", "tensors.safetensors"),
        },
    )


STAGE = Stage(plan=plan, grants=TargetStatus.VERIFIED)
