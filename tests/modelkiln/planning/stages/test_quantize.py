"""Plans of formats of lower precision: their steps, what is shared, and what is in a key."""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelkiln.building import kiln as kilns
from modelkiln.building.build import Built, rests_on
from modelkiln.building.kiln import Kiln
from modelkiln.building.matrix import make_legs
from modelkiln.building.prepare import make_keys, make_plan
from modelkiln.building.session import STEPS, Session
from modelkiln.catalog.pictures import spare
from modelkiln.errors import EnvironmentFailure, UsageError
from modelkiln.planning.graph import SourceFile, Step, StepOutput
from modelkiln.store.records import Blob, Record

MakeKiln = Callable[..., Kiln]
Invoke = Callable[..., "subprocess.CompletedProcess[str]"]
MODEL = "sam2.1_hiera_tiny"
NAME = f"{MODEL}+random0"
INT8, FP8 = f"{MODEL}/image/onnx-int8", f"{MODEL}/image/onnx-fp8"
CALIBRATE = f"{NAME}/image/calibrate@calib16.cpu.graphs-encoder.max.ops-MatMul"


def see_gpu(kiln: Kiln, found: bool) -> Kiln:
    kiln.__dict__["gpu"] = "a GPU, 1" if found else ""
    return kiln


@pytest.fixture
def steps(make_kiln: MakeKiln) -> Callable[..., Mapping[str, Step]]:
    """The steps of targets, on a machine without a GPU unless told otherwise."""

    def plan(*texts: str, gpu: bool = False, **options: Any) -> Mapping[str, Step]:
        kiln = see_gpu(make_kiln(**options), gpu)
        return make_plan(kiln, kiln.targets(texts)).steps

    return plan


Steps = Callable[..., Mapping[str, Step]]


def test_a_target_is_float32_s_steps_and_three_more(steps: Steps) -> None:
    fp32 = steps(f"{MODEL}/image/onnx-fp32")
    found = steps(INT8)
    assert {name: found[name] for name in fp32} == dict(fp32)
    more = [CALIBRATE, f"{NAME}/image/onnx-int8/quantize", f"{NAME}/image/onnx-int8/verify"]
    assert [name for name in found if name not in fp32] == more
    assert [found[name].stage for name in more] == ["calibrate", "quantize", "assess"]
    assert {found[name].environment for name in more} == {"quantize"}
    assert {one.environment for one in fp32.values()} == {"export"}
    assert [found[name].modules for name in more[1:]] == [
        ("exporters.stages.quantize",),
        ("exporters.stages.assess", "exporters.sam2.image.verify"),
    ]
    assert not any(one.gpu for one in found.values())


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
        "options": {"mask_prompt": True},
        "op_types": ["MatMul"],
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
    found = steps(INT8, f"{INT8}@explicit", f"{INT8}@fp16", f"{INT8}@weights-qdq-true", FP8)
    assert [name for name, one in found.items() if one.stage == "calibrate"] == [CALIBRATE]
    quantize = [one for one in found.values() if one.stage == "quantize"]
    assert len(quantize) == 5
    for one in quantize:
        assert one.inputs["calibration.json"] == StepOutput(step=CALIBRATE, name="calibration.json")
    said = [
        (p["mode"], p["layout"], p["dtype"], p["qdq_for_weights"], p["opset"])
        for p in (one.params for one in quantize)
    ]
    assert said == [
        ("int8", "onnxruntime", "fp32", False, 18),
        ("int8", "explicit", "fp32", False, 18),
        ("int8", "onnxruntime", "fp16", False, 19),
        ("int8", "onnxruntime", "fp32", True, 18),
        ("fp8", "explicit", "fp32", False, 21),
    ]


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


def test_formats_without_calibration_have_no_such_step(steps: Steps) -> None:
    every = ["image_encoder", "mask_decoder", "memory_attention", "memory_encoder"]
    for form, quantized in (("onnx-fp16", every), ("onnx-int8-dynamic", ["image_encoder"])):
        found = steps(f"{MODEL}/tracker/{form}")
        step = found[f"{NAME}/tracker/{form}/quantize"]
        assert "calibrate" not in {one.stage for one in found.values()}
        assert set(step.inputs) == set(found[f"{NAME}/tracker/convert"].inputs)
        assert step.params["mode"] == form.removeprefix("onnx-")
        assert step.params["op_types"] == ["MatMul"]
        assert step.params["quantized"] == quantized
        assert len(step.params["graphs"]) == 4
        assert "modelkiln.calibration" not in step.params["metadata"]
        assert step.params["metadata"]["modelkiln.format"] == form


def test_assessment_sees_both_sets_of_graphs(steps: Steps) -> None:
    found = steps(FP8)
    step = found[f"{NAME}/image/onnx-fp8/verify"]
    quantize, convert = f"{NAME}/image/onnx-fp8/quantize", f"{NAME}/image/convert"
    reference = f"{NAME}/image/reference"
    assert step.inputs == {
        "encoder.onnx": StepOutput(step=quantize, name="encoder.onnx"),
        "decoder.onnx": StepOutput(step=quantize, name="decoder.onnx"),
        "quantization.json": StepOutput(step=quantize, name="quantization.json"),
        "fp32/encoder.onnx": StepOutput(step=convert, name="encoder.onnx"),
        "fp32/decoder.onnx": StepOutput(step=convert, name="decoder.onnx"),
        "fp32/verification.json": StepOutput(
            step=f"{NAME}/image/onnx-fp32/verify", name="verification.json"
        ),
        "cases.json": StepOutput(step=reference, name="cases.json"),
        "tensors.safetensors": StepOutput(step=reference, name="tensors.safetensors"),
    }
    assert step.params["opset"] == 21
    assert step.params["contract"]["session"] == {"session.disable_quant_qdq": "1"}
    assert step.params["format"] == {
        "name": "onnx-fp8",
        "gates": {"snr_db": 20.0, "mask_iou": 0.98, "cosine": {"cls_token": 0.999}},
        "session": {"session.disable_quant_qdq": "1"},
        "integer_kernels": False,
        "mode": "fp8",
    }
    assert (step.params["binding"], step.params["cuda"]) == (False, False)


def test_gates_bind_with_real_weights_alone(steps: Steps) -> None:
    official = steps(INT8, weights="official")
    assert official[f"{INT8}/verify"].params["binding"] is True


def test_a_gpu_takes_part_in_the_assessment(steps: Steps) -> None:
    found = steps(INT8, f"{MODEL}/image/onnx-fp32", gpu=True)
    gpu = [name for name, one in found.items() if one.gpu]
    assert gpu == [f"{NAME}/image/onnx-int8/verify"]
    assert found[gpu[0]].params["cuda"] is True


def test_the_opset_is_the_most_that_contract_and_format_need(steps: Steps) -> None:
    found = steps(*(f"{MODEL}/image@opset{n}/onnx-int8@fp16" for n in (17, 20)), FP8)
    opsets = {s.id.split("/")[1]: s.params["opset"] for s in found.values() if "int8" in s.id
              and s.stage == "quantize"}  # fmt: skip
    assert opsets == {"image@opset17": 19, "image@opset20": 20}
    convert = found[f"{NAME}/image@opset17/export"]
    assert convert.params["opset"] == 17


def test_a_data_file_goes_where_weights_no_longer_need_it(steps: Steps) -> None:
    name = "dinov2_vitg14+random0/features"
    found = steps("dinov2_vitg14/features/onnx-int8")
    data = "features.onnx.data"
    (calibrate,) = (one for one in found.values() if one.stage == "calibrate")
    assert data in calibrate.inputs
    assert data in found[f"{name}/onnx-int8/quantize"].inputs
    assert "data" in calibrate.params["graphs"][0]
    assert "data" not in found[f"{name}/onnx-int8/quantize"].params["graphs"][0]
    assert {f"fp32/{data}"} == {
        one for one in found[f"{name}/onnx-int8/verify"].inputs if data in one
    }


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


def test_until_stops_after_each_stage(make_kiln: MakeKiln) -> None:
    kiln = see_gpu(make_kiln(), False)
    targets = kiln.targets(INT8)
    for stage in ("ingest", "export", "convert", "calibrate", "quantize"):
        plan = make_plan(kiln, targets, stage)
        assert [one.stage for one in plan.steps.values()][-1] == stage
        assert plan.targets[0].graphs == plan.targets[0].verify == list(plan.steps)[-1]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(bytes([number]))
    return folder


def own(pictures: Path) -> dict[str, str]:
    return {"image_dir": str(pictures), "image_file_extension": "png", "calib_size": "2"}


def test_pictures_of_one_s_own_enter_by_their_bytes(steps: Steps, pictures: Path) -> None:
    found = steps(INT8, parameters=own(pictures))
    (step,) = (one for one in found.values() if one.stage == "calibrate")
    names = [f"calibration/0000{n}-{n}.png" for n in range(3)]
    assert step.params["pictures"] == names
    assert step.inputs[names[2]] == SourceFile(path=pictures / "2.png")
    assert str(pictures) not in json.dumps([dict(one.params) for one in found.values()])


def key_document(kiln: Kiln, stage: str) -> dict[str, Any]:
    plan = make_plan(kiln, kiln.targets(INT8))
    step = next(one for one in plan.steps.values() if one.stage == stage)
    inputs = [one for one in step.inputs.values() if isinstance(one, StepOutput)]
    records = {
        one.step: Record(
            key="0" * 64,
            step=one.step,
            document={},
            outputs={i.name: Blob(sha256="1" * 64, bytes=1) for i in inputs if i.step == one.step},
            metrics={},
            provenance={},
        )
        for one in inputs
    }
    return next(make_keys(kiln).documents(step, records))


def test_what_the_processor_can_do_is_in_the_keys_of_three_stages(
    make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelkiln.building.prepare.cpu_level", lambda: "x86-64-v3 avx_vnni")
    kiln = see_gpu(make_kiln(), False)
    for stage in ("calibrate", "quantize", "assess"):
        assert key_document(kiln, stage)["cpu"] == "x86-64-v3 avx_vnni"
    for stage in ("export", "convert", "verify"):
        assert "cpu" not in key_document(kiln, stage)


def test_the_gpu_is_in_the_keys_of_the_steps_that_use_it(
    make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    def documents(gpu: str, providers: str) -> dict[str, dict[str, Any]]:
        monkeypatch.setattr(kilns, "gpu_identity", lambda: gpu)
        kiln = make_kiln(parameters={"calibration_eps": providers})
        stages = ("convert", "calibrate", "quantize", "assess")
        return {stage: key_document(kiln, stage) for stage in stages}

    def gpus(gpu: str, providers: str) -> dict[str, str]:
        found = documents(gpu, providers)
        return {stage: one["gpu"] for stage, one in found.items() if "gpu" in one}

    assert gpus("NVIDIA H200, 570.1", "cuda,cpu") == {
        "calibrate": "NVIDIA H200, 570.1",
        "assess": "NVIDIA H200, 570.1",
    }
    assert gpus("NVIDIA H200, 570.2", "cpu,cuda") == {"assess": "NVIDIA H200, 570.2"}
    # Without one the plan can still be shown; what asks for CUDA is refused when it is to run.
    assert gpus("", "cuda") == {"calibrate": "none"}
    assert gpus("", "cpu") == {}
    same = [documents("", providers)["calibrate"] for providers in ("cpu", "cpu,cuda")]
    assert same[0] == same[1]


def test_a_key_follows_the_pictures_and_not_where_they_are(
    make_kiln: MakeKiln, pictures: Path
) -> None:
    def document() -> dict[str, Any]:
        kiln = see_gpu(make_kiln(parameters=own(pictures)), False)
        return key_document(kiln, "calibrate")

    first = document()
    pictures = pictures.rename(pictures.with_name("moved"))
    assert document() == first
    (pictures / "2.png").write_bytes(b"another")
    second = document()
    assert second != first
    (pictures / "3.png").write_bytes(b"one too many")
    assert document() == second


def test_cuda_where_there_is_none_ends_before_anything_runs(
    make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    kiln = see_gpu(make_kiln(parameters={"calibration_eps": "cuda"}), False)
    plan = make_plan(kiln, kiln.targets(INT8))
    ready: list[list[str]] = []

    class Runner:
        def get_ready(self, names: list[str]) -> None:
            ready.append(names)

    monkeypatch.setattr("modelkiln.building.session.require_disk", lambda *_: None)

    def get_ready(kiln: Kiln) -> None:
        session = Session(kiln, plan, Runner(), None)  # type: ignore[arg-type]
        for do in STEPS[:-1]:
            do(session)

    with pytest.raises(EnvironmentFailure, match=r"no GPU for .*calibrate@") as caught:
        get_ready(kiln)
    assert caught.value.exit_code == 4
    assert ready == []
    get_ready(see_gpu(kiln, True))
    assert ready


def test_a_leg_keeps_globs_and_refuses_pictures_of_this_machine(
    make_kiln: MakeKiln, pictures: Path
) -> None:
    kiln = see_gpu(make_kiln(weights="official"), False)
    (leg,) = make_legs(kiln, kiln.targets(f"{MODEL}/image/onnx-*8,{MODEL}/image/onnx-int8@fp16"))
    again = kiln.targets(leg.targets)
    by_name = {one.format_name: one.by_name for one in again}
    assert by_name == {"onnx-int8": False, "onnx-fp8": False, "onnx-int8@fp16": True}
    assert leg.environments == ("export", "quantize")
    kiln = see_gpu(make_kiln(parameters=own(pictures)), False)
    with pytest.raises(UsageError, match="cannot be built by GitHub") as caught:
        make_legs(kiln, kiln.targets(INT8))
    assert str(pictures) in caught.value.why


def test_a_format_with_an_unknown_stage_is_told(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    (target,) = kiln.targets(f"{MODEL}/image/onnx-fp32")
    stages = ("export", "shrink")
    wrong = replace(target, format=replace(target.format, stages=stages))
    with pytest.raises(UsageError, match="has a stage 'shrink'"):
        make_plan(kiln, [wrong])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((INT8, "--calib-method", "minmax"), "max, entropy"),
        ((FP8, "--calib-method", "entropy"), "448"),
        ((INT8, "--quant-mode", "fp8"), "onnx-fp8"),
        ((INT8, "--calibration-eps", "cuda,dml"), "Windows"),
        ((INT8, "--calibration-eps", "cuda,dml,cpu"), "next: Leave dml out of --calibration-eps."),
        ((INT8, "--calib-size", "17"), "Name a folder of more pictures with --image-dir"),
        ((INT8, "--calib-size", "4", "--use-random-calib", "true"), "one picture of it"),
        ((INT8, "--image-input-dimension", "0,1024"), "from 1 to 16384"),
        ((INT8, "--image-input-dimension", "640,480"), "1024,1024"),
        ((INT8, "--calibration", "/nowhere"), "There is no folder /nowhere"),
        ((INT8, "--calibration", "/a", "--image-dir", "/b"), "different folders"),
        ((INT8, "--set", "calib_size=none"), "whole number"),
        ((f"{MODEL}/image/onnx-fp32", "--calib-size", "4"), "None of these targets"),
    ],
)
def test_wrong_options_end_with_2(invoke: Invoke, arguments: tuple[str, ...], said: str) -> None:
    done = invoke("plan", *arguments, "--weights", "random")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr and "next:" in done.stderr
    assert "Traceback" not in done.stderr


def test_flags_reach_the_plan(invoke: Invoke, pictures: Path) -> None:
    flags = ["--calib-size", "2", "--image-file-extension", "png", "--dtype", "fp16"]
    flags += ["--op-types-to-quantize", "MatMul,Conv", "--calibration", str(pictures)]
    done = invoke("plan", INT8, "--weights", "random", "--format", "json", *flags)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    (target,) = told["targets"]
    assert target["target"].startswith(f"{NAME}/image/onnx-int8@calib2.fp16.images-")
    assert target["target"].endswith(".ops-MatMul+Conv.png")
    stages = [one["stage"] for one in told["steps"]]
    assert stages.count("calibrate") == stages.count("quantize") == stages.count("assess") == 1


def test_a_remembered_answer_rests_on_the_pictures(make_kiln: MakeKiln, pictures: Path) -> None:
    kiln = make_kiln(parameters=own(pictures))
    built = Built(published=(), failed=(), seconds={}, records={})
    files = set(rests_on(kiln, built, kiln.targets(INT8)))
    assert files == {pictures, *(pictures / f"{number}.png" for number in range(3))}
    assert not set(rests_on(make_kiln(), built, make_kiln().targets(INT8)))
