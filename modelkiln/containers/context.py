"""The context of an image's build, as a tar that is streamed: the same bytes for every builder.

Streaming spares the disk a second copy of the packages, which are gigabytes.
"""

import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from modelkiln.containers.wheelhouse import list_packages
from modelkiln.environments.environment import Environment
from modelkiln.environments.install import read_settings
from modelkiln.environments.lockfile import read_lock
from modelkiln.errors import EnvironmentFailure
from modelkiln.util.hashing import CHUNK

# What every file is dated, here and in the images.
EPOCH = 1704067200
_MODE = 0o644


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a builder gets.

    Attributes:
        files: Content, or where it lies, by name in the tar.
    """

    files: Mapping[str, bytes | Path]

    def blocks(self) -> Iterator[bytes]:
        """Yield the tar, piece by piece.

        Raises:
            EnvironmentFailure: A file cannot be read, or changed in size meanwhile. (An OSError
                would be taken for one of the connection that they are sent through.)
        """
        try:
            yield from self._blocks()
        except OSError as error:
            raise EnvironmentFailure(
                "The packages cannot be sent to the builder.",
                str(error),
                "Something changed the cache meanwhile, such as env.prune: run the command again.",
            ) from error

    def _blocks(self) -> Iterator[bytes]:
        length = 0
        folders: set[str] = set()
        for name, content in sorted(self.files.items()):
            folder = name.rpartition("/")[0]
            if folder and folder not in folders:
                folders.add(folder)
                header = _header(folder, 0, tarfile.DIRTYPE)
                length += len(header)
                yield header
            size = _size(content)
            header = _header(name, size, tarfile.REGTYPE)
            yield header
            yield from _read(content, size)
            padding = -size % tarfile.BLOCKSIZE
            yield bytes(padding)
            length += len(header) + size + padding
        yield bytes(2 * tarfile.BLOCKSIZE + -(length + 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE)


def make_context(environment: Environment, wheels: Path) -> Context:
    """Return the context of an environment's image: Dockerfile, lock, what is installed first,
    packages.

    Raises:
        PinError: The lock names a package without a hash.
        EnvironmentFailure: A file of the environment cannot be read.
    """
    seed = read_settings(environment.settings).seed
    first = [one.text for one in read_lock(environment.lock) if one.name in seed]
    files: dict[str, bytes | Path] = {
        "Dockerfile": environment.dockerfile,
        "requirements.txt": environment.lock,
        "seed.txt": "".join(f"{text}\n" for text in first).encode(),
    }
    packages = {f"wheels/{path.name}": path for path in list_packages(wheels)}
    # A folder that is empty would not be in the tar, and could not be copied.
    return Context(files={**files, **(packages or {"wheels/none": b""})})


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _header(name: str, size: int, kind: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.mtime = size, kind, EPOCH
    entry.mode = _MODE if kind == tarfile.REGTYPE else 0o755
    return entry.tobuf(tarfile.PAX_FORMAT)


def _read(content: bytes | Path, size: int) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    read = 0
    with content.open("rb") as file:
        while block := file.read(CHUNK):
            read += len(block)
            if read > size:
                break
            yield block
    if read != size:
        raise OSError(f"{content} changed while it was sent to the builder")
