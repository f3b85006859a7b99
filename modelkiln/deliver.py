"""Handing a stage's files to the user, where a command line wants them: whole or not at all."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from modelkiln.atomic import commit, copy_hashed, disk_errors, temporary
from modelkiln.errors import UsageError


def require_place(place: Path, flag: str, *, folder: bool) -> None:
    """Make sure, before the work, that its result can be put somewhere; the parent is made.

    A folder that holds anything is not touched, whoever made it; a file is replaced.

    Raises:
        UsageError: It cannot.
    """
    if folder and place.is_dir() and any(place.iterdir()):
        raise UsageError(
            f"{flag} {place} is a folder that is not empty.",
            "What is in it would be lost.",
            "Remove it first, or name another folder.",
        )
    stands = place.is_symlink() or place.exists()
    if stands and place.is_dir() is not folder:
        raise UsageError(
            f"{flag} {place} cannot be written.",
            "A file has this name." if folder else "A folder has this name.",
            f"Name another {'folder' if folder else 'file'}.",
        )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            f"{flag} {place} cannot be written.",
            f"A file stands where its folder should be: {error.filename}.",
            "Name another place.",
        ) from error
    if not os.access(place.parent, os.W_OK | os.X_OK):
        raise UsageError(
            f"{flag} {place} cannot be written.",
            f"Nothing may be put into {place.parent}.",
            "Name another place, or make that one writable.",
        )


def deliver_file(made: Path, place: Path) -> None:
    """Put a copy of a file in its place, over what may be there.

    Raises:
        OutOfSpace, StoreError: It cannot be written.
    """
    with (
        disk_errors(f"writing {place.name}", place.parent, made.stat().st_size),
        temporary(place.parent) as (target, temp),
        made.open("rb") as source,
    ):
        copy_hashed(source.fileno(), target)
        commit(target, temp, place, 0o644)


def deliver_folder(made: Mapping[str, Path], place: Path) -> None:
    """Make a folder of copies of these files, by name; the place is free, or an empty folder.

    Raises:
        OutOfSpace, StoreError: It cannot be written.
    """
    part = place.with_name(f".{place.name}.{os.urandom(4).hex()}.part")
    with disk_errors(f"writing {place}", place.parent):
        part.mkdir()
        try:
            for name, source in made.items():
                shutil.copyfile(source, part / name)
            part.rename(place)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
