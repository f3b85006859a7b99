"""Digests: known values, one spelling per document, no silent coercion."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkiln.util.hashing import JSON, canonical_json, sha256_bytes, sha256_file, sha256_json

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12
)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 20000])
def test_a_file_is_hashed_whole_whatever_the_chunk(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    path = tmp_path / "data"
    path.write_bytes(data[:size])
    assert sha256_file(path, chunk=4096) == hashlib.sha256(data[:size]).hexdigest()


def test_known_digest() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_bytes(b"") == empty


def test_canonical_spelling() -> None:
    document: JSON = {"b": [1, 2.5, None, True], "a": {"z": "\u00e9", "y": "\n"}}
    spelled = b'{"a":{"y":"\\n","z":"\\u00e9"},"b":[1,2.5,null,true]}'
    assert canonical_json(document) == spelled
    assert sha256_json(document) == hashlib.sha256(spelled).hexdigest()


@given(DOCUMENTS)
def test_it_reads_back_and_is_stable(document: object) -> None:
    spelled = canonical_json(document)  # type: ignore[arg-type]
    assert spelled.isascii()
    again = json.loads(spelled)
    assert again == document
    assert canonical_json(again) == spelled


@given(st.dictionaries(st.text(), st.integers(), min_size=2), st.randoms())
def test_the_order_of_keys_does_not_count(document: dict[str, int], random: object) -> None:
    names = list(document)
    random.shuffle(names)  # type: ignore[attr-defined]
    assert sha256_json({name: document[name] for name in names}) == sha256_json(document)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_json_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": [number]})


@pytest.mark.parametrize("document", [{1: 2}, {"a": [{None: 1}]}, [({True: 1},)]])
def test_keys_are_strings(document: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(document)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [Path("x"), {1, 2}, b"x", object()])
def test_values_are_json(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json({"a": value})  # type: ignore[dict-item]


def test_one_and_one_point_nought_differ() -> None:
    assert sha256_json({"a": 1}) != sha256_json({"a": 1.0})
    assert sha256_json([True]) != sha256_json([1])
