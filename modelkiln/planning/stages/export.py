"""Stage export: ONNX graphs, traced from upstream or from a patched copy of it."""

from pathlib import Path

from modelkiln.catalog.target import Target
from modelkiln.planning.graph import SourceFile
from modelkiln.planning.stages.making import Making, Stage, model_params, parameters_of


def plan(making: Making) -> str:
    """Make the step; targets whose parameters differ in later stages alone share it."""
    base = making.base
    model, contract = base.model, base.contract
    inputs = making.output("ingest", "weights.safetensors")
    if model.upstream.patches:
        for name, path in read_series(model.upstream.patches).items():
            inputs[f"patches/{name}"] = SourceFile(path=path)
    params = {
        **model_params(model),
        "contract": contract.name,
        "options": base.options,
        "graphs": list(base.graphs),
        **parameters_of(base, "export"),
    }
    return making.add("export", f"{base.model_name}/{_spell(base)}/export", params, inputs)


def _spell(target: Target) -> str:
    contract = target.contract
    tokens = sorted(
        contract.parameters[name].spell(value)
        for name, value in target.variant
        if "export" in contract.parameters[name].stages
    )
    return contract.name + ("@" + ".".join(tokens) if tokens else "")


def read_series(folder: Path) -> dict[str, Path]:
    """Return a patch series: the file `series` and the patches that it lists, by name."""
    series = folder / "series"
    names = [line.strip() for line in series.read_text(encoding="utf-8").splitlines()]
    files = {name: folder / name for name in names if name and not name.startswith("#")}
    return {"series": series, **files}


STAGE = Stage(plan=plan)
