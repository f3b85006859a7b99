"""What the stage `reference` wrote, read when it is asked for."""

from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from exporters.checks.reference import Reference
from exporters.protocol import write_json


def _write(folder: Path) -> tuple[Path, Path]:
    write_json(folder / "cases.json", {"pictures": [{"name": "café.jpg"}]})
    made = {"a/b": np.arange(3, dtype=np.float32), "c": np.zeros(1, np.uint8)}
    save_file(made, folder / "tensors.safetensors")
    return folder / "cases.json", folder / "tensors.safetensors"


def test_cases_and_arrays_are_those_of_the_files(tmp_path: Path) -> None:
    reference = Reference(*_write(tmp_path))
    assert reference.document["pictures"][0]["name"] == "café.jpg"
    assert reference["a/b"].tolist() == [0, 1, 2]
    assert reference["c"].dtype == np.uint8
    with pytest.raises(SafetensorError, match="missing"):
        reference["missing"]


def test_all_graphs_are_compared_unless_some_need_not_be(tmp_path: Path) -> None:
    files = _write(tmp_path)
    assert Reference(*files).untouched == frozenset()
    assert Reference(*files, ["decoder"]).untouched == {"decoder"}
