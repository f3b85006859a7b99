"""A stage of the tests: what `verify` makes of faults in the modules that `export` traces.

The modules are run by PyTorch, on patched upstream as in `export`. They are built once for all
faults, and nothing is traced: what is judged is the check.
"""

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from exporters.checks.parity import Check, as_json
from exporters.checks.reference import Arrays, Reference, Run
from exporters.protocol import Result, Step, write_json
from exporters.upstream import use_patched
from tests.exporters.shrunken import PATCHES, run_stage

Found = Mapping[str, Any]


def find_faults(
    folder: Path,
    family: str,
    faults: Sequence[tuple[str, str]],
    params: Mapping[str, Any],
    inputs: Mapping[str, Path],
) -> dict[tuple[str, str], Found | None]:
    """The first comparison that fails for each fault, (graph, mutation); None where none does.

    Args:
        folder: A fresh one.
        family: A package of the exporters with `export` and `verify`; its tests have `mutants`.
        faults: The graph that is compared by itself, all of them where it is empty; and the
            mutation, where there is one.
        params: Those of `export`, and `golden`, the contract.
        inputs: `weights.safetensors`, `cases.json` and `tensors.safetensors`.
    """
    given = {**params, "family": family, "faults": faults}
    modules = ["tests.exporters.faults"]
    done = run_stage(folder, "faults", modules, given, {**inputs, **PATCHES})
    found = json.loads(done["faults.json"].read_text(encoding="utf-8"))
    return dict(zip(faults, found, strict=True))


def run(step: Step) -> Result:
    """Write `faults.json`, a list with an entry for each fault."""
    patches = {
        name.removeprefix("patches/"): path
        for name, path in step.inputs.items()
        if name.startswith("patches/")
    }
    torch.set_num_threads(step.threads)
    use_patched(step.param("upstream"), patches, step.out.parent / "upstream")
    family, golden = step.param("family"), step.param("golden")
    build = import_module(f"exporters.{family}.export").build_graphs
    check = import_module(f"exporters.{family}.verify").check
    mutate = import_module(f"tests.exporters.{family}.mutants").mutate
    graphs = build(step.params, step.input("weights.safetensors"))
    unharmed = {name: graph.module for name, graph in graphs.items()}
    found = []
    for graph, mutation in step.param("faults"):
        modules = copy.deepcopy(unharmed)
        if mutation:
            mutate(modules, mutation)
        reference = Reference(step.input("cases.json"), step.input("tensors.safetensors"))
        reference.untouched = frozenset(unharmed) - {graph} if graph else frozenset()
        found.append(_first_fault(check, _run_modules(modules, golden), golden, reference))
    write_json(step.out / "faults.json", found)
    return Result(outputs=["faults.json"], metrics={})


def _first_fault(
    check: Callable[..., Any], run: Run, golden: Mapping[str, Any], reference: Reference
) -> Found | None:
    checks: Iterator[Check] = check(run, golden, reference)
    return next((as_json(one) for one in checks if not one.ok), None)


def _run_modules(modules: Mapping[str, Any], golden: Mapping[str, Any]) -> Run:
    """Modules as the graphs that are made of them."""
    graphs = {graph["name"]: graph for graph in golden["graphs"]}

    def run(graph: str, inputs: Mapping[str, Any]) -> Arrays:
        taken, given = (
            [value["name"] for value in graphs[graph][side]] for side in ("inputs", "outputs")
        )
        with torch.no_grad():
            found = modules[graph](*(torch.tensor(inputs[name]) for name in taken))
        values = [found] if isinstance(found, torch.Tensor) else found
        return {name: value.numpy() for name, value in zip(given, values, strict=True)}

    return run
