"""The predict stage, run on two tiny hand-made graphs that obey the image contract.

The hand-made decoder draws discs round the first point of each prompt set, so that a wrong scaling
of coordinates shows in the mask.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from exporters.media.drawing import Drawing, Request
from exporters.media.sheet import Caption, draw_sheet
from exporters.protocol import Result, StageError, Step
from exporters.sam2.image.predictor import open_graphs
from exporters.stages.predict import run

ROOT = Path(__file__).parents[3]


SIZE, MASK = 64, 16


WIDTH, HEIGHT = 120, 60


def _contract(*, mask_prompt: bool) -> dict[str, Any]:
    batch: int | str = 1 if mask_prompt else "batch"
    features = [
        ("high_res_feats_0", [batch, 3, 16, 16]),
        ("high_res_feats_1", [batch, 3, 8, 8]),
        ("image_embed", [batch, 3, 4, 4]),
    ]
    given = [(name, [1, *dims[1:]]) for name, dims in features]
    given += [("point_coords", ["n", "p", 2]), ("point_labels", ["n", "p"])]
    if mask_prompt:
        given += [("mask_input", ["n", 1, MASK, MASK]), ("has_mask_input", ["n"])]
    made = [("masks", ["n", 3, MASK, MASK]), ("iou_predictions", ["n", 3])]

    def ports(pairs: list[Any]) -> list[dict[str, Any]]:
        return [{"name": name, "dtype": "float32", "dims": dims} for name, dims in pairs]

    return {
        "name": "image" if mask_prompt else "treedect",
        "graphs": [
            {
                "name": "encoder",
                "file": "encoder.onnx",
                "inputs": ports([("image", [batch, 3, SIZE, SIZE])]),
                "outputs": ports(features),
            },
            {
                "name": "decoder",
                "file": "decoder.onnx",
                "inputs": ports(given),
                "outputs": ports(made),
            },
        ],
    }


def _write_graph(
    path: Path, graph: Mapping[str, Any], nodes: list[Any], constants: Mapping[str, Any]
) -> None:
    def infos(ports: list[dict[str, Any]]) -> list[Any]:
        return [
            helper.make_tensor_value_info(one["name"], TensorProto.FLOAT, one["dims"])
            for one in ports
        ]

    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    body = helper.make_graph(
        nodes, graph["name"], infos(graph["inputs"]), infos(graph["outputs"]), initializers
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _write_graphs(folder: Path, contract: Mapping[str, Any]) -> None:
    encoder, decoder = contract["graphs"]
    pools = [
        helper.make_node(
            "AveragePool", ["image"], [name], kernel_shape=[step, step], strides=[step, step]
        )
        for name, step in (("high_res_feats_0", 4), ("high_res_feats_1", 8), ("image_embed", 16))
    ]
    _write_graph(folder / "encoder.onnx", encoder, pools, {})

    centres = (np.arange(MASK, dtype=np.float32) + 0.5) * (SIZE / MASK)
    grid = np.stack(np.meshgrid(centres, centres), axis=-1)
    takes_masks = any(one["name"] == "mask_input" for one in decoder["inputs"])
    nodes = [
        helper.make_node("Gather", ["point_coords", "zero"], ["first"], axis=1),
        helper.make_node("Unsqueeze", ["first", "ones"], ["centre"]),
        helper.make_node("Sub", ["grid", "centre"], ["offset"]),
        helper.make_node("ReduceL2", ["offset", "last"], ["distance"], keepdims=0),
        helper.make_node("Unsqueeze", ["distance", "one"], ["planes"]),
        helper.make_node("Sub", ["radii", "planes"], ["discs"]),
        helper.make_node("Shape", ["point_labels"], ["n"], start=0, end=1),
        helper.make_node("Concat", ["n", "three"], ["shape"], axis=0),
        helper.make_node("Expand", ["quality", "shape"], ["iou_predictions"]),
    ]
    if takes_masks:
        nodes += [
            helper.make_node("Unsqueeze", ["has_mask_input", "trailing"], ["switch"]),
            helper.make_node("Mul", ["mask_input", "switch"], ["guess"]),
            helper.make_node("Add", ["discs", "guess"], ["masks"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["discs"], ["masks"]))
    constants = {
        "zero": np.int64(0),
        "one": np.array([1], np.int64),
        "ones": np.array([1, 2], np.int64),
        "last": np.array([3], np.int64),
        "trailing": np.array([1, 2, 3], np.int64),
        "three": np.array([3], np.int64),
        "grid": grid[np.newaxis],
        "radii": np.array([30, 16, 4], np.float32).reshape(1, 3, 1, 1),
        "quality": np.array([[0.25, 0.75, 0.5]], np.float32),
    }
    if not takes_masks:
        del constants["trailing"]
    _write_graph(folder / "decoder.onnx", decoder, nodes, constants)


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for mask_prompt in (True, False):
        contract = _contract(mask_prompt=mask_prompt)
        folders[contract["name"]] = tmp_path_factory.mktemp(contract["name"])
        _write_graphs(folders[contract["name"]], contract)
    return folders


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def _step(
    folder: Path,
    graphs: Mapping[str, Path],
    picture: Path,
    *,
    contract: str = "image",
    mask: Path | None = None,
    random_weights: bool = False,
    **prompts: Any,
) -> Step:
    inputs = {name: graphs[contract] / name for name in ("encoder.onnx", "decoder.onnx")}
    inputs["picture"] = picture
    if mask:
        inputs["mask"] = mask
    out = folder / "out"
    out.mkdir()
    return Step(
        step="predict",
        stage="predict",
        modules=("exporters.stages.predict", "exporters.sam2.image.predict"),
        params={
            "contract": _contract(mask_prompt=contract == "image"),
            "random_weights": random_weights,
            **prompts,
        },
        inputs=inputs,
        out=out,
        threads=1,
        seed=0,
    )


def _mask(result: Result, step: Step) -> NDArray[Any]:
    assert sorted(result.outputs) == ["mask.png", "overlay.png"]
    mask = np.asarray(Image.open(step.out / "mask.png"))
    assert set(np.unique(mask)) <= {0, 255}
    return mask > 0


def _refused(step: Step) -> StageError:
    with pytest.raises(StageError) as caught:
        run(step)
    assert caught.value.exit_code == 2
    assert not list(step.out.iterdir())
    return caught.value


@pytest.mark.parametrize("contract", ["image", "treedect"])
def test_the_mask_lies_round_the_point(
    tmp_path: Path, graphs: dict[str, Path], picture: Path, contract: str
) -> None:
    step = _step(tmp_path, graphs, picture, contract=contract, points=[[90, 20, 1]])
    result = run(step)
    mask = _mask(result, step)
    assert mask.shape == (HEIGHT, WIDTH)
    rows, columns = np.nonzero(mask)
    assert abs(rows.mean() - 20) < 1.5
    assert abs(columns.mean() - 90) < 1.5
    # Radius 16 of 64 in the square is 30 columns and 15 rows of the picture.
    assert abs(np.ptp(columns) - 60) <= 6
    assert abs(np.ptp(rows) - 30) <= 4


def test_figures_say_which_mask_was_chosen_and_how_long_it_took(
    tmp_path: Path, graphs: dict[str, Path], picture: Path
) -> None:
    step = _step(tmp_path, graphs, picture, points=[[60, 30, 1], [0, 0, 0]], boxes=[[5, 5, 90, 50]])
    metrics = run(step).metrics
    (found,) = metrics["predictions"]
    assert (found["best"], found["score"]) == (1, 0.75)
    assert found["scores"] == [0.25, 0.75, 0.5]
    assert found["prompt"] == "2 points and a box"
    assert 0 < found["coverage"] < 1
    assert set(metrics["seconds"]) == {"session_load", "encoder", "decoder"}
    assert metrics["pictures"] == ["overlay", "mask"]
    assert metrics["says"] == [
        f"2 points and a box: predicted IoU 0.750, covers {found['coverage']:.1%} of the picture"
    ]
    assert metrics["runtime"].startswith("onnxruntime ")
    json.dumps(metrics, allow_nan=False)


def test_several_boxes_are_several_objects(
    tmp_path: Path, graphs: dict[str, Path], picture: Path
) -> None:
    step = _step(tmp_path, graphs, picture, boxes=[[30, 30, 40, 40], [100, 50, 110, 60]])
    result = run(step)
    assert len(result.metrics["predictions"]) == 2
    mask = _mask(result, step)
    assert mask[30, 30]
    assert mask[50, 100]


def test_a_mask_prompt_reaches_the_decoder(
    tmp_path: Path, graphs: dict[str, Path], picture: Path
) -> None:
    guess = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    guess[:, 60:] = 1
    path = tmp_path / "guess.png"
    Image.fromarray(guess).save(path)
    step = _step(tmp_path, graphs, picture, mask=path, points=[[60, 30, 1]])
    mask = _mask(run(step), step)
    assert mask[30, 90]
    assert not mask[30, 32]


def test_a_mask_prompt_is_refused_where_the_contract_has_none(
    tmp_path: Path, graphs: dict[str, Path], picture: Path
) -> None:
    guess = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    guess[:, 60:] = 255
    path = tmp_path / "guess.png"
    Image.fromarray(guess).save(path)
    error = _refused(_step(tmp_path, graphs, picture, contract="treedect", mask=path))
    assert "takes no mask" in error.what


def test_random_weights_put_a_red_banner_on_the_overlay(
    tmp_path: Path, graphs: dict[str, Path], picture: Path
) -> None:
    def red_rows(random_weights: bool) -> int:
        folder = tmp_path / str(random_weights)
        folder.mkdir()
        options: dict[str, Any] = {"random_weights": random_weights, "points": [[60, 30, 1]]}
        step = _step(folder, graphs, picture, **options)
        run(step)
        edge = np.asarray(Image.open(step.out / "overlay.png"))[:, :2].astype(int)
        return int((edge == (186, 18, 28)).all(axis=(1, 2)).sum())

    assert red_rows(True) >= 24
    assert red_rows(False) == 0


def test_the_outputs_are_the_same_bytes_each_time(
    tmp_path: Path, graphs: dict[str, Path], picture: Path
) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        run(_step(folder, graphs, picture, points=[[60, 30, 1]]))
    for name in ("mask.png", "overlay.png"):
        one, two = ((folder / "out" / name).read_bytes() for folder in folders)
        assert one == two


def test_a_single_pixel_can_be_segmented(tmp_path: Path, graphs: dict[str, Path]) -> None:
    path = tmp_path / "dot.png"
    Image.new("RGB", (1, 1), (9, 9, 9)).save(path)
    step = _step(tmp_path, graphs, path, points=[[0.5, 0.5, 1]])
    assert _mask(run(step), step).shape == (1, 1)
    with Image.open(step.out / "overlay.png") as sheet:
        assert sheet.width >= 480


@pytest.mark.parametrize(
    ("prompts", "reason"),
    [
        ({}, "no prompt"),
        ({"points": [], "boxes": []}, "no prompt"),
        ({"points": [[WIDTH, 5, 1]]}, "outside"),
        ({"points": [[5, HEIGHT, 1]]}, "outside"),
        ({"points": [[-1, 5, 1]]}, "outside"),
        ({"points": [[5, 5, 2]]}, "label"),
        ({"points": [[5, 5]]}, "not a point"),
        ({"points": [[float("nan"), 5, 1]]}, "not a point"),
        ({"points": [["5", 5, 1]]}, "not a point"),
        ({"boxes": [[50, 5, 10, 40]]}, "reversed"),
        ({"boxes": [[10, 5, 10, 40]]}, "empty"),
        ({"boxes": [[10, 5, WIDTH + 1, 40]]}, "within the picture"),
        ({"boxes": [[-5, 5, 20, 40]]}, "within the picture"),
        ({"boxes": [[1, 2, 3]]}, "not a box"),
        ({"boxes": [[1, 2, 30, 40], [2, 2, 9, 9]], "points": [[5, 5, 1]]}, "together"),
        ({"points": "5,5"}, "points is"),
    ],
)
def test_prompts_that_make_no_sense_are_refused(
    tmp_path: Path, graphs: dict[str, Path], picture: Path, prompts: dict[str, Any], reason: str
) -> None:
    error = _refused(_step(tmp_path, graphs, picture, **prompts))
    assert reason in error.what
    assert error.why
    assert error.next


def test_a_picture_that_is_none_is_refused_by_its_own_name(
    tmp_path: Path, graphs: dict[str, Path]
) -> None:
    path = tmp_path / "photo"
    path.write_text("<html>404</html>", encoding="utf-8")
    error = _refused(_step(tmp_path, graphs, path, points=[[1, 1, 1]], picture_name="cat.jpg"))
    assert "cat.jpg" in error.what


def test_a_graph_that_cannot_be_loaded_fails_the_stage(
    tmp_path: Path, graphs: dict[str, Path]
) -> None:
    broken = tmp_path / "decoder.onnx"
    broken.write_bytes((graphs["image"] / "decoder.onnx").read_bytes()[:100])
    files = {"encoder": graphs["image"] / "encoder.onnx", "decoder": broken}
    with pytest.raises(StageError) as caught:
        open_graphs(_contract(mask_prompt=True), files, 1)
    assert caught.value.exit_code == 5
    assert "decoder.onnx" in caught.value.what


def _colourful(request: Request) -> Drawing:
    """A family that takes no prompts."""
    return Drawing(
        overlay=request.picture[::-1],
        captions=[Caption(text="upside down")],
        pictures={"left": request.picture[:, :9], "grey": request.picture[..., 0]},
        says=["it stands on its head"],
        figures={"turned": 180, "threads": "many"},
        seconds={"features": 0.123456},
    )


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A family's module, made up."""
    module = SimpleNamespace(predict=_colourful)
    monkeypatch.setitem(sys.modules, "exporters.made_up", module)
    return module


def _made_up(step: Step) -> Step:
    contract = {**step.params["contract"], "yields": "feature map"}
    return replace(
        step,
        modules=("exporters.stages.predict", "exporters.made_up"),
        params={**step.params, "contract": contract},
    )


@pytest.mark.parametrize("random_weights", [False, True])
def test_what_a_family_draws_is_written_and_told(
    tmp_path: Path,
    graphs: dict[str, Path],
    picture: Path,
    family: SimpleNamespace,
    random_weights: bool,
) -> None:
    step = _made_up(_step(tmp_path, graphs, picture, random_weights=random_weights))
    result = run(step)
    assert result.outputs == ["overlay.png", "left.png", "grey.png"]
    pixels = np.asarray(Image.open(picture))
    banner = "random weights: this feature map means nothing" if random_weights else ""
    expected = draw_sheet(pixels[::-1], [Caption(text="upside down")], banner=banner)
    np.testing.assert_array_equal(np.asarray(Image.open(step.out / "overlay.png")), expected)
    np.testing.assert_array_equal(np.asarray(Image.open(step.out / "left.png")), pixels[:, :9])
    np.testing.assert_array_equal(np.asarray(Image.open(step.out / "grey.png")), pixels[..., 0])
    assert result.metrics == {
        "turned": 180,
        "picture": {"height": HEIGHT, "width": WIDTH},
        "pictures": ["overlay", "left", "grey"],
        "says": ["it stands on its head"],
        "random_weights": random_weights,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "seconds": {"features": 0.1235},
        "threads": 1,
    }


def test_a_family_is_given_the_request(
    tmp_path: Path, graphs: dict[str, Path], picture: Path, family: SimpleNamespace
) -> None:
    requests: list[Request] = []

    def predict(request: Request) -> Drawing:
        requests.append(request)
        return _colourful(request)

    family.predict, family.TAKES_PROMPTS = predict, True
    step = _made_up(_step(tmp_path, graphs, picture, mask=picture, points=[[1, 1, 1]]))
    run(step)
    (request,) = requests
    assert request.files == {name: step.inputs[f"{name}.onnx"] for name in ("encoder", "decoder")}
    assert (request.params, request.inputs) == (step.params, step.inputs)
    assert request.contract == step.params["contract"]
    assert request.threads == 1


@pytest.mark.parametrize(
    ("prompts", "flags"),
    [
        ({"points": [[5, 5, 1]]}, "--point"),
        ({"boxes": [[5, 5, 9, 9]]}, "--box"),
        ({"points": [[5, 5, 1]], "boxes": [[5, 5, 9, 9]], "mask": Path()}, "--box and --mask"),
    ],
)
def test_a_family_without_prompts_refuses_them(
    tmp_path: Path,
    graphs: dict[str, Path],
    picture: Path,
    family: SimpleNamespace,
    prompts: dict[str, Any],
    flags: str,
) -> None:
    given = {**prompts, "mask": picture} if "mask" in prompts else prompts
    error = _refused(_made_up(_step(tmp_path, graphs, picture, **given)))
    assert "takes no prompts" in error.what
    assert flags in error.next


@pytest.mark.parametrize("contract", ["image", "treedect"])
def test_the_published_example_runs_beside_its_graphs(
    tmp_path: Path, graphs: dict[str, Path], picture: Path, contract: str
) -> None:
    published = tmp_path / "target"
    published.mkdir()
    for name in ("encoder.onnx", "decoder.onnx"):
        (published / name).symlink_to(graphs[contract] / name)
    source = ROOT / "catalog" / "examples" / f"{contract}.py"
    (published / "example.py").write_bytes(source.read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", published / "example.py", picture, "90", "20"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "predicted IoU 0.750" in done.stdout
    mine = np.asarray(Image.open(tmp_path / "mask.png")) > 0
    step = _step(tmp_path, graphs, picture, contract=contract, points=[[90, 20, 1]])
    np.testing.assert_array_equal(mine, _mask(run(step), step))


def test_the_stage_runs_through_the_protocol(
    tmp_path: Path, graphs: dict[str, Path], picture: Path
) -> None:
    inputs = {name: str(graphs["image"] / name) for name in ("encoder.onnx", "decoder.onnx")}
    document = {
        "protocol": 1,
        "step": "predict",
        "stage": "predict",
        "modules": ["exporters.stages.predict", "exporters.sam2.image.predict"],
        "params": {
            "contract": _contract(mask_prompt=True),
            "points": [[500, 20, 1]],
            "random_weights": False,
        },
        "inputs": inputs | {"picture": str(picture)},
        "threads": 1,
        "seed": 0,
    }
    (tmp_path / "step.json").write_text(json.dumps(document), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "exporters", tmp_path / "step.json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    error = json.loads((tmp_path / "error.json").read_text(encoding="utf-8"))
    assert done.returncode == error["exit_code"] == 2
    assert "outside the picture" in error["what"]
