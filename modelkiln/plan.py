"""The plan: the steps that a set of targets needs, as pure data.

Each builder below says what one stage is given. A stage's module is `exporters.STAGE`; the family's
or the contract's part of it is `PACKAGE.STAGE`, where there is such a module.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelkiln.catalog import Catalog, Model
from modelkiln.errors import UsageError
from modelkiln.hashing import sha256_json
from modelkiln.target import FileWeights, OfficialWeights, RandomWeights, Target, Weights

PROTOCOL = 1


@dataclass(frozen=True, kw_only=True)
class StepOutput:
    """An input that another step of the plan makes."""

    step: str
    name: str


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """An input that lies in the repository or the catalog."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class PinnedFile:
    """An input whose digest is known before the file is there: a checkpoint."""

    sha256: str
    bytes: int
    model: str
    path: str | None = None


Input = StepOutput | SourceFile | PinnedFile


@dataclass(frozen=True, kw_only=True)
class Step:
    """A stage with its inputs and parameters filled in.

    Attributes:
        id: Readable and unique in a plan.
        modules: The stage's module, then the family's part of it.
        memory: Bytes that the scheduler sets aside.
        disk: Bytes that its scratch folder and its outputs take, about.
        gpu: Whether it needs a GPU.
    """

    id: str
    stage: str
    environment: str
    modules: tuple[str, ...]
    params: Mapping[str, Any]
    inputs: Mapping[str, Input]
    cpus: int
    memory: int
    disk: int
    timeout_s: int
    gpu: bool = False

    @property
    def needs(self) -> list[str]:
        """The steps that go before, each once, in the order of the inputs."""
        steps = (one.step for one in self.inputs.values() if isinstance(one, StepOutput))
        return list(dict.fromkeys(steps))


@dataclass(frozen=True, kw_only=True)
class TargetPlan:
    """Where a target's files come from."""

    target: Target
    graphs: str
    verify: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Steps in an order in which each comes after what it needs, and the targets they serve."""

    steps: Mapping[str, Step]
    targets: tuple[TargetPlan, ...]

    def needed_by(self, target: TargetPlan) -> list[str]:
        """The steps of one target, in the plan's order."""
        wanted: set[str] = set()
        queue = [target.verify, target.graphs]
        while queue:
            step = queue.pop()
            if step not in wanted and step in self.steps:
                wanted.add(step)
                queue.extend(self.steps[step].needs)
        return [one for one in self.steps if one in wanted]


ModuleExists = Callable[[str], bool]
SourceDigest = Callable[[Iterable[str]], Mapping[str, str]]


class Planner:
    """Makes plans from a catalog.

    Args:
        catalog: What can be built.
        exists: Whether a module is there.
        sources: The digests of a step's source files, by name; raises where one is missing.
    """

    def __init__(self, catalog: Catalog, exists: ModuleExists, sources: SourceDigest) -> None:
        self._catalog = catalog
        self._exists = exists
        self._sources = sources
        self._steps: dict[str, Step] = {}

    def plan(self, targets: Iterable[Target], until: str | None = None) -> Plan:
        """The steps of these targets; `until` leaves out the stages that come after it."""
        self._steps = {}
        planned = [self._plan_target(target, until) for target in targets]
        return Plan(steps=self._steps, targets=tuple(planned))

    def _plan_target(self, target: Target, until: str | None) -> TargetPlan:
        graphs = weights = self._ingest(target.model, target.weights)
        if until == "ingest":
            return TargetPlan(target=target, graphs=weights, verify=weights)
        for stage in target.format.stages:
            builder = getattr(self, f"_{stage}")
            graphs = builder(target, weights, graphs)
            if stage == until:
                return TargetPlan(target=target, graphs=graphs, verify=graphs)
        reference = self._reference(target, weights)
        verify = self._verify(target, graphs, reference)
        return TargetPlan(target=target, graphs=graphs, verify=verify)

    def _add(
        self,
        stage: str,
        step_id: str,
        model: Model,
        package: str,
        params: Mapping[str, Any],
        inputs: Mapping[str, Input],
    ) -> str:
        limits = self._catalog.stages[stage]
        self._sources(self._modules(stage, package))
        step = Step(
            id=step_id,
            stage=stage,
            environment=model.environment,
            modules=self._modules(stage, package),
            params=params,
            inputs=dict(sorted(inputs.items())),
            cpus=limits.cpus,
            memory=limits.memory(model.checkpoint.bytes),
            disk=limits.disk(model.checkpoint.bytes),
            timeout_s=limits.timeout_s,
            gpu=limits.gpu,
        )
        if self._steps.setdefault(step_id, step) != step:
            raise UsageError(
                f"The catalog makes two different steps of {step_id}.",
                f"Contracts of the provider {package} share it, and their pictures differ.",
                "Give them the same pictures, or a provider each.",
            )
        return step_id

    def _modules(self, stage: str, package: str) -> tuple[str, ...]:
        part = f"{package}.{stage}"
        return (f"exporters.{stage}", part) if self._exists(part) else (f"exporters.{stage}",)

    def _ingest(self, model: Model, weights: Weights) -> str:
        inputs: dict[str, Input] = {}
        source: dict[str, Any]
        match weights:
            case RandomWeights(seed=seed):
                source = {"kind": "random", "seed": seed}
            case OfficialWeights():
                pin = model.checkpoint
                source = {"kind": "file", "format": "pt"}
                inputs["checkpoint"] = PinnedFile(
                    sha256=pin.sha256, bytes=pin.bytes, model=model.name
                )
            case FileWeights():
                source = {"kind": "file", "format": weights.format}
                inputs["checkpoint"] = PinnedFile(
                    sha256=weights.sha256,
                    bytes=weights.bytes,
                    model=model.name,
                    path=weights.path,
                )
        params = {**_model_params(model), "source": source}
        name = f"{model.name}{weights.suffix}/ingest"
        return self._add("ingest", name, model, model.package, params, inputs)

    def _reference(self, target: Target, weights: str) -> str:
        model, contract = target.model, target.contract
        inputs: dict[str, Input] = {
            "weights.safetensors": StepOutput(step=weights, name="weights.safetensors")
        }
        for picture in contract.pictures:
            inputs[f"pictures/{picture.name}"] = SourceFile(path=picture)
        # Contracts of one provider share it: values are spelled, whatever a contract's default is.
        asked = _parameters_of(target, "reference")
        tokens = sorted(contract.parameters[name].spell(value) for name, value in asked.items())
        room = contract.provider.rpartition(".")[2] + ("@" + ".".join(tokens) if tokens else "")
        return self._add(
            "reference",
            f"{target.model_name}/{room}/reference",
            model,
            contract.provider,
            {**_model_params(model), **asked},
            inputs,
        )

    def _export(self, target: Target, weights: str, _: str) -> str:
        model, contract = target.model, target.contract
        inputs: dict[str, Input] = {
            "weights.safetensors": StepOutput(step=weights, name="weights.safetensors")
        }
        if model.upstream.patches:
            for name, path in read_series(model.upstream.patches).items():
                inputs[f"patches/{name}"] = SourceFile(path=path)
        params = {
            **_model_params(model),
            "contract": contract.name,
            "options": dict(contract.options),
            "graphs": list(target.graphs),
            **_parameters_of(target, "export"),
        }
        return self._add(
            "export",
            f"{target.model_name}/{self._spelled(target, 'export')}/export",
            model,
            contract.provider,
            params,
            inputs,
        )

    def _convert(self, target: Target, _: str, graphs: str) -> str:
        params = {
            "graphs": list(target.graphs),
            "metadata": self._metadata(target),
            **_parameters_of(target, "convert"),
        }
        return self._add(
            "convert",
            f"{target.model_name}/{target.contract_name}/convert",
            target.model,
            target.contract.provider,
            params,
            {name: StepOutput(step=graphs, name=name) for name in target.graph_files},
        )

    def _verify(self, target: Target, graphs: str, reference: str) -> str:
        inputs: dict[str, Input] = {
            name: StepOutput(step=graphs, name=name) for name in target.graph_files
        }
        for name in ("cases.json", "tensors.safetensors"):
            inputs[name] = StepOutput(step=reference, name=name)
        params = {"contract": dict(target.golden), **_parameters_of(target, "verify")}
        provider = target.contract.provider
        return self._add("verify", f"{target.name}/verify", target.model, provider, params, inputs)

    def _metadata(self, target: Target) -> dict[str, str]:
        import json

        contract = target.contract
        stages = {stage: self._modules(stage, contract.provider) for stage in target.format.stages}
        return {
            "modelkiln.model": target.model.name,
            "modelkiln.contract": f"{target.contract_name} v{contract.version}",
            "modelkiln.weights": _weights_digest(target),
            "modelkiln.license": target.model.license,
            "modelkiln.preprocessing": json.dumps(
                target.golden.get("preprocessing", {}), sort_keys=True
            ),
            "modelkiln.stage_sources": sha256_json(
                {stage: dict(self._sources(modules)) for stage, modules in stages.items()}
            ),
        }

    @staticmethod
    def _spelled(target: Target, stage: str) -> str:
        contract = target.contract
        tokens = sorted(
            contract.parameters[name].spell(value)
            for name, value in target.variant
            if stage in contract.parameters[name].stages
        )
        return contract.name + ("@" + ".".join(tokens) if tokens else "")


def _model_params(model: Model) -> dict[str, Any]:
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


def _parameters_of(target: Target, stage: str) -> dict[str, str | int]:
    parameters = target.contract.parameters
    return {n: v for n, v in target.parameters.items() if stage in parameters[n].stages}


def _weights_digest(target: Target) -> str:
    match target.weights:
        case RandomWeights(seed=seed):
            return f"random:{seed} ({target.warning})"
        case OfficialWeights():
            return f"sha256:{target.model.checkpoint.sha256}"
        case FileWeights(sha256=sha256):
            return f"sha256:{sha256}"


def read_series(folder: Path) -> dict[str, Path]:
    """A patch series: the file `series` and the patches that it lists, by name."""
    series = folder / "series"
    names = [line.strip() for line in series.read_text(encoding="utf-8").splitlines()]
    files = {name: folder / name for name in names if name and not name.startswith("#")}
    return {"series": series, **files}
