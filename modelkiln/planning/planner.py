"""Makes plans: each builder here says what one stage is given.

A stage's module is `exporters.stages.STAGE`; the family's or the contract's part of it is
`PACKAGE.STAGE`, where there is such a module. `lower_precision` has the stages that come after
the others.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from modelkiln.catalog.catalog import Catalog
from modelkiln.catalog.models import Model
from modelkiln.catalog.pictures import ChoosePictures
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import FileWeights, OfficialWeights, RandomWeights, Weights
from modelkiln.errors import UsageError
from modelkiln.planning.graph import Input, PinnedFile, Plan, SourceFile, StepOutput, TargetPlan
from modelkiln.planning.maker import ModuleExists, SourceDigest, StepMaker
from modelkiln.planning.stages.reduced import LowerPrecision
from modelkiln.util.hashing import sha256_json


class Planner:
    """Makes plans from a catalog.

    Args:
        catalog: What can be built.
        exists: Whether a module is there.
        sources: The digests of a step's source files, by name; raises where one is missing.
        choose: Chooses calibration pictures of a folder.
        has_gpu: Whether this machine has a GPU; asked where a step would use one.
    """

    def __init__(
        self,
        catalog: Catalog,
        exists: ModuleExists,
        sources: SourceDigest,
        choose: ChoosePictures,
        has_gpu: Callable[[], bool],
    ) -> None:
        self._maker = StepMaker(catalog, exists, sources)
        self._lower = LowerPrecision(catalog, self._maker, choose, has_gpu)

    def plan(self, targets: Iterable[Target], until: str | None = None) -> Plan:
        """The steps of these targets; `until` leaves out the stages that come after it."""
        self._maker.steps = {}
        planned = [self._plan_target(target, until) for target in targets]
        return Plan(steps=self._maker.steps, targets=tuple(planned))

    def _plan_target(self, target: Target, until: str | None) -> TargetPlan:
        base = self._lower.base(target)
        made: dict[str, str] = {}
        last = ""
        for stage in ("ingest", *target.format.stages):
            last = made[stage] = self._make(stage, target, base, made)
            if stage == until:
                return TargetPlan(target=target, graphs=last, verify=last)
        reference = self._reference(target, made)
        if base is target:
            verify = self._verify(target, last, reference)
        else:
            before = made[base.format.stages[-1]]
            checked = self._verify(base, before, reference)
            verify = self._lower.assess(target, base, last, before, checked, reference)
        return TargetPlan(target=target, graphs=last, verify=verify)

    def _make(self, stage: str, target: Target, base: Target, made: Mapping[str, str]) -> str:
        """Make a stage's step; what a format shares with the one that it replaces is the other's.

        Args:
            made: The steps of the stages before it.
        """
        match stage:
            case "ingest":
                return self._ingest(target.model, target.weights)
            case "export":
                return self._export(base, made)
            case "convert":
                return self._convert(base, made)
            case "calibrate":
                return self._lower.calibrate(target, base, made)
            case "quantize":
                return self._lower.quantize(target, base, made, self._metadata(target))
            case _:
                raise UsageError(
                    f"The format {target.format.name} has a stage {stage!r}.",
                    "There is no such stage.",
                    "Correct its file.",
                )

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
        return self._maker.add("ingest", name, model, model.package, params, inputs)

    def _reference(self, target: Target, made: Mapping[str, str]) -> str:
        model, contract = target.model, target.contract
        inputs: dict[str, Input] = {
            "weights.safetensors": StepOutput(step=made["ingest"], name="weights.safetensors")
        }
        for picture in contract.pictures:
            inputs[f"pictures/{picture.name}"] = SourceFile(path=picture)
        # Contracts of one provider share it: values are spelled, whatever a contract's default is.
        asked = _parameters_of(target, "reference")
        tokens = sorted(contract.parameters[name].spell(value) for name, value in asked.items())
        room = contract.provider.rpartition(".")[2] + ("@" + ".".join(tokens) if tokens else "")
        return self._maker.add(
            "reference",
            f"{target.model_name}/{room}/reference",
            model,
            contract.provider,
            {**_model_params(model), **asked},
            inputs,
        )

    def _export(self, target: Target, made: Mapping[str, str]) -> str:
        model, contract = target.model, target.contract
        inputs: dict[str, Input] = {
            "weights.safetensors": StepOutput(step=made["ingest"], name="weights.safetensors")
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
        return self._maker.add(
            "export",
            f"{target.model_name}/{self._spelled(target, 'export')}/export",
            model,
            contract.provider,
            params,
            inputs,
        )

    def _convert(self, target: Target, made: Mapping[str, str]) -> str:
        params = {
            "graphs": list(target.graphs),
            "metadata": self._metadata(target),
            **_parameters_of(target, "convert"),
        }
        return self._maker.add(
            "convert",
            f"{target.model_name}/{target.contract_name}/convert",
            target.model,
            target.contract.provider,
            params,
            {name: StepOutput(step=made["export"], name=name) for name in target.graph_files},
        )

    def _verify(self, target: Target, graphs: str, reference: str) -> str:
        inputs: dict[str, Input] = {
            name: StepOutput(step=graphs, name=name) for name in target.graph_files
        }
        for name in ("cases.json", "tensors.safetensors"):
            inputs[name] = StepOutput(step=reference, name=name)
        params = {"contract": dict(target.golden), **_parameters_of(target, "verify")}
        provider = target.contract.provider
        return self._maker.add(
            "verify", f"{target.name}/verify", target.model, provider, params, inputs
        )

    def _metadata(self, target: Target) -> dict[str, str]:
        import json

        contract = target.contract
        return {
            "modelkiln.model": target.model.name,
            "modelkiln.contract": f"{target.contract_name} v{contract.version}",
            "modelkiln.weights": _weights_digest(target),
            "modelkiln.license": target.model.license,
            "modelkiln.preprocessing": json.dumps(
                target.golden.get("preprocessing", {}), sort_keys=True
            ),
            "modelkiln.stage_sources": sha256_json(
                self._maker.sources_of(target.format.stages, contract.provider)
            ),
            **self._lower.metadata(target),
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
