"""A shrunken SAM 2.1 in every format, as its users would build it and predict with it.

For `invoke test --only thorough`, beside one format at full size (test_quantized.py).
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.util.machine import cpu_level
from tests.full_size.small_sam2 import MODEL, write_catalog
from tests.full_size.test_tiny import PHOTOGRAPH
from tests.full_size.test_tiny import invoke as run_command
from tests.full_size.test_tracker import FRAMES, in_export

pytestmark = [pytest.mark.full_size, pytest.mark.thorough]

LINEARS = 31
# Without VNNI, 8-bit products saturate in 16 bits.
INT8_DECIBELS = 18 if "vnni" in cpu_level() else 11
LEAST_DECIBELS = {
    "onnx-fp16": 55,
    "onnx-int8": INT8_DECIBELS,
    "onnx-int8-dynamic": INT8_DECIBELS,
    "onnx-fp8": 20,
}

Invoke = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("small")


@pytest.fixture(scope="module")
def invoke(room: Path) -> Invoke:
    write_catalog(room / "catalog", "image", "treedect", "tracker", "tracker-ex")

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return run_command(
            *arguments,
            MODELKILN_ARTIFACTS=str(room / "artifacts"),
            MODELKILN_CATALOG=str(room / "catalog"),
        )

    return run


@pytest.fixture(scope="module")
def built(invoke: Invoke, room: Path) -> Path:
    """The folder of the model's results: every format of `image`, and `treedect`."""
    targets = f"{MODEL}/image/onnx-*,{MODEL}/treedect/onnx-*"
    done = invoke("build", targets, "--weights", "random")
    assert done.returncode == 0, done.stderr
    return room / "artifacts" / "out" / f"{MODEL}+random0"


def test_treedect_is_verified_too(built: Path) -> None:
    manifest = json.loads((built / "treedect" / "onnx-fp32" / "manifest.json").read_text())
    worst = manifest["verification"]["worst"].values()
    assert all(0 < one["relative"] <= 1e-5 for one in worst)
    assert manifest["verification"]["lowest_iou"] >= 0.999


@pytest.mark.parametrize("contract", ["image", "treedect"])
def test_fp16_was_looked_at_before_it_was_written(built: Path, contract: str) -> None:
    folder = built / contract / "onnx-fp16"
    checks = json.loads((folder / "verification.json").read_text())
    assert checks["untouched"] == []
    lost = [float(one["value"]) for one in checks["gates"] if one["name"] == "snr_db"]
    assert len(lost) == 5 and min(lost) > LEAST_DECIBELS["onnx-fp16"]
    graphs = json.loads((folder / "quantization.json").read_text())["graphs"]
    for name in ("encoder", "decoder"):
        found = graphs[name]["float16"]
        assert found["observed"] > 100
        assert 1 < found["largest"]["largest"] < found["limit"] / 2
        assert found["close"] == found["kept"] == []


def test_manifests_have_tensorrt_s_shapes_where_its_parser_takes_the_graphs(built: Path) -> None:
    found = {}
    for path in built.glob("image/onnx-*/manifest.json"):
        said = json.loads(path.read_text()).get("tensorrt")
        found[path.parent.name] = said and said["decoder"]["nv"]["nv_profile_max_shapes"]
    assert found.pop("onnx-fp32") == found.pop("onnx-fp16") == found["onnx-fp8"]
    assert str(found.pop("onnx-fp8")).startswith("point_coords:20x8x2,point_labels:20x8")
    assert found == {"onnx-int8": None, "onnx-int8-dynamic": None}


@pytest.mark.parametrize("name", LEAST_DECIBELS)
def test_every_format_is_assessed(built: Path, name: str) -> None:
    folder = built / "image" / name
    checks = json.loads((folder / "verification.json").read_text())
    lost = [float(one["value"]) for one in checks["gates"] if one["name"] == "snr_db"]
    assert min(lost) > LEAST_DECIBELS[name]
    encoder = json.loads((folder / "quantization.json").read_text())["graphs"]["encoder"]
    assert encoder["linears"] == LINEARS
    assert encoder["quantized"] == (0 if name == "onnx-fp16" else LINEARS)
    if name.startswith("onnx-int8"):
        assert checks["kernels"]["encoder"]["integer"] == LINEARS


@pytest.mark.parametrize("name", LEAST_DECIBELS)
def test_every_format_is_predicted_with(
    invoke: Invoke, built: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "overlay.png"
    target = f"{MODEL}+random0/image/{name}"
    done = invoke("predict", target, str(PHOTOGRAPH), "--point", "225,130", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "random weights: this mask means nothing" in done.stdout
    assert out.read_bytes().startswith(b"\x89PNG")


BANKS = ("tracker-ex", "tracker-ex@static")


@pytest.fixture(scope="module")
def banks(invoke: Invoke, built: Path) -> Path:
    """The same folder, with trackers of a dynamic and of a static memory bank."""
    done = invoke(
        "build", ",".join(f"{MODEL}/{one}/onnx-fp32" for one in BANKS), "--weights=random"
    )
    assert done.returncode == 0, done.stderr
    return built


def test_a_static_memory_bank_is_verified_as_a_dynamic_one(banks: Path) -> None:
    dynamic, static = (
        json.loads((banks / one / "onnx-fp32" / "verification.json").read_text()) for one in BANKS
    )
    cases, more = (
        {one["case"] for one in found["tensors"] if one["graph"] == "memory_attention"}
        for found in (dynamic, static)
    )
    assert more - cases == {
        f"{what} {value}"
        for what in ("nothing but", "what is in empty slots has no effect at")
        for value in ("nan", "1e+09")
    }
    assert cases < more
    for found in (dynamic, static):
        assert all(one["relative"] <= 1e-5 for one in found["summary"]["worst"].values())
        assert found["summary"]["loop"]["lowest_iou"] >= 0.999
    names = ("objects", "frames", "steps", "seen", "counted")
    loops = [[found["summary"]["loop"][name] for name in names] for found in (dynamic, static)]
    assert loops[0] == loops[1]


def test_a_static_memory_bank_tracks_what_a_dynamic_one_does(
    invoke: Invoke, banks: Path, tmp_path: Path
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    in_export(FRAMES, PHOTOGRAPH, frames)
    found = []
    for number, one in enumerate(BANKS):
        done = invoke(
            *("track", f"{MODEL}+random0/{one}/onnx-fp32", str(frames), "--json"),
            *("--box", "20,15,362,290", "--point", "1:120,100@1", "--point", "2:120,100@1"),
            *("--out", str(tmp_path / f"{number}.mp4")),
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout)["tracks"])
    steps = [[(one["object"], one["frame"]) for one in tracks] for tracks in found]
    assert steps[0] == steps[1] == [(1, 0), (1, 1), (2, 1), (1, 2), (2, 2)]
    for dynamic, static in zip(*found, strict=True):
        assert static["visible"] == dynamic["visible"]
        for name in ("iou", "occlusion", "coverage"):
            assert static[name] == pytest.approx(dynamic[name], rel=1e-4, abs=1e-4)
