"""Stage quantize: float32 graphs, as they were verified, become graphs in lower precision."""

from modelkiln.catalog.parameters import entries
from modelkiln.catalog.target import Target
from modelkiln.planning.stages.making import Making, Stage

# The least opset whose Q and DQ take float16.
HALF_OPSET = 19


def plan(making: Making) -> str:
    """Make the step."""
    target = making.target
    values, options = target.format_parameters, target.format.options
    inputs = making.base_graphs()
    if "calibrate" in making.made:
        inputs |= making.output("calibrate", "calibration.json")
    params = {
        "mode": options["mode"],
        "layout": values.get("layout", options.get("layout", "onnxruntime")),
        "graphs": list(target.graphs),
        "quantized": target.quantized,
        "halved": find_halved(target),
        "op_types": entries(values.get("op_types_to_quantize", "MatMul")),
        "qdq_for_weights": values.get("qdq_for_weights", False),
        "dtype": values.get("dtype", "fp32"),
        "opset": finished_opset(target),
        "metadata": making.metadata(target),
    }
    environment = target.format.environment
    return making.add(
        "quantize", f"{target.name}/quantize", params, inputs, environment=environment
    )


def finished_opset(target: Target) -> int:
    """Return the opset of a target's finished graphs: the contract's, or what the format needs."""
    asked = int(target.parameters.get("opset", 0))
    return max(asked, target.format.opset, HALF_OPSET if is_half(target) else 0)


def find_halved(target: Target) -> list[str]:
    """Return the graphs that become float16 beside those that are quantized to 8 bits."""
    if target.format_parameters.get("dtype") != "fp16":
        return []
    return [one["name"] for one in target.graphs if one["name"] not in target.quantized]


def is_half(target: Target) -> bool:
    """Return whether a target's graphs have float16 in them."""
    return "fp16" in (target.format.options["mode"], target.format_parameters.get("dtype"))


STAGE = Stage(plan=plan)
