"""Every gate binds: each is seen to fail, and to pass."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exporters.protocol import StageError
from tests.quantize.assess_case import GATES, NO_FAULTS, PHOTOGRAPHS, Case, Faults


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("assess"))


def _refused(case: Case, faults: Faults = NO_FAULTS, **changed: Any) -> StageError:
    with pytest.raises(StageError) as failure:
        case.assess(faults, **changed)
    assert failure.value.exit_code == 6
    return failure.value


def test_a_net_that_loses_little_passes_every_gate(case: Case) -> None:
    metrics = case.assess().metrics
    written = case.read()
    assert {key: value for key, value in metrics.items() if key in written} == written
    assert [gate["name"] for gate in written["gates"]] == ["snr_db", "cosine", "snr_db", "mask_iou"]
    assert all(gate["ok"] and gate["value"] > gate["bound"] for gate in written["gates"])
    assert written["untouched"] == ["head"]
    kernels = written["kernels"]["net"]
    assert (kernels["planned"], kernels["integer"], kernels["names"]) == (3, 3, {"QGemm": 3})
    assert written["fp32"]["relative"] == 2e-7
    summary = written["summary"]
    assert summary["linears"] == {"linears": 3, "quantized": 3}
    assert summary["missed"] == [] and summary["binding"]
    assert summary["masks"] == 2 * len(PHOTOGRAPHS)
    assert "seconds" not in json.dumps(written)


def test_quality_is_that_of_the_photographs(case: Case) -> None:
    """Recomputed from the rows and the reference; the noise picture, far outside, has no part."""
    case.assess()
    written = case.read()
    (pooled,) = [one for one in written["quality"]["cpu"] if one["tensor"] == "map"]
    rows = [row for row in written["tensors"] if row["tensor"] == "map"]
    assert [row["photograph"] for row in rows] == [True, True, True, False]
    noise = rows[-1]
    assert noise["snr_db"] < 10 < pooled["snr_db"]
    assert pooled["cases"] == 3
    assert pooled["lowest_snr_db"] == min(row["snr_db"] for row in rows[:-1])
    assert pooled["lowest_cosine"] == min(row["cosine"] for row in rows[:-1])
    assert pooled["lowest_snr_db"] <= pooled["snr_db"] <= max(row["snr_db"] for row in rows)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("kind", ["activation", "weight"])
def test_one_scale_times_four_is_refused(kind: str, layer: int, case: Case) -> None:
    factors = [4 if index == layer else 1 for index in range(3)]
    faults = Faults(activation=factors) if kind == "activation" else Faults(weight=factors)
    failure = _refused(case, faults)
    assert "onnx-int8 loses too much" in failure.what
    assert "SNR of net map is" in failure.why
    assert "the gate snr_db asks for 30" in failure.why


@pytest.mark.parametrize("gate", list(GATES))
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_each_gate_binds_by_itself(gate: str, layer: int, case: Case) -> None:
    factors = [4 if index == layer else 1 for index in range(3)]
    failure = _refused(case, Faults(activation=factors), gates={gate: GATES[gate]})
    assert f"the gate {gate} asks for" in failure.why
    assert {one["name"] for one in case.read()["gates"]} == {gate}
    assert any(not one["ok"] for one in case.read()["gates"])


def test_a_missed_gate_names_graph_tensor_value_and_bound(case: Case) -> None:
    failure = _refused(case, gates={"mask_iou": 0.999})
    (gate,) = case.read()["gates"]
    assert failure.what == "onnx-int8 loses too much: 1 of 1 gates are missed."
    assert failure.why == (
        f"The mask IoU of end to end {gate['tensor']} is {gate['value']:.5f}, "
        "the gate mask_iou asks for 0.999."
    )
    assert "--calibration" in failure.next


def test_random_weights_are_reported_and_do_not_fail(case: Case) -> None:
    faults = Faults(activation=(4, 4, 4))
    written = case.assess(faults, binding=False).metrics
    assert not written["binding"] and not written["summary"]["binding"]
    assert len(written["summary"]["missed"]) == sum(not one["ok"] for one in written["gates"]) > 0


@pytest.mark.parametrize("binding", [True, False])
def test_what_is_no_number_always_fails(binding: bool, case: Case) -> None:
    """Though it comes of the noise picture alone, which no gate looks at."""
    failure = _refused(case, Faults(overflow=True), binding=binding)
    assert "NaN or infinite" in failure.what
    assert "net: cls_token" in failure.why


@pytest.mark.parametrize("binding", [True, False])
@pytest.mark.parametrize("layers", [(0,), (0, 1, 2)])
def test_a_missing_integer_kernel_always_fails(
    layers: tuple[int, ...], binding: bool, case: Case
) -> None:
    """With biases in float32, onnxruntime silently computes the layer in float32."""
    float_bias = [index in layers for index in range(3)]
    failure = _refused(case, Faults(float_bias=float_bias), binding=binding)
    assert f"{len(layers)} of 3 quantized linears run in float32" in failure.why


def test_more_integer_kernels_than_planned_fail(case: Case) -> None:
    graphs = {"net": {"linears": 3, "quantized": 2, "integer_kernels": 2}}
    assert "3 integer kernels ran" in _refused(case, plan={"graphs": graphs}).why


def test_a_format_without_integer_kernels_is_not_asked_for_them(case: Case) -> None:
    metrics = case.assess(Faults(float_bias=(True, True, True)), integer_kernels=False).metrics
    assert metrics["kernels"] == {}


def test_the_graphs_are_held_against_their_contract(case: Case) -> None:
    failure = _refused(case, Faults(drop="map"), binding=False)
    assert failure.what == "The graph net is not the contract small's."
    assert "outputs are cls_token" in failure.why
    assert "opset is 18, not 21" in _refused(case, opset=21).why


def test_a_graph_that_does_not_load_is_refused(case: Case) -> None:
    failure = _refused(case, Faults(foreign=True), binding=False)
    assert failure.what == "ONNX Runtime cannot load the graph net."
    assert "NOT_IMPLEMENTED" in failure.why


def test_the_untouched_graph_must_be_that_of_the_base(case: Case, tmp_path: Path) -> None:
    model = onnx.load_model(case.folder / "head.onnx")
    (weight,) = model.graph.initializer
    other = numpy_helper.to_array(weight) * np.float32(1.001)
    weight.CopyFrom(numpy_helper.from_array(other, weight.name))
    onnx.save_model(model, tmp_path / "head.onnx")
    failure = _refused(case, head=tmp_path / "head.onnx")
    assert failure.why.endswith("equal to float32's are none.")
    assert "quantization.json" in failure.what


def test_an_untouched_graph_is_not_measured_by_itself(case: Case) -> None:
    case.assess()
    assert {row["graph"] for row in case.read()["tensors"]} == {"net"}


def test_gates_with_nothing_to_judge_fail(case: Case) -> None:
    nothing = _refused(case, provider="tests.quantize.blind_family")
    assert nothing.what == "No output of net was compared on a photograph."


def test_a_graph_that_no_case_runs_fails(case: Case) -> None:
    idle = _refused(case, provider="tests.quantize.idle_family", binding=False)
    assert idle.what == "No case runs head."


def test_what_it_gains_is_measured(case: Case) -> None:
    benefit = case.assess().metrics["benefit"]
    sizes = {
        name: ((case.folder / name).stat().st_size, (case.folder / "fp32" / name).stat().st_size)
        for name in ("net.onnx", "head.onnx")
    }
    total, base = (sum(column) for column in zip(*sizes.values(), strict=True))
    assert (benefit["bytes"], benefit["fp32_bytes"]) == (total, base)
    assert benefit["size"] == pytest.approx(total / base, abs=1e-4)
    net, head = benefit["graphs"]["net"], benefit["graphs"]["head"]
    assert set(head) == {"bytes", "fp32_bytes"}
    assert net["seconds"]["cpu"]["runs"] == 5
    speed = net["seconds"]["cpu"]["fp32"] / net["seconds"]["cpu"]["reduced"]
    assert benefit["speed"]["cpu"] == pytest.approx(speed, abs=1e-3)
    assert 0 < net["peak_bytes"] < 1 << 29 and 0 < net["fp32_peak_bytes"] < 1 << 29
    assert benefit["pays"] is True


def test_float32_may_have_a_data_file_that_the_smaller_graph_needs_not(
    case: Case, tmp_path: Path
) -> None:
    model = onnx.load_model(case.folder / "fp32/net.onnx")
    path = tmp_path / "net.onnx"
    onnx.save_model(
        model, path, save_as_external_data=True, location="net.onnx.data", size_threshold=1024
    )
    data = tmp_path / "net.onnx.data"
    base = {"fp32/net.onnx": path, "fp32/net.onnx.data": data}
    net = case.assess(base=base).metrics["benefit"]["graphs"]["net"]
    assert net["fp32_bytes"] == path.stat().st_size + data.stat().st_size
    assert net["fp32_peak_bytes"] > 0
