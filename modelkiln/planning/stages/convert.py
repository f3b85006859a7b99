"""Stage convert: simplified graphs with metadata and exact shapes."""

from modelkiln.planning.stages.making import Making, Stage, parameters_of


def plan(making: Making) -> str:
    """Make the step."""
    base = making.base
    params = {
        "graphs": list(base.graphs),
        "metadata": making.metadata(base),
        **parameters_of(base, "convert"),
    }
    return making.add(
        "convert",
        f"{base.model_name}/{base.contract_name}/convert",
        params,
        making.output("export", *base.graph_files),
    )


STAGE = Stage(plan=plan)
