"""`invoke inspect`: what a built target is."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modelkiln.building.manifest import NEEDED
from modelkiln.commands import inspect
from modelkiln.errors import UsageError
from tests.modelkiln.engine_case import BUILT, SIZES
from tests.modelkiln.quality_case import CHECKS, miss
from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke


def test_inspect_tells_what_a_target_is(command_line: Invoke, invoke: Invoke, built: Path) -> None:
    done = command_line("inspect", TARGET, *RANDOM)
    assert done.returncode == 0, done.stderr
    for text in ("words.txt", "random weights", "words agree", "toy_a+random0/ingest"):
        assert text in done.stdout
    told = json.loads(invoke("inspect", TARGET, *RANDOM, "--json").stdout)
    assert told["signature"][0]["file"] == "words.txt"
    assert told["engines"] is None


def test_inspect_shows_gates_and_what_was_left_out(
    built_int8: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect.inspect_targets(built_int8.kiln, "tiny")
    told = capsys.readouterr().out
    assert re.search(r"snr_db +cpu +encoder image_embed +31.25 +20 +ok", told)
    assert re.search(r"encoder high_res_feats_0 +no noise +20 +ok", told)
    assert "1 layer left out: Conv was not asked for" in told
    assert "encoder reaches infinity of float16's 65504 (blocks.2.add; 258 values" in told
    assert "blocks.1.mlp reaches 70123: stays in float32" in told
    assert "blocks.1.qkv reaches 40000: float16, above half of its range" in told
    assert "3 operators stay in float32, where float16 would overflow: Add 2, MatMul 1" in told
    assert "verified: 51 of 51 linears INT8" in told and "1.52x as fast" in told
    changed = miss(CHECKS, binding=False)
    (built_int8.folder / "verification.json").write_text(json.dumps(changed))
    inspect.inspect_targets(built_int8.kiln, "tiny")
    told = capsys.readouterr().out
    assert "gates (not binding: random weights)" in told
    assert re.search(r"mask_iou .* missed", told)


def make_target(name: str, *graphs: str) -> Any:
    """A target as `inspect` sees it, with these graphs."""
    return SimpleNamespace(name=name, graphs=[{"name": one} for one in graphs])


@pytest.fixture
def several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Two targets of engines and one of graphs, of which the first and the last are built."""
    targets = [
        make_target("tiny/tracker/rtx-fp16", "encoder", "decoder"),
        make_target("tiny/tracker/rtx-int8", "encoder", "decoder"),
        make_target("tiny/tracker/onnx-fp16", "encoder"),
    ]
    out = tmp_path / "out"
    for target, files in ((targets[0], SIZES), (targets[2], {"encoder.onnx": 5})):
        (out / target.name).mkdir(parents=True)
        pins = {name: {"bytes": size, "sha256": "ab"} for name, size in files.items()}
        manifest = {**{key: {} for key in NEEDED}, "target": target.name, "files": pins}
        (out / target.name / "manifest.json").write_text(json.dumps(manifest))
    built = {**BUILT, "graphs": dict(reversed(BUILT["graphs"].items()))}
    (out / targets[0].name / "built.json").write_text(json.dumps(built))
    found = SimpleNamespace(targets=tuple(targets), left_out=(), asked="tiny/*/*")
    monkeypatch.setattr(inspect, "prepare", lambda *_, **__: found)
    return SimpleNamespace(kiln=SimpleNamespace(artifacts=tmp_path), found=found, out=out)


def test_of_several_targets_the_engines_are_listed(
    several: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect.inspect_targets(several.kiln, "tiny/*/*")
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0].split()[:3] == ["target", "engine", "size"]
    # In the contract's order, not in that of the document.
    assert [line.split()[:2] for line in lines[1:3]] == [
        ["tiny/tracker/rtx-fp16", "encoder.engine"],
        ["tiny/tracker/rtx-fp16", "decoder.engine"],
    ]
    assert re.search(r"17.5 MB +1.0 MB +2.0 MB +10 +sm86\+sm120 +range +not promised$", lines[2])
    assert "verified" not in said.out
    assert "not built, left out: tiny/tracker/rtx-int8\n" in said.err
    assert "no engines, left out: tiny/tracker/onnx-fp16\n" in said.err


def test_as_json_every_built_target_is_there(
    several: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect.inspect_targets(several.kiln, "tiny/*/*", as_json=True)
    said = capsys.readouterr()
    first, second = json.loads(said.out)
    assert (first["target"], second["target"]) == (
        "tiny/tracker/rtx-fp16",
        "tiny/tracker/onnx-fp16",
    )
    assert [row["graph"] for row in first["engines"]["rows"]] == ["encoder", "decoder"]
    assert first["signature"] == [{"name": "encoder"}, {"name": "decoder"}]
    assert second["engines"] is None
    assert "rtx-int8" in said.err


def test_one_target_as_json_is_told_as_one_of_several(
    several: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    told = []
    for targets in (several.found.targets, several.found.targets[:1]):
        several.found.targets = targets
        inspect.inspect_targets(several.kiln, "tiny/*/*", as_json=True)
        told.append(json.loads(capsys.readouterr().out))
    assert told[0][0] == told[1]
    assert [row["graph"] for row in told[1]["engines"]["rows"]] == ["encoder", "decoder"]


def test_where_nothing_can_be_listed_it_is_an_error(several: Any) -> None:
    (several.out / "tiny/tracker/rtx-fp16/manifest.json").unlink()
    with pytest.raises(UsageError, match="none that is built has engines") as error:
        inspect.inspect_targets(several.kiln, "tiny/*/*")
    assert "invoke inspect tiny/tracker/onnx-fp16" in error.value.next
    (several.out / "tiny/tracker/onnx-fp16/manifest.json").unlink()
    for as_json in (False, True):
        with pytest.raises(UsageError, match="None of the 3 targets") as error:
            inspect.inspect_targets(several.kiln, "tiny/*/*", as_json=as_json)
    assert "invoke build 'tiny/*/*'" in error.value.next


def test_a_damaged_manifest_is_not_left_out(several: Any) -> None:
    (several.out / "tiny/tracker/onnx-fp16/manifest.json").write_text("{")
    with pytest.raises(UsageError, match="is damaged"):
        inspect.inspect_targets(several.kiln, "tiny/*/*")


def test_what_this_version_cannot_build_is_told(
    several: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    form = SimpleNamespace(name="trt-fp16", unavailable=("It needs a GPU.", "Take rtx-fp16."))
    several.found.left_out = (SimpleNamespace(format=form),)
    inspect.inspect_targets(several.kiln, "tiny/*/*")
    assert "skipped 1 target of trt-fp16: It needs a GPU." in capsys.readouterr().err


def test_one_target_that_is_not_built_is_an_error(several: Any) -> None:
    several.found.targets = several.found.targets[1:2]
    with pytest.raises(UsageError, match="tiny/tracker/rtx-int8 has not been built"):
        inspect.inspect_targets(several.kiln, "tiny/tracker/rtx-int8")


def test_several_targets_on_the_command_line(invoke: Invoke, built: Path) -> None:
    done = invoke("inspect", "toy_a/words/toy-text,toy_b/words/toy-text", *RANDOM)
    assert done.returncode == 2 and "none that is built has engines" in done.stderr
    done = invoke("inspect", "toy_a/words/toy-text,toy_b/words/toy-text", *RANDOM, "--json")
    assert [one["target"] for one in json.loads(done.stdout)] == ["toy_a+random0/words/toy-text"]
