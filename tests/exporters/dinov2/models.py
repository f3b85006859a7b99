"""Shrunken DINOv2 models of every kind, taken through the stages once for all tests."""

import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from exporters.checks.reference import Reference
from exporters.graphs.external_data import files_of
from tests.exporters.shrunken import ROOT, Done, read_contract, run_stage

CATALOG: Final = tomllib.loads((ROOT / "catalog/models/dinov2.toml").read_text(encoding="utf-8"))
UPSTREAM: Final = {name: CATALOG["upstream"][name] for name in ("package", "version", "digest")}
SETTINGS: Final[Mapping[str, Mapping[str, Any]]] = {
    name: {"model": name, **CATALOG["settings"], **entry}
    for name, entry in CATALOG["models"].items()
}
# Position tables of 5 x 5 patches, 3 blocks. The giant keeps its many heads, and its weights beside
# the graph.
_WIDTH_AND_HEADS: Final = {
    "dinov2_vits14": (48, 3),
    "dinov2_vits14_reg4": (48, 3),
    "dinov2_vitg14_reg4": (96, 16),
}
SHRUNKEN: Final[Mapping[str, Mapping[str, Any]]] = {
    name: {
        **SETTINGS[name],
        "embed_dim": width,
        "native": 70,
        "overrides": {"embed_dim": width, "depth": 3, "num_heads": heads},
    }
    for name, (width, heads) in _WIDTH_AND_HEADS.items()
}
NATIVE: Final = "70x70"
OTHER: Final = "56x98"
OPSET: Final = 18


def fill_contract(model: str, size: str = NATIVE, contract: str = "features") -> dict[str, Any]:
    """A contract of the catalog for a shrunken model and a size."""
    settings = SHRUNKEN[model]
    stem = "features-reg4" if contract == "features" and settings["registers"] else contract
    document = read_contract(stem)
    height, width = map(int, size.split("x"))
    numbers = {name: value for name, value in settings.items() if isinstance(value, int)}
    numbers |= {"height": height, "width": width}
    for graph in document["graphs"]:
        if "vitg" not in model:
            del graph["data"]
        for value in [*graph["inputs"], *graph["outputs"]]:
            value["dims"] = [_compute(dim, numbers) for dim in value["dims"]]
    return document


def _compute(dim: Any, numbers: Mapping[str, int]) -> Any:
    """A dim, or what an expression in braces comes to."""
    if isinstance(dim, str) and dim.startswith("{"):
        return eval(dim[1:-1], {"__builtins__": {}}, dict(numbers))
    return dim


class Dinov2s:
    """Weights, references and graphs, each made when it is first asked for."""

    def __init__(self, scratch: Callable[[str], Path]) -> None:
        self._scratch = scratch
        self.weights = cache(self._weights)
        self.reference = cache(self._reference)
        self.traced = cache(self._traced)
        self.graphs = cache(self._graphs)

    def ingest(
        self, model: str, source: Mapping[str, Any], inputs: Mapping[str, Path], **changes: Any
    ) -> Done:
        """Runs `ingest`; `changes` are laid over the shrunken model's settings."""
        params = {**SHRUNKEN[model], "source": source, "upstream": UPSTREAM, **changes}
        modules = ["exporters.stages.ingest", "exporters.dinov2.ingest"]
        return run_stage(self._scratch("ingest"), "ingest", modules, params, inputs)

    def _weights(self, model: str) -> Path:
        return self.ingest(model, {"kind": "random", "seed": 0}, {})["weights.safetensors"]

    def _reference(self, model: str, size: str = NATIVE) -> Done:
        pictures = {
            f"pictures/{name}": ROOT / "catalog/pictures" / name
            for name in read_contract("features")["pictures"]
        }
        return run_stage(
            self._scratch("reference"),
            "reference",
            ["exporters.stages.reference", "exporters.dinov2.features.reference"],
            {**SHRUNKEN[model], "size": size, "upstream": UPSTREAM},
            {"weights.safetensors": self.weights(model), **pictures},
        )

    def load_reference(self, model: str, size: str = NATIVE) -> Reference:
        """A reference, to be read here."""
        done = self.reference(model, size)
        return Reference(done["cases.json"], done["tensors.safetensors"])

    def export_params(
        self,
        model: str,
        size: str = NATIVE,
        contract: str = "features",
        opset: int = OPSET,
        attention: str = "split",
    ) -> dict[str, Any]:
        """What the stage `export` is given."""
        golden = fill_contract(model, size, contract)
        return {
            **SHRUNKEN[model],
            "contract": golden["name"],
            "options": golden["options"],
            "graphs": golden["graphs"],
            "opset": opset,
            "size": size,
            "attention": attention,
            "upstream": UPSTREAM,
        }

    def _traced(
        self, model: str, size: str, contract: str, opset: int, threads: int, attention: str
    ) -> Done:
        params = self.export_params(model, size, contract, opset, attention)
        return self._export("exporters.dinov2.features.export", params, threads)

    def _graphs(
        self,
        model: str,
        size: str = NATIVE,
        contract: str = "features",
        opset: int = OPSET,
        simplifier: str = "onnxsim",
        threads: int = 1,
        attention: str = "split",
    ) -> dict[str, Path]:
        """The converted graph's files by name."""
        traced = self.traced(model, size, contract, opset, threads, attention)
        params = self.export_params(model, size, contract, opset)
        return self._convert(traced, params, simplifier, threads)

    def mutant(self, model: str, size: str, mutation: str) -> dict[str, Path]:
        """The converted graph with a fault in it."""
        params = {**self.export_params(model, size), "mutation": mutation}
        return self._convert(self._export("tests.exporters.dinov2.mutants", params), params)

    def _export(self, provider: str, params: Mapping[str, Any], threads: int = 1) -> Done:
        inputs = {"weights.safetensors": self.weights(params["model"])}
        modules = ["exporters.stages.export", provider]
        return run_stage(self._scratch("export"), "export", modules, params, inputs, threads)

    def _convert(
        self,
        traced: Done,
        params: Mapping[str, Any],
        simplifier: str = "onnxsim",
        threads: int = 1,
    ) -> dict[str, Path]:
        files = [name for graph in params["graphs"] for name in files_of(graph)]
        done = run_stage(
            self._scratch("convert"),
            "convert",
            ["exporters.stages.convert"],
            {
                "simplifier": simplifier,
                "opset": params["opset"],
                "graphs": params["graphs"],
                "metadata": {"model": params["model"], "license": "Apache-2.0"},
            },
            {file: traced[file] for file in files},
            threads,
        )
        return {file: done[file] for file in files}

    def verify(
        self,
        files: Mapping[str, Path],
        model: str,
        size: str = NATIVE,
        contract: str = "features",
        opset: int = OPSET,
    ) -> Done:
        """Verifies graphs in a process of its own."""
        reference = self.reference(model, size)
        inputs = {
            **files,
            "cases.json": reference["cases.json"],
            "tensors.safetensors": reference["tensors.safetensors"],
        }
        modules = ["exporters.stages.verify", "exporters.dinov2.features.verify"]
        params = {"contract": fill_contract(model, size, contract), "opset": opset}
        return run_stage(self._scratch("verify"), "verify", modules, params, inputs)
