"""`invoke doctor`: what was found, as lines or as JSON, and how it ends."""

import json
from collections.abc import Callable

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.commands import doctor
from modelkiln.commands.doctor_checks import Surroundings
from modelkiln.commands.doctor_findings import Finding, Severity
from modelkiln.errors import EnvironmentFailure
from tests.modelkiln.catalog.shared import CATALOG

MakeKiln = Callable[..., Kiln]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Surroundings]:
    """What the diagnosis looked at; it finds one warning, and a problem where it is offline."""
    seen: list[Surroundings] = []

    def diagnose(here: Surroundings) -> list[Finding]:
        seen.append(here)
        worst = Severity.PROBLEM if here.offline else Severity.WARNING
        return [Finding(severity=worst, about="disk", message="It is small.", remedy="Buy one.")]

    monkeypatch.setattr(doctor, "diagnose", diagnose)
    return seen


def test_a_warning_stops_nothing(
    make_kiln: MakeKiln, asked: list[Surroundings], capsys: pytest.CaptureFixture[str]
) -> None:
    kiln = make_kiln()
    doctor.examine(kiln)
    said = capsys.readouterr().out
    assert "disk" in said and "It is small." in said and "Buy one." in said
    (here,) = asked
    assert (here.artifacts, here.cache) == (kiln.artifacts, kiln.cache)
    names = [one.name for one in here.environments]
    assert names == sorted(names) and {"bare", "export", "quantize"} <= set(names)
    # Those of formats are all that a format names, each with the formats that want it.
    usable = [one for one in kiln.catalog.formats.values() if not one.unavailable]
    of_formats = {one.environment for one in usable} - {"", "bare", "export"}
    assert set(here.formats) == of_formats == set(names) - {"bare", "export"}
    assert {"onnx-int8", "onnx-fp16"} < set(here.formats["quantize"])
    # Engines need their own environment, and that of the graphs that they are made from.
    assert here.formats["rtx"] == ["rtx-fp16", "rtx-fp32", "rtx-fp8", "rtx-int8"]
    assert {"rtx-fp16", "rtx-fp8", "rtx-int8"} < set(here.formats["quantize"])
    assert not {"rtx-fp32", "onnx-fp32"} & set(here.formats["quantize"])
    assert {"onnx-fp32", "onnx-int8"} < set(here.kinds["onnx-*"].formats)
    assert not here.kinds["onnx-*"].why and not here.kinds["onnx-*"].runs_on_gpu
    assert not here.kinds["rtx-*"].why and here.kinds["rtx-*"].runs_on_gpu
    assert here.kinds["trt-*"].why and "rtx-fp16" in here.kinds["trt-*"].remedy
    assert {one.file for one in here.checkpoints} > {"toy_a.pt", "sam2.1_hiera_tiny.pt"}


def test_which_runtimes_take_a_gpu_is_known_of_all() -> None:
    named = {name for one in CATALOG.formats.values() for name in one.runtimes}
    assert named == doctor.GPU_RUNTIMES | {"onnxruntime"}


def test_a_problem_is_told_and_ends_with_4(
    make_kiln: MakeKiln, asked: list[Surroundings], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        doctor.examine(make_kiln(offline=True), as_json=True)
    assert caught.value.exit_code == 4
    assert "It is small." in json.dumps(json.loads(capsys.readouterr().out))
