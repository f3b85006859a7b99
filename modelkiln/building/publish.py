"""out/TARGET/: the readable tree. Copies of the store's files, a manifest, and an example to run.

Only what passed verification comes here. A copy that was edited is noticed and put back.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelkiln import __version__
from modelkiln.building.kiln import Kiln
from modelkiln.catalog.target import FileWeights, OfficialWeights, RandomWeights, Target
from modelkiln.planning.graph import Plan, TargetPlan
from modelkiln.planning.keys import Resolved
from modelkiln.report.quality import say_quality
from modelkiln.store.records import Blob, Record
from modelkiln.util.atomic import write_file
from modelkiln.util.hashing import sha256_bytes

MANIFEST = "manifest.json"
EXAMPLE = "example.py"
REPORT = "verification.json"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A target's folder, and which of its files had to be written or put back."""

    target: Target
    folder: Path
    files: Mapping[str, Blob]
    written: tuple[str, ...]
    restored: tuple[str, ...]


def target_folder(kiln: Kiln, target: Target) -> Path:
    """Where a target is published."""
    return kiln.artifacts / "out" / target.name


def publish(kiln: Kiln, plan: Plan, one: TargetPlan, records: Mapping[str, Record]) -> Published:
    """Bring a verified target's folder up to date.

    Raises:
        StoreError: a file of the store is damaged, or the folder cannot be written.
        OutOfSpace: the disk is full.
    """
    target = one.target
    folder = target_folder(kiln, target)
    files = dict(records[one.graphs].outputs)
    files[REPORT] = records[one.verify].outputs[REPORT]
    texts: dict[str, bytes] = {}
    if target.contract.example:
        texts[EXAMPLE] = target.contract.example.read_bytes()
    made = {name: Blob(sha256=sha256_bytes(one), bytes=len(one)) for name, one in texts.items()}
    described = {**files, **made}
    manifest = make_manifest(plan, one, records, described)
    texts[MANIFEST] = (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
    written: list[str] = []
    restored: list[str] = []
    digests = {name: blob.sha256 for name, blob in described.items()}
    digests[MANIFEST] = sha256_bytes(texts[MANIFEST])
    previous = _read_digests(folder)
    # The manifest comes last: it vouches for the others.
    for name, sha256 in digests.items():
        path = folder / name
        if _digest(kiln, path) == sha256:
            continue
        if name in texts:
            write_file(path, texts[name], 0o444)
        else:
            kiln.store.materialize(files[name], path)
        written.append(name)
        if previous.get(name) == sha256:
            restored.append(name)
    return Published(
        target=target,
        folder=folder,
        files=described,
        written=tuple(written),
        restored=tuple(restored),
    )


def make_manifest(
    plan: Plan,
    one: TargetPlan,
    records: Mapping[str, Record],
    files: Mapping[str, Blob],
) -> dict[str, Any]:
    """What a target is made of: files, weights, steps with their keys, environment, figures.

    It holds no clock, host or path, so two builds of one key have the same manifest.
    """
    target = one.target
    more: dict[str, Any] = {}
    if target.format.parameters:
        more["format_parameters"] = describe_format(target)
    if target.format.session:
        more["session"] = dict(target.format.session)
    steps = {name: records[name] for name in plan.needed_by(one)}
    return {
        "modelkiln": __version__,
        "target": target.name,
        "model": target.model.name,
        "contract": {"name": target.contract.name, "version": target.contract.version},
        "parameters": target.parameters,
        "format": target.format.name,
        **more,
        "license": target.model.license,
        "weights": describe_weights(target),
        "environment": records[one.graphs].document["environment"],
        "files": {n: {"sha256": b.sha256, "bytes": b.bytes} for n, b in sorted(files.items())},
        "steps": {
            name: {
                "key": record.key,
                "runner": record.provenance.get("runner"),
                "sealed": record.provenance.get("sealed"),
            }
            for name, record in steps.items()
        },
        "graphs": records[one.graphs].metrics,
        "verification": records[one.verify].metrics.get("summary"),
    }


def say_summary(summary: Any, benefit: Mapping[str, Any] | None = None) -> str:
    """What a verification found, in one line.

    Args:
        summary: The verification's.
        benefit: What it measured of a reduced precision, where that is known.
    """
    if not isinstance(summary, Mapping):
        return str(summary or "passed")
    if "quality" in summary:
        return say_quality(summary, benefit or {})
    worst = max(summary["worst"].values(), key=lambda one: one["relative"] / one["bound"])
    parts = [
        f"differs from PyTorch by {worst['relative']:.1e} of a tensor's scale at most "
        f"({worst['graph']} {worst['tensor']}; bound {worst['bound']:.0e})"
    ]
    if summary["masks"]:
        parts.append(
            f"{summary['masks_counted']} of {summary['masks']} masks counted, "
            f"lowest IoU {summary['lowest_iou']:.5f}"
        )
    if loop := summary.get("loop"):
        parts.append(
            f"{loop['objects']} objects followed through {loop['frames']} frames, "
            f"{loop['counted']} of {loop['steps']} masks counted, lowest IoU "
            f"{'none' if loop['lowest_iou'] is None else format(loop['lowest_iou'], '.5f')}, "
            f"lowest cosine of a pointer {loop['lowest_pointer_cosine']:.6f}"
        )
    return "; ".join(parts)


def describe_weights(target: Target) -> dict[str, Any]:
    """Where a target's weights come from."""
    match target.weights:
        case OfficialWeights():
            pin = target.model.checkpoint
            return {"kind": "official", "url": pin.url, "sha256": pin.sha256, "bytes": pin.bytes}
        case RandomWeights(seed=seed):
            return {
                "kind": "random",
                "seed": seed,
                "warning": target.warning,
            }
        case FileWeights(sha256=sha256, bytes=size, format=form):
            return {"kind": "file", "sha256": sha256, "bytes": size, "format": form}


def describe_format(target: Target) -> dict[str, Any]:
    """The format's parameters that enter a key; pictures of the user's own by their digest."""
    values: dict[str, Any] = {
        name: value
        for name, value in target.format_parameters.items()
        if target.format.parameters[name].stages and value != ""
    }
    if target.pictures is not None:
        values["image_dir"] = f"sha256:{target.pictures.digest}"
    return values


def find_resolved(resolved: Mapping[str, Resolved]) -> dict[str, Record]:
    """The records of the steps that are done."""
    return {name: one.record for name, one in resolved.items() if one.record is not None}


def _digest(kiln: Kiln, path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        return ""
    return kiln.stat_cache.digest(path)


def _read_digests(folder: Path) -> dict[str, str]:
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return {name: one["sha256"] for name, one in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
