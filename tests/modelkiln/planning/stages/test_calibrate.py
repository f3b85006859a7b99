"""Stage calibrate: what it sees and is told, and who shares it."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from modelkiln.catalog.pictures import spare
from modelkiln.planning.graph import SourceFile, StepOutput
from tests.modelkiln.lower_precision import CALIBRATE, FP8, HALF, INT8, NAME, Steps, own


def test_calibration_sees_the_graphs_and_the_pictures_in_order(steps: Steps) -> None:
    step = steps(INT8)[CALIBRATE]
    convert = f"{NAME}/image/convert"
    pictures = list(step.params["pictures"])
    assert pictures == sorted(pictures) and len(pictures) == 16
    assert pictures[0].startswith("calibration/00000-")
    assert set(step.inputs) == {"encoder.onnx", "decoder.onnx", *pictures}
    assert step.inputs["decoder.onnx"] == StepOutput(step=convert, name="decoder.onnx")
    assert all(isinstance(step.inputs[name], SourceFile) for name in pictures)
    params = {n: v for n, v in step.params.items() if n not in ("graphs", "preprocessing")}
    assert params == {
        "quantized": ["encoder"],
        "halved": [],
        "options": {"mask_prompt": True},
        "op_types": ["MatMul"],
        "observe": "inputs",
        "calib_method": "max",
        "calib_size": 16,
        "use_random_calib": False,
        "calibration_eps": ["cpu"],
        "pictures": pictures,
    }
    assert [graph["name"] for graph in step.params["graphs"]] == ["encoder", "decoder"]
    assert step.params["preprocessing"]["size"] == 1024
    json.dumps(step.params)


def test_one_calibration_serves_formats_and_layouts(steps: Steps) -> None:
    found = steps(INT8, f"{INT8}@explicit", f"{INT8}@weights-qdq-true", FP8)
    assert [name for name, one in found.items() if one.stage == "calibrate"] == [CALIBRATE]
    quantize = [one for one in found.values() if one.stage == "quantize"]
    assert len(quantize) == 4
    for one in quantize:
        assert one.inputs["calibration.json"] == StepOutput(step=CALIBRATE, name="calibration.json")
    said = [
        (p["mode"], p["layout"], p["dtype"], p["qdq_for_weights"], p["opset"])
        for p in (one.params for one in quantize)
    ]
    assert said == [
        ("int8", "onnxruntime", "fp32", False, 18),
        ("int8", "explicit", "fp32", False, 18),
        ("int8", "onnxruntime", "fp32", True, 18),
        ("fp8", "explicit", "fp32", False, 21),
    ]


def test_where_float16_comes_all_values_are_observed(steps: Steps) -> None:
    found = steps(f"{INT8}@fp16", f"{FP8}@fp16", INT8, HALF)
    calibrate = {name: one for name, one in found.items() if one.stage == "calibrate"}
    # Scales and values in one pass, for both formats with integers; fewer pictures for none.
    whole = f"{NAME}/image/calibrate@calib4.cpu.graphs-encoder+decoder.tensors"
    assert set(calibrate) == {CALIBRATE, f"{CALIBRATE}.tensors", whole}
    assert {one.params["observe"] for name, one in calibrate.items() if name != CALIBRATE} == {
        "tensors"
    }
    half = calibrate[whole].params
    assert (half["op_types"], half["calib_method"], half["calib_size"]) == ([], "max", 4)
    assert half["quantized"] == ["encoder", "decoder"]
    taken = {
        name: one.inputs["calibration.json"]
        for name, one in found.items()
        if one.stage == "quantize"
    }
    assert taken[f"{NAME}/image/onnx-fp16/quantize"] == StepOutput(
        step=whole, name="calibration.json"
    )
    for form in ("int8", "fp8"):
        step = found[f"{NAME}/image/onnx-{form}@fp16/quantize"]
        assert step.inputs["calibration.json"].step == f"{CALIBRATE}.tensors"  # type: ignore[union-attr]
        assert (step.params["layout"], step.params["dtype"]) == (
            "onnxruntime" if form == "int8" else "explicit",
            "fp16",
        )
        assert step.params["opset"] == (19 if form == "int8" else 21)
    said = found[f"{NAME}/image/onnx-fp16/quantize"].params["metadata"]
    assert said["modelkiln.calibration"].startswith("range of float16, 4 pictures, sha256:")


def test_noise_can_look_for_the_range_too(steps: Steps) -> None:
    flags = {"use_random_calib": "true"}
    (one,) = (s for s in steps(HALF, parameters=flags).values() if s.stage == "calibrate")
    assert one.id.partition("@")[2] == "cpu.graphs-encoder+decoder.random-true.tensors"


@pytest.mark.parametrize(
    ("flags", "token", "param", "value"),
    [
        ({"calib_method": "entropy"}, "entropy", "calib_method", "entropy"),
        ({"calib_size": "4"}, "calib4", "calib_size", 4),
        ({"use_random_calib": "true"}, "random-true", "use_random_calib", True),
        ({"calibration_eps": "cuda,cpu"}, "cuda", "calibration_eps", ["cuda"]),
        ({"calibration_eps": "cpu,cuda"}, "cpu", "calibration_eps", ["cpu"]),
        (
            {"op_types_to_quantize": "Conv,MatMul"},
            "ops-MatMul+Conv",
            "op_types",
            ["MatMul", "Conv"],
        ),
    ],
)
def test_what_calibration_is_told_is_in_its_name(
    steps: Steps, flags: dict[str, str], token: str, param: str, value: object
) -> None:
    (one,) = (s for s in steps(INT8, parameters=flags).values() if s.stage == "calibrate")
    assert token in one.id.partition("@")[2].split(".")
    assert one.params[param] == value
    assert one.gpu == (token == "cuda")
    count = len(one.params["pictures"])
    assert count == {"calib4": 4 + spare(4), "random-true": 0}.get(token, 16)


def test_the_graphs_say_how_they_were_calibrated(steps: Steps) -> None:
    def metadata(**flags: str) -> Mapping[str, str]:
        (one,) = (s for s in steps(INT8, parameters=flags).values() if s.stage == "quantize")
        said: Mapping[str, str] = one.params["metadata"]
        return said

    plain = metadata()
    assert plain["modelkiln.format"] == "onnx-int8"
    assert plain["modelkiln.calibration"].startswith("max, 16 pictures, sha256:")
    assert metadata(layout="explicit")["modelkiln.format"] == "onnx-int8@explicit"
    random = metadata(use_random_calib="true", calib_method="entropy")
    assert random["modelkiln.calibration"] == "entropy, noise"


def test_noise_is_one_picture_whatever_number_is_the_default(steps: Steps) -> None:
    flags = {"use_random_calib": "true"}
    (one,) = (s for s in steps(INT8, parameters=flags).values() if s.stage == "calibrate")
    assert one.id.partition("@")[2] == "cpu.graphs-encoder.max.ops-MatMul.random-true"
    assert one.params["calib_size"] == 1


def test_pictures_of_one_s_own_enter_by_their_bytes(steps: Steps, own_pictures: Path) -> None:
    found = steps(INT8, parameters=own(own_pictures))
    (step,) = (one for one in found.values() if one.stage == "calibrate")
    names = [f"calibration/0000{n}-{n}.png" for n in range(3)]
    assert step.params["pictures"] == names
    assert step.inputs[names[2]] == SourceFile(path=own_pictures / "2.png")
    assert str(own_pictures) not in json.dumps([dict(one.params) for one in found.values()])
