"""modelkiln.fetch.safetensors: the header is judged before anything uses the file."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkiln.errors import UsageError
from modelkiln.fetch.checkpoints import identify
from modelkiln.fetch.safetensors import check_header

GOOD: dict[str, Any] = {
    "__metadata__": {"format": "pt"},
    "b": {"dtype": "F16", "shape": [3], "data_offsets": [16, 22]},
    "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "empty": {"dtype": "F32", "shape": [0], "data_offsets": [22, 22]},
}


def write(path: Path, header: object, data: bytes = b"\0" * 22) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def judge(path: Path) -> str:
    return check_header(path, path.stat().st_size)


def test_good_header(tmp_path: Path) -> None:
    path = write(tmp_path / "good.safetensors", GOOD)
    assert judge(path) == ""
    assert identify(path, trust=False).format == "safetensors"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 15]}}, "cannot take 15"),
        ({"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 16]}}, "cannot take 16"),
        ({"a": {"dtype": "Q7", "shape": [4], "data_offsets": [0, 16]}}, "no known way"),
        ({"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, -16]}}, "whole number"),
        ({"a": {"dtype": "F32", "shape": [2.0, 2], "data_offsets": [0, 16]}}, "whole number"),
        ({"a": {"dtype": "F32", "shape": [4], "data_offsets": [6, 22]}}, "overlap"),
        ({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}, "overlap"),
        ({"c": {"dtype": "F16", "shape": [1], "data_offsets": [24, 26]}}, "gaps"),
        ({"c": "text"}, "no known way"),
        ({"c": {"dtype": "U8", "shape": [1], "data_offsets": [22, 23]}}, "cut short"),
    ],
)
def test_bad_tensor(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    assert why in judge(write(tmp_path / "bad.safetensors", GOOD | change))


@pytest.mark.parametrize(
    ("header", "data", "why"),
    [
        (b'{"a":1,"a":2}', b"", "twice"),
        (b"{not json", b"", "not a JSON"),
        (b"{" * 100_000, b"", "not a JSON"),
        ({}, b"", "no tensors"),
        ({"__metadata__": {}}, b"", "no tensors"),
        (GOOD, b"\0" * 21, "cut short"),
        (GOOD, b"\0" * 23, "cut short"),
    ],
)
def test_bad_file(tmp_path: Path, header: object, data: bytes, why: str) -> None:
    assert why in judge(write(tmp_path / "bad.safetensors", header, data))


def test_header_longer_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes((1000).to_bytes(8, "little") + b"{}")
    assert "cut short" in judge(path)
    with pytest.raises(UsageError, match="cut short"):
        identify(path, trust=False)


def test_enormous_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes((100 << 30).to_bytes(8, "little") + b"{}")
    assert "claims" in judge(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.binary(max_size=40) | json_values)
def test_nothing_makes_it_crash(header: object) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "any", header)
        assert judge(path) != ""


@given(json_values)
def test_no_tensor_makes_it_crash(tensor: object) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "any", {"a": tensor, "b": GOOD["b"]})
        assert judge(path) != ""
