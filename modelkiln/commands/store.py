"""`invoke store.verify` and `invoke store.gc`."""

import json
from collections.abc import Iterator

from modelkiln.building.kiln import Kiln
from modelkiln.building.manifest import MANIFEST
from modelkiln.errors import StoreError
from modelkiln.util import console
from modelkiln.util.units import human_bytes


def verify_store(kiln: Kiln, *, repair: bool = False, as_json: bool = False) -> None:
    """Read every file of the store and compare it with its digest.

    Raises:
        StoreError: something is damaged or missing.
    """
    with console.open_board() as board:
        board.start("store")
        problems = kiln.store.verify(
            lambda done, whole: board.update(
                "store", done / whole if whole else None, human_bytes(done)
            ),
            repair=repair,
        )
        board.end("store", "read   the store")
    if as_json:
        console.say_json(
            [
                {"kind": one.kind, "path": str(one.path), "detail": one.detail, "steps": one.steps}
                for one in problems
            ]
        )
    else:
        for one in problems:
            used = f" (needed by {', '.join(one.steps)})" if one.steps else ""
            console.say(f"{one.kind}: {one.path}: {one.detail}{used}")
    if problems:
        raise StoreError(
            f"The store has {len(problems)} damaged or missing files.",
            "Something else wrote into it, or the disk fails.",
            "invoke store.verify --repair sets them aside; the next build makes them anew.",
        )
    if not as_json:
        console.say(f"{kiln.artifacts}: every file is what its digest says")


def collect_garbage(
    kiln: Kiln, *, days: int = 0, dry_run: bool = False, as_json: bool = False
) -> None:
    """Remove the results that no published target needs.

    Raises:
        StoreError: a build uses the store.
    """
    report = kiln.store.gc(lambda: set(wanted_keys(kiln)), keep_days=days, dry_run=dry_run)
    if as_json:
        console.say_json(
            {
                "dry_run": report.dry_run,
                "records": report.records,
                "files": report.files,
                "bytes_freed": report.bytes_freed,
                "bytes_kept": report.bytes_kept,
            }
        )
        return
    would = "would remove" if dry_run else "removed"
    console.say(
        f"{would} {len(report.records)} results, {report.files} files, "
        f"{human_bytes(report.bytes_freed)}; "
        f"{human_bytes(report.bytes_kept)} stay"
    )


def wanted_keys(kiln: Kiln) -> Iterator[str]:
    """Yield the keys that the manifests in out/ name."""
    for path in (kiln.artifacts / "out").rglob(MANIFEST):
        try:
            steps = json.loads(path.read_text(encoding="utf-8"))["steps"]
            yield from (step["key"] for step in steps.values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            console.warn(f"{path} cannot be read; its target is not kept.")
