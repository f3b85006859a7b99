"""Ways to damage a file of a store."""

import os
from pathlib import Path

from modelkiln.store.store import Blob, Record, Store
from modelkiln.util import atomic
from modelkiln.util.hashing import sha256_json

DATA = b"graph" * 1000


def only_blob(record: Record) -> Blob:
    return record.outputs["out.bin"]


def temporary_files(store: Store) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.name.startswith(atomic.TEMP_PREFIX)]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    replace(path, bytes(data))


def replace(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def truncate(path: Path) -> None:
    replace(path, DATA[:-1])


def extend(path: Path) -> None:
    replace(path, DATA + b"x")


def empty(path: Path) -> None:
    replace(path, b"")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inner").write_text("x")


def link_outside(path: Path) -> None:
    outside = path.parents[3] / "outside"
    outside.write_bytes(DATA)
    path.unlink()
    path.symlink_to(outside)


def link_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere")


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = [flip, truncate, extend, empty, make_folder, link_outside, link_nowhere, make_pipe]


def build(store: Store, step: str = "s", data: bytes = DATA) -> Record:
    document = {"step": step}
    return store.publish(
        Record(
            key=sha256_json(document),
            step=step,
            document=document,
            outputs={"out.bin": store.put_bytes(data)},
            metrics={},
            provenance={},
        )
    )


class Warned(list[str]):
    """The warnings of a store."""
