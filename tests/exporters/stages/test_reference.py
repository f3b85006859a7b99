"""What the stage reference hands to a family, and what it writes of what comes back."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

torch = pytest.importorskip("torch")

from exporters.protocol import Step  # noqa: E402
from exporters.stages import reference  # noqa: E402

PICTURES = [{"name": "a", "prompts": [1, 2]}, {"name": "b", "prompts": [3]}]


def _step(folder: Path, monkeypatch: pytest.MonkeyPatch, document: Mapping[str, Any]) -> Step:
    """A step whose family says what it was given."""
    given: dict[str, Any] = {}

    def compute(
        params: Mapping[str, Any], weights: Path, pictures: Mapping[str, Path], seed: int
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        given.update(weights=weights.name, pictures=sorted(pictures), seed=seed)
        assert not torch.is_grad_enabled()
        return {**document, "given": given}, {"x": np.ones(params["count"], np.float32)}

    monkeypatch.setattr(Step, "provider", lambda _: SimpleNamespace(compute=compute))
    monkeypatch.setattr(reference, "check_upstream", lambda _: folder / "upstream")
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    (folder / "out").mkdir()
    return Step(
        step="a/reference",
        stage="reference",
        modules=("exporters.stages.reference",),
        params={"upstream": {"package": "made_up_package"}, "count": 5},
        inputs={
            "weights.safetensors": folder / "weights.safetensors",
            "pictures/b.jpg": folder / "1",
            "pictures/a.jpg": folder / "2",
        },
        out=folder / "out",
        threads=1,
        seed=7,
    )


def test_a_family_is_given_pictures_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = reference.run(_step(tmp_path, monkeypatch, {"pictures": PICTURES}))
    written = json.loads((tmp_path / "out/cases.json").read_text())
    assert written["given"] == {
        "weights": "weights.safetensors",
        "pictures": ["a.jpg", "b.jpg"],
        "seed": 7,
    }
    path = tmp_path / "out/tensors.safetensors"
    assert load_file(path)["x"].tolist() == [1] * 5
    size = path.stat().st_size
    assert result.metrics == {"tensors": 1, "bytes": size, "pictures": 2, "cases": 3}


def test_what_a_family_counts_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = reference.run(_step(tmp_path, monkeypatch, {"counts": {"frames": 9}})).metrics
    assert metrics["frames"] == 9 and "cases" not in metrics


@pytest.mark.parametrize("inside", [True, False])
def test_upstream_from_elsewhere_is_no_reference(
    inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a patched copy, left on the path by mistake."""
    module = ModuleType("made_up_package.part")
    module.__file__ = str(tmp_path / ("upstream" if inside else "patched") / "part.py")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    step = _step(tmp_path, monkeypatch, {"counts": {}})
    if inside:
        reference.run(step)
        return
    with pytest.raises(AssertionError, match=r"made_up_package\.part was loaded from"):
        reference.run(step)
    assert not list(step.out.iterdir())
