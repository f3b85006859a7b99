"""`invoke quantize`: what its stages are told, what is refused before that, what comes out."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.building.once import run_once
from modelkiln.commands import quantize
from modelkiln.commands.quantize import quantize_file
from modelkiln.errors import EnvironmentFailure, KilnError, UsageError, VerificationFailure
from modelkiln.paths import REPOSITORY

MakeKiln = Callable[..., Kiln]
Invoke = Callable[..., "subprocess.CompletedProcess[str]"]
SHIPPED = sorted(path.name for path in (REPOSITORY / "catalog" / "calibration").glob("*.jpg"))

# A graph is a JSON text; what is made of it tells what each stage was given.
STAGES = {
    "inspect_graph": '''
"""Toy inspection."""

import json

from exporters.protocol import Result, Step


def run(step: Step) -> Result:
    """Hands the text on, once it has all its data."""
    text = json.loads(step.input(step.param("source")).read_text())
    data = text.get("data", [])
    file = step.param("file")
    golden = {"name": "model", "file": file, "inputs": [{"name": "pixels", "dims": [1, 3, 8, 9]}]}
    outputs = []
    if all(f"original/{name}" in step.inputs for name in data):
        outputs = [file, *([f"{file}.data"] if data else [])]
        (step.out / file).write_text(json.dumps({"inspected": dict(step.params)}))
        if data:
            (step.out / outputs[1]).write_text(step.input(f"original/{data[0]}").read_text())
    return Result(
        outputs=outputs,
        metrics={
            "graph": golden,
            "height": 8,
            "width": 9,
            "opset": text.get("opset", 17),
            "metadata": {"mine": "kept"},
            "data": data,
        },
    )
''',
    "calibrate": '''
"""Toy calibration."""

import json

from exporters.protocol import Result, Step


def run(step: Step) -> Result:
    """Writes down what it was given."""
    given = {"params": dict(step.params), "inputs": list(step.inputs)}
    (step.out / "calibration.json").write_text(json.dumps(given))
    metrics = {"pictures": 7, "skipped": {"calibration/00000-a.jpg": "The picture a.jpg is cut"}}
    return Result(outputs=["calibration.json"], metrics=metrics)
''',
    "quantize": '''
"""Toy quantization."""

import json

from exporters.protocol import Result, Step


def run(step: Step) -> Result:
    """Writes down what all were given."""
    file = step.param("graphs")[0]["file"]
    made = json.loads(step.input(file).read_text())
    made["calibrated"] = json.loads(step.input("calibration.json").read_text())
    made["quantized"] = dict(step.params)
    (step.out / file).write_text(json.dumps(made))
    (step.out / "quantization.json").write_text("{}")
    outputs = [file, "quantization.json"]
    if f"{file}.data" in step.inputs:
        (step.out / f"{file}.data").write_text("small")
        outputs.append(f"{file}.data")
    left = [{"node": str(n), "op": "Conv", "reason": "it is odd"} for n in range(2)]
    layers = {"quantized": 3, "left_out": left, "integer_kernels": 3}
    return Result(outputs=outputs, metrics={"quantization": {"model": layers}})
''',
    "compare_files": '''
"""Toy comparison."""

from pathlib import Path

from exporters.protocol import NOT_VERIFIED, Result, StageError, Step


def run(step: Step) -> Result:
    """Tells what it was given."""
    if "worse" in step.input(step.param("before")).read_text():
        raise StageError("It is worse.", "It says so.", "Do not.", exit_code=NOT_VERIFIED)
    metrics = {
        "outputs": [
            {"tensor": "embed", "snr_db": 33.26, "cosine": 0.9987654},
            {"tensor": "same", "snr_db": None, "cosine": 1.0},
        ],
        "pictures": sorted(one[9:] for one in step.inputs if one.startswith("pictures/")),
        "runtime": "a runtime",
        "given": {"params": dict(step.params), "inputs": sorted(step.inputs)},
    }
    if step.param("kernels"):
        metrics["integer_kernels"] = 2 if "slow" in step.input(step.param("before")).name else 3
    return Result(outputs=[], metrics=metrics)
''',
}


@pytest.fixture
def kiln(toy_copy: Path, make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch) -> Kiln:
    """A kiln whose stages of these names are toys, in an environment of Python alone."""
    for name, text in STAGES.items():
        (toy_copy / "exporters" / "stages" / f"{name}.py").write_text(text)
    monkeypatch.setattr(quantize, "ENVIRONMENT", "bare")
    return make_kiln(runner="local")


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A graph in the current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return write("mine.onnx")


def write(name: str, **text: Any) -> Path:
    path = Path(name)
    path.write_text(json.dumps(text))
    return path


def fill(folder: str, *names: str) -> str:
    Path(folder).mkdir()
    for name in names:
        (Path(folder) / name).write_text(name)
    return folder


def here() -> dict[str, str]:
    return {path.name: path.read_text() for path in Path().iterdir() if path.is_file()}


def made(name: str = "small.onnx") -> Any:
    return json.loads(Path(name).read_text())


def test_the_result_is_written_and_told(
    kiln: Kiln, graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantize_file(kiln, "mine.onnx", "small.onnx")
    before, after = (Path(name).stat().st_size for name in ("mine.onnx", "small.onnx"))
    assert capsys.readouterr().out.splitlines() == [
        "3 layers in int8: max over 7 pictures",
        "2 left as they were: it is odd",
        "not used: The picture a.jpg is cut",
        "astronaut.jpg, coffee.jpg, rocket.jpg in a runtime, against the graph as it was:",
        "  embed: SNR 33.3 dB, cosine 0.998765",
        "  same: equal, cosine 1.000000",
        f"size: {after / 1000:.1f} kB of {before} bytes, {after / before:.0%}",
        "integer kernels on the CPU: 3",
        f"written: {Path('small.onnx').resolve()}",
    ]
    assert set(here()) == {"mine.onnx", "small.onnx"}


def test_the_stages_are_told_the_defaults(kiln: Kiln, graph: Path) -> None:
    quantize_file(kiln, "mine.onnx", "small.onnx")
    found = made()
    assert found["inspected"] == {
        "source": "original/mine.onnx",
        "file": "small.onnx",
        "shown": "mine.onnx",
        "sides": [],
    }
    golden = {
        "name": "model",
        "file": "small.onnx",
        "inputs": [{"name": "pixels", "dims": [1, 3, 8, 9]}],
    }
    names = [f"calibration/{number:05}-{name}" for number, name in enumerate(SHIPPED)]
    assert len(names) == 16
    calibrated = found["calibrated"]
    assert sorted(calibrated["inputs"]) == sorted([*names, "small.onnx"])
    preprocessing = calibrated["params"].pop("preprocessing")
    assert preprocessing["resize"].startswith("bilinear ")
    assert calibrated["params"] == {
        "graphs": [golden],
        "quantized": ["model"],
        "options": {},
        "op_types": ["MatMul"],
        "observe": "inputs",
        "calib_method": "max",
        "calib_size": 16,
        "use_random_calib": False,
        "calibration_eps": ["cpu"],
        "pictures": names,
    }
    digest = found["quantized"]["metadata"].pop("calibration")
    assert digest.startswith("pictures ")
    assert len(digest) == 9 + 64
    assert found["quantized"] == {
        "mode": "int8",
        "layout": "onnxruntime",
        "graphs": [golden],
        "quantized": ["model"],
        "op_types": ["MatMul"],
        "qdq_for_weights": False,
        "dtype": "fp32",
        "opset": 17,
        "metadata": {"mine": "kept", "precision": "int8"},
    }


def watch_gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """Which stages get a GPU, once they have run."""
    asked: dict[str, bool] = {}

    def watch(kiln: Kiln, name: str, *, gpu: bool = False, **given: Any) -> Any:
        asked[name.partition(" ")[0]] = gpu
        return run_once(kiln, name, gpu=gpu, **given)

    monkeypatch.setattr(quantize, "run_once", watch)
    return asked


def test_the_stages_are_told_the_options(
    kiln: Kiln, graph: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("pics", *(f"{n}.png" for n in range(40)), "0, näme.PNG", "other.jpg")
    kiln.__dict__["gpu"] = "a GPU, 1"
    asked = watch_gpu(monkeypatch)
    quantize_file(
        kiln,
        "mine.onnx",
        "small.onnx",
        quant_mode="fp8",
        calib_size="20",
        qdq_for_weights="TRUE",
        calibration_eps="cuda,cpu",
        dtype="fp16",
        image_dir="pics",
        image_file_extension="png",
        image_input_dimension=" 08,9",
        op_types_to_quantize="conv,MatMul",
        as_json=True,
    )
    found, report = made(), json.loads(capsys.readouterr().out)
    assert [stage for stage, gpu in asked.items() if gpu] == ["calibrate"]
    assert len(asked) == 4
    assert found["inspected"]["sides"] == [8, 9]
    calibrated = found["calibrated"]["params"]
    assert calibrated["op_types"] == ["MatMul", "Conv"]
    assert calibrated["calibration_eps"] == ["cuda"]
    assert calibrated["calib_size"] == 20
    wanted = sorted(path.name for path in Path("pics").glob("*.png"))[:21]
    assert [one[18:] for one in calibrated["pictures"]] == ["0__n_me.PNG", *wanted]
    quantized = found["quantized"]
    assert quantized["mode"] == "fp8"
    assert quantized["layout"] == "explicit"
    assert quantized["qdq_for_weights"] is True
    assert quantized["dtype"] == "fp16"
    assert quantized["opset"] == 21
    given = report["given"]
    assert given["inputs"] == [
        "original/mine.onnx",
        "pictures/astronaut.jpg",
        "pictures/coffee.jpg",
        "pictures/rocket.jpg",
        "small.onnx",
    ]
    assert given["params"]["session"] == {"session.disable_quant_qdq": "1"}
    assert given["params"]["picture"] == "pixels"
    assert given["params"]["before"] == "original/mine.onnx"
    assert given["params"]["after"] == "small.onnx"
    assert given["params"]["kernels"] is False
    assert report["options"]["calib_size"] == 20
    assert report["mode"] == "fp8"
    assert report["layers"]["quantized"] == 3
    assert report["bytes"]["before"] == Path("mine.onnx").stat().st_size


@pytest.mark.parametrize(
    ("opset", "changed", "wanted"),
    [
        (11, {}, 13),
        (17, {"dtype": "fp16"}, 19),
        (17, {"quant_mode": "fp8"}, 21),
        (22, {"quant_mode": "fp8"}, 22),
    ],
)
def test_the_opset_is_raised_where_it_must_be(
    kiln: Kiln, graph: Path, opset: int, changed: dict[str, Any], wanted: int
) -> None:
    write("mine.onnx", opset=opset)
    quantize_file(kiln, "mine.onnx", "small.onnx", calib_size="1", **changed)
    assert made()["quantized"]["opset"] == wanted


def test_noise_needs_no_pictures(
    kiln: Kiln, graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantize_file(kiln, "mine.onnx", "small.onnx", use_random_calib="True")
    assert made()["calibrated"]["params"]["pictures"] == []
    assert made()["calibrated"]["params"]["use_random_calib"] is True
    assert made()["calibrated"]["params"]["calib_size"] == 1
    assert made()["quantized"]["metadata"]["calibration"] == "noise"
    assert "3 layers in int8: max over noise" in capsys.readouterr().out


def test_the_layout_can_be_chosen(kiln: Kiln, graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = watch_gpu(monkeypatch)
    quantize_file(kiln, "mine.onnx", "small.onnx", layout="explicit", calibration_eps="cpu,cuda")
    assert made()["quantized"]["layout"] == "explicit"
    assert made()["calibrated"]["params"]["calibration_eps"] == ["cpu"]
    assert not any(asked.values())


def test_cuda_where_there_is_none_ends_before_anything_starts(
    kiln: Kiln, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kiln.__dict__["gpu"] = ""
    asked = watch_gpu(monkeypatch)
    with pytest.raises(EnvironmentFailure, match=r"no GPU for calibrate mine\.onnx") as caught:
        quantize_file(kiln, "mine.onnx", "small.onnx", calibration_eps="cuda,cpu")
    assert caught.value.exit_code == 4
    assert not asked
    assert set(here()) == {"mine.onnx"}


def test_the_task_hands_on_what_it_is_given(invoke: Invoke, graph: Path) -> None:
    for flags, said in (
        (("--calib-size", "abc"), "calib_size cannot be 'abc'"),
        (("--calib-size", "0"), "calib_size cannot be '0'"),
        (("--layout", "tight"), "layout cannot be 'tight'"),
    ):
        paths = ("--onnx-path", str(graph.absolute()), "--output-path", "small.onnx")
        done = invoke("quantize", *paths, *flags)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_a_false_that_is_written_is_no_truth(kiln: Kiln, graph: Path) -> None:
    quantize_file(
        kiln, "mine.onnx", "small.onnx", use_random_calib="False", qdq_for_weights="False"
    )
    assert made()["calibrated"]["params"]["use_random_calib"] is False
    assert made()["quantized"]["qdq_for_weights"] is False


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"onnx_path": "yours.onnx"}, "There is no file yours.onnx"),
        ({"onnx_path": "room"}, "It is a folder"),
        ({"output_path": "small.bin"}, "--output-path small.onnx"),
        ({"output_path": "new/small.onnx"}, "There is no folder new"),
        ({"output_path": "room.onnx"}, "A folder has this name"),
        ({"output_path": "../here/mine.onnx"}, "would replace mine.onnx"),
        ({"output_path": "hard.onnx"}, "would replace mine.onnx"),
        ({"output_path": "soft.onnx"}, "would replace mine.onnx"),
        ({"quant_mode": "int4"}, "It is one of int8, fp8"),
        ({"calib_method": "median"}, "calib_method cannot be 'median'"),
        ({"calib_method": "entropy", "quant_mode": "fp8"}, "448"),
        ({"onnx_path": ""}, "--onnx-path is empty"),
        ({"output_path": ""}, "--output-path is empty"),
        ({"output_path": "/"}, "It is a folder"),
        ({"output_path": "."}, "--output-path mine.onnx"),
        ({"output_path": "room"}, "--output-path room/mine.onnx"),
        ({"output_path": "~no-such-user/a.onnx"}, "--output-path ~no-such-user/a.onnx"),
        ({"calib_size": "-1"}, "calib_size cannot be '-1'"),
        ({"calib_size": "0"}, "calib_size cannot be '0'"),
        ({"calib_size": "abc"}, "calib_size cannot be 'abc'"),
        ({"calib_size": "5000"}, "calib_size cannot be '5000'"),
        ({"calib_size": "17"}, "has 16 jpg pictures, and --calib-size asks for 17"),
        ({"calib_size": "17"}, "Name a folder of more pictures with --image-dir"),
        ({"calib_size": "16", "use_random_calib": "true"}, "one picture of it"),
        ({"layout": "tight"}, "layout cannot be 'tight'"),
        ({"layout": "onnxruntime", "quant_mode": "fp8"}, "there is one layout"),
        ({"image_input_dimension": "0,9"}, "from 1 to 16384"),
        ({"use_random_calib": "perhaps"}, "use_random_calib cannot be 'perhaps'"),
        ({"qdq_for_weights": "2"}, "qdq_for_weights cannot be '2'"),
        ({"calibration_eps": "dml"}, "DirectML"),
        ({"dtype": "bf16"}, "dtype cannot be 'bf16'"),
        ({"image_dir": "nowhere"}, "There is no folder nowhere"),
        ({"image_dir": "room"}, "room has no pictures"),
        ({"image_dir": "pics"}, "pics has 1 jpg pictures, and --calib-size asks for 16"),
        ({"image_dir": "pics", "image_file_extension": "gif"}, "image_file_extension cannot be"),
        ({"image_dir": "pics", "use_random_calib": "true"}, "were both given"),
        ({"image_input_dimension": "1024"}, "image_input_dimension cannot be '1024'"),
        ({"op_types_to_quantize": "Gelu"}, "op_types_to_quantize cannot be 'Gelu'"),
    ],
)
def test_what_is_wrong_is_told_before_anything_starts(
    kiln: Kiln, graph: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], said: str
) -> None:
    Path("room").mkdir()
    Path("room.onnx").mkdir()
    fill("pics", "a.jpg")
    Path("hard.onnx").hardlink_to(graph)
    Path("soft.onnx").symlink_to(graph)
    before = here()

    def start(*_: object, **__: object) -> None:
        raise AssertionError("it was started")

    monkeypatch.setattr(quantize, "run_once", start)
    given = {"onnx_path": "mine.onnx", "output_path": "small.onnx", **changed}
    with pytest.raises(UsageError) as caught:
        quantize_file(kiln, **given)
    assert said in str(caught.value)
    assert here() == before
    assert not Path("new").exists()


def test_weights_beside_the_graph_go_along(kiln: Kiln, graph: Path) -> None:
    Path("parts").mkdir()
    Path("parts/weights.bin").write_text("many numbers")
    write("mine.onnx", data=["parts/weights.bin"])
    Path("small.onnx").write_text("old")
    Path("small.onnx.data").write_text("old")
    quantize_file(kiln, "mine.onnx", "small.onnx")
    assert "small.onnx.data" in made()["calibrated"]["inputs"]
    assert Path("small.onnx.data").read_text() == "small"
    assert Path("parts/weights.bin").read_text() == "many numbers"


@pytest.mark.parametrize(
    ("data", "output", "said"),
    [
        ("gone.bin", "small.onnx", "has weights in gone.bin, which is not there"),
        ("small.onnx.data", "small.onnx", "would replace small.onnx.data"),
        ("taken.onnx", "taken.onnx", "would replace taken.onnx"),
        ("there.bin", "room.onnx", "A folder has this name"),
    ],
)
def test_weights_that_are_gone_or_would_be_lost_are_told(
    kiln: Kiln, graph: Path, data: str, output: str, said: str
) -> None:
    write("mine.onnx", data=[data])
    for name in ("small.onnx.data", "taken.onnx", "there.bin"):
        Path(name).write_text("weights")
    Path("room.onnx.data").mkdir()
    before = here()
    with pytest.raises(UsageError) as caught:
        quantize_file(kiln, "mine.onnx", output)
    assert said in str(caught.value)
    assert here() == before


def test_a_result_that_fails_leaves_what_was_there(kiln: Kiln, graph: Path) -> None:
    write("mine.onnx", it="is worse")
    Path("small.onnx").write_text("old")
    before = here()
    with pytest.raises(VerificationFailure, match="It is worse"):
        quantize_file(kiln, "mine.onnx", "small.onnx")
    assert here() == before


def test_layers_that_run_in_float32_are_warned_of(
    kiln: Kiln, graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph.rename("slow.onnx")
    quantize_file(kiln, "slow.onnx", "small.onnx")
    assert "computes 1 of 3 quantized layers in float32" in capsys.readouterr().err


def test_no_scratch_is_left(kiln: Kiln, graph: Path) -> None:
    quantize_file(kiln, "mine.onnx", "small.onnx")
    write("mine.onnx", it="is worse")
    with pytest.raises(KilnError):
        quantize_file(kiln, "mine.onnx", "small.onnx")
    assert not list((kiln.artifacts / "scratch").glob("*"))
