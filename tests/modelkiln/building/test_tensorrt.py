"""Shapes and lines for TensorRT: read back, and compared with the contracts."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from modelkiln.building.tensorrt import describe_tensorrt, write_shapes
from modelkiln.catalog.catalog import load_catalog
from modelkiln.catalog.profiles import WHICH
from modelkiln.catalog.selection import all_target_names, select_targets
from modelkiln.catalog.target import Target
from tests.modelkiln.catalog.shared import CATALOG, FOLDER, OFFICIAL, add_contract
from tests.modelkiln.toy_builds import folder as toy_folder

Read = dict[str, list[int]]


def targets(*texts: str, **flags: str) -> list[Target]:
    return select_targets(CATALOG, texts, OFFICIAL, flags)


def read_shapes(text: str) -> Read:
    """The shapes of a text, as onnxruntime and trtexec read it."""
    found: Read = {}
    for one in text.split(","):
        name, _, dims = one.rpartition(":")
        assert re.fullmatch("[A-Za-z0-9_]+", name) and name not in found
        found[name] = [int(dim) for dim in dims.split("x")]
    return found


def described(*texts: str) -> Iterator[tuple[Target, Mapping[str, Any], dict[str, Any]]]:
    """Each graph of these targets with what is said of it."""
    for target in targets(*texts):
        said = describe_tensorrt(target)
        if said is not None:
            assert list(said) == [graph["name"] for graph in target.graphs]
            for graph in target.graphs:
                yield target, graph, said[graph["name"]]


def option_texts(said: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The three texts of each provider and of each line, by which."""
    for name in ("trt", "nv"):
        assert set(said[name]) == {f"{name}_profile_{which}_shapes" for which in WHICH}
        yield {which: said[name][f"{name}_profile_{which}_shapes"] for which in WHICH}
    for line in said["trtexec"].values():
        flags = dict(word.split("=", 1) for word in shlex.split(line) if "=" in word)
        yield {which: flags[f"--{which}Shapes"] for which in WHICH}


def check_signature(dims: Mapping[str, Sequence[Any]], shapes: Mapping[str, Read]) -> None:
    """Compare the shapes of one profile with a graph's inputs."""
    dynamic = [name for name, one in dims.items() if any(isinstance(dim, str) for dim in one)]
    for which in WHICH:
        assert list(shapes[which]) == dynamic
        axes: dict[str, int] = {}
        for name in dynamic:
            assert len(shapes[which][name]) == len(dims[name])
            for dim, size in zip(dims[name], shapes[which][name], strict=True):
                if isinstance(dim, str):
                    assert axes.setdefault(dim, size) == size, "an axis has one size"
                else:
                    assert size == dim
    for name in dynamic:
        for low, best, high in zip(*(shapes[which][name] for which in WHICH), strict=True):
            assert 1 <= low <= best <= high


def test_every_target_s_texts_fit_its_contract() -> None:
    dynamic = set()
    for target, graph, said in described(*all_target_names(CATALOG)):
        dims = {value["name"]: value["dims"] for value in graph["inputs"]}
        if not any(isinstance(dim, str) for one in dims.values() for dim in one):
            assert set(said) == {"trtexec"} and "Shapes" not in str(said)
            continue
        dynamic.add((target.contract.name, graph["name"]))
        for texts in option_texts(said):
            shapes = {which: read_shapes(texts[which]) for which in WHICH}
            assert shapes == {
                which: {name: one[which] for name, one in said["shapes"].items()} for which in WHICH
            }
            check_signature(dims, shapes)
            if target.contract.name.startswith("tracker") and "memory_pos_embed" in dims:
                for one in shapes.values():
                    frames, pointers = one["memory_1"], one["memory_0"]
                    rows = frames[1] * frames[3] * frames[4] + pointers[1] * 256 // 64
                    assert one["memory_pos_embed"][1] == rows
    assert {
        ("image", "decoder"),
        ("treedect", "encoder"),
        ("treedect", "decoder"),
        ("tracker", "mask_decoder"),
        ("tracker", "memory_attention"),
        ("tracker", "memory_encoder"),
        ("tracker-ex", "mask_decoder"),
        ("tracker-ex", "memory_encoder"),
        ("features", "features"),
        ("treedect-features", "features"),
    } <= dynamic


def test_deepstream_s_lines_are_nvidia_s() -> None:
    said = {
        graph["name"]: one for _, graph, one in described("sam2.1_hiera_tiny/tracker/onnx-fp16")
    }
    assert said["memory_attention"]["trtexec"]["10"].split() == [
        "trtexec",
        "--onnx=memory_attention.onnx",
        "--saveEngine=memory_attention.engine",
        "--stronglyTyped",
        "--noTF32",
        "--minShapes=memory_0:1x1x256,memory_1:1x1x64x64x64,memory_pos_embed:1x4100x64",
        "--optShapes=memory_0:1x16x256,memory_1:1x7x64x64x64,memory_pos_embed:1x28736x64",
        "--maxShapes=memory_0:1x16x256,memory_1:1x7x64x64x64,memory_pos_embed:1x28736x64",
    ]
    assert said["mask_decoder"]["trt"] == {
        "trt_profile_min_shapes": "point_coords:1x1x2,point_labels:1x1,image_embed:1x256x64x64",
        "trt_profile_opt_shapes": "point_coords:1x2x2,point_labels:1x2,image_embed:1x256x64x64",
        "trt_profile_max_shapes": "point_coords:1x2x2,point_labels:1x2,image_embed:1x256x64x64",
    }
    encoder = said["image_encoder"]["trtexec"]
    assert encoder == {
        "10": "trtexec --onnx=image_encoder.onnx --saveEngine=image_encoder.engine "
        "--stronglyTyped --noTF32",
        "11": "trtexec --onnx=image_encoder.onnx --saveEngine=image_encoder.engine",
    }
    # A fixed size of a dynamic axis is said three times.
    memory = said["memory_encoder"]["shapes"]["occ_logit"]
    assert memory == {"min": [1, 1], "opt": [1, 1], "max": [1, 1]}


@pytest.mark.parametrize(
    ("form", "taken"),
    [
        ("onnx-fp32", True),
        ("onnx-fp16", True),
        ("onnx-fp8", True),
        ("onnx-fp8@fp16", True),
        ("onnx-int8", False),
        ("onnx-int8@calib8", False),
        ("onnx-int8@explicit", True),
        ("onnx-int8@fp16", True),
        ("onnx-int8@calib8.fp16", True),
        ("onnx-int8-dynamic", False),
        ("onnx-int8-dynamic@ops-MatMul", False),
    ],
)
def test_what_the_parser_refuses_has_none(form: str, *, taken: bool) -> None:
    (target,) = targets(f"sam2.1_hiera_tiny/image/{form}")
    assert target.fits_tensorrt is taken
    assert (describe_tensorrt(target) is not None) is taken


def test_a_contract_without_a_profile_has_none(tmp_path: Path) -> None:
    text = (FOLDER / "contracts" / "features.toml").read_text()
    add_contract(tmp_path, "features", text.replace("[profile.features]\nbatch = 1\n", ""))
    catalog = load_catalog([FOLDER, tmp_path])
    (target,) = select_targets(catalog, ["dinov2_vits14/features/onnx-fp32"], OFFICIAL)
    assert target.fits_tensorrt and describe_tensorrt(target) is None
    # Without dynamic axes there is nothing to say.
    add_contract(
        tmp_path,
        "features",
        text.replace("[profile.features]\nbatch = 1\n", "").replace('"batch"', "1"),
    )
    catalog = load_catalog([FOLDER, tmp_path])
    (target,) = select_targets(catalog, ["dinov2_vits14/features/onnx-fp32"], OFFICIAL)
    said = describe_tensorrt(target)
    assert said is not None and set(said["features"]) == {"trtexec"}


def test_texts_are_plain_data() -> None:
    for _, _, said in described("sam2*_tiny/*/onnx-fp*"):
        assert json.loads(json.dumps(said)) == said
    assert write_shapes({"a": {"min": [1, 2], "opt": [3, 4], "max": [5, 6]}}, "opt") == "a:3x4"


def test_a_format_that_is_no_onnx_has_none_in_its_manifest(built: Path) -> None:
    assert "tensorrt" not in json.loads((toy_folder(built) / "manifest.json").read_text())
