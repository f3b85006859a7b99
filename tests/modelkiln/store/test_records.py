"""Records: what is written reads back; nothing else is read."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkiln.store.records import BadRecord, Blob, Record, check_name, dump_record, parse_record
from modelkiln.util.hashing import sha256_bytes

KEY = "ab" * 32
BLOB = Blob(sha256="cd" * 32, bytes=7)
RECORD = Record(
    key=KEY,
    step="sam2.1_hiera_tiny/export",
    document={"stage": "export", "params": {"opset": 18}},
    outputs={"encoder.onnx": BLOB, "deep/er.onnx": BLOB},
    metrics={"seconds": 1.5},
    provenance={"runner": "local"},
)


def spell(fields: dict[str, Any]) -> bytes:
    """A record's file with a right digest, whatever its fields."""
    body = json.dumps(fields).encode()[1:]
    return b'{"sha256":"' + sha256_bytes(body).encode() + b'",\n' + body


def fields() -> dict[str, Any]:
    content = json.loads(dump_record(RECORD))
    del content["sha256"]
    return dict(content)


def test_it_reads_back() -> None:
    data = dump_record(RECORD)
    assert parse_record(KEY, data) == RECORD
    assert json.loads(data)["outputs"]["encoder.onnx"]["bytes"] == 7
    assert parse_record(KEY, spell(fields())) == RECORD


def test_its_bytes_do_not_depend_on_order() -> None:
    turned = dict(reversed(list(RECORD.outputs.items())))
    other = Record(
        key=KEY,
        step=RECORD.step,
        document=dict(reversed(list(RECORD.document.items()))),
        outputs=turned,
        metrics=RECORD.metrics,
        provenance=RECORD.provenance,
    )
    assert dump_record(other) == dump_record(RECORD)


def test_every_changed_byte_is_noticed() -> None:
    data = dump_record(RECORD)
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(BadRecord):
            parse_record(KEY, bytes(changed))


def test_every_truncation_is_noticed() -> None:
    data = dump_record(RECORD)
    for size in range(len(data)):
        with pytest.raises(BadRecord):
            parse_record(KEY, data[:size])
    with pytest.raises(BadRecord):
        parse_record(KEY, data + b"\n")


def put(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update({name: value})


def put_output(name: str, blob: object) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["outputs"].update({name: blob})


GOOD = {"bytes": 7, "sha256": "cd" * 32}


@pytest.mark.parametrize(
    "change",
    [
        put("version", 2),
        put("version", "1"),
        put("version", None),
        put("extra", 1),
        lambda content: content.pop("metrics"),
        lambda content: content.pop("version"),
        put("key", "cd" * 32),
        put("step", 3),
        put("outputs", []),
        put("metrics", None),
        put("document", "x"),
        put("provenance", [1]),
        put_output("a.onnx", None),
        put_output("a.onnx", {"bytes": 7}),
        put_output("a.onnx", {**GOOD, "mode": 1}),
        put_output("a.onnx", {**GOOD, "sha256": "CD" * 32}),
        put_output("a.onnx", {**GOOD, "sha256": "cd" * 31}),
        put_output("a.onnx", {**GOOD, "sha256": "cd" * 31 + "c\n"}),
        put_output("a.onnx", {**GOOD, "sha256": "../" + "c" * 61}),
        put_output("a.onnx", {**GOOD, "sha256": 5}),
        put_output("a.onnx", {**GOOD, "bytes": -1}),
        put_output("a.onnx", {**GOOD, "bytes": 7.0}),
        put_output("a.onnx", {**GOOD, "bytes": True}),
        put_output("a.onnx", {**GOOD, "bytes": "7"}),
        put_output("../a.onnx", GOOD),
        put_output("a/../../b", GOOD),
        put_output("/etc/passwd", GOOD),
        put_output("a//b", GOOD),
        put_output("a/", GOOD),
        put_output(".", GOOD),
        put_output("", GOOD),
        put_output("a\0b", GOOD),
        put_output("a\\..\\b", GOOD),
    ],
)
def test_a_record_that_is_not_ours_is_refused(
    change: Callable[[dict[str, Any]], object],
) -> None:
    content = fields()
    change(content)
    with pytest.raises(BadRecord):
        parse_record(KEY, spell(content))


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]}", b"nonsense\n", b'"version":1}', b"}", b"\xff\xfe}"]
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    data = b'{"sha256":"' + sha256_bytes(body).encode() + b'",\n' + body
    with pytest.raises(BadRecord):
        parse_record(KEY, data)


def test_deep_nesting_is_refused_not_a_crash() -> None:
    body = b'"version":1,"key":' + b"[" * 100000 + b"]" * 100000 + b"}"
    with pytest.raises(BadRecord):
        parse_record(KEY, b'{"sha256":"' + sha256_bytes(body).encode() + b'",\n' + body)


@given(st.text())
def test_a_name_that_passes_stays_in_its_folder(name: str) -> None:
    import posixpath

    try:
        check_name(name)
    except ValueError:
        return
    assert posixpath.normpath(posixpath.join("/out", name)) == f"/out/{name}"
    assert name


@pytest.mark.parametrize("name", ["a", "a.onnx", "..a", "a..", "deep/er/a.b", "\u00e9 x.png"])
def test_plain_names_pass(name: str) -> None:
    assert check_name(name) == name


def test_a_record_cannot_be_made_with_a_bad_name_or_key() -> None:
    with pytest.raises(ValueError, match="climb"):
        Record(key=KEY, step="s", document={}, outputs={"../x": BLOB}, metrics={}, provenance={})
    with pytest.raises(ValueError, match="SHA-256"):
        Record(key="x", step="s", document={}, outputs={}, metrics={}, provenance={})
    with pytest.raises(ValueError, match="length"):
        Blob(sha256=KEY, bytes=-1)
