"""Stage assess: graphs in lower precision verified beside those that they replace."""

from modelkiln.catalog.weights import RandomWeights
from modelkiln.planning.graph import StepOutput, TargetStatus
from modelkiln.planning.stages.making import Making, Stage
from modelkiln.planning.stages.quantize import finished_opset


def plan(making: Making) -> str:
    """Make the step."""
    target, base, form = making.target, making.base, making.target.format
    inputs = making.output(form.stages[-1], *target.graph_files, "quantization.json")
    for name, one in making.base_graphs().items():
        inputs[f"fp32/{name}"] = one
    checked = making.made["verify"]
    inputs["fp32/verification.json"] = StepOutput(step=checked, name="verification.json")
    inputs |= making.output("reference", "cases.json", "tensors.safetensors")
    cuda = making.has_gpu()
    params = {
        "contract": dict(target.golden),
        "opset": finished_opset(target),
        "format": {
            "name": form.name,
            "gates": dict(form.gates),
            "session": dict(form.session),
            "integer_kernels": form.options["integer_kernels"],
            "mode": form.options["mode"],
        },
        "binding": not isinstance(target.weights, RandomWeights),
        "cuda": cuda,
    }
    return making.add(
        "assess",
        f"{target.name}/verify",
        params,
        inputs,
        environment=form.environment,
        modules=("exporters.stages.assess", f"{base.contract.provider}.verify"),
        gpu=cuda,
    )


STAGE = Stage(plan=plan, grants=TargetStatus.VERIFIED)
