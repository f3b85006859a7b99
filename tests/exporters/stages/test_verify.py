"""What a verification writes, and what it does with a family's checks."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import save_file

from exporters.checks.parity import Check, compare_scores, compare_tensors
from exporters.checks.reference import Reference, Run
from exporters.protocol import NOT_VERIFIED, StageError, Step, write_json
from exporters.stages.verify import run
from tests.exporters.graphs.models import CONTRACT, GOLDEN, make_model

X = np.array([[1, -2, 3, 4]], np.float32)
SMALL: dict[str, Any] = {
    **CONTRACT,
    "name": "small",
    "version": 3,
    "graphs": [{**GOLDEN, "file": "encoder.onnx"}],
}


def _check(run: Run, contract: Mapping[str, Any], reference: Reference) -> Iterator[Check]:
    """The part of a family: one output and its scores."""
    assert contract is SMALL
    found = run("encoder", {"x": reference["x"]})["y"]
    given = {"graph": "encoder", "case": "a", "tensor": "y", "bound": 1e-5}
    yield compare_tensors(reference["y"], found, **given)
    if reference.document["scores"]:
        yield compare_scores(reference["y"][0], found[0], case="a", bound=1e-5)


def _step(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, off: float = 0.0, scores: bool = False
) -> Step:
    monkeypatch.setattr(Step, "provider", lambda _: SimpleNamespace(check=_check))
    onnx.save_model(make_model(), folder / "encoder.onnx")
    expected = np.maximum(X, 0).reshape(1, 2, 2) + np.float32(off)
    save_file({"x": X, "y": expected}, folder / "tensors.safetensors")
    write_json(folder / "cases.json", {"scores": scores})
    (folder / "out").mkdir()
    return Step(
        step="small/verify",
        stage="verify",
        modules=("exporters.stages.verify",),
        params={"contract": SMALL, "opset": 18},
        inputs={path.name: path for path in folder.iterdir() if path.is_file()},
        out=folder / "out",
        threads=1,
        seed=0,
    )


def test_every_figure_is_written_and_no_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(_step(tmp_path, monkeypatch))
    document = json.loads((tmp_path / "out/verification.json").read_text())
    assert document["contract"] == {"name": "small", "version": 3}
    assert document["graphs"]["encoder"]["ops"] == {"Relu": 1, "Reshape": 1}
    (row,) = document["tensors"]
    assert (row["tensor"], row["relative"], row["ok"]) == ("y", 0, True)
    assert document["summary"]["worst"]["encoder/y"] == row
    assert not {"scores", "loop", "timings"} & set(document)
    assert result.outputs == ["verification.json"]
    assert result.metrics["timings"]["encoder"]["runs"] == 1


def test_scores_are_there_where_a_family_compares_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = run(_step(tmp_path, monkeypatch, scores=True)).metrics
    assert len(metrics["scores"]) == len(metrics["tensors"]) == 1


def test_what_fails_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StageError, match="1 of 1 comparisons") as failure:
        run(_step(tmp_path, monkeypatch, off=0.1))
    assert failure.value.exit_code == NOT_VERIFIED
    (row,) = json.loads((tmp_path / "out/verification.json").read_text())["tensors"]
    assert not row["ok"]
