"""Runs stages of a shrunken SAM 2 in processes of their own, forked from one that has torch."""

import json
import multiprocessing
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporters.graphs.structure import read_graph
from exporters.precision.layers import find_layers
from exporters.protocol import StageError
from exporters.upstream import installed_folder, package_digest

ROOT: Final = Path(__file__).resolve().parents[2]
SIZE: Final = 128
MODEL: Final = "sam2.1_hiera_tiny"
ARCHITECTURE: Final[Mapping[str, Any]] = {
    "model": MODEL,
    "config": "configs/sam2.1/sam2.1_hiera_t.yaml",
    "overrides": [
        f"model.image_size={SIZE}",
        "model.memory_attention.num_layers=1",
        "model.image_encoder.trunk.embed_dim=16",
        "model.image_encoder.trunk.stages=[1,2,3,1]",
        "model.image_encoder.trunk.global_att_blocks=[4]",
        "model.image_encoder.neck.backbone_channel_list=[128,64,32,16]",
    ],
}
UPSTREAM: Final = {
    "package": "sam2",
    "version": "1.1.0",
    "digest": package_digest(installed_folder("sam2")),
}
PATCHES: Final = {
    f"patches/{path.name}": path for path in sorted((ROOT / "patches/sam2/1.1.0").iterdir())
}

_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.exporters.preload"])


@dataclass(frozen=True)
class Done:
    """What a step left behind."""

    folder: Path
    result: Mapping[str, Any]

    def __getitem__(self, name: str) -> Path:
        return self.folder / "out" / name

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The figures of its result."""
        metrics: Mapping[str, Any] = self.result["metrics"]
        return metrics


def read_contract(stem: str) -> dict[str, Any]:
    """A contract file of the catalog, laid over the file that it extends."""
    text = (ROOT / "catalog/contracts" / f"{stem}.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    if "extends" not in document:
        return document
    base = read_contract(document.pop("extends"))
    for merged in ("options", "parameters", "variants", "tolerances", "inert"):
        document[merged] = {**base.get(merged, {}), **document.get(merged, {})}
    return {**base, **document}


def shrink(contract: str) -> dict[str, Any]:
    """A contract of the catalog, by its file's name, for pictures of `SIZE` pixels.

    `STEM@VALUE` is the contract as a value of one of its parameters changes it.
    """
    stem, _, value = contract.partition("@")
    document = read_contract(stem)
    changes = document.pop("variants", {})
    if value:
        (change,) = (by_value[value] for by_value in changes.values() if value in by_value)
        others = {graph["name"]: graph for graph in change["graphs"]}
        document["graphs"] = [others.get(one["name"], one) for one in document["graphs"]]
        document["options"] |= change["options"]
    document["preprocessing"]["size"] = SIZE
    for graph in document["graphs"]:
        for value in [*graph["inputs"], *graph["outputs"]]:
            value["dims"] = _shrink_dims(value["dims"])
    return document


def _shrink_dims(dims: list[int | str]) -> list[int | str]:
    """Maps become smaller; so do tables with a row for each cell of the coarsest map."""
    if len(dims) >= 4 and dims[-1] == dims[-2] and isinstance(dims[-1], int):
        side = dims[-1] * SIZE // 1024
        return [*dims[:-2], side, side]
    return [(SIZE // 16) ** 2 if dim == 64**2 else dim for dim in dims]


def require_linear_layers(path: Path) -> None:
    """Asserts that a graph has linear layers, and that all of them can be quantized."""
    layers = find_layers(read_graph(path), ["MatMul"])
    linears = [layer for layer in layers if layer.op != "Conv"]
    assert linears
    assert not any(layer.reason for layer in linears), [one.reason for one in linears]


def write_step(
    folder: Path,
    stage: str,
    modules: Sequence[str],
    params: Mapping[str, Any],
    inputs: Mapping[str, Path],
    threads: int = 1,
) -> Path:
    """Lays out a scratch folder as the runner does; returns `step.json`."""
    (folder / "out").mkdir(parents=True)
    for name, path in inputs.items():
        link = folder / "inputs" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    step = folder / "step.json"
    document = {
        "protocol": 1,
        "step": f"{MODEL}+random0/image/{stage}",
        "stage": stage,
        "modules": list(modules),
        "params": dict(params),
        "inputs": {name: f"inputs/{name}" for name in inputs},
        "threads": threads,
        "seed": 0,
    }
    step.write_text(json.dumps(document), encoding="utf-8")
    return step


def run_stage(
    folder: Path,
    stage: str,
    modules: Sequence[str],
    params: Mapping[str, Any],
    inputs: Mapping[str, Path],
    threads: int = 1,
) -> Done:
    """Runs a stage as `python -m exporters step.json` would, in a forked process.

    Raises:
        StageError: What the stage wrote to error.json.
    """
    write_step(folder, stage, modules, params, inputs, threads)
    process = _CONTEXT.Process(target=_child, args=(str(folder),))
    process.start()
    process.join()
    error = folder / "error.json"
    if error.is_file():
        raise StageError(**json.loads(error.read_text(encoding="utf-8")))
    assert process.exitcode == 0, (folder / "log").read_text(encoding="utf-8")
    return Done(folder, json.loads((folder / "result.json").read_text(encoding="utf-8")))


def _child(folder: str) -> None:
    os.chdir(folder)
    log = os.open("log", os.O_WRONLY | os.O_CREAT)
    out = os.open("progress", os.O_WRONLY | os.O_CREAT)
    os.dup2(out, 1)
    os.dup2(log, 2)
    os.environ["PYTHONPATH"] = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    from exporters.__main__ import main

    os._exit(main(["step.json"]))
