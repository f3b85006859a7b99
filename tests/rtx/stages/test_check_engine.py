"""The stage `check_engine`: an engine that is not what it should be goes nowhere, and one that is
stays `built`."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporters.protocol import StageError, Step
from tests.rtx.small_graphs import WIDTH, write_fp16, write_fp32
from tests.rtx.small_steps import run_check, run_engine


@pytest.fixture
def built(tmp_path: Path) -> Step:
    step, _ = run_engine(tmp_path / "engine", gpus=["sm89"])
    return step


def test_a_good_engine_is_built_and_no_more(built: Step, tmp_path: Path) -> None:
    document = run_check(built, tmp_path / "check")
    assert document["status"] == "built"
    assert document["ran_on"] is None
    assert document["says"].startswith("built, not run")
    assert document["onnx"]["target"] == "tiny/small/onnx-fp16"
    assert "verified" not in json.dumps(document)


def patch(at: int, form: str, value: int) -> Callable[[bytearray], bytes]:
    def change(content: bytearray) -> bytes:
        struct.pack_into(form, content, at, value)
        return bytes(content)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: bytes(content[:-1]), "bytes, and its header says"),
        (lambda content: bytes(content[:30]), "no engine of TensorRT for RTX"),
        (lambda content: b"other" + bytes(content[5:]), "no engine of TensorRT for RTX"),
        (patch(27, "<B", 115), "TensorRT for RTX 1.7.1.115, and 1.7.1.116"),
        (patch(32, "<I", 4), "is for sm86, and sm89"),
        (patch(32, "<I", 0x7E), "is portable, and sm89"),
    ],
)
def test_a_changed_engine_is_refused_with_both_sides(
    change: Callable[[bytearray], bytes], said: str, built: Step, tmp_path: Path
) -> None:
    path = built.out / "small.engine"
    path.write_bytes(change(bytearray(path.read_bytes())))
    with pytest.raises(StageError) as caught:
        run_check(built, tmp_path / "check")
    assert caught.value.exit_code == 6
    assert "small.engine" in caught.value.what
    assert said in caught.value.why
    assert not (tmp_path / "check" / "out" / "built.json").exists()


def test_an_engine_of_another_graph_is_refused(built: Step, tmp_path: Path) -> None:
    other = write_fp16(tmp_path / "small.onnx", kept=False)
    other.write_bytes(other.read_bytes() + b"\x42\x00")
    step = Step(**{**vars(built), "inputs": {**built.inputs, "small.onnx": other}})
    with pytest.raises(StageError) as caught:
        run_check(step, tmp_path / "check")
    assert caught.value.exit_code == 6
    assert caught.value.what == "The engine small.engine was not built from the graph small."
    assert "sha256" in caught.value.why


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"gpus": ["sm86"]}, "They are for sm89, and sm86 was asked for"),
        ({"tf32": True}, "TF32 is False, and True was asked for"),
        ({"verbosity": "none"}, "Their verbosity is detailed, and none was asked for"),
    ],
)
def test_engines_that_were_not_asked_for_are_refused(
    params: Any, said: str, built: Step, tmp_path: Path
) -> None:
    with pytest.raises(StageError) as caught:
        run_check(built, tmp_path / "check", **params)
    assert caught.value.exit_code == 6
    assert said in caught.value.why


def test_engines_of_another_version_s_record_are_refused(built: Step, tmp_path: Path) -> None:
    path = built.out / "engines.json"
    record = json.loads(path.read_text())
    record["tensorrt"]["version"] = "1.6.1.120"
    path.write_text(json.dumps(record))
    with pytest.raises(StageError) as caught:
        run_check(built, tmp_path / "check")
    assert "They are of version 1.6.1.120, and this environment has 1.7.1.116" in caught.value.why


def test_other_shapes_than_those_built_are_refused(built: Step, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="was not built from the graph"):
        run_check(built, tmp_path / "check", shapes={"small": {"x": [[3, WIDTH]] * 3}})


def test_another_precision_is_refused(tmp_path: Path) -> None:
    step, _ = run_engine(tmp_path / "engine", write_fp32, precision="fp32")
    with pytest.raises(StageError, match="not those that were asked for"):
        run_check(step, tmp_path / "check", precision="fp16")
