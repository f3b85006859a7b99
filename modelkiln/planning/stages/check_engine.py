"""Stage check_engine: engines held against all that can be known without their GPU."""

from modelkiln.planning.graph import StepOutput, TargetStatus
from modelkiln.planning.stages.engine import engine_inputs, engine_params
from modelkiln.planning.stages.making import Making, Stage


def plan(making: Making) -> str:
    """Make the step, which rests on the last check of the graphs that engines are built from."""
    target, source = making.target, making.base
    verified = making.made[source.format.checks[-1]]
    return making.add(
        "check_engine",
        f"{target.name}/check",
        {**engine_params(making), "source": source.name},
        {
            **engine_inputs(making),
            **making.output("engine", *target.graph_files, "engines.json"),
            "verification.json": StepOutput(step=verified, name="verification.json"),
        },
        environment=target.format.environment,
        modules=("exporters.stages.check_engine",),
    )


STAGE = Stage(plan=plan, grants=TargetStatus.BUILT)
