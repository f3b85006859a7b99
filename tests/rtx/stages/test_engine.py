"""The stage `engine`: what it writes, and what it refuses before anything is compiled."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from exporters.protocol import StageError
from exporters.tensorrt.header import read_header
from tests.rtx.small_graphs import FP8, GOLDEN, WIDTH, write_fp16, write_fp32, write_quantized
from tests.rtx.small_steps import run_engine

RANGE: Any = {"small": {"x": [[1, WIDTH], [2, WIDTH], [8, WIDTH]]}}


def test_an_engine_and_its_record_are_written(tmp_path: Path) -> None:
    step, result = run_engine(tmp_path)
    assert sorted(result.outputs) == ["engines.json", "small.engine"]
    document = json.loads((step.out / "engines.json").read_text())
    assert document["tensorrt"] == {
        "flavour": "rtx",
        "title": "TensorRT for RTX",
        "version": "1.7.1.116",
    }
    assert document["gpus"] == ["portable"]
    assert document["tf32"] is False
    one = document["graphs"]["small"]
    assert one["onnx"] == [
        {
            "file": "small.onnx",
            "sha256": hashlib.sha256(step.inputs["small.onnx"].read_bytes()).hexdigest(),
        }
    ]
    assert one["inputs"] == [{"name": "x", "dtype": "float32", "dims": [2, WIDTH]}]
    assert one["types"]["MATRIX_MULTIPLY"] == {"float16": 2}
    assert one["same_bytes"] is True
    assert result.metrics["bytes"]["small.engine"] == (step.out / "small.engine").stat().st_size


def test_neither_a_clock_nor_a_digest_of_an_engine_is_in_the_record(tmp_path: Path) -> None:
    first, _ = run_engine(tmp_path / "one", shapes=RANGE)
    second, _ = run_engine(tmp_path / "another folder", shapes=RANGE)
    records = [(step.out / "engines.json").read_bytes() for step in (first, second)]
    assert records[0] == records[1]


def test_a_range_is_in_the_record_and_promises_no_bytes(tmp_path: Path) -> None:
    step, _ = run_engine(tmp_path, shapes=RANGE)
    one = json.loads((step.out / "engines.json").read_text())["graphs"]["small"]
    assert one["same_bytes"] is False
    assert one["inputs"] == [
        {
            "name": "x",
            "dtype": "float32",
            "dims": [-1, WIDTH],
            "min": [1, WIDTH],
            "opt": [2, WIDTH],
            "max": [8, WIDTH],
        }
    ]


@pytest.mark.parametrize(
    ("precision", "make"),
    [("int8", write_quantized), ("fp8", lambda path: write_quantized(path, FP8))],
)
def test_quantized_graphs_are_told_by_their_types(
    precision: str, make: Any, tmp_path: Path
) -> None:
    _, result = run_engine(
        tmp_path,
        make,
        {"graphs": {"small": {"quantized": 1}}},
        precision=precision,
        quantized=["small"],
        gpus=["sm89", "sm120"],
    )
    assert read_header(tmp_path / "out" / "small.engine").gpus == ("sm89", "sm120")
    kind = {"int8": "int8", "fp8": "float8e4m3fn"}[precision]
    assert result.metrics["graphs"]["small"]["types"]["QUANTIZE"] == {kind: 1}


def test_fewer_quantized_layers_than_promised_are_refused(tmp_path: Path) -> None:
    promised = {"graphs": {"small": {"quantized": 2}}}
    with pytest.raises(StageError) as caught:
        run_engine(tmp_path, write_quantized, promised, precision="int8", quantized=["small"])
    assert "1 of its layers have quantized weights, and 2 are promised" in caught.value.why


def test_a_network_that_is_not_its_contract_s_is_refused(tmp_path: Path) -> None:
    other = {**GOLDEN, "inputs": [{"name": "x", "dtype": "float32", "dims": ["rows", WIDTH + 1]}]}
    with pytest.raises(StageError) as caught:
        run_engine(tmp_path, graphs=[other])
    assert caught.value.what == "The network of small is not its contract's."
    assert caught.value.why == (
        f"The input x has dims [2, {WIDTH}], and the contract's are [rows, {WIDTH + 1}]."
    )
    assert not (tmp_path / "out" / "small.engine").exists()


def test_an_fp16_network_that_is_fp32_inside_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        run_engine(tmp_path, write_fp32)
    assert caught.value.what == "The network of small is not fp16."
    assert "/first/MatMul (float32)" in caught.value.why


def test_a_product_kept_in_float32_has_to_be_in_the_record(tmp_path: Path) -> None:
    def make(path: Path) -> Path:
        return write_fp16(path, kept=True)

    with pytest.raises(StageError, match="is not fp16"):
        run_engine(tmp_path / "one", make)
    row = {"node": "y", "name": "/second/MatMul", "op": "MatMul"}
    kept = {"graphs": {"small": {"float16": {"kept": [row]}}}}
    _, result = run_engine(tmp_path / "two", make, kept)
    types = result.metrics["graphs"]["small"]["types"]["MATRIX_MULTIPLY"]
    assert types == {"float16": 1, "float32": 1}
