"""What the report of a target holds, gathered from its manifest, records and files."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelkiln.building.kiln import Kiln
from modelkiln.building.manifest import BUILT, REPORT, find_manifest, target_folder
from modelkiln.catalog.target import Target
from modelkiln.report.engines import Engines, read_engines
from modelkiln.report.page import Failure, Picture, Report
from modelkiln.report.quality import read_quality

PLAN = "quantization.json"


def make_report(
    kiln: Kiln,
    target: Target,
    *,
    pictures: Sequence[Picture] = (),
    timings: Sequence[tuple[str, float]] = (),
    seconds: Mapping[str, float] | None = None,
) -> Report:
    """Return what a page tells of a built target.

    Args:
        pictures: Overlays to show.
        timings: Further names and seconds.
        seconds: Steps that ran in this command, with their seconds; the others were reused.
    """
    manifest = find_manifest(kiln, target)
    engines = find_engines(kiln, target, manifest)
    # Engines were compared with nothing.
    checks = {} if engines else _read_json(target_folder(kiln, target) / REPORT)
    plan = target_folder(kiln, target) / PLAN
    quality = None
    if not engines:
        layers = _read_json(plan) if PLAN in manifest["files"] else {}
        quality = read_quality(checks, layers, find_benefit(kiln, manifest))
    measured = list(_timings(kiln, manifest))
    ran = seconds or {}
    return Report(
        title=f"modelkiln: {target.name}",
        target=target.name,
        weights=_say_weights(manifest["weights"]),
        warning=target.warning,
        pictures=pictures,
        parity=[] if quality else checks.get("tensors", []),
        quality=quality,
        engines=engines,
        masks=[
            {
                "picture": one["case"],
                "prompt": one["mask"],
                "iou": one["iou"],
                "coverage": one["coverage"],
                "counted": one["counted"],
            }
            for one in checks.get("masks", [])
        ],
        loop=checks.get("loop", []),
        files=[
            {"name": name, "bytes": one["bytes"], "sha256": one["sha256"]}
            for name, one in manifest["files"].items()
        ],
        timings=[{"name": n, "seconds": s} for n, s in [*timings, *measured]],
        provenance=_provenance(manifest),
        steps=[
            {
                "id": name,
                "key": step["key"],
                "status": "ran" if name in ran else "reused",
                "seconds": ran.get(name),
            }
            for name, step in manifest["steps"].items()
        ],
        failure=None,
    )


def find_engines(kiln: Kiln, target: Target, manifest: Mapping[str, Any]) -> Engines | None:
    """Return what is known of a target's engines; None where it has none."""
    if BUILT not in manifest["files"]:
        return None
    built = _read_json(target_folder(kiln, target) / BUILT)
    return read_engines(built, {name: one["bytes"] for name, one in manifest["files"].items()})


def find_benefit(kiln: Kiln, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the verification of a reduced precision measured; empty where that is not
    known.
    """
    benefit: Mapping[str, Any] = _metrics(kiln, manifest).get("benefit", {})
    return benefit


def _timings(kiln: Kiln, manifest: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield times that the verification measured; the manifest holds none."""
    for graph, one in _metrics(kiln, manifest).get("timings", {}).items():
        yield f"verify: {graph} session load", one["load_seconds"]
        yield f"verify: {graph} run, median of {one['runs']}", one["run_seconds"]


def _metrics(kiln: Kiln, manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the figures of a target's own verification, not of one that it rests on."""
    own = f"{manifest['target']}/"
    keys = [one["key"] for name, one in manifest["steps"].items() if name.startswith(own)]
    records = (record for key in keys if (record := kiln.store.record(key)))
    return next((one.metrics for one in records if "summary" in one.metrics), {})


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def make_failed_report(target: Target, failure: Failure) -> Report:
    """Return what a page tells of a target that was not built."""
    return Report(
        title=f"modelkiln: {target.name}",
        target=target.name,
        weights=target.weights.label,
        warning=target.warning,
        pictures=[],
        parity=[],
        masks=[],
        files=[],
        timings=[],
        provenance=[],
        steps=[],
        failure=failure,
    )


def _say_weights(weights: Mapping[str, Any]) -> str:
    match weights["kind"]:
        case "random":
            return f"random, seed {weights['seed']}"
        case "official":
            return f"official, sha256:{weights['sha256']}"
        case _:
            return f"own file, sha256:{weights['sha256']}"


def _provenance(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    contract = manifest["contract"]
    seals = sorted({str(step["sealed"]) for step in manifest["steps"].values()})
    return [
        ("model", manifest["model"]),
        ("contract", f"{contract['name']} v{contract['version']}"),
        *((name, str(value)) for name, value in manifest["parameters"].items()),
        ("license", manifest["license"]),
        ("modelkiln", manifest["modelkiln"]),
        *((f"environment {name}", str(one)) for name, one in manifest["environment"].items()),
        ("sealed", ", ".join(seals)),
    ]
