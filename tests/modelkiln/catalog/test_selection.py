"""Targets of formats with parameters: their names, their flags, and the pictures that calibrate."""

from pathlib import Path
from typing import Any

import pytest

from modelkiln.catalog.catalog import load_catalog
from modelkiln.catalog.pictures import choose_pictures
from modelkiln.catalog.selection import select_targets
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import OfficialWeights
from modelkiln.errors import UsageError
from modelkiln.paths import REPOSITORY
from modelkiln.util.hashing import sha256_file

CATALOG = load_catalog([REPOSITORY / "catalog"])
IMAGE = "sam2.1_hiera_tiny/image"


def targets(*texts: str, **flags: str) -> list[Target]:
    return select_targets(CATALOG, texts, OfficialWeights(), flags)


def names(*texts: str, **flags: str) -> list[str]:
    return [one.name for one in targets(*texts, **flags)]


def refusal(*texts: str, **flags: str) -> str:
    with pytest.raises(UsageError) as caught:
        targets(*texts, **flags)
    assert caught.value.exit_code == 2 and caught.value.next
    return f"{caught.value.what} {caught.value.why} {caught.value.next}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """24 files that are called pictures."""
    room = tmp_path / "mine"
    room.mkdir()
    for number in range(24):
        (room / f"{number:02}.jpg").write_bytes(bytes([number]))
    return room


@pytest.mark.parametrize(
    ("flags", "variant"),
    [
        ({}, ""),
        ({"calib_method": "max", "calib_size": "16", "quant_mode": "int8"}, ""),
        ({"calib_method": "entropy"}, "@entropy"),
        ({"calib_size": "8"}, "@calib8"),
        ({"use_random_calib": "True"}, "@random-true"),
        ({"use_random_calib": "False"}, ""),
        ({"qdq_for_weights": "true"}, "@weights-qdq-true"),
        ({"calibration_eps": "cuda,cpu"}, "@cuda"),
        ({"calibration_eps": "cpu,cuda"}, ""),
        ({"dtype": "fp16"}, "@fp16"),
        ({"op_types_to_quantize": "Conv,MatMul"}, "@ops-MatMul+Conv"),
        ({"layout": "explicit"}, "@explicit"),
        ({"image_input_dimension": "1024,1024"}, ""),
        ({"image_file_extension": "JPG"}, ""),
        ({"calib_size": "8", "dtype": "fp16", "calib_method": "entropy"}, "@calib8.entropy.fp16"),
    ],
)
def test_a_flag_is_spelled_where_it_differs_and_the_name_selects_it_again(
    flags: dict[str, str], variant: str
) -> None:
    (target,) = targets(f"{IMAGE}/onnx-int8", **flags)
    assert target.name == f"{IMAGE}/onnx-int8{variant}"
    assert targets(target.name) == [target]
    reverse = ".".join(reversed(variant.removeprefix("@").split(".")))
    assert names(f"{IMAGE}/onnx-int8@{reverse}" if reverse else target.name) == [target.name]


def test_a_value_equal_to_the_preset_is_not_spelled(tmp_path: Path) -> None:
    (tmp_path / "presets").mkdir()
    text = 'models = ["sam2.1_*"]\n[onnx-int8]\ncalib_size = 4\n'
    (tmp_path / "presets" / "mine.toml").write_text(text)
    catalog = load_catalog([REPOSITORY / "catalog", tmp_path])
    found = select_targets(catalog, ["sam2*_tiny/image/onnx-*8"], OfficialWeights())
    found += select_targets(
        catalog, ["sam2*_tiny/image/onnx-*8"], OfficialWeights(), {"calib_size": "4"}
    )
    sizes = {one.name: one.format_parameters["calib_size"] for one in found}
    assert sizes == {
        "sam2_hiera_tiny/image/onnx-int8": 16,
        "sam2_hiera_tiny/image/onnx-fp8": 16,
        "sam2.1_hiera_tiny/image/onnx-int8": 4,
        "sam2.1_hiera_tiny/image/onnx-fp8": 16,
        "sam2_hiera_tiny/image/onnx-int8@calib4": 4,
        "sam2_hiera_tiny/image/onnx-fp8@calib4": 4,
        "sam2.1_hiera_tiny/image/onnx-fp8@calib4": 4,
    }


@pytest.mark.parametrize(
    ("form", "flag", "text", "said"),
    [
        ("int8", "calib_method", "minmax", "The format allows max, entropy."),
        ("fp8", "calib_method", "entropy", "448"),
        ("int8", "quant_mode", "fp8", "onnx-fp8"),
        ("fp8", "quant_mode", "int8", "onnx-int8"),
        ("int8", "quant_mode", "int4", "allows int8"),
        ("int8", "calib_size", "0", "from 1 to 4096"),
        ("int8", "calib_size", "all", "from 1 to 4096"),
        ("int8", "use_random_calib", "1", "false, true"),
        ("int8", "qdq_for_weights", "no", "false, true"),
        ("int8", "calibration_eps", "dml", "Windows"),
        ("int8", "calibration_eps", "cpu,dml", "Windows"),
        ("int8", "calibration_eps", "cpu,tpu", "cuda, cpu"),
        ("int8", "dtype", "bf16", "fp32, fp16"),
        ("int8", "image_file_extension", "gif", "jpg, jpeg, png, webp"),
        ("int8", "image_input_dimension", "512,512", "pictures of 1024,1024"),
        ("int8", "image_input_dimension", "1024", "HEIGHT,WIDTH"),
        ("int8", "op_types_to_quantize", "Add", "MatMul, Conv"),
        ("int8-dynamic", "op_types_to_quantize", "Conv", "onnx-int8"),
        ("fp8", "layout", "onnxruntime", "one layout"),
        ("int8", "graphs_to_quantize", "encoder,decoder", "keeps its precision"),
        ("fp16", "graphs_to_quantize", "", "allows encoder"),
        ("fp16", "calib_size", "0", "from 1 to 4096"),
        ("int8-dynamic", "calib_size", "8", "None of these targets has a parameter 'calib_size'"),
        ("fp16", "dtype", "fp16", "None of these targets has a parameter 'dtype'"),
        ("fp32", "layout", "explicit", "None of these targets has a parameter 'layout'"),
    ],
)
def test_a_wrong_option_is_told(form: str, flag: str, text: str, said: str) -> None:
    assert said in refusal(f"{IMAGE}/onnx-{form}", **{flag: text})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("onnx-int8@fast", "max, entropy"),
        ("onnx-fp8@entropy", "448"),
        ("onnx-int8@cpu+dml", "Windows"),
        ("onnx-int8@calib0", "from 1 to 4096"),
        ("onnx-int8@max.entropy", "gives calib_method two values"),
        ("onnx-fp16@max", "graphs-encoder+decoder"),
        ("onnx-fp32@explicit", "takes no parameters"),
        ("onnx-int8@images-0123456789ab", "Name the folder: --calibration DIR"),
        ("onnx-int9", "onnx-int8"),
    ],
)
def test_a_wrong_variant_of_a_format_is_told(text: str, said: str) -> None:
    assert said in refusal(f"{IMAGE}/{text}")


def test_of_several_formats_each_takes_what_it_knows_and_allows() -> None:
    assert names(f"{IMAGE}/onnx-*", calib_method="entropy") == [
        f"{IMAGE}/onnx-fp32",
        f"{IMAGE}/onnx-fp16",
        f"{IMAGE}/onnx-int8@entropy",
        f"{IMAGE}/onnx-int8-dynamic",
    ]
    assert names(f"{IMAGE}/onnx-int8,".rstrip(","), calib_size="8,16,32") == [
        f"{IMAGE}/onnx-int8{one}" for one in ("@calib8", "", "@calib32")
    ]
    assert "448" in refusal(f"{IMAGE}/onnx-int8", f"{IMAGE}/onnx-fp8", calib_method="entropy")


def test_memory_attention_is_quantized_on_request() -> None:
    tracker = "sam2.1_hiera_tiny/tracker"
    (target,) = targets(f"{tracker}/onnx-int8", graphs_to_quantize="memory_attention,image_encoder")
    assert target.name == f"{tracker}/onnx-int8@graphs-image_encoder+memory_attention"
    assert target.quantized == ["image_encoder", "memory_attention"]
    assert targets(f"{tracker}/onnx-int8")[0].quantized == ["image_encoder"]


def test_the_input_s_sides_are_those_of_the_target() -> None:
    features = "dinov2_vits14/features"
    dims = {"image_input_dimension": "448,518"}
    assert "--size 448x518" in refusal(f"{features}/onnx-int8", **dims)
    assert "pictures of 518,518" in refusal(f"{features}/onnx-int8", **dims)
    assert names(f"{features}/onnx-int8", size="448x518", **dims) == [
        f"{features}@448x518/onnx-int8"
    ]


def test_own_pictures_are_spelled_by_their_digest(folder: Path) -> None:
    own = choose_pictures(folder, "jpg", 16, sha256_file)
    (target,) = targets(f"{IMAGE}/onnx-int8", image_dir=str(folder))
    assert target.name == f"{IMAGE}/onnx-int8@images-{own.digest[:12]}"
    assert target.pictures == own
    # Its name says it all but where they are.
    assert targets(target.name, image_dir=str(folder)) == [target]
    said = refusal(target.name)
    assert own.digest[:12] in said and "--calibration DIR" in said
    (folder / "00.jpg").write_bytes(b"another")
    assert "those of this one are" in refusal(target.name, image_dir=str(folder))
    assert names(f"{IMAGE}/onnx-int8", image_dir=str(folder)) != [target.name]


def test_what_is_left_out_of_a_folder_changes_no_name(folder: Path) -> None:
    (before,) = names(f"{IMAGE}/onnx-int8", image_dir=str(folder))
    (folder / "23.jpg").unlink()
    (folder / "notes.txt").write_text("no picture")
    assert names(f"{IMAGE}/onnx-int8", image_dir=str(folder)) == [before]
    (folder / "00.jpg").rename(folder / "zz.jpg")
    assert names(f"{IMAGE}/onnx-int8", image_dir=str(folder)) != [before]


def test_a_wrong_folder_is_told(folder: Path, tmp_path: Path) -> None:
    int8 = f"{IMAGE}/onnx-int8"
    empty = tmp_path / "empty"
    empty.mkdir()
    flags: list[tuple[dict[str, Any], str]] = [
        ({"image_dir": str(tmp_path / "gone")}, "There is no folder"),
        ({"image_dir": str(empty)}, "has no pictures"),
        (
            {"image_dir": str(folder), "calib_size": "25"},
            "with --image-dir, or give --calib-size 24.",
        ),
        ({"image_dir": str(folder), "image_file_extension": "png"}, "no png pictures"),
        ({"image_dir": str(folder), "use_random_calib": "true"}, "both given"),
        ({"calib_size": "8", "use_random_calib": "true"}, "one picture of it"),
        ({"image_dir": str(folder / "00.jpg")}, "is not a folder"),
    ]
    for given, said in flags:
        assert said in refusal(int8, **given)


def test_formats_without_calibration_take_no_pictures(folder: Path) -> None:
    found = targets(f"{IMAGE}/onnx-*", image_dir=str(folder))
    own = {one.format.name for one in found if one.pictures}
    assert own == {"onnx-fp16", "onnx-int8", "onnx-fp8"}


def test_a_target_knows_whether_its_name_was_given() -> None:
    (one,) = targets(f"{IMAGE}/onnx-int8")
    assert one.by_name
    for glob in ("tiny/image/onnx-int8*", "tin?/image/onnx-int8", "tiny/image/[o]nnx-int8"):
        assert not any(target.by_name for target in targets(f"sam2.1_hiera_{glob}"))
    for texts in ([one.name, f"{IMAGE}/*"], [f"{IMAGE}/*", one.name]):
        given = {target.name for target in targets(*texts) if target.by_name}
        assert given == {one.name}


def test_what_sessions_need_is_in_the_contract_s_document() -> None:
    golden = {one.format.name: one.golden for one in targets(f"{IMAGE}/*")}
    assert golden["onnx-fp8"]["session"] == {"session.disable_quant_qdq": "1"}
    assert all("session" not in golden[name] for name in golden if name != "onnx-fp8")


def test_only_graphs_that_are_too_large_for_one_file_have_another() -> None:
    found = targets("dinov2_vitg14/features/*")
    assert {one.format.name for one in found if "features.onnx.data" in one.graph_files} == {
        "onnx-fp32",
        "onnx-fp16",
    }
