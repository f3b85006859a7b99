"""Pinned base images: what the environments' images stand on, named by digest in docker/pins.toml.

A build with nothing to do reads this too, so it imports next to nothing.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from modelkiln.errors import PinError, UsageError
from modelkiln.paths import REPOSITORY

PINS = REPOSITORY / "docker" / "pins.toml"
VARIABLE = "MODELKILN_PINS"
_FORMS = {
    "image": re.compile(r"(?:[a-zA-Z0-9.-]+(?::\d+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"),
    "tag": re.compile(r"\w[\w.-]{0,127}", re.ASCII),
    "digest": re.compile(r"sha256:[0-9a-f]{64}"),
    "interpreter": re.compile(r"[a-z]+-\d+\.\d+\.\d+-\w+", re.ASCII),
}


@dataclass(frozen=True, kw_only=True)
class BasePin:
    """An image to stand on.

    Attributes:
        name: Such as `python`; what an environment's settings ask for as `base`.
        image: Repository, with its registry where that is not Docker's own.
        tag: For people; the digest decides.
        digest: `sha256:` and 64 hex digits: of the manifest, or the id of an image made locally.
        interpreter: Its Python, as in the identity of an environment.
    """

    name: str
    image: str
    tag: str
    digest: str
    interpreter: str

    @property
    def reference(self) -> str:
        """The base as a Dockerfile names it."""
        return f"{self.image}:{self.tag}@{self.digest}"


def load_base(name: str = "python", variables: Mapping[str, str] | None = None) -> BasePin:
    """Return the base of a name, as the user's own pins or this repository's say.

    Args:
        variables: Environment variables; those of this process by default.

    Raises:
        UsageError: There is no such base, or the user's file of pins cannot be read.
        PinError: Its pin is malformed.
    """
    found: dict[str, Path] = {}
    for path in reversed(pin_files(variables)):
        entries = _read(path)
        if name in entries:
            return _parse(name, entries[name], path)
        found |= dict.fromkeys(entries, path)
    raise UsageError(
        f"There is no base {name!r}.",
        f"The bases are: {', '.join(sorted(found))}.",
        f"Name one of them in environment.toml, or add it to {PINS}.",
    )


def load_bases(variables: Mapping[str, str] | None = None) -> tuple[BasePin, ...]:
    """Load every base that `load_base` gives, by name.

    Raises:
        UsageError, PinError: As `load_base`.
    """
    names = {name for path in pin_files(variables) for name in _read(path)}
    return tuple(load_base(name, variables) for name in sorted(names))


def pin_files(variables: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Return the files of pins; later ones go before."""
    given = (os.environ if variables is None else variables).get(VARIABLE, "")
    return (PINS, Path(given).expanduser()) if given else (PINS,)


def _read(path: Path) -> Mapping[str, object]:
    try:
        with path.open("rb") as file:
            bases = tomllib.load(file)["bases"]
        if not isinstance(bases, dict):
            raise TypeError("bases is not a table")
    except (OSError, ValueError, KeyError, TypeError) as error:
        named = path == PINS
        raise UsageError(
            f"The pins in {path} cannot be read.",
            f"{type(error).__name__}: {error}.",
            "Restore the file with git." if named else f"Correct it, or unset {VARIABLE}.",
        ) from error
    return bases


def _parse(name: str, entry: object, path: Path) -> BasePin:
    given = entry if isinstance(entry, dict) else {}
    for key, form in _FORMS.items():
        value = given.get(key)
        if not isinstance(value, str) or not form.fullmatch(value):
            raise PinError(
                f"The base {name!r} is not pinned: its {key} is {value!r}.",
                f"{path} does not say it in its full form, like that of the bases beside it.",
                "Enter what `docker buildx imagetools inspect IMAGE:TAG` prints as the digest."
                if key == "digest"
                else "Correct the file.",
            )
    unknown = sorted(given.keys() - _FORMS)
    if unknown:
        raise PinError(
            f"The base {name!r} says {', '.join(unknown)}, which a pin does not know.",
            f"It is misspelt in {path}.",
            f"A pin says: {', '.join(_FORMS)}.",
        )
    return BasePin(name=name, **given)
