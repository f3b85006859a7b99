"""A picture run through the published graphs of a target."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelkiln.building.kiln import Kiln
from modelkiln.building.manifest import check_files, find_manifest, target_folder
from modelkiln.building.once import run_once, stage_modules
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import RandomWeights
from modelkiln.errors import UsageError
from modelkiln.util.places import deliver_files, require_place

MEMORY = 4_000_000_000
# A session holds its weights, and most of them again as its kernels want them.
GRAPHS_IN_MEMORY = 3


def predict(
    kiln: Kiln,
    target: Target,
    picture: Path,
    *,
    points: Sequence[Sequence[float]] = (),
    boxes: Sequence[Sequence[float]] = (),
    mask: Path | None = None,
    overlay: Path,
) -> dict[str, Any]:
    """Run the files in out/ on a picture; returns the stage's figures."""
    modules = stage_modules(kiln, target, "predict")
    manifest = find_manifest(kiln, target)
    check_files(kiln, target, manifest)
    if not picture.is_file():
        raise UsageError(
            f"There is no picture {picture}.", "The path is wrong.", "Name a JPEG, PNG or WebP."
        )
    folder = target_folder(kiln, target)
    graphs = {name: folder / name for name in target.graph_files}
    inputs = {**graphs, "picture": picture}
    if mask is not None:
        if not mask.is_file():
            raise UsageError(f"There is no mask {mask}.", "The path is wrong.", "Name a PNG file.")
        inputs["mask"] = mask
    given = [picture, *([mask] if mask else [])]
    _require_place(overlay, given)
    params: Mapping[str, Any] = {
        "contract": dict(target.golden),
        "points": [[*one, 1] if len(one) == 2 else list(one) for one in points],
        "boxes": [list(one) for one in boxes],
        "random_weights": isinstance(target.weights, RandomWeights),
        "picture_name": str(picture),
    }
    with run_once(
        kiln,
        f"predict {picture.name}",
        environment=target.model.environment,
        modules=modules,
        params=params,
        inputs=inputs,
        memory=MEMORY + GRAPHS_IN_MEMORY * sum(one.stat().st_size for one in graphs.values()),
    ) as outcome:
        deliver_files(
            {
                _require_place(picture_path(overlay, name), given): outcome.outputs[f"{name}.png"]
                for name in outcome.metrics["pictures"]
            }
        )
        return dict(outcome.metrics)


def picture_path(overlay: Path, name: str) -> Path:
    """Return where a picture lies whose overlay is there: STEM.NAME.png beside it."""
    return overlay if name == "overlay" else overlay.with_name(f"{overlay.stem}.{name}.png")


def _require_place(place: Path, given: Sequence[Path]) -> Path:
    real = require_place(place, "--out", folder=False)
    for one in given:
        if real == one.resolve():
            raise UsageError(
                f"{place} would replace {one}, which was given.",
                "It would be lost.",
                "Name another --out.",
            )
    return real
