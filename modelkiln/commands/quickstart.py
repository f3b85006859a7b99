"""`make quickstart`: the main job, on real input, from nothing."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelkiln.building.build import build, raise_failures
from modelkiln.building.kiln import Kiln
from modelkiln.building.options import Options
from modelkiln.building.predict import predict
from modelkiln.building.report import make_report
from modelkiln.paths import REPOSITORY
from modelkiln.report.page import Picture, render_report
from modelkiln.runners import AUTO
from modelkiln.runners.choice import simplest
from modelkiln.util import console
from modelkiln.util.atomic import write_file
from modelkiln.util.hashing import sha256_file, sha256_json

TARGET = "sam2.1_hiera_tiny/image/onnx-fp32"
PHOTOGRAPH = REPOSITORY / "catalog" / "pictures" / "astronaut.jpg"
# A point on the face, and a box round the person: pixels of the photograph.
PROMPTS: Mapping[str, tuple[list[list[float]], list[list[float]]]] = {
    "point": ([[225, 130, 1]], []),
    "box": ([], [[20, 15, 362, 511]]),
}
STATE = ".quickstart.json"


def run_quickstart(kiln: Kiln, out: str = "", *, as_json: bool = False) -> None:
    """Build and verify SAM 2.1 tiny, segment a photograph with a point and with a box, and write
    the overlays and a report.

    Official weights where they are available; else random ones, said loudly.
    """
    if kiln.options.runner == AUTO:
        # The first thing that a user tries should need nothing but Python.
        kiln = Kiln(replace(kiln.options, runner=simplest()), artifacts=kiln.artifacts)
    kiln = _choose_weights(kiln)
    folder = Path(out) if out else kiln.artifacts / "quickstart"
    target = kiln.targets(TARGET)[0]
    console.note(f"building and verifying {target.name}")
    built = build(kiln, [target])
    kiln.save_caches()
    raise_failures(built)
    modules = ("exporters.stages.predict", f"{target.contract.provider}.predict")
    state = sha256_json(
        {
            "files": {n: b.sha256 for n, b in built.published[0].files.items()},
            "picture": sha256_file(PHOTOGRAPH),
            "prompts": {name: list(one) for name, one in PROMPTS.items()},
            "sources": dict(kiln.sources.digests(modules)),
        }
    )
    if _is_current(folder, state) and not built.seconds:
        console.note("nothing has changed since the last run; nothing was done again")
    else:
        _show(kiln, folder, state, built.seconds)
    if target.weights.suffix:
        console.note("random weights: the masks mean nothing; they show that the pipeline works")
    if as_json:
        places = {name: str(folder / f"{name}.png") for name in PROMPTS}
        console.say_json(
            {
                "target": target.name,
                "graphs": str(built.published[0].folder),
                "overlays": places,
                "report": str(folder / "report.html"),
            }
        )
        return
    console.say(f"graphs    {built.published[0].folder}")
    for name in PROMPTS:
        console.say(f"overlay   {folder / f'{name}.png'}")
    console.say(f"report    {folder / 'report.html'}")


def _choose_weights(kiln: Kiln) -> Kiln:
    from modelkiln.fetch.checkpoints import find_cached, host_reachable

    checkpoint = kiln.catalog.models[TARGET.split("/")[0]].checkpoint
    options = kiln.options
    if options.weights != "official" or options.mirrors:
        return kiln
    if find_cached(checkpoint, kiln.cache) or (
        not options.offline and host_reachable(checkpoint.url)
    ):
        return kiln
    host = checkpoint.url.split("/")[2]
    line = "=" * 78
    console.note(
        f"{line}\n"
        f"  RANDOM WEIGHTS. {checkpoint.file} is not in the cache and {host}\n"
        "  cannot be reached from here. The pipeline runs with seeded random weights of\n"
        "  the real architecture: everything is built and verified, but the masks mean\n"
        "  nothing. For real masks, run this where that host can be reached, or name the\n"
        "  file: invoke quickstart --weights PATH --trust\n"
        f"{line}"
    )
    fallback: Options = replace(options, weights="random:0")
    return Kiln(fallback, artifacts=kiln.artifacts)


def _is_current(folder: Path, state: str) -> bool:
    try:
        known = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return bool(known["state"] == state) and all(
            sha256_file(folder / name) == digest for name, digest in known["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _show(kiln: Kiln, folder: Path, state: str, seconds: Mapping[str, float]) -> None:
    target = kiln.targets(TARGET)[0]
    folder.mkdir(parents=True, exist_ok=True)
    pictures: list[Picture] = []
    timings: list[tuple[str, float]] = []
    for name, (points, boxes) in PROMPTS.items():
        overlay = folder / f"{name}.png"
        metrics = predict(
            kiln, target, PHOTOGRAPH, points=points, boxes=boxes, mask=None, overlay=overlay
        )
        pictures.append(Picture(title=_title(name, metrics), png=overlay.read_bytes()))
        timings += [(f"{name}: {one}", s) for one, s in metrics["seconds"].items()]
    report = make_report(kiln, target, pictures=pictures, timings=timings, seconds=seconds)
    write_file(folder / "report.html", render_report(report).encode())
    made = [*(f"{name}.png" for name in PROMPTS), "report.html"]
    known = {"state": state, "files": {name: sha256_file(folder / name) for name in made}}
    write_file(folder / STATE, json.dumps(known).encode())


def _title(name: str, metrics: Mapping[str, Any]) -> str:
    found = metrics["predictions"][0]
    return f"{name}: predicted IoU {found['score']:.3f}, covers {found['coverage']:.0%}"
