"""prepare(): one pass from names to what is to be done, which does nothing and says nothing."""

from pathlib import Path
from typing import Any

import pytest

from modelkiln.building import kiln as kilns
from modelkiln.building.build import build
from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import find_environments, make_keys, make_plan, prepare
from modelkiln.errors import UsageError
from modelkiln.planning.graph import StepOutput
from modelkiln.planning.keys import Status
from modelkiln.store.records import Blob, Record
from tests.modelkiln.lower_precision import INT8, MakeKiln, own, see_gpu

TARGET = "toy_a/words/toy-text"


def test_it_makes_nothing_and_says_nothing(
    make_kiln: MakeKiln, toy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepared = prepare(make_kiln(), "toy_*/words/*")
    assert not toy.exists()
    assert capfd.readouterr() == ("", "")
    assert len(prepared.targets) == len(prepared.plan.targets) == 4
    assert list(prepared.resolved) == list(prepared.plan.steps)
    assert prepared.choice is not None
    assert find_environments(prepared.resolved) == {"bare"}
    assert not prepared.is_done


def test_it_gives_the_same_twice(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    first, second = prepare(kiln, TARGET), prepare(kiln, TARGET)
    assert first.plan == second.plan
    assert first.resolved == second.resolved


def test_what_is_done_needs_no_runner(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    build(kiln, prepare(kiln, TARGET))
    again = prepare(make_kiln(), TARGET)
    assert again.is_done
    assert again.choice is None
    assert list(again.records) == list(again.plan.steps)
    assert prepare(make_kiln(runner="local"), TARGET).choice is not None


def test_what_is_not_to_run_needs_no_runner(make_kiln: MakeKiln) -> None:
    prepared = prepare(make_kiln(), TARGET, runs=False)
    assert not prepared.is_done
    assert prepared.choice is None


def test_targets_that_were_selected_are_taken_as_they_are(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    targets = kiln.targets("toy_a/words/*")
    assert prepare(kiln, targets).targets == tuple(targets)
    assert prepare(kiln, "toy_a/words/*,toy_b/words/*").targets[-1].model.name == "toy_b"


def test_until_leaves_out_what_comes_later(make_kiln: MakeKiln) -> None:
    stages = [one.stage for one in prepare(make_kiln(), TARGET, "export").plan.steps.values()]
    assert stages == ["ingest", "export"]


def test_one_target_is_one(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    assert prepare(kiln, TARGET).target.name == "toy_a+random0/words/toy-text"
    with pytest.raises(UsageError, match="'toy_\\*/words/toy-text' names 4 targets"):
        _ = prepare(kiln, "toy_*/words/toy-text").target


def test_a_lost_file_is_work_again(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    build(kiln, prepare(kiln, TARGET))
    record = prepare(kiln, TARGET).records["toy_a+random0/words/export"]
    kiln.store.blob_path(record.outputs["words.txt"].sha256).unlink()
    found = prepare(kiln, TARGET).resolved
    assert found["toy_a+random0/words/export"].status is Status.RUN
    assert found["toy_a+random0/words/convert"].status is Status.PENDING


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
    make_kiln: MakeKiln, own_pictures: Path
) -> None:
    pictures = own_pictures

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
