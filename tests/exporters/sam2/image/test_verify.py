"""The check is itself checked: every fault that is put into a model must be found."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from exporters.checks.parity import LoopCheck, ScoreCheck, TensorCheck
from exporters.checks.reference import Reference, Run
from exporters.checks.runtime import Runtime
from exporters.checks.verdict import require_ok
from exporters.protocol import StageError
from exporters.sam2.image.verify import check
from tests.exporters.faults import Found, find_faults
from tests.exporters.shrunken import ARCHITECTURE, PATCHES, UPSTREAM, Done, shrink

Array = NDArray[Any]


def _files(done: Done, contract: str = "image") -> dict[str, Path]:
    return {graph["file"]: done[graph["file"]] for graph in shrink(contract)["graphs"]}


def _edit(
    done: Done, folder: Path, graph: str, name: str, change: Callable[[Array], Array]
) -> dict[str, Path]:
    """The files of a conversion with one weight of one graph changed."""
    model = onnx.load_model(done[graph])
    (found,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith(name)]
    before = numpy_helper.to_array(found)
    after = np.ascontiguousarray(change(before))
    assert not np.array_equal(before, after)
    found.CopyFrom(numpy_helper.from_array(after, found.name))
    onnx.save_model(model, folder / graph)
    return {**_files(done), graph: folder / graph}


Judge = Callable[[Run], None]


@pytest.fixture
def judge(reference: Done, few_cases: Path) -> Judge:
    """Raises what `verify` does, after a few cases."""
    cases = Reference(few_cases, reference["tensors.safetensors"])
    return lambda run: require_ok(list(check(run, shrink("image"), cases)))


@pytest.mark.parametrize("contract", ["image", "treedect"])
def test_graphs_match_upstream(contract: str, verified: Callable[..., Done]) -> None:
    done = verified(contract)
    summary = done.metrics["summary"]
    assert len(summary["worst"]) == 5
    assert all(worst["relative"] <= 1e-5 for worst in summary["worst"].values())
    assert summary["masks_counted"] > summary["masks"] / 2
    assert summary["lowest_iou"] >= 0.999
    assert summary["scores"]["relative"] <= 1e-5
    assert summary["scores"]["cases"] == len({mask["case"] for mask in done.metrics["masks"]})


def test_dynamic_batches_and_absent_masks_are_among_the_cases(
    verified: Callable[..., Done],
) -> None:
    treedect = json.loads(verified("treedect")["verification.json"].read_text())
    cases = {tensor["case"] for tensor in treedect["tensors"]}
    assert {"astronaut.jpg in a batch of 2", "noise"} <= cases
    assert not any("mask" in case for case in cases)
    image = verified("image").metrics["tensors"]
    sizes = {tensor["case"].partition("/")[2] for tensor in image}
    assert {"a mask", "two masks", "three sets, one mask", "three boxes"} <= sizes


@pytest.mark.parametrize(
    ("graph", "name", "change"),
    [
        ("encoder.onnx", "trunk.pos_embed", np.zeros_like),
        ("encoder.onnx", "trunk.pos_embed_window", np.zeros_like),
        ("encoder.onnx", "trunk.pos_embed", lambda table: table.swapaxes(2, 3)),
        ("encoder.onnx", "blocks.3.attn.proj.bias", np.zeros_like),
        ("encoder.onnx", "blocks.0.norm1.bias", np.zeros_like),
        ("decoder.onnx", "pe_layer.positional_encoding_gaussian_matrix", lambda table: table[::-1]),
        ("decoder.onnx", "layers.1.norm3.bias", np.zeros_like),
        ("decoder.onnx", "mask_downscaling.6.bias", np.zeros_like),
    ],
)
def test_one_wrong_weight_is_found(
    graph: str,
    name: str,
    change: Callable[[Array], Array],
    converted: Callable[..., Done],
    judge: Judge,
    tmp_path: Path,
) -> None:
    files = _edit(converted(), tmp_path, graph, name, change)
    run = Runtime({name: files[f"{name}.onnx"] for name in ("encoder", "decoder")}, threads=1).run
    with pytest.raises(StageError, match="comparisons with unpatched PyTorch failed") as failure:
        judge(run)
    assert failure.value.exit_code == 6
    assert graph.removesuffix(".onnx") in failure.value.why
    assert "the bound is 1e-05" in failure.value.why


FAULTS = [
    ("encoder", "drop a block"),
    ("encoder", "swap two blocks"),
    ("decoder", "swap two decoder layers"),
    ("decoder", "forget the padding point"),
]


@pytest.fixture(scope="module")
def found(
    scratch: Callable[[str], Path], weights: Path, reference: Done, few_cases: Path
) -> Mapping[tuple[str, str], Found | None]:
    """What is found first in modules with faults, and in those without."""
    golden = shrink("image")
    params = {
        **ARCHITECTURE,
        "upstream": UPSTREAM,
        "options": golden["options"],
        "graphs": golden["graphs"],
        "golden": golden,
    }
    inputs = {
        "weights.safetensors": weights,
        "cases.json": few_cases,
        "tensors.safetensors": reference["tensors.safetensors"],
    }
    faults = [("", ""), *(("", mutation) for _, mutation in FAULTS)]
    return find_faults(scratch("faults"), "sam2.image", faults, params, inputs)


@pytest.mark.parametrize(("graph", "mutation"), FAULTS)
def test_a_wrong_structure_is_found(
    graph: str, mutation: str, found: Mapping[tuple[str, str], Found | None]
) -> None:
    assert found["", ""] is None
    fault = found["", mutation]
    assert fault is not None and fault["graph"] == graph
    assert fault["relative"] > fault["bound"]


def test_a_patch_that_changes_one_number_is_found(
    export: Callable[..., Done],
    converted: Callable[..., Done],
    verify: Callable[..., Done],
    tmp_path: Path,
) -> None:
    name = "patches/0002-position-table.patch"
    text = PATCHES[name].read_text(encoding="utf-8")
    assert text.count("a = -0.75") == 1
    wrong = tmp_path / "wrong.patch"
    wrong.write_text(text.replace("a = -0.75", "a = -0.74"), encoding="utf-8")
    golden, _ = shrink("image")["graphs"]
    traced = export(graphs=[golden], patches={**PATCHES, name: wrong})
    files = {**_files(converted()), golden["file"]: traced[golden["file"]]}
    with pytest.raises(StageError, match="unpatched PyTorch") as failure:
        verify(files, quick=True)
    assert failure.value.exit_code == 6


@pytest.mark.parametrize("graph", ["encoder", "decoder"])
def test_one_percent_of_any_tensor_is_found(
    graph: str, converted: Callable[..., Done], reference: Done
) -> None:
    """Every eighth tensor of a graph in turn; one case is enough to notice."""
    golden = shrink("image")
    cases = Reference(reference["cases.json"], reference["tensors.safetensors"])
    wanted = ("a box and points", "three sets, padded", "two masks")
    coffee = next(p for p in cases.document["pictures"] if p["name"] == "coffee.jpg")
    prompts = [p for p in coffee["prompts"] if p["name"] in wanted]
    cases.document = {"pictures": [{**coffee, "prompts": prompts}]}
    models = {name: onnx.load_model(converted()[f"{name}.onnx"]) for name in ("encoder", "decoder")}
    sessions = {name: _session(model) for name, model in models.items()}

    def run(name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        session = sessions[name]
        feeds = {value.name: inputs[value.name] for value in session.get_inputs()}
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, session.run(None, feeds), strict=True))

    assert all(found.ok for found in check(run, golden, cases))
    weights = [
        tensor
        for tensor in models[graph].graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
        and math.prod(tensor.dims) >= 16
        and not tensor.name.endswith("k_proj.bias")  # softmax does not see a shift of all scores
    ]
    for tensor in weights[::8]:
        before = onnx.TensorProto()
        before.CopyFrom(tensor)
        wrong = numpy_helper.to_array(tensor) * np.float32(1.01)
        tensor.CopyFrom(numpy_helper.from_array(wrong, tensor.name))
        sessions[graph] = _session(models[graph])
        assert not all(found.ok for found in check(run, golden, cases)), tensor.name
        tensor.CopyFrom(before)


def _run_with(done: Done, changed: Callable[[str, dict[str, Array]], None]) -> Any:
    """Runs a conversion's graphs; `changed` may alter what comes out."""
    files = {name: done[f"{name}.onnx"] for name in ("encoder", "decoder")}
    runtime = Runtime(files, threads=1)

    def run(name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        outputs = runtime.run(name, inputs)
        changed(name, outputs)
        return outputs

    return run


def test_the_scores_of_both_graphs_together_are_compared(
    converted: Callable[..., Done], reference: Done
) -> None:
    """The decoder is right by itself; only what it makes of the encoder's features is off."""
    cases = Reference(reference["cases.json"], reference["tensors.safetensors"], {"decoder"})
    (coffee,) = [p for p in cases.document["pictures"] if p["name"] == "coffee.jpg"]
    cases.document = {"pictures": [{**coffee, "prompts": coffee["prompts"][:2]}]}

    def shift(name: str, outputs: dict[str, Array]) -> None:
        if name == "decoder":
            outputs["iou_predictions"] += np.float32(1e-3)

    for changed, good in ((lambda *_: None, True), (shift, False)):
        checks = list(check(_run_with(converted(), changed), shrink("image"), cases))
        scores = [one for one in checks if isinstance(one, ScoreCheck)]
        assert [one.ok for one in scores] == [good, good]
        assert all(one.ok for one in checks if not isinstance(one, ScoreCheck))


def test_a_graph_that_is_verified_already_runs_only_with_the_others(
    converted: Callable[..., Done], reference: Done
) -> None:
    files = (reference["cases.json"], reference["tensors.safetensors"])
    ran: list[str] = []
    found = {}
    for untouched in ((), ("decoder",), ("encoder",)):
        cases = Reference(*files, untouched)
        cases.document = {"pictures": cases.document["pictures"][:1]}
        ran.clear()
        run = _run_with(converted(), lambda name, _: ran.append(name))
        found[untouched] = list(check(run, shrink("image"), cases))
        tensors = {one.graph for one in found[untouched] if isinstance(one, TensorCheck)}
        assert tensors == {"encoder", "decoder"} - set(untouched)
        prompts = len(cases.document["pictures"][0]["prompts"])
        assert ran.count("decoder") == prompts * (1 if untouched == ("decoder",) else 2)
    together = [
        [one for one in all_ if not isinstance(one, TensorCheck)] for all_ in found.values()
    ]
    assert together[0] == together[1] == together[2]


def test_photographs_are_told_from_made_up_pictures(
    converted: Callable[..., Done], reference: Done
) -> None:
    cases = Reference(reference["cases.json"], reference["tensors.safetensors"])
    wanted = ("coffee.jpg", "black", "white", "noise")
    pictures = [p for p in cases.document["pictures"] if p["name"] in wanted]
    cases.document = {"pictures": [{**p, "prompts": p["prompts"][:1]} for p in pictures]}
    for one in check(_run_with(converted(), lambda *_: None), shrink("image"), cases):
        assert not isinstance(one, LoopCheck)
        assert one.photograph == one.case.startswith("coffee.jpg")


def _session(model: onnx.ModelProto) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def test_a_graph_that_does_not_load_is_refused(
    converted: Callable[..., Done], verify: Callable[..., Done], tmp_path: Path
) -> None:
    broken = tmp_path / "encoder.onnx"
    broken.write_bytes(converted()["encoder.onnx"].read_bytes()[:1000])
    with pytest.raises(StageError, match=r"encoder\.onnx is not an ONNX model"):
        verify({**_files(converted()), "encoder.onnx": broken})


def test_a_graph_of_another_contract_is_refused(
    converted: Callable[..., Done], verify: Callable[..., Done]
) -> None:
    with pytest.raises(StageError, match="is not the contract image's") as failure:
        verify(_files(converted("treedect")))
    assert failure.value.exit_code == 6
    assert "batch" in failure.value.why
