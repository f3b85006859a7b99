"""Stage export: what graphs are traced from, and which targets share a trace."""

from pathlib import Path

from modelkiln.planning.graph import SourceFile, StepOutput
from modelkiln.planning.stages.export import read_series
from tests.modelkiln.lower_precision import MODEL, NAME, Steps


def test_it_sees_the_weights_and_the_patches_of_the_series(steps: Steps) -> None:
    step = steps(f"{MODEL}/image/onnx-fp32")[f"{NAME}/image/export"]
    assert step.inputs["weights.safetensors"] == StepOutput(
        step=f"{NAME}/ingest", name="weights.safetensors"
    )
    patches = [name for name in step.inputs if name.startswith("patches/")]
    assert "patches/series" in patches and len(patches) > 1
    series = step.inputs["patches/series"]
    assert isinstance(series, SourceFile)
    assert set(patches) == {f"patches/{name}" for name in read_series(series.path.parent)}
    assert (step.params["contract"], step.params["opset"]) == ("image", 18)
    assert [graph["name"] for graph in step.params["graphs"]] == ["encoder", "decoder"]


def test_targets_that_differ_in_later_stages_alone_share_it(steps: Steps) -> None:
    found = steps(f"{MODEL}/image/onnx-fp32", f"{MODEL}/image@onnxslim/onnx-fp32")
    stages = [one.stage for one in found.values()]
    assert (stages.count("export"), stages.count("convert")) == (1, 2)


def test_another_opset_is_another_trace(steps: Steps) -> None:
    found = steps(f"{MODEL}/image/onnx-fp32", f"{MODEL}/image@opset20/onnx-fp32")
    opsets = {one.id: one.params["opset"] for one in found.values() if one.stage == "export"}
    assert opsets == {f"{NAME}/image/export": 18, f"{NAME}/image@opset20/export": 20}


def test_attention_in_one_piece_is_another_trace_and_the_same_reference(steps: Steps) -> None:
    names = ("tracker", "tracker@whole")
    found = steps(*(f"{MODEL}/{one}/onnx-fp32" for one in names))
    asked = [found[f"{NAME}/{one}/export"].params["attention"] for one in names]
    assert asked == ["split", "whole"]
    graphs = [found[f"{NAME}/{one}/export"].params["graphs"] for one in names]
    assert graphs[0] == graphs[1]
    stages = [one.stage for one in found.values()]
    assert [stages.count(one) for one in ("convert", "reference", "verify")] == [2, 1, 2]


def test_graphs_and_options_are_those_of_the_parameters_values(steps: Steps) -> None:
    found = steps(f"{MODEL}/tracker-ex/onnx-fp32", f"{MODEL}/tracker-ex@static/onnx-fp32")
    dynamic, static = (found[f"{NAME}/{one}/export"] for one in ("tracker-ex", "tracker-ex@static"))
    assert dynamic.params["options"] == {"extended": True, "double_sigmoid": False}
    assert static.params["options"] == {**dynamic.params["options"], "static": True}
    (attention,) = (one for one in static.params["graphs"] if one["name"] == "memory_attention")
    assert attention["inputs"][-1] == {
        "name": "pointers_valid",
        "dtype": "float32",
        "dims": [1, 16],
    }
    stages = [one.stage for one in found.values()]
    assert (stages.count("reference"), stages.count("verify")) == (1, 2)


def test_a_series_lists_its_patches_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "series").write_text("# why\n\n b.patch \na.patch\n#c.patch\n")
    assert read_series(tmp_path) == {
        "series": tmp_path / "series",
        "b.patch": tmp_path / "b.patch",
        "a.patch": tmp_path / "a.patch",
    }
    assert list(read_series(tmp_path)) == ["series", "b.patch", "a.patch"]
