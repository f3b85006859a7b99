"""The manifest of a published target: what it says, and where it lies."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelkiln import __version__
from modelkiln.building.kiln import Kiln
from modelkiln.building.tensorrt import describe_tensorrt
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import FileWeights, OfficialWeights, RandomWeights
from modelkiln.errors import UsageError, VerificationFailure
from modelkiln.planning.graph import Plan, TargetPlan, TargetStatus
from modelkiln.store.records import Blob, Record
from modelkiln.util.hashing import sha256_file

MANIFEST = "manifest.json"
EXAMPLE = "example.py"
REPORT = "verification.json"
BUILT = "built.json"


# What everything that reads one relies on.
NEEDED = ("contract", "environment", "files", "graphs", "parameters", "steps", "weights")
# Where a manifest has the summary of the last check. What was only built has no verification,
# whoever looks for one.
CHECKED = {TargetStatus.VERIFIED: "verification", TargetStatus.BUILT: "built"}


def target_folder(kiln: Kiln, target: Target) -> Path:
    """Return where a target is published."""
    return kiln.artifacts / "out" / target.name


def make_manifest(
    plan: Plan,
    one: TargetPlan,
    records: Mapping[str, Record],
    files: Mapping[str, Blob],
) -> dict[str, Any]:
    """Return what a target is made of: files, weights, steps with their keys, environment, figures.

    It holds no clock, host or path, so two builds of one key have the same manifest.
    """
    target = one.target
    more: dict[str, Any] = {}
    if target.format.parameters:
        more["format_parameters"] = describe_format(target)
    if target.format.session:
        more["session"] = dict(target.format.session)
    if (tensorrt := describe_tensorrt(target)) is not None:
        more["tensorrt"] = tensorrt
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
        "status": str(one.status),
        CHECKED[one.status]: records[one.verify].metrics.get("summary"),
    }


def describe_weights(target: Target) -> dict[str, Any]:
    """Return where a target's weights come from."""
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
    """Return the format's parameters that enter a key; pictures of the user's own by their
    digest.
    """
    values: dict[str, Any] = {
        name: value
        for name, value in target.format_parameters.items()
        if target.format.parameters[name].stages and value != ""
    }
    if target.pictures is not None:
        values["image_dir"] = f"sha256:{target.pictures.digest}"
    return values


def find_manifest(kiln: Kiln, target: Target) -> dict[str, Any]:
    """Return the manifest of a built target.

    Raises:
        UsageError: it has not been built.
    """
    path = target_folder(kiln, target) / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        damaged = [name for name in NEEDED if not isinstance(manifest.get(name), Mapping)]
    except FileNotFoundError:
        raise UsageError(
            f"{target.name} has not been built.",
            f"There is no {path}.",
            f"invoke build {target.name}",
        ) from None
    except (ValueError, AttributeError) as error:
        raise _damaged(path, target, str(error)) from error
    if damaged:
        raise _damaged(path, target, f"It says nothing of {', '.join(damaged)}.")
    return manifest


def _damaged(path: Path, target: Target, why: str) -> UsageError:
    return UsageError(f"{path} is damaged.", why, f"invoke build {target.name} restores it.")


def read_status(manifest: Mapping[str, Any]) -> TargetStatus:
    """Return what a manifest says of its target.

    Those of earlier versions do not say it: they were written for what was verified, and for
    nothing else.
    """
    verified = TargetStatus.VERIFIED
    # The word alone is not enough: there has to be a verification.
    said = manifest.get("status", verified) == verified and CHECKED[verified] in manifest
    return verified if said else TargetStatus.BUILT


def check_files(kiln: Kiln, target: Target, manifest: Mapping[str, Any]) -> None:
    """Compare the published files with the manifest, read in full.

    Raises:
        VerificationFailure: one differs.
    """
    folder = target_folder(kiln, target)
    changed = [
        name
        for name, pin in sorted(manifest["files"].items())
        if not (folder / name).is_file() or sha256_file(folder / name) != pin["sha256"]
    ]
    if changed:
        raise VerificationFailure(
            f"{target.name}: files differ from the manifest: {', '.join(changed)}.",
            "They were edited or damaged after they had been published.",
            f"invoke build {target.name} restores them.",
        )
