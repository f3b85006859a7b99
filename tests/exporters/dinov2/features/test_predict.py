"""DINOv2's picture, of hand-made graphs whose tokens are the mean colours of the patches."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from exporters.media.pictures import preprocess
from exporters.protocol import Result, StageError, Step
from exporters.stages.predict import run

ROOT = Path(__file__).parents[4]


PATCH, VALUES = 14, 5


# Each value of a token from the three mean colours of its patch; no two directions are alike.
MIX = np.array(
    [[0.9, -0.2, 0.1, 0.4, 0.3], [0.1, 0.8, -0.3, 0.2, -0.5], [0.2, 0.1, 0.7, -0.6, 0.1]],
    np.float32,
)


Pixels = NDArray[np.uint8]


def _contract(height: int, width: int, image: str, *, others: bool) -> dict[str, Any]:
    patches = height // PATCH * (width // PATCH)
    outputs: list[tuple[str, list[Any]]] = [("patch_tokens", ["batch", patches, VALUES])]
    if others:
        outputs = [
            ("cls_token", ["batch", VALUES]),
            ("register_tokens", ["batch", 4, VALUES]),
            *outputs,
        ]
    return {
        "name": "features" if others else "treedect-features",
        "yields": "feature map",
        "graphs": [
            {
                "name": "features",
                "file": "features.onnx",
                "inputs": [_port(image, ["batch", 3, height, width])],
                "outputs": [_port(name, dims) for name, dims in outputs],
            }
        ],
    }


def _port(name: str, dims: list[Any]) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "dims": dims}


def _write_graph(path: Path, contract: dict[str, Any]) -> None:
    (graph,) = contract["graphs"]
    image = graph["inputs"][0]["name"]
    nodes = [
        helper.make_node(
            "AveragePool",
            [image],
            ["means"],
            kernel_shape=[PATCH, PATCH],
            strides=[PATCH, PATCH],
        ),
        helper.make_node("Reshape", ["means", "rows"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["colours"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["colours", "mix"], ["patch_tokens"]),
    ]
    if len(graph["outputs"]) > 1:
        nodes += [
            helper.make_node("ReduceMean", ["patch_tokens", "axis"], ["cls_token"], keepdims=0),
            helper.make_node(
                "Slice", ["patch_tokens", "zero", "four", "axis"], ["register_tokens"]
            ),
        ]
    constants = {
        "rows": np.array([0, 3, -1]),
        "mix": MIX,
        "axis": np.array([1]),
        "zero": np.array([0]),
        "four": np.array([4]),
    }
    used = {name for node in nodes for name in node.input}
    inputs, outputs = (
        [
            helper.make_tensor_value_info(one["name"], TensorProto.FLOAT, one["dims"])
            for one in graph[kind]
        ]
        for kind in ("inputs", "outputs")
    )
    initializers = [
        numpy_helper.from_array(value, name) for name, value in constants.items() if name in used
    ]
    body = helper.make_graph(nodes, "features", inputs, outputs, initializers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


MakeStep = Callable[..., Step]


@pytest.fixture
def make_step(tmp_path: Path) -> MakeStep:
    """Makes a step that draws a picture, from its pixels, with a graph of a size."""

    def make(
        pixels: Pixels,
        size: tuple[int, int],
        image: str = "image",
        others: bool = True,
        random_weights: bool = False,
        **params: Any,
    ) -> Step:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        (folder / "out").mkdir(parents=True)
        Image.fromarray(pixels).save(folder / "photo.png")
        contract = _contract(*size, image, others=others)
        _write_graph(folder / "features.onnx", contract)
        return Step(
            step="predict",
            stage="predict",
            modules=("exporters.stages.predict", "exporters.dinov2.features.predict"),
            params={"contract": contract, "random_weights": random_weights, **params},
            inputs={
                "features.onnx": folder / "features.onnx",
                "picture": folder / "photo.png",
            },
            out=folder / "out",
            threads=1,
            seed=0,
        )

    return make


@pytest.fixture
def noise() -> Pixels:
    """A picture without any pattern."""
    return np.random.default_rng(5).integers(0, 256, (60, 100, 3), dtype=np.uint8)


def _pca(step: Step, result: Result) -> Pixels:
    assert list(result.outputs) == ["overlay.png", "pca.png"]
    return np.asarray(Image.open(step.out / "pca.png"))


def _expected_shares(pixels: Pixels, height: int, width: int) -> NDArray[np.float64]:
    image = preprocess(pixels, height, width, Image.Resampling.BICUBIC)[0].astype(np.float64)
    rows, columns = height // PATCH, width // PATCH
    means = image.reshape(3, rows, PATCH, columns, PATCH).mean(axis=(2, 4)).reshape(3, -1)
    tokens = means.T @ MIX
    strengths = np.linalg.svd(tokens - tokens.mean(axis=0), compute_uv=False) ** 2
    return np.asarray(strengths[:3] / strengths.sum())


@pytest.mark.parametrize(("image", "others"), [("image", True), ("img", False)])
def test_figures_and_lines_say_what_was_seen(
    make_step: MakeStep, noise: Pixels, image: str, others: bool
) -> None:
    metrics = run(make_step(noise, (70, 42), image=image, others=others)).metrics
    assert metrics["size"] == {"height": 70, "width": 42}
    assert metrics["grid"] == {"rows": 5, "columns": 3}
    more = {"cls_token": [VALUES], "register_tokens": [4, VALUES]} if others else {}
    assert metrics["tokens"] == {**more, "patch_tokens": [15, VALUES]}
    np.testing.assert_allclose(metrics["variance"], _expected_shares(noise, 70, 42), rtol=1e-4)
    assert metrics["picture"] == {"height": 60, "width": 100}
    assert set(metrics["seconds"]) == {"session_load", "features"}
    one, two, three = (f"{share:.1%}" for share in metrics["variance"])
    assert metrics["says"] == [
        "5 rows of 3 patches, seen 70 pixels high and 42 wide; a token has 5 values",
        f"principal components: {one} of the variance (red), {two} of the variance (green), "
        f"{three} of the variance (blue)",
    ]


def test_a_patch_that_differs_is_coloured_where_it_is(make_step: MakeStep) -> None:
    pixels = np.full((2 * PATCH, 6 * PATCH, 3), 100, dtype=np.uint8)
    pixels[:PATCH, 4 * PATCH : 5 * PATCH] = (250, 100, 100)
    step = make_step(pixels, (2 * PATCH, 6 * PATCH), others=False)
    result = run(step)
    pca = _pca(step, result)
    assert pca.shape == pixels.shape
    centres = pca[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH]
    assert centres.shape == (2, 6, 3)
    # The first direction is MIX's for red, whose largest entry is positive: more red is brighter.
    assert centres[0, 4, 0] > 200
    rest = np.delete(centres[..., 0].ravel(), 4)
    assert rest.max() < 40
    # Nothing else differs.
    assert result.metrics["variance"] == pytest.approx([1, 0, 0])
    assert set(np.unique(pca[..., 1:])) == {128}


def test_the_overlay_shows_the_picture_through_the_colours(
    make_step: MakeStep, noise: Pixels
) -> None:
    noise[:, :50] //= 4
    step = make_step(noise, (28, 28))
    pca = _pca(step, run(step))
    overlay = np.asarray(Image.open(step.out / "overlay.png"))
    drawn = overlay[: round(60 * 768 / 100)]
    assert drawn.shape == (461, 768, 3)
    under = Image.fromarray(noise).resize((768, 461), Image.Resampling.LANCZOS).convert("L")
    grey = np.asarray(under, dtype=np.float64)
    over = np.asarray(Image.fromarray(pca).resize((768, 461), Image.Resampling.BICUBIC), np.float64)
    for channel in range(3):
        seen = np.column_stack([grey.ravel(), over[..., channel].ravel()])
        weights = np.linalg.lstsq(seen, drawn[..., channel].ravel(), rcond=None)[0]
        assert weights == pytest.approx([0.35, 0.65], abs=0.03)
    # A line of what was seen, and one for each component with a swatch of its channel.
    below = overlay[461:].reshape(-1, 3)
    for swatch in ((255, 0, 0), (0, 255, 0), (0, 0, 255)):
        assert (below == swatch).all(axis=1).sum() >= 100


def test_random_weights_put_a_banner_above_the_overlay(make_step: MakeStep, noise: Pixels) -> None:
    def alarms(random_weights: bool) -> int:
        step = make_step(noise, (28, 28), random_weights=random_weights)
        run(step)
        edge = np.asarray(Image.open(step.out / "overlay.png"))[:, :2]
        return int((edge == (186, 18, 28)).all(axis=(1, 2)).sum())

    assert alarms(True) >= 24
    assert alarms(False) == 0


def test_a_picture_is_drawn_the_same_each_time(make_step: MakeStep, noise: Pixels) -> None:
    steps = [make_step(noise, (42, 70)) for _ in range(2)]
    for step in steps:
        run(step)
    for name in ("overlay.png", "pca.png"):
        one, two = ((step.out / name).read_bytes() for step in steps)
        assert one == two


def test_prompts_are_refused(make_step: MakeStep, noise: Pixels) -> None:
    step = make_step(noise, (28, 28), points=[[5, 5, 1]])
    with pytest.raises(StageError) as caught:
        run(step)
    assert caught.value.exit_code == 2
    assert "takes no prompts" in caught.value.what
    assert not list(step.out.iterdir())


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (200, 2)])
def test_pictures_of_any_shape_are_drawn(make_step: MakeStep, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    step = make_step(pixels, (28, 42))
    assert _pca(step, run(step)).shape == (*shape, 3)


def test_one_colour_has_no_components(make_step: MakeStep) -> None:
    pixels = np.full((30, 40, 3), (200, 30, 77), dtype=np.uint8)
    step = make_step(pixels, (42, 42))
    result = run(step)
    assert result.metrics["variance"] == [0, 0, 0]
    assert set(np.unique(_pca(step, result))) == {128}


def test_the_published_example_runs_beside_its_graph(
    make_step: MakeStep, tmp_path: Path, noise: Pixels
) -> None:
    step = make_step(noise, (70, 42), image="img")
    pca = _pca(step, run(step)).astype(int)
    published = tmp_path / "target"
    published.mkdir()
    (published / "features.onnx").symlink_to(step.inputs["features.onnx"])
    source = ROOT / "catalog" / "examples" / "features.py"
    (published / "example.py").write_bytes(source.read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", published / "example.py", step.inputs["picture"]],
        cwd=published,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "patch_tokens [1, 15, 5]" in done.stdout and "cls_token [1, 5]" in done.stdout
    assert "5 rows of 3 patches" in done.stdout
    features = np.load(published / "features.npz")
    np.testing.assert_allclose(
        features["cls_token"], features["patch_tokens"].mean(axis=1), atol=1e-6
    )
    mine = np.asarray(Image.open(published / "pca.png")).astype(int)
    for channel in range(3):
        one, other = mine[..., channel], pca[..., channel]
        # The example leaves the sign as it comes.
        assert min(np.abs(one - other).max(), np.abs(255 - one - other).max()) <= 2
