"""What every stage's module makes its step from: one target in the making."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modelkiln.catalog.catalog import Catalog
from modelkiln.catalog.models import Model
from modelkiln.catalog.pictures import ChoosePictures
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import FileWeights, OfficialWeights, RandomWeights
from modelkiln.planning.graph import Input, StepOutput, TargetStatus
from modelkiln.planning.maker import StepMaker
from modelkiln.util.hashing import sha256_json


@dataclass(frozen=True, kw_only=True)
class Making:
    """One target in the making.

    Attributes:
        target: What is made.
        base: The target whose graphs it starts from, where its format replaces one; else itself.
        made: The steps of the stages before, by stage.
        stages: Every stage there is.
        choose: Chooses calibration pictures of a folder.
        has_gpu: Whether this machine has a GPU; asked where a step would use one.
    """

    target: Target
    base: Target
    made: Mapping[str, str]
    stages: Mapping[str, "Stage"]
    catalog: Catalog
    maker: StepMaker
    choose: ChoosePictures
    has_gpu: Callable[[], bool]

    def add(
        self,
        stage: str,
        step_id: str,
        params: Mapping[str, Any],
        inputs: Mapping[str, Input],
        *,
        package: str = "",
        environment: str = "",
        modules: tuple[str, ...] = (),
        gpu: bool = False,
        unpromised: frozenset[str] = frozenset(),
    ) -> str:
        """Add a step of the target's model, unless it is there already; returns its id.

        Args:
            package: The part of the exporters that the stage uses; the contract's unless given.
            environment: Its environment, where it is not the model's.
            modules: Its modules, where they are not those of its stage.
            gpu: Whether it needs a GPU, whatever its stage does.
            unpromised: The outputs that may have other bytes each time it runs.

        Raises:
            UsageError: There is another step of that id, or a module is missing.
        """
        return self.maker.add(
            stage,
            step_id,
            self.target.model,
            package or self.target.contract.provider,
            params,
            inputs,
            environment=environment,
            modules=modules,
            gpu=gpu,
            unpromised=unpromised,
        )

    def output(self, stage: str, *names: str) -> dict[str, Input]:
        """Return files that the step of an earlier stage makes, as inputs of the same names."""
        return {name: StepOutput(step=self.made[stage], name=name) for name in names}

    def base_graphs(self) -> dict[str, Input]:
        """Return the graphs that the target starts from."""
        return self.output(self.base.format.stages[-1], *self.base.graph_files)

    def metadata(self, target: Target) -> dict[str, str]:
        """Return what the graphs of a target say of themselves, as ONNX metadata."""
        import json

        contract = target.contract
        made = {
            "modelkiln.model": target.model.name,
            "modelkiln.contract": f"{target.contract_name} v{contract.version}",
            "modelkiln.weights": weights_digest(target),
            "modelkiln.license": target.model.license,
            "modelkiln.preprocessing": json.dumps(
                target.golden.get("preprocessing", {}), sort_keys=True
            ),
            "modelkiln.stage_sources": sha256_json(
                self.maker.sources_of(target.format.stages, contract.provider)
            ),
        }
        if target.format.replaces:
            made["modelkiln.format"] = target.format_name
        for stage in target.format.stages:
            made |= self.stages[stage].describe(self, target)
        return made


def describe_nothing(_: Making, __: Target) -> dict[str, str]:
    """Return nothing: the stage leaves no trace in metadata."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage, as planning sees it.

    Attributes:
        plan: Makes its step of a target; returns the step's id.
        describe: What it adds to the metadata of a target's graphs.
        grants: What may be said of a target whose last check it is.
    """

    plan: Callable[[Making], str]
    describe: Callable[[Making, Target], dict[str, str]] = describe_nothing
    grants: TargetStatus = TargetStatus.BUILT


def model_params(model: Model) -> dict[str, Any]:
    """Return what stages are told of a model: name, settings, and where upstream has it."""
    upstream = model.upstream
    return {
        "model": model.name,
        **model.settings,
        "upstream": {
            "package": upstream.package,
            "version": upstream.version,
            "digest": upstream.digest,
        },
    }


def parameters_of(target: Target, stage: str) -> dict[str, str | int]:
    """Return the contract's parameters that enter the key of a stage, with their values."""
    parameters = target.contract.parameters
    return {n: v for n, v in target.parameters.items() if stage in parameters[n].stages}


def weights_digest(target: Target) -> str:
    """Return a target's weights in a word: their digest, or the seed."""
    match target.weights:
        case RandomWeights(seed=seed):
            return f"random:{seed} ({target.warning})"
        case OfficialWeights():
            return f"sha256:{target.model.checkpoint.sha256}"
        case FileWeights(sha256=sha256):
            return f"sha256:{sha256}"
