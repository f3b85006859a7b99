"""What the store knows of a finished step: its outputs, its metrics and where they came from.

A record's file is one JSON object whose first line holds the SHA-256 of everything after it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelkiln.util.hashing import JSON, canonical_json, check_digest, sha256_bytes

VERSION = 1
_FIELDS = {"version", "key", "step", "document", "outputs", "metrics", "provenance"}
_HEAD = b'{"sha256":"'
_TAIL = b'",\n'
_BODY = len(_HEAD) + 64 + len(_TAIL)
_match_name = re.compile(r"[^\x00-\x1f\x7f\\/]{1,255}(?:/[^\x00-\x1f\x7f\\/]{1,255})*").fullmatch


class BadRecord(ValueError):
    """A record's bytes are not what this version writes; the text says where they differ."""


def check_name(name: object) -> str:
    """Return an output's name as given, if it is a plain relative path that stays in its folder.

    Raises:
        ValueError: It is absolute, climbs out, or holds a part or character with a meaning.
    """
    if not isinstance(name, str) or _match_name(name) is None or len(name) > 1024:
        message = f"not an output's name: {str(name)[:80]!r}"
        raise ValueError(message)
    if "." in name and any(part in {".", ".."} for part in name.split("/")):
        message = f"an output's name may not climb: {name[:80]!r}"
        raise ValueError(message)
    return name


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A file in the store: the SHA-256 of its content and its length in bytes."""

    sha256: str
    bytes: int

    def __post_init__(self) -> None:
        check_digest(self.sha256)
        if type(self.bytes) is not int or self.bytes < 0:
            message = f"not a length in bytes: {self.bytes!r}"
            raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished step.

    Attributes:
        key: SHA-256 that names everything the step could see.
        step: The step's readable id.
        document: What was hashed into the key.
        outputs: Name of each output, relative and with '/' between parts, and its file.
        metrics: What the stage measured.
        provenance: How it was run; never part of a key.
    """

    key: str
    step: str
    document: Mapping[str, JSON]
    outputs: Mapping[str, Blob]
    metrics: Mapping[str, JSON]
    provenance: Mapping[str, JSON]

    def __post_init__(self) -> None:
        check_digest(self.key)
        for name in self.outputs:
            check_name(name)


def dump_record(record: Record) -> bytes:
    """Return a record's file.

    Raises:
        TypeError, ValueError: The document, the metrics or the provenance are not JSON.
    """
    outputs: dict[str, JSON] = {
        name: {"bytes": blob.bytes, "sha256": blob.sha256} for name, blob in record.outputs.items()
    }
    whole: dict[str, JSON] = {
        "version": VERSION,
        "key": record.key,
        "step": record.step,
        "document": record.document,
        "outputs": outputs,
        "metrics": record.metrics,
        "provenance": record.provenance,
    }
    body = canonical_json(whole)[1:] + b"\n"
    return _HEAD + sha256_bytes(body).encode("ascii") + _TAIL + body


def parse_record(key: str, data: bytes) -> Record:
    """Return the record of `key` from its file.

    Raises:
        BadRecord: A byte changed, the version is unknown, a field is missing, extra or of the
            wrong kind, a digest or an output's name is malformed, or the key is another one.
    """
    body = data[_BODY:]
    given = data[len(_HEAD) : _BODY - len(_TAIL)]
    if data[: len(_HEAD)] != _HEAD or data[_BODY - len(_TAIL) : _BODY] != _TAIL:
        raise BadRecord("it does not begin with its digest")
    if sha256_bytes(body).encode("ascii") != given:
        raise BadRecord("its bytes do not match its digest")
    try:
        fields = json.loads(b"{" + body)
    except (ValueError, RecursionError) as error:
        raise BadRecord("it is not JSON") from error
    try:
        return _read_fields(key, fields)
    except (ValueError, TypeError) as error:
        raise BadRecord(str(error)) from error


def _read_fields(key: str, fields: dict[str, Any]) -> Record:
    if fields.get("version") != VERSION:
        raise ValueError(f"its version is {fields.get('version')!r}, not {VERSION}")
    if fields.keys() != _FIELDS:
        differing = ", ".join(sorted(fields.keys() ^ _FIELDS))
        raise ValueError(f"fields missing or unknown: {differing[:200]}")
    if fields["key"] != key:
        raise ValueError("it is the record of another key")
    step, outputs = fields["step"], fields["outputs"]
    if not isinstance(step, str):
        raise ValueError("its step is not a string")
    for name in ("document", "outputs", "metrics", "provenance"):
        if not isinstance(fields[name], dict):
            raise ValueError(f"its {name} is not an object")
    blobs = {}
    for name, blob in outputs.items():
        if not isinstance(blob, dict) or blob.keys() != {"bytes", "sha256"}:
            raise ValueError(f"the output {name[:80]!r} is not a digest and a length")
        blobs[name] = Blob(sha256=blob["sha256"], bytes=blob["bytes"])
    return Record(
        key=key,
        step=step,
        document=fields["document"],
        outputs=blobs,
        metrics=fields["metrics"],
        provenance=fields["provenance"],
    )
