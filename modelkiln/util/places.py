"""Handing a stage's files to the user, where a command line wants them: whole or not at all.

Files are moved where that is on the same filesystem, and copied otherwise.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from modelkiln.errors import UsageError
from modelkiln.util.atomic import commit, copy_hashed, disk_errors, sync_folder, temporary

MODE = 0o644


def require_place(place: Path, flag: str, *, folder: bool) -> Path:
    """Make sure, before the work, that its result can be put somewhere; the parent is made.

    A folder that holds anything is not touched, whoever made it; a file is replaced.

    Returns:
        The place without links and dots, which a change of the current folder does not move.

    Raises:
        UsageError: It cannot.
    """
    try:
        real = place.resolve()
        stands = real.exists()
        if stands and real.is_dir() is not folder:
            raise UsageError(
                f"{flag} {place} cannot be written.",
                "A file has this name." if folder else "A folder has this name.",
                f"Name another {'folder' if folder else 'file'}.",
            )
        # A folder that is there is filled; anything else is put beside its neighbours.
        room = real if stands and folder else real.parent
        room.mkdir(parents=True, exist_ok=True)
        if not os.access(room, os.R_OK | os.W_OK | os.X_OK):
            raise UsageError(
                f"{flag} {place} cannot be written.",
                f"Nothing may be put into {room}.",
                "Name another place, or make that one writable.",
            )
        if room == real and any(real.iterdir()):
            raise UsageError(
                f"{flag} {place} is a folder that is not empty.",
                "What is in it would be lost.",
                "Remove it first, or name another folder.",
            )
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            f"{flag} {place} cannot be written.",
            f"A file stands where its folder should be: {error.filename}.",
            "Name another place.",
        ) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        raise UsageError(
            f"{flag} {place} cannot be written.", f"{error}.", "Name another place."
        ) from error
    return real


def deliver_file(made: Path, place: Path) -> None:
    """Move or copy a file to its place, over what may be there.

    Args:
        place: As `require_place` returned it.

    Raises:
        OutOfSpace, StoreError: It cannot be written.
    """
    with (
        disk_errors(f"writing {place.name}", place.parent, made.stat().st_size),
        made.open("rb") as source,
    ):
        os.fsync(source.fileno())
        if _move(made, place):
            sync_folder(place.parent)
            return
        with temporary(place.parent) as (target, temp):
            copy_hashed(source.fileno(), target)
            commit(target, temp, place, MODE)


def deliver_files(made: Mapping[Path, Path]) -> None:
    """Move or copy files to their places, over what may be there: all of them or none.

    Args:
        made: The files by their places, which are as `require_place` returned them.

    Raises:
        OutOfSpace, StoreError: One cannot be written; what stood in the places stands there again.
    """
    mark = os.urandom(4).hex()
    new = {place: place.with_name(f".{place.name}.{mark}.part") for place in made}
    old = {place: place.with_name(f".{place.name}.{mark}.old") for place in made}
    reached: list[Path] = []
    try:
        for place, source in made.items():
            deliver_file(source, new[place])
        for place in made:
            with disk_errors(f"writing {place.name}", place.parent):
                reached.append(place)
                if place.is_file():
                    place.rename(old[place])
                new[place].rename(place)
    except BaseException:
        for place in reached:
            if old[place].exists():
                old[place].replace(place)
            elif not new[place].exists():
                place.unlink()
        for part in new.values():
            part.unlink(missing_ok=True)
        raise
    finally:
        for replaced in old.values():
            replaced.unlink(missing_ok=True)
    for room in {place.parent for place in made}:
        sync_folder(room)


def deliver_folder(made: Mapping[str, Path], place: Path) -> None:
    """Move or copy files into a folder, by name.

    A folder that stands already is filled, not replaced: it may be a mount point, or the folder
    that the user is in.

    Args:
        place: As `require_place` returned it; free, or an empty folder.

    Raises:
        UsageError: Something has been put there since.
        OutOfSpace, StoreError: It cannot be written.
    """
    part_name = f".{place.name}.{os.urandom(4).hex()}.part"
    with disk_errors(f"writing {place}", place.parent):
        stands = place.is_dir()
        if stands and any(place.iterdir()):
            raise UsageError(
                f"{place} is not empty any more.",
                "Something was put there while the work was done.",
                "Name another folder, and run it again.",
            )
        part = place / part_name if stands else place.with_name(part_name)
        part.mkdir()
        put: list[Path] = []
        try:
            for name, source in made.items():
                if not _move(source, part / name):
                    shutil.copyfile(source, part / name)
                    (part / name).chmod(MODE)
            if not stands:
                part.rename(place)
                return
            for name in made:
                put.append(place / name)
                (part / name).rename(put[-1])
            part.rmdir()
        except BaseException:
            for path in put:
                path.unlink(missing_ok=True)
            shutil.rmtree(part, ignore_errors=True)
            raise


def _move(source: Path, place: Path) -> bool:
    """Give a file another name, this user's own and readable; say whether that could be done.

    It cannot across filesystems, nor where a container has left the file to another user. As root
    it can: containers run as nobody then.
    """
    try:
        os.chown(source, os.geteuid(), os.getegid())
        source.chmod(MODE)
        source.rename(place)
    except OSError:
        return False
    return True
