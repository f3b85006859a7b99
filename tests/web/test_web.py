"""web/check.mjs: a browser's runtime loads our graphs, agrees with native ONNX Runtime, and would
have refused what samexporter writes."""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.web.graphs import write_graphs
from tests.web.node import WEB, Checked

Check = Callable[..., Checked]
PIXELS = [(index * 37 % 101 - 50) / 25 for index in range(48)]
POINTS = [(index * 53 % 97) / 1.5 for index in range(12)]


def single(values: Sequence[float]) -> list[float]:
    return [struct.unpack("<f", struct.pack("<f", value))[0] for value in values]


def write_reference(
    folder: Path, *, image_error: float = 0.0, masks: Sequence[float] | None = None
) -> Path:
    """What web/reference.py would write for `write_graphs`, computed here by hand."""
    folder.mkdir()
    pixels = single(PIXELS)
    image_embed = [3 * (0.5 * pixels[i] - pixels[16 + i] + 2 * pixels[32 + i]) for i in range(16)]
    image_embed[7] += image_error
    means = [sum(POINTS[:6]) / 6, sum(POINTS[6:]) / 6]
    masks = [value + mean for mean in means for value in image_embed] if masks is None else masks

    def save(name: str, dims: Sequence[int], values: Sequence[float]) -> Mapping[str, Any]:
        (folder / name).write_bytes(struct.pack(f"<{len(values)}f", *values))
        return {"file": name, "dtype": "float32", "dims": dims}

    embed = save("embed.bin", [1, 1, 4, 4], image_embed)
    cases = [
        {
            "name": "picture",
            "graph": "encoder",
            "inputs": {"image": save("image.bin", [1, 3, 4, 4], pixels)},
            "outputs": {"image_embed": embed},
        },
        {
            "name": "two sets",
            "graph": "decoder",
            "inputs": {
                "image_embed": embed,
                "point_coords": save("points.bin", [2, 3, 2], POINTS),
            },
            "outputs": {"masks": save("masks.bin", [2, 1, 4, 4], masks)},
        },
    ]
    (folder / "reference.json").write_text(json.dumps({"cases": cases}))
    return folder


def test_both_graphs_load_and_run(check: Check, tmp_path: Path) -> None:
    done = check(write_graphs(tmp_path))
    assert done.status == 0, done
    package = json.loads((WEB / "package.json").read_text())
    assert done.report["runtime"] == (
        f"onnxruntime-web {package['dependencies']['onnxruntime-web']}"
    )
    outputs = {name: graph["runs"][0]["outputs"] for name, graph in done.report["graphs"].items()}
    assert outputs["encoder"]["image_embed"]["dims"] == [1, 1, 4, 4]
    assert outputs["decoder"]["masks"]["dims"] == [1, 1, 4, 4]


def test_a_declaration_of_the_wrong_rank_is_refused(check: Check, tmp_path: Path) -> None:
    done = check(write_graphs(tmp_path, wrong_rank=True))
    assert done.status == 1
    assert done.report["failure"]["kind"] == "load"
    assert "ShapeInferenceError" in done.report["failure"]["message"]
    assert "declared=0" in done.report["failure"]["message"]


def test_the_failure_that_was_expected_is_success(check: Check, tmp_path: Path) -> None:
    assert check(write_graphs(tmp_path, wrong_rank=True), "--expect-failure").status == 0


def test_a_graph_that_loads_is_no_expected_failure(check: Check, tmp_path: Path) -> None:
    assert check(write_graphs(tmp_path), "--expect-failure").status == 1


def test_another_failure_is_not_the_expected_one(check: Check, tmp_path: Path) -> None:
    write_graphs(tmp_path)
    (tmp_path / "encoder.onnx").write_bytes(b"not a graph")
    done = check(tmp_path, "--expect-failure")
    assert (done.status, done.report["failure"]["kind"]) == (1, "load")
    (tmp_path / "encoder.onnx").unlink()
    done = check(tmp_path, "--expect-failure")
    assert (done.status, done.report["failure"]["kind"]) == (1, "input")


def test_an_output_that_says_nothing_is_refused(check: Check, tmp_path: Path) -> None:
    done = check(write_graphs(tmp_path, constant=True))
    assert done.status == 1
    assert done.report["graphs"]["encoder"]["runs"][0]["outputs"]["image_embed"]["constant"]


def test_outputs_agree_with_the_reference(check: Check, tmp_path: Path) -> None:
    reference = write_reference(tmp_path / "reference")
    done = check(write_graphs(tmp_path / "graphs"), f"--reference={reference}")
    assert done.status == 0, done
    masks = done.report["graphs"]["decoder"]["runs"][0]["outputs"]["masks"]
    assert masks["dims"] == [2, 1, 4, 4]
    assert masks["relative"] < 1e-6


@pytest.mark.parametrize("scale", [3.001, -3.0])
def test_a_graph_that_computes_something_else_is_refused(
    check: Check, tmp_path: Path, scale: float
) -> None:
    reference = write_reference(tmp_path / "reference")
    done = check(write_graphs(tmp_path / "graphs", scale=scale), f"--reference={reference}")
    assert done.status == 1
    assert not done.report["graphs"]["encoder"]["runs"][0]["outputs"]["image_embed"]["ok"]


def test_one_element_out_of_bounds_is_enough(check: Check, tmp_path: Path) -> None:
    graphs = write_graphs(tmp_path / "graphs")
    reference = write_reference(tmp_path / "reference", image_error=0.01)
    assert check(graphs, f"--reference={reference}").status == 1
    assert check(graphs, f"--reference={reference}", "--tolerance=1e-2").status == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_no_reference_makes_a_number_that_is_none_pass(
    check: Check, tmp_path: Path, bad: float
) -> None:
    reference = write_reference(tmp_path / "reference", masks=[bad, *[1.0] * 31])
    graphs = write_graphs(tmp_path / "graphs")
    assert check(graphs, f"--reference={reference}", "--tolerance=9e9").status == 1


def test_a_reference_of_another_shape_is_refused(check: Check, tmp_path: Path) -> None:
    reference = write_reference(tmp_path / "reference")
    text = (reference / "reference.json").read_text()
    (reference / "reference.json").write_text(text.replace("[2, 1, 4, 4]", "[1, 2, 4, 4]"))
    assert check(write_graphs(tmp_path / "graphs"), f"--reference={reference}").status == 1


@pytest.mark.parametrize(
    "arguments", [(), ("no-such-folder",), (".", "--threads=0"), (".", "--unknown")]
)
def test_wrong_usage_is_said(check: Check, arguments: tuple[str, ...]) -> None:
    done = check(*arguments)
    assert done.status == 2
    assert done.stderr.startswith("check.mjs: ")


def test_the_lock_pins_every_package_and_names_no_host() -> None:
    lock = json.loads((WEB / "package-lock.json").read_text())
    package = json.loads((WEB / "package.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert lock["packages"][""]["dependencies"] == package["dependencies"]
    assert packages["node_modules/onnxruntime-web"]["version"] == "1.30.0"
    assert [name for name, entry in packages.items() if "sha512-" not in entry["integrity"]] == []
    assert [name for name, entry in packages.items() if "resolved" in entry] == []


def test_no_package_may_run_a_script_of_its_own() -> None:
    assert "ignore-scripts=true" in (WEB / ".npmrc").read_text().splitlines()
