"""The track stage, run on tiny hand-made graphs that take whatever is bright for the object."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from exporters.graphs.sessions import Sessions
from exporters.media.object_prompts import LARGEST_NUMBER, MAX_OBJECTS
from exporters.media.overlay import canvas_size, draw_overlay, object_tint
from exporters.media.video import open_video, write_video
from exporters.protocol import Result, StageError, Step
from exporters.stages.track import run

SIZE, SIDE, LOW = 64, 4, 16


HEIGHT, WIDTH, FRAMES = 60, 120, 6


NODES = {
    "image_encoder": [
        helper.make_node(
            "AveragePool", ["image"], [name], kernel_shape=[step, step], strides=[step, step]
        )
        for name, step in (
            ("high_res_feats_0", 4),
            ("high_res_feats_1", 8),
            ("pix_feat", 16),
            ("image_embed", 16),
        )
    ],
    "mask_decoder": [
        helper.make_node("Shape", ["point_coords"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "map"], ["maps"], axis=0),
        helper.make_node("Concat", ["batch", "token"], ["tokens"], axis=0),
        helper.make_node("Concat", ["batch", "one"], ["scores"], axis=0),
        helper.make_node("ReduceMean", ["high_res_feats_0", "channel"], ["bright"]),
        helper.make_node("Expand", ["bright", "maps"], ["pred_mask"]),
        helper.make_node("ReduceMax", ["pred_mask", "planes"], ["occ_logit"], keepdims=0),
        helper.make_node("ConstantOfShape", ["tokens"], ["obj_ptr"]),
        helper.make_node("ConstantOfShape", ["scores"], ["iou"]),
    ],
    "memory_attention": [
        helper.make_node("Shape", ["obj_ptrs"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "coarse"], ["shape"], axis=0),
        helper.make_node("Expand", ["pix_feat", "shape"], ["image_embed"]),
    ],
    "memory_encoder": [
        helper.make_node("Shape", ["occ_logit"], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "coarse"], ["shape"], axis=0),
        helper.make_node("Expand", ["pix_feat", "shape"], ["memory_features"]),
    ],
}


CONSTANTS = {
    "map": [1, LOW, LOW],
    "token": [8],
    "one": [1],
    "channel": [1],
    "planes": [2, 3],
    "coarse": [3, SIDE, SIDE],
}


FEATURES = {
    "high_res_feats_0": [1, 3, LOW, LOW],
    "high_res_feats_1": [1, 3, LOW // 2, LOW // 2],
}


COARSE = [1, 3, SIDE, SIDE]


PORTS: dict[str, tuple[dict[str, list[Any]], dict[str, list[Any]]]] = {
    "image_encoder": (
        {"image": [1, 3, SIZE, SIZE]},
        {"pix_feat": COARSE, **FEATURES, "image_embed": COARSE},
    ),
    "mask_decoder": (
        {
            "point_coords": ["batch", "points", 2],
            "point_labels": ["batch", "points"],
            "image_embed": ["batch", *COARSE[1:]],
            **FEATURES,
            "mask_input": ["batch", 1, LOW, LOW],
            "has_mask_input": ["batch"],
        },
        {
            "obj_ptr": ["batch", 8],
            "pred_mask": ["batch", 1, LOW, LOW],
            "iou": ["batch", 1],
            "occ_logit": ["batch", 1],
        },
    ),
    "memory_attention": (
        {
            "pix_feat": COARSE,
            "memory_features": ["batch", "frames", *COARSE[1:]],
            "frames_ago": ["batch", "frames"],
            "obj_ptrs": ["batch", "pointers", 8],
            "obj_ptr_positions": ["batch", "pointers"],
        },
        {"image_embed": ["batch", *COARSE[1:]]},
    ),
    "memory_encoder": (
        {
            "pred_mask": ["batch", 1, LOW, LOW],
            "is_prompted": ["batch"],
            "pix_feat": COARSE,
            "occ_logit": ["batch", 1],
        },
        {"memory_features": ["batch", *COARSE[1:]]},
    ),
}


def _contract(*, extended: bool = True) -> dict[str, Any]:
    def ports(given: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
        return [{"name": name, "dims": dims} for name, dims in given.items()]

    return {
        "name": "tracker-ex" if extended else "tracker",
        "options": {"extended": extended},
        "graphs": [
            {"name": name, "file": f"{name}.onnx", "inputs": ports(taken), "outputs": ports(made)}
            for name, (taken, made) in PORTS.items()
        ],
    }


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    for name, (taken, made) in PORTS.items():

        def infos(ports: Mapping[str, list[Any]]) -> list[Any]:
            return [
                helper.make_tensor_value_info(
                    port, TensorProto.INT64 if port == "frames_ago" else TensorProto.FLOAT, dims
                )
                for port, dims in ports.items()
            ]

        used = {value for node in NODES[name] for value in node.input}
        constants = [
            numpy_helper.from_array(np.array(value, np.int64), key)
            for key, value in CONSTANTS.items()
            if key in used
        ]
        body = helper.make_graph(NODES[name], name, infos(taken), infos(made), constants)
        model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(model)
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    return folder


def _picture(frame: int) -> NDArray[np.uint8]:
    pixels = np.full((HEIGHT, WIDTH, 3), 20, dtype=np.uint8)
    pixels[15:45, 15 * frame : 15 * frame + 30] = 235
    return pixels


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("frames")
    for frame in range(FRAMES):
        Image.fromarray(_picture(frame)).save(folder / f"{frame:05d}.png")
    return {f"frames/{path.name}": path for path in sorted(folder.iterdir())}


def _prompt(number: int = 1, frame: int = 0, **shown: Any) -> dict[str, Any]:
    return {"object": number, "frame": frame, "points": [], "box": None, **shown}


POINT = _prompt(points=[[30, 30, 1]])


def _step(
    folder: Path,
    graphs: Path,
    video: Mapping[str, Path],
    prompts: Any,
    *,
    extended: bool = True,
    **params: Any,
) -> Step:
    out = folder / "out"
    out.mkdir()
    return Step(
        step="track",
        stage="track",
        modules=("exporters.stages.track", "exporters.sam2.tracker.track"),
        params={
            "contract": _contract(extended=extended),
            "prompts": prompts,
            "random_weights": False,
            "as_video": False,
            "masks": True,
            **params,
        },
        inputs={**{path.name: path for path in graphs.iterdir()}, **video},
        out=out,
        threads=1,
        seed=0,
    )


def _labels(step: Step, frame: int) -> NDArray[Any]:
    with Image.open(step.out / f"masks/{frame:05d}.png") as image:
        assert image.mode == "P"
        return np.asarray(image)


def _tracks(step: Step) -> list[dict[str, Any]]:
    lines = (step.out / "tracks.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _check_outputs(result: Result, step: Step) -> None:
    written = sorted(str(p.relative_to(step.out)) for p in step.out.rglob("*") if p.is_file())
    assert sorted(result.outputs) == written


def test_masks_follow_the_object_through_pictures(
    tmp_path: Path, graphs: Path, frames: dict[str, Path]
) -> None:
    step = _step(tmp_path, graphs, frames, [_prompt(7, 1, points=[[30, 30, 1]])])
    result = run(step)
    _check_outputs(result, step)
    assert len(result.outputs) == 2 * FRAMES + 1
    assert not _labels(step, 0).any()
    for frame in range(1, FRAMES):
        labels = _labels(step, frame)
        assert labels.shape == (HEIGHT, WIDTH)
        assert set(np.unique(labels)) == {0, 7}
        rows, columns = np.nonzero(labels)
        assert abs(rows.mean() - 29.5) < 1.5
        assert abs(columns.mean() - (15 * frame + 14.5)) < 3
    tracks = _tracks(step)
    assert [(one["object"], one["frame"]) for one in tracks] == [(7, n) for n in range(1, FRAMES)]
    assert all(one["visible"] is True and one["iou"] == 0 < one["occlusion"] for one in tracks)
    assert all(0.1 < one["coverage"] < 0.2 for one in tracks)
    seconds = result.metrics["seconds"]
    runs = {name: seconds[name]["runs"] for name in PORTS}
    assert runs == {
        "image_encoder": FRAMES - 1,
        "mask_decoder": FRAMES - 1,
        "memory_attention": FRAMES - 2,
        "memory_encoder": FRAMES - 2,
    }
    json.dumps(result.metrics, allow_nan=False)


def test_frames_before_the_first_prompt_are_bare(
    tmp_path: Path, graphs: Path, frames: dict[str, Path]
) -> None:
    step = _step(tmp_path, graphs, frames, [_prompt(1, 2, points=[[40, 30, 1]])])
    run(step)
    for frame in range(FRAMES):
        found = np.asarray(Image.open(step.out / f"overlay/{frame:05d}.png"))
        assert found.shape[:2] == canvas_size(HEIGHT, WIDTH)
        bare = (found == draw_overlay(_picture(frame), [])).all()
        assert bare == (frame < 2)


def test_a_video_becomes_a_video_of_the_same_rate(tmp_path: Path, graphs: Path) -> None:
    with write_video(tmp_path / "in.mp4", None, 1) as write:
        for frame in range(FRAMES):
            write(_picture(frame))
    step = _step(
        tmp_path, graphs, {"video": tmp_path / "in.mp4"}, [POINT], as_video=True, video_name="x.mp4"
    )
    result = run(step)
    _check_outputs(result, step)
    assert "overlay.mp4" in result.outputs and len(result.outputs) == FRAMES + 2
    drawn = open_video(step.out / "overlay.mp4")
    assert drawn.frames == FRAMES
    assert drawn.rate == open_video(tmp_path / "in.mp4").rate
    assert (drawn.height, drawn.width) == canvas_size(HEIGHT, WIDTH)


def test_every_frame_is_drawn_at_one_size_with_its_banner(
    tmp_path: Path, graphs: Path, frames: dict[str, Path]
) -> None:
    prompts = [_prompt(1, 2, points=[[40, 30, 1]]), _prompt(2, 4, box=[60, 15, 90, 45])]
    step = _step(tmp_path, graphs, frames, prompts, random_weights=True)
    run(step)
    sheets = [np.asarray(Image.open(p)) for p in sorted((step.out / "overlay").iterdir())]
    assert len({sheet.shape for sheet in sheets}) == 1
    assert all((sheet[0] == (186, 18, 28)).all() for sheet in sheets)


def test_later_objects_lie_over_earlier_ones_and_wear_their_tints(
    tmp_path: Path, graphs: Path, frames: dict[str, Path]
) -> None:
    prompts = [_prompt(9, 0, points=[[30, 30, 1]]), _prompt(4, 0, points=[[30, 30, 1]])]
    step = _step(tmp_path, graphs, frames, prompts)
    run(step)
    assert set(np.unique(_labels(step, 1))) == {0, 9}
    with Image.open(step.out / "masks/00001.png") as image:
        palette = image.getpalette()
        assert palette is not None
        assert tuple(palette[27:30]) == object_tint(9)
        assert palette[:3] == [0, 0, 0]
    assert [one["object"] for one in _tracks(step)[:2]] == [4, 9]


def test_a_correction_is_made_on_what_was_tracked(
    tmp_path: Path, graphs: Path, frames: dict[str, Path]
) -> None:
    prompts = [_prompt(1, 3, points=[[60, 30, 0]]), POINT]
    step = _step(tmp_path, graphs, frames, prompts)
    metrics = run(step).metrics
    assert len(_tracks(step)) == FRAMES
    assert metrics["seconds"]["mask_decoder"]["runs"] == FRAMES + 1
    assert metrics["seconds"]["memory_attention"]["runs"] == FRAMES
    assert [one["frame"] for one in metrics["prompts"]] == [0, 3]


NO_VIDEO = {"video": Path("/there is none.mp4")}


def _nothing(folder: Path) -> Path:
    nothing = folder / "no graphs"
    nothing.mkdir()
    return nothing


def _refused(step: Step, reason: str) -> None:
    with pytest.raises(StageError) as caught:
        run(step)
    assert caught.value.exit_code == 2
    assert reason in caught.value.what
    assert caught.value.why and caught.value.next
    assert not list(step.out.iterdir())


BOXES = [_prompt(number, 0, box=[0, 0, 9, 9]) for number in range(1, MAX_OBJECTS + 2)]


@pytest.mark.parametrize(
    ("prompts", "reason"),
    [
        ([], "no prompt"),
        (None, "no prompt"),
        ("1,2", "prompts are"),
        ([7], "not a prompt"),
        ([{"object": 1, "points": [[1, 1, 1]]}], "not a prompt"),
        ([_prompt(True, 0, points=[[1, 1, 1]])], "not a prompt"),
        ([_prompt(0, 0, points=[[1, 1, 1]])], "number 0"),
        ([_prompt(LARGEST_NUMBER + 1, 0, points=[[1, 1, 1]])], "number 256"),
        ([POINT, POINT], "twice on frame 0"),
        (BOXES, f"{MAX_OBJECTS + 1} objects are more than fit"),
        ([_prompt(3)], "Object 3 has no prompt on frame 0"),
        ([_prompt(1, -1, points=[[1, 1, 1]])], "on frame -1"),
    ],
)
def test_what_no_video_could_mend_is_refused_before_it_is_read(
    tmp_path: Path, prompts: Any, reason: str
) -> None:
    _refused(_step(tmp_path, _nothing(tmp_path), NO_VIDEO, prompts), reason)


@pytest.mark.parametrize(
    ("prompts", "reason"),
    [
        ([_prompt(1, FRAMES, points=[[1, 1, 1]])], f"on frame {FRAMES}"),
        ([_prompt(2, 1, points=[[WIDTH, 1, 1]])], "outside the picture (object 2 on frame 1)."),
        ([_prompt(2, 1, box=[0, 0, WIDTH + 1, 9])], "does not lie within"),
        ([_prompt(2, 1, box=[5, 5, 5, 9])], "is empty"),
        ([_prompt(2, 1, box=[9, 5, 5, 9])], "is reversed"),
    ],
)
def test_prompts_that_make_no_sense_are_refused_before_a_graph_runs(
    tmp_path: Path, frames: dict[str, Path], prompts: Any, reason: str
) -> None:
    _refused(_step(tmp_path, _nothing(tmp_path), frames, prompts), reason)


def test_twenty_objects_fit(tmp_path: Path, graphs: Path, frames: dict[str, Path]) -> None:
    step = _step(tmp_path, graphs, frames, BOXES[:-1])
    assert len(run(step).metrics["objects"]) == MAX_OBJECTS
    assert len(_tracks(step)) == MAX_OBJECTS * FRAMES


def test_figures_of_frames_are_summed_up_by_object(
    tmp_path: Path, graphs: Path, frames: dict[str, Path]
) -> None:
    """The object is what is bright; from frame 3 on nothing is, so it is seen no more."""
    dark = tmp_path / "dark.png"
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 20, dtype=np.uint8)).save(dark)
    video = {name: path if place < 3 else dark for place, (name, path) in enumerate(frames.items())}
    prompts = [_prompt(9, 1, points=[[30, 30, 1]]), _prompt(4, 0, points=[[30, 30, 1]])]
    step = _step(tmp_path, graphs, video, prompts)
    found = run(step).metrics["objects"]
    tracks = _tracks(step)
    assert [(one["object"], one["first_frame"], one["frames"]) for one in found] == [
        (4, 0, FRAMES),
        (9, 1, FRAMES - 1),
    ]
    assert [one["visible"] for one in found] == [3, 2]
    for one in found:
        lines = [line for line in tracks if line["object"] == one["object"]]
        assert [line["frame"] for line in lines] == list(range(one["first_frame"], FRAMES))
        for figure in ("coverage", "iou"):
            mean = np.mean([line[figure] for line in lines])
            assert one[figure] == pytest.approx(mean)
        assert 0.03 < one["coverage"] < 0.1


def test_masks_are_written_only_where_they_are_asked_for(
    tmp_path: Path, graphs: Path, frames: dict[str, Path]
) -> None:
    step = _step(tmp_path, graphs, frames, [POINT], masks=False)
    result = run(step)
    _check_outputs(result, step)
    assert {name.split("/")[0] for name in result.outputs} == {"overlay", "tracks.jsonl"}
    assert not (step.out / "masks").exists()
    assert len(_tracks(step)) == FRAMES


def test_errors_call_pictures_what_the_user_calls_them(
    tmp_path: Path, graphs: Path, frames: dict[str, Path]
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(frames["frames/00002.png"].read_bytes()[:100])
    video = {**frames, "frames/00002.png": broken}
    names = [f"day {number}.png" for number in range(FRAMES)]
    with pytest.raises(StageError, match=r"day 2\.png \(frame 2\)") as caught:
        run(_step(tmp_path, graphs, video, [POINT], frame_names=names))
    assert caught.value.exit_code == 2
    (tmp_path / "again").mkdir()
    step = _step(tmp_path / "again", graphs, video, [POINT], frame_names=names[1:])
    with pytest.raises(StageError, match=f"given {FRAMES - 1} names for {FRAMES} pictures"):
        run(step)


def test_the_classic_contract_refuses_a_correction_before_the_video_is_read(tmp_path: Path) -> None:
    prompts = [_prompt(1, 3, points=[[60, 30, 0]]), POINT]
    step = _step(tmp_path, _nothing(tmp_path), NO_VIDEO, prompts, extended=False)
    _refused(step, "Object 1 is prompted once more on frame 3")


def test_a_video_of_one_frame_is_refused(
    tmp_path: Path, graphs: Path, frames: dict[str, Path]
) -> None:
    single = dict([next(iter(frames.items()))])
    with pytest.raises(StageError, match="only one frame in the folder holiday"):
        run(_step(tmp_path, graphs, single, [POINT], video_name="holiday"))


def test_a_graph_that_cannot_be_loaded_fails_the_stage(
    tmp_path: Path, graphs: Path, frames: dict[str, Path]
) -> None:
    broken = tmp_path / "mask_decoder.onnx"
    broken.write_bytes((graphs / "mask_decoder.onnx").read_bytes()[:80])
    step = _step(tmp_path, graphs, {**frames, "mask_decoder.onnx": broken}, [POINT])
    with pytest.raises(StageError, match=r"cannot load mask_decoder\.onnx") as caught:
        run(step)
    assert caught.value.exit_code == 5


def test_sessions_keep_no_memory_of_sizes_that_are_gone(
    graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[onnxruntime.SessionOptions] = []

    class Loaded:
        def __init__(self, _: Path, options: onnxruntime.SessionOptions, **__: Any) -> None:
            given.append(options)

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Loaded)
    Sessions({path.stem: path for path in graphs.iterdir()}, 3)
    assert [one.enable_cpu_mem_arena for one in given] == [False] * len(PORTS)
    assert [one.intra_op_num_threads for one in given] == [3] * len(PORTS)
