"""Checkpoints: the pinned ones, fetched into the cache, and the user's own, looked at before use.

A pinned checkpoint lies in the cache as weights/SHA256/FILE; it has that name only when its digest
was right. Nothing here opens a checkpoint: what a pickle holds is read in a stage, nowhere else.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from modelkiln.catalog.models import Checkpoint
from modelkiln.errors import EnvironmentFailure, UsageError
from modelkiln.fetch.download import Patience
from modelkiln.util.console import OnProgress

_ZIP = b"PK\x03\x04"
# The first bytes of torch.save before PyTorch 1.6: a pickle of its magic number.
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, kw_only=True)
class UserWeights:
    """A checkpoint of the user's, as far as it can be known without opening it.

    Attributes:
        path: Absolute.
        sha256: Of the whole file.
        format: `pt` is a pickle, which can run code when it is read; `safetensors` is plain data.
    """

    path: Path
    sha256: str
    format: Literal["pt", "safetensors"]


def find_cached(checkpoint: Checkpoint, cache: Path) -> Path | None:
    """Return the checkpoint's file in the cache, or None. Looks at its length only; `fetch` hashes
    it.
    """
    path = _folder(checkpoint, cache) / checkpoint.file
    import stat

    try:
        status = path.lstat()
    except OSError:
        return None
    whole = stat.S_ISREG(status.st_mode) and status.st_size == checkpoint.bytes
    return path if whole else None


def fetch(
    checkpoint: Checkpoint,
    *,
    cache: Path,
    mirrors: Sequence[str] = (),
    offline: bool = False,
    on_progress: OnProgress,
    patience: Patience | None = None,
) -> Path:
    """Have a pinned checkpoint in the cache; return its path.

    The cache is looked at first, then the mirrors in order, then the official address. Whatever
    the source, the file counts only with the catalog's SHA-256. Of two calls for one file, in
    whatever processes, one downloads; the other waits and says for whom.

    Args:
        mirrors: Each the beginning of a URL, to which the file's name is added; or a folder that
            holds the file; or the file itself, under any name.
        offline: Use only the cache and mirrors that are paths.

    Raises:
        EnvironmentFailure: No source can be reached or has the file.
        PinError: A source has another file under this name. No further source is asked.
        OutOfSpace: The disk has no room for it.
    """
    from modelkiln.util.flock import hold

    folder = _folder(checkpoint, cache)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if (path := find_cached(checkpoint, cache)) is not None:
            return path
        raise EnvironmentFailure(
            f"{folder} cannot be made.",
            f"{error.strerror}.",
            "Set MODELKILN_CACHE to a folder that can be written.",
        ) from error

    def tell(holder: object) -> None:
        on_progress(None, f"waiting for {holder}, which fetches {checkpoint.file}")

    with hold(cache / "locks" / f"weights-{checkpoint.sha256}.lock", on_wait=tell):
        if (path := _check_cached(checkpoint, folder, on_progress)) is not None:
            return path
        return _fetch(checkpoint, folder, mirrors, offline, on_progress, patience)


def host_reachable(url: str, timeout: float = 5.0) -> bool:
    """Return whether a server offers a file at a URL; a web page in its place counts as no."""
    from modelkiln.fetch.http import is_reachable

    return is_reachable(url, timeout)


def identify(
    path: Path,
    *,
    trust: bool,
    pinned: Collection[str] = (),
    digest: Callable[[Path], str] | None = None,
) -> UserWeights:
    """Look at a checkpoint of the user's without opening it.

    Args:
        trust: The user said that reading this file may run the code in it.
        pinned: SHA-256 digests that need no trust: those of the catalog.
        digest: What hashes a file, for callers that remember digests.

    Raises:
        UsageError: There is no such file, or it is cut short, or it is not a checkpoint, or it is a
            pickle without `trust`.
    """
    from modelkiln.util.hashing import sha256_file

    path = path.expanduser().absolute()
    format_ = _sniff(path)
    sha256 = (digest or sha256_file)(path)
    if format_ == "pt" and not trust and sha256 not in pinned:
        raise UsageError(
            f"{path} is a pickle, and --trust was not given.",
            "Reading a pickle can run any code that its maker put into it.",
            "Where you trust its maker, add --trust; or build with --runner docker, which contains "
            "what it runs; or convert it to safetensors, which is data alone.",
        )
    return UserWeights(path=path, sha256=sha256, format=format_)


def _folder(checkpoint: Checkpoint, cache: Path) -> Path:
    return cache / "weights" / checkpoint.sha256


def _check_cached(checkpoint: Checkpoint, folder: Path, on_progress: OnProgress) -> Path | None:
    """Return the cached file where its digest is right; one with another is put aside, and said."""
    from modelkiln.util.hashing import sha256_file

    path = folder / checkpoint.file
    try:
        if path.is_file() and not path.is_symlink() and sha256_file(path) == checkpoint.sha256:
            return path
    except OSError as error:
        raise EnvironmentFailure(
            f"{path} cannot be read.", f"{error.strerror}.", "Check its owner and mode."
        ) from error
    if path.is_symlink() or path.exists():
        path.rename(path.with_name(f"{path.name}.damaged"))
        on_progress(None, f"{path} was damaged; put aside, and fetched anew")
    return None


def _fetch(
    checkpoint: Checkpoint,
    folder: Path,
    mirrors: Sequence[str],
    offline: bool,
    on_progress: OnProgress,
    patience: Patience | None,
) -> Path:
    from modelkiln.fetch.download import copy, download, missing_bytes
    from modelkiln.fetch.http import Unavailable
    from modelkiln.util.machine import require_disk

    refusals: list[str] = []
    require_disk(folder, missing_bytes(checkpoint, folder), checkpoint.file)
    for source in [*(_named(mirror, checkpoint) for mirror in mirrors), checkpoint.url]:
        if isinstance(source, Path):
            if source.is_file():
                return copy(source, checkpoint, folder, on_progress=on_progress)
            refusals.append(f"{source} is not there")
        elif offline:
            refusals.append(f"{source} was not asked: --offline")
        else:
            try:
                return download(
                    source, checkpoint, folder, on_progress=on_progress, patience=patience
                )
            except Unavailable as error:
                refusals.append(f"{error.what} {error.why}")
                on_progress(None, error.what)
    raise EnvironmentFailure(
        f"{checkpoint.file} is unavailable.",
        "\n".join(refusals),
        "Check the network; or fetch the file elsewhere and set MODELKILN_MIRROR to its folder; "
        "or try the pipeline with --weights random.",
    )


def _named(mirror: str, checkpoint: Checkpoint) -> Path | str:
    if mirror.startswith(("https://", "http://")):
        return f"{mirror.rstrip('/')}/{checkpoint.file}"
    if "://" in mirror:
        raise UsageError(
            f"{mirror!r} is not a mirror.",
            "A mirror is an https or http address, a folder, or a file.",
            "Correct MODELKILN_MIRROR or --mirror.",
        )
    path = Path(mirror).expanduser().absolute()
    return path / checkpoint.file if path.is_dir() else path


def _sniff(path: Path) -> Literal["pt", "safetensors"]:
    from modelkiln.fetch.download import looks_like_html

    if not path.exists():
        raise UsageError(
            f"There is no file {path}.",
            "--weights takes official, random, random:SEED or the path of a checkpoint.",
            "Correct the path.",
        )
    if not path.is_file():
        raise UsageError(f"{path} is not a file.", "--weights wants one.", "Name the checkpoint.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read.", f"{error.strerror}.", "Check its owner and mode."
        ) from error
    if not head:
        raise _unusable(path, "It is empty.", "Fetch it again.")
    if head.startswith(_POINTER):
        raise _unusable(path, "It is a Git LFS pointer, not the file itself.", "git lfs pull")
    if looks_like_html(head):
        raise _unusable(
            path,
            "It is a web page, saved in place of the file.",
            "Fetch it again, from the address that the download button leads to.",
        )
    if head.startswith(_ZIP):
        _check_zip(path, size)
        return "pt"
    if head.startswith(_LEGACY):
        return "pt"
    if head[257:262] == b"ustar":
        raise _unusable(
            path,
            "It is a tar file, the form of PyTorch before 0.2, whose reading cannot be made safe.",
            "Load and save it once with a PyTorch of 2020 or later, then name the new file.",
        )
    if len(head) >= 9 and head[8:9] == b"{":
        from modelkiln.fetch.safetensors import check_header

        if why := check_header(path, size):
            raise _unusable(path, why, "Fetch it again, or write it again.")
        return "safetensors"
    raise _unusable(
        path,
        f"It begins with {head[:8]!r}, which is neither a PyTorch nor a safetensors file.",
        "Name a .pt, .pth or .safetensors file.",
    )


def _check_zip(path: Path, size: int) -> None:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise _unusable(
            path, f"It was cut short, or damaged on its way ({error}).", "Fetch it again."
        ) from error
    names = [entry.filename for entry in entries]
    if any(name.partition("/")[2].startswith("code/") for name in names):
        raise _unusable(
            path,
            "It is a TorchScript program, not a checkpoint.",
            "Name the checkpoint that it was made from.",
        )
    if not any(name.partition("/")[2] == "data.pkl" for name in names):
        raise _unusable(
            path,
            "It is a zip file without the data.pkl that torch.save writes.",
            "Name a file that torch.save wrote; unpack it first if it is an archive of files.",
        )
    if any(name.startswith("/") or ".." in name.split("/") for name in names):
        raise _unusable(path, "It names files outside of itself.", "Do not use it.")
    if sum(entry.file_size for entry in entries) > size:
        raise _unusable(
            path,
            "It would unpack to more than its own size, which torch.save never writes.",
            "Do not use it.",
        )


def _unusable(path: Path, why: str, next_step: str) -> UsageError:
    return UsageError(f"{path} cannot be used as weights.", why, next_step)
