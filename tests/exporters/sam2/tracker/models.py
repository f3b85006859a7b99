"""A shrunken tracker of each generation, taken through the stages once for all tests."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import load_file, save_file

from exporters.checks.parity import Check
from exporters.checks.reference import Reference, Run
from exporters.checks.runtime import Runtime
from exporters.sam2.tracker.verify import check
from tests.exporters.faults import Found, find_faults
from tests.exporters.shrunken import (
    ARCHITECTURE,
    PATCHES,
    ROOT,
    UPSTREAM,
    Done,
    run_stage,
    shrink,
)

# All four layers of memory attention, so that two that were swapped can be told apart.
OVERRIDES: Final = [one for one in ARCHITECTURE["overrides"] if "num_layers" not in one]
ARCHITECTURES: Final[Mapping[str, Mapping[str, Any]]] = {
    "sam2.1": {
        "model": "sam2.1_hiera_tiny",
        "config": "configs/sam2.1/sam2.1_hiera_t.yaml",
        "overrides": OVERRIDES,
    },
    "sam2.0": {
        "model": "sam2_hiera_tiny",
        "config": "configs/sam2/sam2_hiera_t.yaml",
        "overrides": OVERRIDES,
    },
}
CONTRACTS: Final = {
    "tracker": "sam2.1",
    "tracker-ex": "sam2.1",
    "tracker-legacy": "sam2.1",
    "tracker-sam2.0": "sam2.0",
    "tracker-ex-sam2.0": "sam2.0",
    "tracker-ex@static": "sam2.1",
    "tracker-ex-sam2.0@static": "sam2.0",
}
LEGACY: Final = "tracker-legacy"
# Axes that are free have no size of their own: the ends, which may be mistaken for a plain value or
# for the most that there is, and sizes between them.
GRID: Final[Mapping[str, Any]] = {
    "memory_frames": [1, 2, 3, 7],
    "pointers": [1, 2, 5, 16],
    "batches": [1, 2, 3],
    "loop_frames": 32,
    "video_frames": 32,
}
# A loop of the other generation is there to agree; faults in a loop are tried on the longer one.
GRIDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "sam2.1": GRID,
    "sam2.0": {**GRID, "loop_frames": 20, "video_frames": 20},
}
OPSET: Final = 17

# Pointers agree far better than the contracts ask: a random network takes little notice of what is
# wrong, and here even that is to be seen.
COSINE: Final = 1 - 1e-7

# A random network hardly looks at the picture when it judges whether an object is there. This
# is where its judgements lie about; from there they are made ten times as firm.
_INDIFFERENT: Final = {"sam2.1": 0.635, "sam2.0": 0.62}
_FIRMNESS: Final = -10
_PRESENCE: Final = "sam_mask_decoder.pred_obj_score_head.layers.2"
# The mask of several points becomes so faint that it is sometimes not stable.
_FAINTNESS: Final = 0.55
_SINGLE_MASK: Final = "sam_mask_decoder.output_hypernetworks_mlps.0.layers.2"
# How long ago a pointer was made matters more.
_URGENCY: Final = 10
_TIMES: Final = "obj_ptr_tpos_proj.weight"


def leave_out_loop(document: dict[str, Any]) -> None:
    """Faults are to be seen in the graph that has them, not in what becomes of the video."""
    document["loop"]["frames"] = 0
    document["pictures"] = document["pictures"][:1]


class Trackers:
    """Weights, references, graphs and verifications, each made when it is first asked for.

    A contract is named by its file, and the value of a parameter that changes it; `CONTRACTS` says
    which generation it is of.
    """

    def __init__(self, scratch: Callable[[str], Path]) -> None:
        self._scratch = scratch
        self.weights = cache(self._weights)
        self.reference = cache(self._reference)
        self.graphs = cache(self._graphs)
        self.whole = cache(self._whole)
        self.runtime = cache(self._runtime)
        self.verify = cache(self._verify)
        self.faults = cache(self._faults)

    def _weights(self, generation: str) -> Path:
        """Random weights that see some objects on some frames, and not always clearly."""
        params = {
            **ARCHITECTURES[generation],
            "source": {"kind": "random", "seed": 0},
            "upstream": UPSTREAM,
        }
        modules = ["exporters.stages.ingest", "exporters.sam2.ingest"]
        drawn = run_stage(self._scratch("ingest"), "ingest", modules, params, {})
        tensors = load_file(drawn["weights.safetensors"])
        centre, firmness = np.float32(_INDIFFERENT[generation]), np.float32(_FIRMNESS)
        tensors[f"{_PRESENCE}.weight"] *= firmness
        tensors[f"{_PRESENCE}.bias"] = (tensors[f"{_PRESENCE}.bias"] - centre) * firmness
        for name in ("weight", "bias"):
            tensors[f"{_SINGLE_MASK}.{name}"] *= np.float32(_FAINTNESS)
        if _TIMES in tensors:  # not in SAM 2.0
            tensors[_TIMES] *= np.float32(_URGENCY)
        path = self._scratch("weights")
        save_file(tensors, path)
        return path

    def _reference(self, generation: str) -> Done:
        """What unpatched upstream makes of them, for all of the generation's contracts."""
        pictures = {
            f"pictures/{name}": ROOT / "catalog/pictures" / name
            for name in shrink("tracker")["pictures"]
        }
        return run_stage(
            self._scratch("reference"),
            "reference",
            ["exporters.stages.reference", "exporters.sam2.tracker.reference"],
            {
                **ARCHITECTURES[generation],
                "upstream": UPSTREAM,
                "grid": GRIDS[generation],
            },
            {"weights.safetensors": self.weights(generation), **pictures},
        )

    def graphs_anew(self, contract: str, threads: int) -> dict[str, Path]:
        """A contract's graphs made once more, with so many threads."""
        return self._graphs(contract, threads=threads)

    def _graphs(self, contract: str, opset: int = OPSET, threads: int = 1) -> dict[str, Path]:
        """The converted graphs of a contract by their files' names.

        Where a contract or a value of a parameter changes some of them, the others are made but
        once.
        """
        stem = "tracker" if contract == LEGACY else contract.partition("@")[0]
        same = shrink(stem)["graphs"] if stem != contract else []
        if contract == LEGACY:
            # Its graphs are told to be the same, and one computes something else.
            same = [graph for graph in same if graph["name"] != "memory_encoder"]
        graphs = [graph for graph in shrink(contract)["graphs"] if graph not in same]
        params = {**self._export_params(contract, opset), "graphs": graphs}
        provider = "exporters.sam2.tracker.export"
        traced = self._export(contract, provider, params, threads)
        files = [graph["file"] for graph in graphs]
        done = run_stage(
            self._scratch("convert"),
            "convert",
            ["exporters.stages.convert"],
            {
                "simplifier": "onnxsim",
                "opset": opset,
                "graphs": graphs,
                "metadata": {"model": "shrunken", "license": "Apache-2.0"},
            },
            {file: traced[file] for file in files},
            threads,
        )
        others = self.graphs(stem) if same else {}
        return {**others, **{file: done[file] for file in files}}

    def _runtime(self, contract: str) -> Runtime:
        """Sessions of a contract's graphs."""
        files = self.graphs(contract)
        named = {graph["name"]: files[graph["file"]] for graph in shrink(contract)["graphs"]}
        return Runtime(named, threads=1)

    def mutant(self, contract: str, graph: str, mutation: str) -> dict[str, Path]:
        """A contract's graphs, one of them traced anew with a fault in it."""
        provider = "tests.exporters.sam2.tracker.mutants"
        return self._with_another(contract, graph, provider, mutation=mutation)

    def _whole(self, contract: str) -> dict[str, Path]:
        """A contract's graphs, that of memory attention traced anew with attention in one piece."""
        provider = "exporters.sam2.tracker.export"
        return self._with_another(contract, "memory_attention", provider, attention="whole")

    def _with_another(
        self, contract: str, graph: str, provider: str, **changes: Any
    ) -> dict[str, Path]:
        """A contract's graphs, one of them as traced from other parameters."""
        params = {**self._export_params(contract, OPSET), **changes}
        params["graphs"] = [one for one in params["graphs"] if one["name"] == graph]
        traced = self._export(contract, provider, params)
        file = params["graphs"][0]["file"]
        return {**self.graphs(contract), file: traced[file]}

    def _faults(
        self, contract: str, faults: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], Found | None]:
        """What is found first in the modules with each of the faults; the loop is left out."""
        cases = self._scratch("cases.json")
        document = json.loads(self.reference(CONTRACTS[contract])["cases.json"].read_text())
        leave_out_loop(document)
        cases.write_text(json.dumps(document))
        params = {**self._export_params(contract, OPSET), "golden": shrink(contract)}
        inputs = {
            "weights.safetensors": self.weights(CONTRACTS[contract]),
            "cases.json": cases,
            "tensors.safetensors": self.reference(CONTRACTS[contract])["tensors.safetensors"],
        }
        return find_faults(self._scratch("faults"), "sam2.tracker", faults, params, inputs)

    def _export(
        self, contract: str, provider: str, params: Mapping[str, Any], threads: int = 1
    ) -> Done:
        weights = self.weights(CONTRACTS[contract])
        inputs = {"weights.safetensors": weights, **PATCHES}
        modules = ["exporters.stages.export", provider]
        return run_stage(self._scratch("export"), "export", modules, params, inputs, threads)

    def _export_params(self, contract: str, opset: int) -> dict[str, Any]:
        golden = shrink(contract)
        return {
            **ARCHITECTURES[CONTRACTS[contract]],
            "contract": golden["name"],
            "options": golden["options"],
            "opset": opset,
            "attention": "split",
            "graphs": golden["graphs"],
            "upstream": UPSTREAM,
        }

    def load_reference(self, generation: str) -> Reference:
        """The reference of a generation, to be read here."""
        done = self.reference(generation)
        return Reference(done["cases.json"], done["tensors.safetensors"])

    def first_fault(
        self,
        contract: str,
        given: Run | Mapping[str, Path],
        cut: Callable[[dict[str, Any]], None],
        *,
        graph: str = "",
        **tolerances: float,
    ) -> Check | None:
        """The first comparison that fails, in the order of `verify`; None where none does.

        `cut` may take cases out of the reference's document; tolerances may be other than usual.
        Where a graph is named, the others are not compared by themselves.
        """
        golden = shrink(contract)
        golden["tolerances"] |= tolerances
        reference = self.load_reference(CONTRACTS[contract])
        document = copy.deepcopy(dict(reference.document))
        cut(document)
        reference.document = document
        names = {one["name"]: one["file"] for one in golden["graphs"]}
        if graph:
            reference.untouched = frozenset(names) - {graph}
        if isinstance(given, Mapping):
            alone = graph and not document["loop"]["frames"]
            used = {graph: names[graph]} if alone else names
            run = Runtime({name: given[file] for name, file in used.items()}, threads=1).run
        else:
            run = given
        return next((one for one in check(run, golden, reference) if not one.ok), None)

    def _verify(self, contract: str) -> Done:
        """Verifies a contract's graphs in a process of its own."""
        golden = shrink(contract)
        reference = self.reference(CONTRACTS[contract])
        inputs = {
            **self.graphs(contract),
            "cases.json": reference["cases.json"],
            "tensors.safetensors": reference["tensors.safetensors"],
        }
        return run_stage(
            self._scratch("verify"),
            "verify",
            ["exporters.stages.verify", "exporters.sam2.tracker.verify"],
            {"contract": golden, "opset": OPSET},
            inputs,
        )
