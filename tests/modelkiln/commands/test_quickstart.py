"""`make quickstart`, without its network: which weights it takes, what it shows, and what it does
again."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.commands import quickstart
from modelkiln.commands.quickstart import run_quickstart
from modelkiln.fetch import checkpoints
from modelkiln.store.records import Blob

MakeKiln = Callable[..., Kiln]


class Kitchen:
    """Stands for builds and predictions: notes them, and writes what they would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.built: list[str] = []
        self.runners: list[str] = []
        self.predicted: list[str] = []
        self.seconds: dict[str, float] = {"ingest": 1.0}
        self.graph = "0" * 64

    def build(self, kiln: Kiln, targets: list[Any]) -> object:
        self.built += [one.name for one in targets]
        self.runners.append(kiln.options.runner)
        files = {"encoder.onnx": Blob(sha256=self.graph, bytes=1)}
        published = SimpleNamespace(folder=self.folder, files=files)
        return SimpleNamespace(published=[published], failed=(), seconds=self.seconds)

    def predict(self, *_: object, overlay: Path, **__: object) -> object:
        self.predicted.append(overlay.stem)
        overlay.write_text(overlay.stem)
        found = [{"score": 0.5, "coverage": 0.25}]
        return {"predictions": found, "seconds": {"run": 0.1}}

    def render(self, report: Any) -> str:
        return str([picture["title"] for picture in report["pictures"]])


@pytest.fixture
def kitchen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kitchen:
    made = Kitchen(tmp_path)
    monkeypatch.setattr(quickstart, "build", made.build)
    monkeypatch.setattr(quickstart, "predict", made.predict)
    monkeypatch.setattr(quickstart, "make_report", lambda *_, **options: options)
    monkeypatch.setattr(quickstart, "render_report", made.render)
    monkeypatch.setattr(checkpoints, "host_reachable", lambda _: False)
    return made


def test_two_prompts_are_shown_and_a_report(
    make_kiln: MakeKiln, kitchen: Kitchen, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_quickstart(make_kiln(), str(tmp_path / "out"), as_json=True)
    said = capsys.readouterr()
    folder = tmp_path / "out"
    assert json.loads(said.out) == {
        "target": "sam2.1_hiera_tiny+random0/image/onnx-fp32",
        "graphs": str(tmp_path),
        "overlays": {name: str(folder / f"{name}.png") for name in ("point", "box")},
        "report": str(folder / "report.html"),
    }
    assert (folder / "point.png").read_text() == "point"
    assert "point: predicted IoU 0.500, covers 25%" in (folder / "report.html").read_text()
    assert "the masks mean nothing" in said.err
    # It should need nothing but Python.
    assert kitchen.runners == ["local"]


def test_what_is_there_is_not_done_again(
    make_kiln: MakeKiln, kitchen: Kitchen, toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_quickstart(make_kiln())
    kitchen.seconds = {}
    run_quickstart(make_kiln())
    assert kitchen.predicted == ["point", "box"]
    assert "nothing was done again" in capsys.readouterr().err
    (toy / "quickstart" / "box.png").write_text("edited")
    run_quickstart(make_kiln())
    assert kitchen.predicted == ["point", "box"] * 2
    kitchen.graph = "1" * 64
    run_quickstart(make_kiln())
    (toy / "quickstart" / ".quickstart.json").write_text("{")
    run_quickstart(make_kiln())
    assert kitchen.predicted == ["point", "box"] * 4


def test_random_weights_stand_in_loudly(
    make_kiln: MakeKiln, kitchen: Kitchen, capsys: pytest.CaptureFixture[str]
) -> None:
    run_quickstart(make_kiln(weights="official", offline=True))
    assert "RANDOM WEIGHTS" in capsys.readouterr().err
    assert kitchen.built == ["sam2.1_hiera_tiny+random0/image/onnx-fp32"]


@pytest.mark.parametrize("how", ["mirror", "cache", "host"])
def test_official_weights_are_taken_where_they_can_be_had(
    make_kiln: MakeKiln,
    kitchen: Kitchen,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    how: str,
) -> None:
    if how == "cache":
        monkeypatch.setattr(checkpoints, "find_cached", lambda *_: tmp_path)
    if how == "host":
        monkeypatch.setattr(checkpoints, "host_reachable", lambda _: True)
    mirrors = (str(tmp_path),) if how == "mirror" else ()
    run_quickstart(make_kiln(weights="official", mirrors=mirrors))
    assert kitchen.built == ["sam2.1_hiera_tiny/image/onnx-fp32"]
    assert "RANDOM" not in capsys.readouterr().err
