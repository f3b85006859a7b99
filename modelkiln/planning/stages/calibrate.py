"""Stage calibrate: the largest magnitude of every quantized layer's input, over pictures.

Where the result has float16 in it, that of every float32 value as well. One calibration serves
every format and layout that asks for the same.
"""

from modelkiln.catalog.parameters import entries
from modelkiln.catalog.pictures import Pictures, choose_from, name_inputs, picture_count
from modelkiln.catalog.target import Target
from modelkiln.planning.graph import SourceFile
from modelkiln.planning.stages.making import Making, Stage
from modelkiln.planning.stages.quantize import find_halved, is_half

# What is observed beside the inputs of quantized layers; the step's name says it.
TENSORS, INPUTS = "tensors", "inputs"


def plan(making: Making) -> str:
    """Make the step."""
    target, base = making.target, making.base
    values = target.format_parameters
    pictures = _pictures(making, target)
    named = name_inputs(pictures) if pictures else {}
    providers = entries(values["calibration_eps"])
    halved = find_halved(target)
    params = {
        "graphs": list(base.graphs),
        "quantized": [*target.quantized, *halved],
        "halved": halved,
        "preprocessing": dict(base.golden.get("preprocessing", {})),
        "options": target.options,
        "op_types": entries(op_types) if (op_types := values.get("op_types_to_quantize")) else [],
        "observe": _observed(target),
        "calib_method": values.get("calib_method", "max"),
        "calib_size": picture_count(values),
        "use_random_calib": values["use_random_calib"],
        "calibration_eps": providers,
        "pictures": list(named),
    }
    # Formats with other defaults share it, so every value is spelled that says something.
    tokens = [TENSORS] if params["observe"] == TENSORS else []
    tokens += (
        target.spell_format(name, value)
        for name, value in values.items()
        if "calibrate" in target.format.parameters[name].stages
        and value not in ("", False)
        and not (name == "calib_size" and values["use_random_calib"])
    )
    return making.add(
        "calibrate",
        f"{target.model_name}/{target.contract_name}/calibrate@{'.'.join(sorted(tokens))}",
        params,
        {
            **making.base_graphs(),
            **{name: SourceFile(path=path) for name, path in named.items()},
        },
        environment=target.format.environment,
        gpu=providers[0] == "cuda",
    )


def describe(making: Making, target: Target) -> dict[str, str]:
    """Return what calibrated the graphs."""
    values, pictures = target.format_parameters, _pictures(making, target)
    method = values.get("calib_method", "range of float16")
    said = f"{method}, noise"
    if pictures is not None:
        said = f"{method}, {values['calib_size']} pictures, sha256:{pictures.digest}"
    return {"modelkiln.calibration": said}


def _observed(target: Target) -> str:
    return TENSORS if is_half(target) else INPUTS


def _pictures(making: Making, target: Target) -> Pictures | None:
    """Return the calibration pictures: the user's own, or the catalog's; none for noise."""
    values = target.format_parameters
    if values["use_random_calib"]:
        return None
    return target.pictures or choose_from(making.catalog.calibration, values, making.choose)


STAGE = Stage(plan=plan, describe=describe)
