"""What the sides of bench.engine start from: verified ONNX graphs, and the plan's step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.weights import say_weights, with_weights
from modelkiln.building.build import build
from modelkiln.building.kiln import Kiln
from modelkiln.building.manifest import find_manifest, target_folder
from modelkiln.building.prepare import make_plan, prepare
from modelkiln.catalog.lineage import find_source
from modelkiln.catalog.target import Target
from modelkiln.errors import UsageError
from modelkiln.planning.graph import Step

STAGE = "engine"
# What the stage reads of the source beside its graphs, where the source has it.
QUANTIZATION = "quantization.json"


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where both sides start.

    Attributes:
        target: The target whose engines are built.
        made_from: The one whose graphs they are built from.
        weights: Which they are, in a word.
        folder: Where that one is published.
        environment: What engines are built in.
        params: Of the plan's step.
        inputs: Names of that step's inputs; each is a file of the folder.
        threads: What steps are given.
        seed: Likewise.
    """

    target: str
    made_from: str
    weights: str
    folder: Path
    environment: str
    params: Mapping[str, Any]
    inputs: Sequence[str]
    threads: int
    seed: int

    @property
    def graphs(self) -> list[str]:
        """Their names."""
        return [one["name"] for one in self.params["graphs"]]

    def files(self, name: str) -> list[Path]:
        """Return a graph's files, the .onnx file first."""
        return [self.folder / one for one in self.params["onnx"][name]]

    def engine(self, name: str) -> str:
        """Return what the file of a graph's engine is called."""
        file: str = self.params["engines"][name]
        return file

    def is_fixed(self, name: str) -> bool:
        """Return whether every input of a graph has one shape."""
        return all(low == high for low, _, high in self.params["shapes"].get(name, {}).values())

    def step(self, name: str) -> dict[str, Any]:
        """Return what our side is told, for one graph."""
        (golden,) = (one for one in self.params["graphs"] if one["name"] == name)
        return {
            "params": {**self.params, "graphs": [golden]},
            "inputs": {one: str(self.folder / one) for one in self.inputs},
            "threads": self.threads,
            "seed": self.seed,
        }

    def settings(self, name: str) -> dict[str, Any]:
        """Return what the script is told, for one graph."""
        same = {one: self.params[one] for one in ("gpus", "tf32", "verbosity")}
        return {"shapes": self.params["shapes"].get(name, {}), **same}


def find_source_graphs(kiln: Kiln, name: str) -> Source:
    """Build the target that engines are made from, where it is not there yet, and plan the engines.

    Args:
        name: MODEL/CONTRACT/FORMAT, the format one of engines.

    Raises:
        UsageError: It is no target of engines, or several.
        EnvironmentFailure: This version cannot build it.
        KilnError: What it is made from cannot be built.
    """
    kiln = with_weights(kiln, name)
    target = prepare(kiln, name, runs=False).target
    source = find_source(kiln.catalog, target)
    steps = [one for one in make_plan(kiln, [target]).steps.values() if one.stage == STAGE]
    if source is None or not steps:
        raise UsageError(
            f"{target.name} has no engines.",
            f"Its format {target.format.name} is not one of engines.",
            "invoke targets shows those whose format begins with rtx.",
        )
    for failed in build(kiln, [source]).failed:
        raise failed.error
    # Raises where it is not published.
    find_manifest(kiln, source)
    return make_source(kiln, target, source, steps[0])


def make_source(kiln: Kiln, target: Target, source: Target, step: Step) -> Source:
    """Return where both sides start, once the source is built."""
    return Source(
        target=target.name,
        made_from=source.name,
        weights=say_weights(target),
        folder=target_folder(kiln, source),
        environment=step.environment,
        params=step.params,
        inputs=sorted(step.inputs),
        threads=kiln.catalog.threads,
        seed=kiln.catalog.seed,
    )
