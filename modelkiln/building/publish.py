"""out/TARGET/: the readable tree. Copies of the store's files, a manifest, and an example to run.

Only what passed its checks comes here. A copy that was edited is noticed and put back.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelkiln.building.kiln import Kiln
from modelkiln.building.manifest import EXAMPLE, MANIFEST, make_manifest, target_folder
from modelkiln.catalog.target import Target
from modelkiln.planning.graph import Plan, TargetPlan, TargetStatus
from modelkiln.store.records import Blob, Record
from modelkiln.util.atomic import write_file
from modelkiln.util.hashing import sha256_bytes


@dataclass(frozen=True, kw_only=True)
class Published:
    """A target's folder, and which of its files had to be written or put back.

    Attributes:
        status: What may be said of it: built, or verified.
        checked: The figures of its last check.
    """

    target: Target
    folder: Path
    files: Mapping[str, Blob]
    status: TargetStatus
    checked: Mapping[str, Any]
    written: tuple[str, ...]
    restored: tuple[str, ...]


def publish(kiln: Kiln, plan: Plan, one: TargetPlan, records: Mapping[str, Record]) -> Published:
    """Bring the folder of a target that passed its checks up to date.

    Raises:
        StoreError: a file of the store is damaged, or the folder cannot be written.
        OutOfSpace: the disk is full.
    """
    target = one.target
    folder = target_folder(kiln, target)
    files = {**records[one.graphs].outputs, **records[one.verify].outputs}
    texts: dict[str, bytes] = {}
    # It runs the contract's own files.
    if target.contract.example and not target.format.files:
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
        status=one.status,
        checked=records[one.verify].metrics,
        written=tuple(written),
        restored=tuple(restored),
    )


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
