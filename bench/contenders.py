"""The sides of bench.dinov2, bench.export and bench.tracker, and the weights they start from."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bench import samexporter
from bench.export import Contender
from bench.process import Command
from modelkiln.building.build import build
from modelkiln.building.kiln import Kiln
from modelkiln.building.options import Options
from modelkiln.building.prepare import find_records, make_plan, resolve_plan
from modelkiln.errors import StageFailure
from modelkiln.fetch.checkpoints import find_cached
from modelkiln.paths import REPOSITORY
from modelkiln.util import console
from modelkiln.util.console import show_progress

UNTIL = "convert"


def our_side(target: str, checkpoint: Path) -> Contender:
    """Start modelkiln as its user starts it, in an empty store, up to simplified graphs."""

    def start(folder: Path, *flags: str) -> Command:
        return Command(
            argv=(
                str(Path(sys.executable).parent / "invoke"),
                "build",
                target,
                f"--weights={checkpoint}",
                "--trust",
                "--runner=local",
                *flags,
            ),
            cwd=REPOSITORY,
            environment={"MODELKILN_ARTIFACTS": str(folder / "artifacts")},
        )

    return Contender(
        name="modelkiln",
        prepare=lambda folder: start(folder, f"--until={UNTIL}"),
        graphs=lambda folder: _our_files(folder, target, checkpoint)[0],
        verify=start,
    )


def our_weights(folder: Path, target: str, checkpoint: Path) -> Path:
    """Return the weights as safetensors, in a folder where our side has been."""
    return _our_files(folder, target, checkpoint)[1]


def _our_files(folder: Path, target: str, checkpoint: Path) -> tuple[Mapping[str, Path], Path]:
    options = Options(weights=str(checkpoint), trust=True, runner="local")
    kiln = Kiln(options, artifacts=folder / "artifacts")
    plan = make_plan(kiln, kiln.targets(target), UNTIL)
    records = find_records(resolve_plan(kiln, plan))
    (ingest,) = (one.id for one in plan.steps.values() if one.stage == "ingest")
    # Under their names: a graph finds its weights beside it by the name of their file.
    named = folder / "graphs"
    named.mkdir(exist_ok=True)
    for name, blob in records[plan.targets[0].graphs].outputs.items():
        if not (named / name).is_symlink():
            (named / name).symlink_to(kiln.store.blob_path(blob.sha256).resolve())
    graphs = {
        graph["name"]: named / graph["file"] for graph in plan.targets[0].target.contract.graphs
    }
    weights = records[ingest].outputs["weights.safetensors"]
    return graphs, kiln.store.blob_path(weights.sha256)


def their_side(model: str, checkpoint: Path, *, python: Path, tools: Path) -> Contender:
    """Start samexporter as its documentation starts it, with --simplify."""
    return Contender(
        name=samexporter.NAME,
        prepare=lambda folder: samexporter.export_command(
            python=python, tools=tools, checkpoint=checkpoint, model=model, out=folder
        ),
        graphs=samexporter.graphs,
    )


def get_tools(kiln: Kiln) -> tuple[Path, Path]:
    """Return the export environment's interpreter, and the folder with samexporter.

    Raises:
        EnvironmentFailure, PinError, OutOfSpace: They cannot be installed.
    """
    python = kiln.provisioner.python("export")
    with show_progress(samexporter.NAME) as on_progress:
        tools = samexporter.install(
            python=python,
            cache=kiln.cache,
            offline=kiln.options.offline,
            on_progress=on_progress,
        )
    return python, tools


def get_checkpoint(kiln: Kiln, target: str, out: Path, *, python: Path) -> Path:
    """Return a checkpoint on disk of a target's model: the official one where it has been fetched,
    else random weights.

    What both sides cost does not depend on the values. `--weights` decides where it is given.

    Args:
        out: Where a checkpoint of random weights is written.

    Raises:
        KilnError: The weights asked for are not there, or cannot be read.
    """
    if kiln.options.weights == "official":
        model = target.partition("/")[0]
        cached = find_cached(kiln.catalog.models[model].checkpoint, kiln.cache)
        if cached is not None:
            return cached
        console.note("no official checkpoint in the cache: both sides start from random weights")
        kiln = Kiln(replace(kiln.options, weights="random"), artifacts=kiln.artifacts)
    weights = ingest_weights(kiln, target)
    return samexporter.write_checkpoint(weights, out, python=python, log=out.with_suffix(".log"))


def ingest_weights(kiln: Kiln, target: str) -> Path:
    """Return the weights of a target as the ingest stage writes them, built if they are not in the
    store.

    Raises:
        KilnError: The stage failed.
    """
    targets = kiln.targets(target)
    step = next(one.id for one in make_plan(kiln, targets).steps.values() if one.stage == "ingest")
    record = find_records(resolve_plan(kiln, make_plan(kiln, targets))).get(step)
    if record is None:
        built = build(kiln, targets, until="ingest")
        for failed in built.failed:
            raise failed.error
        record = built.records.get(step)
    if record is None:
        raise StageFailure(f"{step} left no record.", "The build ended early.", "Run it again.")
    return kiln.store.check(record.outputs["weights.safetensors"])
