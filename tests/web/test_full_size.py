"""The full-size tiny model in a browser's runtime, and samexporter's as the control.

The model is built, where it is not yet, with random weights into the usual artifacts; samexporter's
export of the same weights is kept in the cache.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import samexporter
from bench.commands import MODEL, TARGET
from bench.contenders import get_tools, ingest_weights
from modelkiln.building.build import build
from modelkiln.building.kiln import Kiln
from modelkiln.building.options import Options
from tests.full_size.small_sam2 import MODEL as SMALL
from tests.full_size.small_sam2 import write_catalog
from tests.web.node import WEB, Checked

pytestmark = pytest.mark.full_size

Check = Callable[..., Checked]


@pytest.fixture(scope="module")
def kiln() -> Kiln:
    return Kiln(Options(weights="random", runner="local"))


@pytest.fixture(scope="module")
def tools(kiln: Kiln) -> tuple[Path, Path]:
    """The export environment's Python, and the folder with samexporter."""
    return get_tools(kiln)


def test_both_graphs_agree_with_native_onnx_runtime(
    check: Check, kiln: Kiln, tools: tuple[Path, Path], tmp_path: Path
) -> None:
    agree(check, kiln, f"{MODEL}/image/onnx-fp32", tools[0], tmp_path / "reference")


# What a graph is made of is the same in both contracts, but for the free batch.
@pytest.mark.thorough
def test_so_do_those_of_treedect(
    check: Check, tools: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_catalog(tmp_path / "catalog", "image", "treedect")
    monkeypatch.setenv("MODELKILN_CATALOG", str(tmp_path / "catalog"))
    monkeypatch.setenv("MODELKILN_ARTIFACTS", str(tmp_path / "artifacts"))
    kiln = Kiln(Options(weights="random", runner="local"))
    agree(check, kiln, f"{SMALL}/treedect/onnx-fp32", tools[0], tmp_path / "reference")


def agree(check: Check, kiln: Kiln, target: str, python: Path, reference: Path) -> None:
    """Builds a target, and requires the same numbers of its graphs in a browser's runtime."""
    built = build(kiln, kiln.targets(target))
    assert built.failed == ()
    graphs = built.published[0].folder
    subprocess.run([python, WEB / "reference.py", graphs, reference], check=True)
    done = check(graphs, f"--reference={reference}")
    assert done.status == 0, done
    runs = {name: graph["runs"] for name, graph in done.report["graphs"].items()}
    assert [run["case"] for run in runs["encoder"]] == ["encoder"]
    assert [run["case"] for run in runs["decoder"]] == ["decoder-1", "decoder-3"]
    outputs = [one for group in runs.values() for run in group for one in run["outputs"].values()]
    assert len(outputs) == 7
    assert all(one["relative"] <= 1e-5 for one in outputs)


# All that it comes of is pinned, so that it changes with a pin alone.
@pytest.mark.thorough
def test_the_encoder_of_samexporter_still_fails(
    check: Check, kiln: Kiln, tools: tuple[Path, Path]
) -> None:
    python, folder = tools
    theirs = samexporter.cached_export(
        ingest_weights(kiln, TARGET),
        python=python,
        tools=folder,
        model=MODEL,
        environment=kiln.provisioner.environment("export").digest,
        cache=kiln.cache,
    )
    done = check(theirs, "--graphs=encoder", "--expect-failure=ShapeInferenceError")
    assert done.status == 0, done
    assert "declared=0" in done.report["failure"]["message"]
    assert check(theirs, "--graphs=decoder").status == 0
