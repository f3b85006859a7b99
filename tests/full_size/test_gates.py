"""Every format's gates on a fixture model, with weights of one's own, so that they bind.

tests/mixer/ is a family of linear layers that takes seconds to build. A mutant is a catalog folder
more, whose `exporters/` goes before the repository's.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.paths import REPOSITORY
from tests.full_size.mixer import FAMILY, FORMATS

pytestmark = pytest.mark.full_size

# The scales of the weights four times what they were made with, and a weight that is lost.
WEIGHT_SCALES = (
    "precision/qdq.py",
    '        scale = self._add(f"{name}_scale", scales)\n        zero',
    '        scale = self._add(f"{name}_scale", scales * np.float32(4))\n        zero',
)
MUTANTS = {
    "onnx-int8": WEIGHT_SCALES,
    "onnx-fp8": WEIGHT_SCALES,
    "onnx-int8-dynamic": (
        "precision/dynamic.py",
        "    quantized = onnx.load_model(target, load_external_data=False)\n",
        "    quantized = onnx.load_model(target, load_external_data=False)\n"
        "    for one in quantized.graph.initializer:\n"
        '        if one.name.endswith("_scale"):\n'
        "            values = numpy_helper.to_array(one) * np.float32(4)\n"
        "            one.CopyFrom(numpy_helper.from_array(values, one.name))\n",
    ),
    "onnx-fp16": (
        "precision/half.py",
        "    sanitizer.find_custom_nodes()\n",
        "    lost = max(sanitizer.model.graph.initializer, key=lambda one: len(one.raw_data))\n"
        "    lost.raw_data = bytes(len(lost.raw_data))\n"
        "    sanitizer.find_custom_nodes()\n",
    ),
}

Invoke = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize("name", FORMATS)
def test_gates_bind_and_hold(mixer_built: Path, name: str) -> None:
    found = json.loads((mixer_built / name / "verification.json").read_text())
    assert found["binding"] is True
    (gate,) = (one for one in found["gates"] if one["name"] == "snr_db")
    assert gate["ok"]
    assert gate["value"] > gate["bound"] >= (40 if name == "onnx-fp16" else 20)
    manifest = json.loads((mixer_built / name / "manifest.json").read_text())
    assert manifest["format"].startswith(name)
    plan = json.loads((mixer_built / name / "quantization.json").read_text())["graphs"]["mixer"]
    assert plan["linears"] == 4
    assert plan["quantized"] == (0 if name == "onnx-fp16" else 4)
    # What float16 cannot hold is looked for before float16 is written, and only then.
    assert ("float16" in plan) == (name == "onnx-fp16")
    if name == "onnx-fp16":
        assert 0 < plan["float16"]["largest"]["largest"] < 65504 / 2
    if name.startswith("onnx-int8"):
        assert found["kernels"]["mixer"]["integer"] == plan["integer_kernels"] == 4


@pytest.mark.parametrize("name", FORMATS)
def test_a_scale_that_is_wrong_publishes_nothing(
    mixer: Invoke, mixer_built: Path, mixer_weights: Path, tmp_path: Path, name: str
) -> None:
    file, before, after = MUTANTS[name]
    text = (REPOSITORY / "exporters" / file).read_text(encoding="utf-8")
    assert text.count(before) == 1, file
    mutated = tmp_path / "exporters" / file
    mutated.parent.mkdir(parents=True)
    mutated.write_text(text.replace(before, after), encoding="utf-8")
    folder = mixer_built / name
    published = {one.name: one.stat().st_mtime_ns for one in folder.iterdir()}
    done = mixer(
        "build",
        f"mixer_small/tokens/{name}",
        "--weights",
        str(mixer_weights),
        catalogs=os.pathsep.join((str(FAMILY), str(tmp_path))),
    )
    assert done.returncode == 6, done.stderr
    assert "SNR of mixer tokens" in done.stderr
    assert {one.name: one.stat().st_mtime_ns for one in folder.iterdir()} == published


def test_nothing_is_built_twice(mixer: Invoke, mixer_built: Path, mixer_weights: Path) -> None:
    done = mixer("build", "mixer_small/tokens/onnx-*", "--weights", str(mixer_weights))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(up to date)") == 1 + len(FORMATS)


@pytest.mark.thorough
def test_the_same_bytes_again(mixer: Invoke, mixer_weights: Path) -> None:
    done = mixer("reproduce", "mixer_small/tokens/onnx-int8", "--weights", str(mixer_weights))
    assert done.returncode == 0, done.stderr
    assert "the same bytes in build 1 and build 2" in done.stdout
