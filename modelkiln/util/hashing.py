"""SHA-256 of files and of JSON documents."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

_match_digest = re.compile(r"[0-9a-f]{64}").fullmatch

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

CHUNK = 1 << 20
_ARRAYS = (list, tuple)


def sha256_file(path: Path | str, chunk: int = CHUNK) -> str:
    """Return the lower-case hex SHA-256 of a file's bytes, read in pieces of `chunk` bytes.

    Raises:
        OSError: The file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return sha256_descriptor(descriptor, chunk)[0]
    finally:
        os.close(descriptor)


def sha256_descriptor(descriptor: int, chunk: int = CHUNK) -> tuple[str, int]:
    """Return the SHA-256 and the length of what is left to read behind an open descriptor."""
    digest = hashlib.sha256()
    size = 0
    while block := os.read(descriptor, chunk):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size


def sha256_bytes(data: bytes) -> str:
    """Return the lower-case hex SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(document: JSON) -> bytes:
    """Return the one spelling of a JSON document: sorted keys, no spaces, ASCII only.

    A float is written as its shortest exact decimal, so 1 and 1.0 are different documents.

    Raises:
        ValueError: A float is not finite.
        TypeError: A value is not JSON, or a key is not a string.
    """
    _refuse_other_keys(document)
    text = json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return text.encode("ascii")


def sha256_json(document: JSON) -> str:
    """Return the SHA-256 of a document's canonical spelling."""
    return hashlib.sha256(canonical_json(document)).hexdigest()


def _refuse_other_keys(document: object) -> None:
    # json.dumps would write the key 1 as "1", so two documents could share one spelling.
    rest = [document]
    for value in rest:
        if isinstance(value, dict):
            # Raises TypeError for a key that is not a string, faster than asking each.
            "".join(value)
            rest.extend(value.values())
        elif isinstance(value, _ARRAYS):
            rest.extend(value)


def is_digest(text: str) -> bool:
    """Say whether a text is 64 lower-case hex digits."""
    return _match_digest(text) is not None


def check_digest(text: object) -> str:
    """Return a SHA-256 as given, if it is 64 lower-case hex digits.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(text, str) or _match_digest(text) is None:
        message = f"not a SHA-256 in lower-case hex: {str(text)[:80]!r}"
        raise ValueError(message)
    return text
