"""Engines of TensorRT for RTX, built through the commands as their users build them.

The mixer family goes through every check, to out/, in every format for every GPU; a shrunken SAM
2.1 through parser and compiler.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.full_size.small_sam2 import MODEL, write_catalog
from tests.full_size.test_tiny import invoke as run_command

pytestmark = pytest.mark.full_size

Invoke = Callable[..., "subprocess.CompletedProcess[str]"]
ENGINES = {
    "rtx-fp16": ["portable"],
    "rtx-fp32": ["portable"],
    "rtx-int8": ["portable"],
    "rtx-fp8": ["sm89", "sm120", "sm121"],
}
MOST = "sm80+sm86+sm89+sm120+sm121"
# An engine of several GPUs is compiled for each: what one of them refuses fails it.
ALL_GPUS = ("rtx-fp16@sm75+" + MOST, "rtx-fp32@" + MOST, "rtx-int8@sm75+" + MOST)
PLAIN = [f"{MODEL}/image/{one}" for one in ("rtx-fp16", "rtx-fp32", *ALL_GPUS[:2])]
QUANTIZED = [f"{MODEL}/image/{one}" for one in ("rtx-int8", "rtx-fp8", ALL_GPUS[2])]
VIDEO = [
    *(f"{MODEL}/tracker/{one}" for one in ("rtx-fp32", ALL_GPUS[0], "rtx-int8")),
    f"{MODEL}/tracker-ex@static/rtx-fp16",
    f"{MODEL}/treedect/rtx-fp16",
]


@pytest.fixture(scope="module")
def engines(mixer: Invoke, mixer_built: Path, mixer_weights: Path) -> Path:
    every = ("rtx-*", "trt-*", *ALL_GPUS)
    targets = ",".join(f"mixer_small/tokens/{one}" for one in every)
    done = mixer("build", targets, "--weights", str(mixer_weights))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("built, not run: ") == len(ENGINES) + len(ALL_GPUS)
    assert "verified" not in done.stdout
    assert "skipped 1 target of trt-fp16: Full TensorRT" in done.stderr
    return mixer_built


@pytest.mark.parametrize("name", ALL_GPUS)
def test_one_engine_is_for_all_gpus_that_have_its_format(engines: Path, name: str) -> None:
    manifest = json.loads((engines / name / "manifest.json").read_text())
    assert manifest["built"]["gpus"] == name.partition("@")[2].split("+")


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_published_as_built(engines: Path, name: str) -> None:
    folder = engines / name
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["status"], "verification" in manifest) == ("built", False)
    assert manifest["built"]["gpus"] == ENGINES[name]
    content = (folder / "mixer.engine").read_bytes()
    assert content[:4] == b"vtrt"
    assert int.from_bytes(content[16:24], "little") == len(content)
    one = json.loads((folder / "built.json").read_text())["graphs"]["mixer"]
    work = "float32" if name == "rtx-fp32" else "float16"
    assert set(one["types"]["MATRIX_MULTIPLY"]) == {work}
    kinds = {"rtx-int8": {"int8"}, "rtx-fp8": {"float8e4m3fn"}}
    assert set(one["types"].get("QUANTIZE", ())) == kinds.get(name, set())


def test_inspect_tells_what_an_engine_takes(
    mixer: Invoke, engines: Path, mixer_weights: Path
) -> None:
    done = mixer("inspect", "mixer_small/tokens/rtx-int8", "--weights", str(mixer_weights))
    assert done.returncode == 0, done.stderr
    for said in ("mixer.engine", "TensorRT for RTX 1.7.1.116, int8, TF32 off", "activations"):
        assert said in done.stdout
    assert "onnx-int8@explicit.fp16" in done.stdout
    assert "\nbuilt, not run: " in done.stdout


@pytest.mark.parametrize(
    ("target", "flags", "code", "said"),
    [
        ("trt-fp16", (), 4, "on the GPU that an engine is for"),
        ("rtx-fp16", ("--gpu", "sm99"), 2, "gpu cannot be 'sm99'"),
        ("rtx-fp8", ("--gpu", "portable"), 2, "which have no FP8"),
        ("rtx-fp16", ("--profile", "rows=1:2:3"), 2, "rows"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_built(
    mixer: Invoke, mixer_weights: Path, target: str, flags: tuple[str, ...], code: int, said: str
) -> None:
    weights = ("--weights", str(mixer_weights))
    done = mixer("build", f"mixer_small/tokens/{target}", *weights, *flags)
    assert done.returncode == code, done.stderr
    assert said in done.stderr, done.stderr
    assert "start" not in done.stderr


@pytest.mark.parametrize(
    "targets", [PLAIN, pytest.param([*QUANTIZED, *VIDEO], marks=pytest.mark.thorough)]
)
def test_a_shrunken_sam_is_compiled_for_every_gpu(targets: list[str], tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog", "image", "treedect", "tracker", "tracker-ex")
    done = run_command(
        "build",
        ",".join(targets),
        "--weights",
        "random",
        # Whatever their ranges are: parser and compiler do not look at numbers.
        "--calib-size",
        "1",
        "--until",
        "engine",
        MODELKILN_ARTIFACTS=str(tmp_path / "artifacts"),
        MODELKILN_CATALOG=str(tmp_path / "catalog"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("/engine  ") >= len(targets), done.stderr
    assert not (tmp_path / "artifacts" / "out").exists()


@pytest.mark.thorough
def test_fixed_shapes_give_the_same_bytes_and_ranges_promise_none(tmp_path: Path) -> None:
    write_catalog(tmp_path / "catalog", "image")
    settings = {
        "MODELKILN_ARTIFACTS": str(tmp_path / "artifacts"),
        "MODELKILN_CATALOG": str(tmp_path / "catalog"),
    }
    done = run_command("reproduce", f"{MODEL}/image/rtx-fp32", "--weights", "random", **settings)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    assert lines["encoder.engine"][1] == lines["encoder.engine"][2]
    assert lines["decoder.engine"][-2:] == ["not", "promised"]
    assert "the same bytes of the others in build 1 and build 2" in done.stdout
    assert "not promised: decoder.engine; " in done.stdout


FULL_SIZE = [
    f"{target}{gpus}"
    for target in ("sam2.1_hiera_tiny/image/rtx-fp16", "dinov2_vits14/features/rtx-fp16")
    for gpus in ("", "@sm80+sm86+sm89+sm120", "@sm75")
]


@pytest.mark.thorough
def test_full_size_engines_for_every_kind_of_gpu() -> None:
    done = run_command("build", ",".join(FULL_SIZE), "--weights", "random", "--until", "engine")
    assert done.returncode == 0, done.stderr
