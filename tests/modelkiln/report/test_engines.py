"""What is said of engines: built, and nowhere verified."""

from typing import Any

from modelkiln.report.engines import (
    read_engines,
    say_built,
    say_gpus,
    say_source,
    say_types,
    tabulate_engines,
)
from tests.modelkiln.engine_case import BUILT, SIZES, SUMMARY


def test_engines_become_rows() -> None:
    engines = read_engines(BUILT, SIZES)
    assert (engines["title"], engines["version"]) == ("TensorRT for RTX", "1.7.1.116")
    assert engines["source"] == "tiny/tracker/onnx-fp16"
    assert engines["ran_on"] is None
    encoder, decoder = engines["rows"]
    assert encoder == {
        "graph": "encoder",
        "file": "encoder.engine",
        "bytes": 67_800_000,
        "onnx": "ab" * 32,
        "activation_memory": 753_000_000,
        "weights_memory": 54_000_000,
        "layers": 100,
        "types": "float16 7, float32 1",
        "shapes": "",
        "same_bytes": True,
    }
    assert decoder["shapes"] == "points 1x2 to 8x2, best 2x2"


def test_engines_of_several_targets_are_a_table() -> None:
    engines = read_engines(BUILT, SIZES)
    titles, rows = tabulate_engines(
        {"tiny/tracker/rtx-fp16": engines, "b": {**engines, "rows": []}}
    )
    assert [dict(zip(titles, row, strict=True)) for row in rows] == [
        {
            "target": "tiny/tracker/rtx-fp16",
            "engine": "encoder.engine",
            "size": "67.8 MB",
            "activations": "753.0 MB",
            "weights": "54.0 MB",
            "layers": "100",
            "GPUs": "sm86+sm120",
            "shapes": "fixed",
            "same bytes": "promised",
        },
        {
            "target": "tiny/tracker/rtx-fp16",
            "engine": "decoder.engine",
            "size": "17.5 MB",
            "activations": "1.0 MB",
            "weights": "2.0 MB",
            "layers": "10",
            "GPUs": "sm86+sm120",
            "shapes": "range",
            "same bytes": "not promised",
        },
    ]


def test_gpus_in_words() -> None:
    assert say_gpus(["portable"]).startswith("portable: compute capability 8.0, ")
    assert say_gpus(["sm75", "sm120"]) == "compute capability 7.5, 12.0"


def test_gates_that_do_not_bind_are_no_pass() -> None:
    loose = {"summary": {"binding": False, "missed": ["mask_iou"]}}
    assert say_source(loose) == "whose gates do not bind: random weights, 1 missed"
    assert say_source({"summary": {"binding": False, "missed": []}}).endswith("random weights")
    passes: list[Any] = [{"binding": True, "missed": []}, {"worst": {}}, None, "words agree"]
    for passed in passes:
        assert say_source({"summary": passed}) == "which passed its own checks"
    built = {**BUILT, "onnx": {"target": "tiny/tracker/onnx-fp16", **loose}}
    assert read_engines(built, SIZES)["source_says"] == say_source(loose)
    assert say_source(loose) in say_built({**SUMMARY, "onnx": built["onnx"]})


def test_types_of_what_takes_the_time_alone() -> None:
    assert say_types({"CAST": {"float32": 3}}) == ""
    types = {"ATTENTION_OUTPUT": {"float16": 2}, "EINSUM": {"float16": 1, "float32": 1}}
    assert say_types(types) == "float16 3, float32 1"


def test_a_line_says_built_and_never_verified() -> None:
    line = say_built(SUMMARY)
    assert line == (
        "built, not run: no GPU has computed anything with these engines; TensorRT for RTX "
        "1.7.1.116, fp16, compute capability 8.6, 12.0; at most 753.0 MB of activations; from "
        "tiny/tracker/onnx-fp16, which passed its own checks"
    )
    assert "verified" not in line
