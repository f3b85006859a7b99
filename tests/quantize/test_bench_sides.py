"""The scripts of bench.quantize, on a small network and pictures of its size."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from bench.sides import quantize_ours
from bench.sides.quantize_errors import compare
from bench.sides.quantize_graphs import (
    Product,
    find_linears,
    find_products,
    find_quantized,
    value_of,
)
from bench.sides.quantize_layers import group
from bench.sides.quantize_pictures import crop, write_set
from bench.sides.quantize_seed import list_pictures, settings
from bench.sides.quantize_variants import (
    ALL,
    ATTENTION,
    CONSTANT,
    FLOAT_BIASES,
    LEFT_OUT,
    MEASURED,
    make_variants,
)
from exporters.precision.qdq import Layout
from tests.quantize.small_nets import GOLDEN, LINEARS, SIDE, write_encoder
from tests.quantize.small_steps import OVERFLOWS, PREPROCESSING

ROOT: Final = Path(__file__).resolve().parent.parent.parent
COUNT: Final = 3
# The example's graph cannot run with the precision that `open_session` of small_steps asks for.
LARGEST_ERROR: Final = 0.15 if OVERFLOWS else 0.1
PLAN: Final[Mapping[str, Any]] = {
    "threads": 1,
    "seed": 0,
    "calibrate": {
        "graphs": [GOLDEN],
        "quantized": ["encoder"],
        "op_types": ["MatMul"],
        "observe": "inputs",
        "calib_method": "max",
        "calib_size": 16,
        "use_random_calib": False,
        "calibration_eps": ["cpu"],
        "preprocessing": PREPROCESSING,
        "options": {},
        "pictures": ["of the plan"],
    },
    "quantize": {
        "mode": "int8",
        "layout": "onnxruntime",
        "graphs": [GOLDEN],
        "quantized": ["encoder"],
        "op_types": ["MatMul"],
        "qdq_for_weights": False,
        "dtype": "fp32",
        "opset": 18,
        "metadata": {},
    },
}


def run_script(name: str, *arguments: str | Path) -> Any:
    command = [sys.executable, "-m", f"bench.sides.quantize_{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def run_ours(patch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    """Runs our side's script in this process, where all that it loads is loaded already."""
    patch.setattr("sys.argv", ["quantize_ours", *map(str, arguments)])
    patch.setattr(quantize_ours, "hold_to", lambda _: None)
    quantize_ours.main()


def write_photographs(folder: Path, count: int) -> Path:
    """Pictures of coloured noise, each brighter than the one before."""
    folder.mkdir()
    numbers = np.random.default_rng(0)
    for index in range(count):
        top = 64 + 191 * (index + 1) // count
        pixels = numbers.integers(0, top, (2 * SIDE, 3 * SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.jpg", quality=95)
    return folder


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Both sides of the bench, made by its scripts."""

    base: Path
    pictures: Path
    seed: Path
    ours: Path
    told_seed: Any
    told: Any


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    folder = tmp_path_factory.mktemp("sides")
    base = write_encoder(folder / "fp32")
    pictures = write_photographs(folder / "pictures", COUNT + 1)
    (folder / "modelopt").mkdir()
    seed = folder / "modelopt" / "encoder.onnx"
    flags = ("--threads=1", f"--side={SIDE}")
    told_seed = run_script("seed", base, pictures, seed, str(COUNT), *flags)
    plan = folder / "plan.json"
    plan.write_text(json.dumps(PLAN))
    shown = (f"--pictures={pictures}", f"--count={COUNT}")
    told = run_script("ours", plan, base, folder / "ours", *shown)
    return Sides(
        base=base,
        pictures=pictures,
        seed=seed,
        ours=Path(told["file"]),
        told_seed=told_seed,
        told=told,
    )


def test_the_example_sees_a_picture_too_many_in_the_folder_s_order(sides: Sides) -> None:
    told = sides.told_seed
    assert told["runtime"].startswith("modelopt ")
    assert sorted(told["pictures"]) == [f"{index}.jpg" for index in range(COUNT + 1)]
    assert told["peak_bytes"] > 1e8
    scales = [
        float(numpy_helper.to_array(one))
        for one in onnx.load(sides.seed).graph.initializer
        if one.name.endswith("placed_scale") or one.name == "normed_scale"
    ]
    assert scales
    assert sides.seed.with_name("encoder.onnx_data").is_file()


def test_the_folder_s_order_is_the_system_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.listdir", lambda _: ["b.jpg", "c.jpg", "a.jpg", "d.jpg"])
    assert [one.name for one in list_pictures(tmp_path, 2)] == ["b.jpg", "c.jpg", "a.jpg"]


def test_the_settings_are_the_example_s() -> None:
    said = settings()
    assert said["op_types_to_quantize"] == ["MatMul"]
    assert said["nodes_to_exclude"] == ["/lm_head", "/Shape"]
    assert (said["dq_only"], said["calibration_method"]) == (True, "max")
    assert (said["high_precision_dtype"], said["calibration_eps"]) == ("fp32", ["cpu"])


def test_ours_sees_the_first_pictures_by_name(sides: Sides) -> None:
    told = sides.told
    assert told["pictures"] == [f"{index}.jpg" for index in range(COUNT)]
    assert (told["quantized"], told["linears"], told["integer_kernels"]) == (5, 5, 5)
    assert told["peak_bytes"] > 1e7


def test_too_few_pictures_are_refused(
    sides: Sides, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN))
    shown = (f"--pictures={sides.pictures}", "--count=5")
    with pytest.raises(ValueError, match="has 4 pictures, not 5"):
        run_ours(monkeypatch, plan, sides.base, tmp_path / "o", *shown)


def test_dynamic_needs_no_pictures(
    sides: Sides,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = tmp_path / "plan.json"
    changed = {**PLAN, "calibrate": None}
    changed["quantize"] = {**PLAN["quantize"], "mode": "int8-dynamic"}
    plan.write_text(json.dumps(changed))
    run_ours(monkeypatch, plan, sides.base, tmp_path / "out")
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["pictures"] == []
    assert Path(told["file"]).is_file()


def test_what_either_file_quantizes_is_read_from_it(sides: Sides) -> None:
    base, seed, ours = (onnx.load(one) for one in (sides.base, sides.seed, sides.ours))
    linears = find_linears(base)
    assert [one.output for one in linears] == list(LINEARS)
    assert value_of(linears[0]) == "qkv_sum"
    assert find_quantized(base, ours) == set(LINEARS)
    # The example names MatMul alone: the head is a Gemm. It takes attention's products along.
    chosen = find_quantized(base, seed)
    assert set(LINEARS) - chosen == {"head"}
    found = find_products(base, seed)
    assert {one.output for one in found} == chosen - set(LINEARS)
    assert {one.output for one in found if one.constant} <= {"table"}
    assert {one.output for one in found if not one.constant} <= {"logits", "attended"}
    assert found
    assert find_products(base, ours) == []
    assert find_quantized(base, base) == set()


def test_errors_and_kernels_are_told(sides: Sides) -> None:
    pairs = (f"same={sides.base}", f"ours={sides.ours}", f"seed={sides.seed}")
    told = run_script("errors", sides.base, sides.pictures, *pairs, f"--side={SIDE}")
    assert told["pictures"] == [f"{index}.jpg" for index in range(COUNT + 1)]
    graphs = told["graphs"]
    assert graphs["same"]["errors"]["tokens"]["relative"] == 0
    assert graphs["same"]["errors"]["tokens"]["snr_db"] is None
    assert sum(graphs["ours"]["kernels"].values()) == 5
    error = graphs["ours"]["errors"]["tokens"]
    assert 0.001 < error["relative"] < LARGEST_ERROR
    assert error["snr_db"] == pytest.approx(-20 * np.log10(error["relative"]))
    assert len(error["by_picture"]) == COUNT + 1


def test_an_error_is_of_all_pictures_together() -> None:
    def outputs(*values: list[float]) -> list[dict[str, Any]]:
        return [{"out": np.array(one, np.float32)} for one in values]

    told = compare(outputs([3.0, 0.0], [0.0, 4.0]), outputs([3.0, 3.0], [0.0, 0.0]))["out"]
    assert told["relative"] == pytest.approx(1.0)
    assert told["by_picture"] == pytest.approx([1.0, 1.0])
    told = compare(outputs([3.0, 4.0]), outputs([3.0, 4.5]))["out"]
    assert told["relative"] == pytest.approx(0.1)
    assert told["snr_db"] == pytest.approx(20.0)
    with pytest.raises(ValueError, match="no output out"):
        compare(outputs([1.0]), outputs([1.0, 2.0]))


def test_every_layer_has_its_error(sides: Sides, tmp_path: Path) -> None:
    pairs = (f"same={sides.base}", f"ours={sides.ours}", f"seed={sides.seed}")
    picture = sides.pictures / "0.jpg"
    told = run_script("layers", sides.base, picture, tmp_path / "s", *pairs, f"--side={SIDE}")
    layers = told["layers"]
    assert [one["name"] for one in layers] == list(LINEARS)
    assert [one["op"] for one in layers] == ["MatMul"] * 4 + ["Gemm"]
    assert all(one["errors"]["same"] == 0 for one in layers)
    assert all(0.001 < one["errors"]["ours"] < LARGEST_ERROR for one in layers)
    assert layers[-1]["quantized"] == ["ours"]
    assert layers[0]["quantized"] == ["ours", "seed"]


def test_a_graph_without_the_values_is_refused(sides: Sides, tmp_path: Path) -> None:
    model = onnx.load(sides.base)
    for node in model.graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == "qkv_sum":
                    names[place] = "other"
    (tmp_path / "o").mkdir()
    onnx.save(model, tmp_path / "o" / "other.onnx")
    pair = f"other={tmp_path / 'o' / 'other.onnx'}"
    with pytest.raises(AssertionError, match="lacks 1 values, such as qkv_sum"):
        run_script("layers", sides.base, sides.pictures / "0.jpg", tmp_path / "s", pair)


def test_values_are_fetched_in_groups_that_fit() -> None:
    sizes = {"a": 6, "b": 4, "c": 1, "d": 20, "e": 1}
    assert list(group(list(sizes), sizes, 10)) == [["a", "b"], ["c"], ["d"], ["e"]]
    assert list(group([], {}, 10)) == []


def test_variants_differ_in_one_thing_each(sides: Sides, tmp_path: Path) -> None:
    calibration = sides.ours.parent.parent.parent / "calibrate" / "out" / "calibration.json"
    told = run_script(
        "variants",
        sides.base,
        sides.seed,
        calibration,
        sides.pictures,
        tmp_path / "v",
        str(COUNT),
        f"--side={SIDE}",
    )
    base = onnx.load(sides.base)
    chosen = find_quantized(base, onnx.load(sides.seed))
    products = find_products(base, onnx.load(sides.seed))
    attention, constant = (
        {one.output for one in products if one.constant is fixed} for fixed in (False, True)
    )
    assert (told["attention"], told["constant"]) == (len(attention), len(constant))
    assert told["left_out"] == 1
    expected = {
        LEFT_OUT: set(LINEARS) - {"head"},
        FLOAT_BIASES: set(LINEARS),
        ALL: chosen,
        **{
            name: set(LINEARS) | some
            for name, some in ((ATTENTION, attention), (MEASURED, attention), (CONSTANT, constant))
            if some
        },
    }
    assert set(told["files"]) == set(expected)
    for name, file in told["files"].items():
        assert find_quantized(base, onnx.load(file)) == expected[name]
    pairs = [f"{name}={file}" for name, file in told["files"].items()]
    errors = run_script("errors", sides.base, sides.pictures, *pairs, f"--side={SIDE}")["graphs"]
    counted = {name: sum(one["kernels"].values()) for name, one in errors.items()}
    assert counted[LEFT_OUT] == 4
    assert counted[FLOAT_BIASES] < 5
    assert all(one["errors"]["tokens"]["relative"] < 0.2 for one in errors.values())


def test_there_is_a_variant_for_each_thing_that_differs(sides: Sides) -> None:
    layers = find_linears(onnx.load(sides.base))
    assert list(make_variants(layers, layers, [])) == [FLOAT_BIASES]
    made = make_variants(layers, layers[:-1], [])
    assert list(made) == [LEFT_OUT, FLOAT_BIASES, ALL]
    assert len(made[FLOAT_BIASES].layers) == len(layers)
    assert (len(made[ALL].layers), made[ALL].layout) == (len(layers) - 1, Layout.EXPLICIT)
    products = [
        Product(output=name, inputs=("a", "b"), constant=name == "table")
        for name in ("table", "logits")
    ]
    made = make_variants(layers, layers, products)
    assert list(made) == [ATTENTION, MEASURED, CONSTANT, FLOAT_BIASES, ALL]
    shown = {name: [one.output for one in variant.products] for name, variant in made.items()}
    assert shown[ATTENTION] == ["logits"]
    assert shown[CONSTANT] == ["table"]
    assert shown[ALL] == ["table", "logits"]


def test_crops_make_up_for_missing_pictures(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "source", 2)
    (source / "README.md").touch()
    assert write_set(source, tmp_path / "few", 1) == 0
    assert [one.name for one in (tmp_path / "few").iterdir()] == ["0.jpg"]
    assert write_set(source, tmp_path / "many", 5) == 3
    names = sorted(one.name for one in (tmp_path / "many").iterdir())
    assert names == ["0.jpg", "1.jpg", "crop0000-0.png", "crop0001-1.png", "crop0002-0.png"]
    assert write_set(source, tmp_path / "again", 5) == 3
    for name in names:
        assert (tmp_path / "many" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    first, third = (np.asarray(Image.open(tmp_path / "many" / names[index])) for index in (2, 4))
    assert first.shape == (SIDE, 3 * SIDE // 2, 3)
    assert not np.array_equal(first, third)
    with pytest.raises(ValueError, match="has no pictures"):
        write_set(tmp_path / "many" / "..", tmp_path / "none", 1)


def test_a_crop_is_a_part_of_its_picture() -> None:
    picture = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    plain, turned = crop(picture, 0), crop(picture, 1)[:, ::-1]
    for part in (plain, turned):
        assert part.shape == (4, 3, 3)
        assert any(
            np.array_equal(part, picture[top : top + 4, left : left + 3])
            for top in range(5)
            for left in range(4)
        )


def test_latency_is_of_the_session_s_defaults(sides: Sides, tmp_path: Path) -> None:
    out = tmp_path / "out.npy"
    picture = sides.pictures / "0.jpg"
    told = run_script("latency", sides.ours, picture, out, f"--side={SIDE}", "--runs=1")
    assert told["runtime"].startswith("onnxruntime ")
    assert min(told["load_seconds"], told["run_seconds"]) > 0
    assert np.load(out).shape == (1, (SIDE // 4) ** 2, 32)
