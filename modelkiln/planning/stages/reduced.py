"""The stages of formats of lower precision: calibrate, quantize, and assess in the place of verify.

Such a format starts from the graphs of the one that it replaces, as they were verified, and is
judged beside them. One calibration serves every format and layout that asks for the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from modelkiln.catalog.catalog import Catalog
from modelkiln.catalog.parameters import entries
from modelkiln.catalog.pictures import (
    ChoosePictures,
    Pictures,
    choose_from,
    name_inputs,
    picture_count,
)
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import RandomWeights
from modelkiln.planning.graph import Input, SourceFile, StepOutput
from modelkiln.planning.maker import StepMaker

# The least opset whose Q and DQ take float16.
HALF_OPSET = 19


class LowerPrecision:
    """Makes these stages' steps.

    Args:
        catalog: What can be built.
        maker: Where the steps go.
        choose: Chooses calibration pictures of a folder.
        has_gpu: Whether this machine has a GPU.
    """

    def __init__(
        self,
        catalog: Catalog,
        maker: StepMaker,
        choose: ChoosePictures,
        has_gpu: Callable[[], bool],
    ) -> None:
        self._catalog = catalog
        self._maker = maker
        self._choose = choose
        self._has_gpu = has_gpu

    def base(self, target: Target) -> Target:
        """The target that this one replaces with lower precision; any other target itself."""
        name = target.format.replaces
        if not name:
            return target
        form = self._catalog.format_for(name, target.model, target.contract)
        return replace(target, format=form, format_variant=(), pictures=None)

    def calibrate(self, target: Target, base: Target, made: Mapping[str, str]) -> str:
        """Make the step that finds the ranges of activations."""
        values = target.format_parameters
        pictures = self._pictures(target)
        named = name_inputs(pictures) if pictures else {}
        providers = entries(values["calibration_eps"])
        params = {
            "graphs": list(base.graphs),
            "quantized": target.quantized,
            "preprocessing": dict(base.golden.get("preprocessing", {})),
            "options": dict(target.contract.options),
            "op_types": entries(values["op_types_to_quantize"]),
            "calib_method": values["calib_method"],
            "calib_size": picture_count(values),
            "use_random_calib": values["use_random_calib"],
            "calibration_eps": providers,
            "pictures": list(named),
        }
        # Formats with other defaults share it, so every value is spelled that says something.
        tokens = sorted(
            target.spell_format(name, value)
            for name, value in values.items()
            if "calibrate" in target.format.parameters[name].stages
            and value not in ("", False)
            and not (name == "calib_size" and values["use_random_calib"])
        )
        return self._maker.add(
            "calibrate",
            f"{target.model_name}/{target.contract_name}/calibrate@{'.'.join(tokens)}",
            target.model,
            target.contract.provider,
            params,
            {
                **_graphs_of(base, made),
                **{name: SourceFile(path=path) for name, path in named.items()},
            },
            environment=target.format.environment,
            gpu=providers[0] == "cuda",
        )

    def _pictures(self, target: Target) -> Pictures | None:
        """The calibration pictures: the user's own, or the catalog's; none for noise."""
        values = target.format_parameters
        if values["use_random_calib"]:
            return None
        return target.pictures or choose_from(self._catalog.calibration, values, self._choose)

    def quantize(
        self, target: Target, base: Target, made: Mapping[str, str], metadata: Mapping[str, str]
    ) -> str:
        """Make the step that writes the graphs in lower precision."""
        values, options = target.format_parameters, target.format.options
        inputs = _graphs_of(base, made)
        if "calibrate" in made:
            name = "calibration.json"
            inputs[name] = StepOutput(step=made["calibrate"], name=name)
        params = {
            "mode": options["mode"],
            "layout": values.get("layout", options.get("layout", "onnxruntime")),
            "graphs": list(target.graphs),
            "quantized": target.quantized,
            "op_types": entries(values.get("op_types_to_quantize", "MatMul")),
            "qdq_for_weights": values.get("qdq_for_weights", False),
            "dtype": values.get("dtype", "fp32"),
            "opset": finished_opset(target),
            "metadata": dict(metadata),
        }
        return self._maker.add(
            "quantize",
            f"{target.name}/quantize",
            target.model,
            target.contract.provider,
            params,
            inputs,
            environment=target.format.environment,
        )

    def assess(
        self, target: Target, base: Target, graphs: str, before: str, checked: str, reference: str
    ) -> str:
        """Make the step that verifies the graphs, beside those that they replace.

        Args:
            base: The target that is replaced.
            graphs: The step that made the graphs.
            before: The step that made the base's.
            checked: The step that verified the base's.
        """
        inputs: dict[str, Input] = {
            name: StepOutput(step=graphs, name=name)
            for name in (*target.graph_files, "quantization.json")
        }
        for name in base.graph_files:
            inputs[f"fp32/{name}"] = StepOutput(step=before, name=name)
        inputs["fp32/verification.json"] = StepOutput(step=checked, name="verification.json")
        for name in ("cases.json", "tensors.safetensors"):
            inputs[name] = StepOutput(step=reference, name=name)
        form, provider = target.format, target.contract.provider
        cuda = self._has_gpu()
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
        return self._maker.add(
            "assess",
            f"{target.name}/verify",
            target.model,
            provider,
            params,
            inputs,
            environment=form.environment,
            modules=("exporters.stages.assess", f"{provider}.verify"),
            gpu=cuda,
        )

    def metadata(self, target: Target) -> dict[str, str]:
        """What the graphs say of their precision; nothing for a format that replaces none."""
        said: dict[str, str] = {}
        if target.format.replaces:
            said["modelkiln.format"] = target.format_name
        if "calibrate" in target.format.stages:
            said["modelkiln.calibration"] = self._describe_calibration(target)
        return said

    def _describe_calibration(self, target: Target) -> str:
        values, pictures = target.format_parameters, self._pictures(target)
        if pictures is None:
            return f"{values['calib_method']}, noise"
        return (
            f"{values['calib_method']}, {values['calib_size']} pictures, sha256:{pictures.digest}"
        )


def finished_opset(target: Target) -> int:
    """The opset of a target's finished graphs: the contract's, or what the format needs."""
    asked = int(target.parameters.get("opset", 0))
    half = target.format_parameters.get("dtype") == "fp16"
    return max(asked, target.format.opset, HALF_OPSET if half else 0)


def _graphs_of(base: Target, made: Mapping[str, str]) -> dict[str, Input]:
    last = made[base.format.stages[-1]]
    return {name: StepOutput(step=last, name=name) for name in base.graph_files}
