"""The tracker's graphs against upstream, and faults that must not go unnoticed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from exporters.checks.parity import LoopCheck, TensorCheck
from exporters.checks.reference import Arrays
from exporters.checks.runtime import Runtime
from exporters.sam2.tracker.slots import fill_slots, serve_slots
from exporters.sam2.tracker.verify import check
from tests.exporters.faults import Found
from tests.exporters.sam2.tracker.models import CONTRACTS, COSINE, GRID, Trackers, leave_out_loop
from tests.exporters.shrunken import shrink

FULL = ["tracker", "tracker-ex"]

Floats = NDArray[np.float32]


@pytest.mark.parametrize("contract", CONTRACTS)
def test_graphs_match_upstream(contract: str, trackers: Trackers) -> None:
    done = trackers.verify(contract)
    summary = done.metrics["summary"]
    outputs = sum(len(graph["outputs"]) for graph in shrink(contract)["graphs"])
    assert len(summary["worst"]) == outputs
    assert all(worst["relative"] <= 1e-5 for worst in summary["worst"].values())
    if contract == "tracker-legacy":
        assert "loop" not in summary
        return
    loop = summary["loop"]
    assert loop["frames"] == (20 if "sam2.0" in contract else 32)
    # One of four has two conditioning frames, for which a static bank has no room.
    assert loop["objects"] == (3 if "static" in contract else 4 if "ex" in contract else 2)
    assert 0 < loop["seen"] < loop["steps"]
    assert loop["counted"] >= 0.8 * loop["seen"]
    assert loop["lowest_iou"] >= 0.999
    assert loop["lowest_pointer_cosine"] >= COSINE
    written = json.loads(done["verification.json"].read_text(encoding="utf-8"))
    assert len(written["loop"]) == loop["steps"]
    assert {"object", "frame", "iou", "coverage", "occlusion"} <= set(written["loop"][0])


def test_every_size_of_memory_is_among_the_cases(trackers: Trackers) -> None:
    cases = {
        tensor["case"]
        for tensor in trackers.verify("tracker-ex").metrics["tensors"]
        if tensor["graph"] == "memory_attention"
    }
    for frames in GRID["memory_frames"]:
        for pointers in GRID["pointers"]:
            start = f"{frames} frames, {pointers} pointers, batch "
            assert any(case.startswith(start) for case in cases)
    assert {"2 objects of different ages", "3 objects of different ages"} <= cases


MUTANTS = [
    ("tracker", "memory_attention", "swap two attention layers"),
    ("tracker-ex", "memory_attention", "swap two attention layers"),
    ("tracker-ex", "memory_attention", "no rotation"),
    ("tracker-ex", "memory_attention", "rotation by the other axis"),
    ("tracker-ex", "memory_attention", "no places"),
    ("tracker-ex", "memory_attention", "transposed places"),
    ("tracker-ex", "memory_attention", "no temporal code of one row"),
    ("tracker-ex", "memory_attention", "no time of pointers"),
    ("tracker-ex", "memory_attention", "another divisor of pointers"),
    ("tracker", "memory_attention", "another divisor of pointers"),
    ("tracker", "memory_encoder", "transposed places"),
    ("tracker", "memory_encoder", "no temporal code of one row"),
    ("tracker", "memory_encoder", "no occlusion embedding"),
    ("tracker-ex", "memory_encoder", "no occlusion embedding"),
    ("tracker-ex", "memory_encoder", "occlusion embedding of the other sign"),
    ("tracker-ex", "memory_encoder", "swap two fuser layers"),
    ("tracker-ex", "mask_decoder", "any mask is stable"),
    ("tracker-ex", "mask_decoder", "another pointer of the unseen"),
    ("tracker", "image_encoder", "no embedding of missing memory"),
    ("tracker-ex@static", "memory_attention", "empty slots have weight"),
    ("tracker-ex@static", "memory_attention", "another embedding of missing memory"),
]


def _found(contract: str, graph: str, mutation: str, trackers: Trackers) -> Found | None:
    faults = [(graph, mutation) for other, graph, mutation in MUTANTS if other == contract]
    return trackers.faults(contract, (("", ""), *faults))[graph, mutation]


@pytest.mark.parametrize(("contract", "graph", "mutation"), MUTANTS)
def test_a_fault_in_a_module_is_found(
    contract: str, graph: str, mutation: str, trackers: Trackers
) -> None:
    fault = _found(contract, graph, mutation, trackers)
    assert fault is not None and fault["graph"] == graph
    assert fault["relative"] > 2 * fault["bound"]


@pytest.mark.parametrize("contract", [*FULL, "tracker-legacy", "tracker-ex@static"])
def test_the_unharmed_modules_have_no_fault(contract: str, trackers: Trackers) -> None:
    assert _found(contract, "", "", trackers) is None


def test_a_fault_is_found_in_the_graph_that_was_traced_of_it(trackers: Trackers) -> None:
    given = ("tracker-ex", "memory_attention", "swap two attention layers")
    fault = trackers.first_fault("tracker-ex", trackers.mutant(*given), leave_out_loop)
    assert isinstance(fault, TensorCheck)
    assert fault.graph == "memory_attention"
    assert fault.relative > 2 * fault.bound


@pytest.mark.parametrize("contract", FULL)
def test_the_unharmed_graphs_have_no_fault(contract: str, trackers: Trackers) -> None:
    run = trackers.runtime(contract).run
    assert trackers.first_fault(contract, run, leave_out_loop) is None


@pytest.mark.parametrize("contract", ["tracker", "tracker-ex@static"])
def test_attention_in_one_piece_has_no_fault(contract: str, trackers: Trackers) -> None:
    whole, graph = trackers.whole(contract), "memory_attention"
    assert trackers.first_fault(contract, whole, leave_out_loop, graph=graph) is None


def test_a_second_sigmoid_is_found_and_a_missing_one_too(trackers: Trackers) -> None:
    file = "memory_encoder.onnx"
    upstreams, exporters = trackers.graphs("tracker"), trackers.graphs("tracker-legacy")
    twice = {**upstreams, file: exporters[file]}
    once = {**exporters, file: upstreams[file]}
    for contract, files in (("tracker", twice), ("tracker-legacy", once)):
        fault = trackers.first_fault(contract, files, leave_out_loop, graph="memory_encoder")
        assert isinstance(fault, TensorCheck)
        assert (fault.graph, fault.tensor) == ("memory_encoder", "maskmem_features")


@pytest.mark.parametrize(
    ("contract", "graph", "name", "tensor"),
    [
        ("tracker-sam2.0", "memory_attention", "cond_frame_id_diff", "image_embed"),
        ("tracker-sam2.0", "memory_encoder", "occ_logit", "maskmem_features"),
        ("tracker-ex-sam2.0", "memory_attention", "obj_ptr_positions", "image_embed"),
        ("tracker-ex-sam2.0", "memory_encoder", "occ_logit", "memory_features"),
        ("tracker-ex@static", "memory_attention", "memory_features", "image_embed"),
        ("tracker-ex@static", "memory_attention", "obj_ptr_positions", "image_embed"),
    ],
)
def test_an_input_that_must_do_nothing_is_watched(
    contract: str, graph: str, name: str, tensor: str, trackers: Trackers, tmp_path: Path
) -> None:
    """The real graph ignores it; one that lets a trace of it through, even of NaN, is found."""
    files = trackers.graphs(contract)
    model = onnx.load_model(files[f"{graph}.onnx"])
    (output,) = [node for node in model.graph.node if tensor in node.output]
    output.output[list(output.output).index(tensor)] = "before"
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(1e-30, np.float32), "little"),
            numpy_helper.from_array(np.array([1], np.int64), "one"),
        ]
    )
    model.graph.node.extend(
        [
            onnx.helper.make_node("Reshape", [name, "all"], ["flat"]),
            onnx.helper.make_node("ReduceSum", ["flat"], ["sum"], keepdims=0),
            onnx.helper.make_node("Mul", ["sum", "little"], ["trace"]),
            onnx.helper.make_node("Add", ["before", "trace"], [tensor]),
        ]
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), "all"))
    onnx.save_model(model, tmp_path / "leaky.onnx")
    leaky = {**files, f"{graph}.onnx": tmp_path / "leaky.onnx"}
    fault = trackers.first_fault(contract, leaky, leave_out_loop, graph=graph)
    assert isinstance(fault, TensorCheck)
    if "static" in contract:
        name = "what is in empty slots"
    assert fault.case == f"{name} has no effect at nan"


def test_two_contracts_differ_where_they_say(trackers: Trackers) -> None:
    """The drop-in contract's known deviations from upstream are there, and are large."""
    run = trackers.runtime("tracker").run
    reference = trackers.load_reference("sam2.1")

    def decode(case: str) -> Mapping[str, Any]:
        names = ("point_coords", "point_labels", "image_embed")
        inputs = {name: reference[f"decoder/{case}/{name}"] for name in names}
        picture = reference.document["pictures"][0]
        for name in ("high_res_feats_0", "high_res_feats_1"):
            inputs[name] = reference[f"{picture}/{name}"]
        return run("mask_decoder", inputs)

    def differs(case: str) -> bool:
        found = decode(case)
        return any(
            _distance(reference[f"decoder/{case}/rule/{name}"], found[name]) > 0.01
            for name in ("pred_mask", "obj_ptr", "iou")
        )

    cases = {case["name"]: case["masks"] for case in reference.document["decoder"]}
    assert not differs("nothing") and not differs("a point x 2")
    # A box that is not stable is the best of three masks in either contract.
    assert any(differs(case) for case in cases if case.startswith("a box"))
    assert all(differs(case) for case, masks in cases.items() if masks)


def _distance(expected: Any, found: Any) -> float:
    return float(np.abs(expected - found).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("conditioning", "offsets", "divisor", "same"),
    [
        (7, (7, 1, 2), 15, True),
        (7, (7, 1, 2), 7, False),  # a video of eight frames
        (7, (7, 5, 1), 15, False),  # a second conditioning frame five frames ago
        (7, (7, 2, 3), 15, False),  # the frame before was not tracked
    ],
)
def test_pointers_of_the_drop_in_contract_have_one_history(
    conditioning: int, offsets: tuple[int, ...], divisor: int, same: bool, trackers: Trackers
) -> None:
    extended, classic = _attend_both(trackers, conditioning, [offsets], divisor)
    distance = _distance(extended, classic)
    assert (distance < 1e-5) if same else (distance > 1e-4)


def test_objects_of_one_call_of_the_drop_in_contract_started_together(trackers: Trackers) -> None:
    extended, classic = _attend_both(trackers, 7, [(7, 1, 2), (12, 1, 2)], 15)
    assert _distance(extended[:1], classic[:1]) < 1e-5
    assert _distance(extended[1:], classic[1:]) > 1e-4


def _attend_both(
    trackers: Trackers, conditioning: int, offsets: list[tuple[int, ...]], divisor: int
) -> tuple[Floats, Floats]:
    """The same memories through both contracts: as they are, and as the drop-in one takes them."""
    reference, count = trackers.load_reference("sam2.1"), len(offsets)
    runs = {contract: trackers.runtime(contract).run for contract in FULL}
    picture = reference.document["pictures"][0]
    features, pointers = reference["features"][:count, :2], reference["pointers"][:count, :3]
    extended = runs["tracker-ex"](
        "memory_attention",
        {
            "pix_feat": reference[f"{picture}/pix_feat"],
            "memory_features": features,
            "frames_ago": np.array([[0, 1]] * count),
            "obj_ptrs": pointers,
            "obj_ptr_positions": np.array(offsets, np.float32) / np.float32(divisor),
        },
    )
    codes = reference["temporal_code"][:, 0, 0]
    places = [reference["memory_positions"] + codes[row] for row in (6, 0)]
    positions = np.concatenate([*places, np.zeros((12, 64), np.float32)])
    classic = runs["tracker"](
        "memory_attention",
        {
            "current_vision_feat": reference[f"{picture}/image_embed"],
            "current_vision_pos_embed": reference["positions"],
            "memory_0": pointers,
            "memory_1": features,
            "memory_pos_embed": np.stack([positions] * count),
            "cond_frame_id_diff": np.array(conditioning, np.float32),
        },
    )
    return extended["image_embed"], classic["image_embed"]


@pytest.fixture
def banks(trackers: Trackers) -> tuple[Runtime, Runtime, Arrays]:
    """Memory attention with a dynamic and with a static bank, and two remembered frames."""
    dynamic, static = (trackers.runtime(one) for one in ("tracker-ex", "tracker-ex@static"))
    reference = trackers.load_reference("sam2.1")
    picture = reference.document["pictures"][0]
    bank = {
        "pix_feat": reference[f"{picture}/pix_feat"],
        "memory_features": reference["features"][:1, :2],
        "frames_ago": np.array([[0, 1]]),
        "obj_ptrs": reference["pointers"][:1, :2],
        "obj_ptr_positions": np.array([[2, 1]], np.float32) / np.float32(15),
    }
    return dynamic, static, bank


def test_two_remembered_frames_give_the_dynamic_graphs_mask(
    banks: tuple[Runtime, Runtime, Arrays], trackers: Trackers
) -> None:
    dynamic, static, bank = banks
    embedded = [
        run("memory_attention", bank)["image_embed"]
        for run in (dynamic.run, serve_slots(static.run), serve_slots(static.run, 1e9))
    ]
    assert _distance(embedded[0], embedded[1]) < 1e-5
    assert embedded[1].tobytes() == embedded[2].tobytes()
    reference = trackers.load_reference("sam2.1")
    picture = reference.document["pictures"][0]
    prompt = {
        "point_coords": np.zeros((1, 1, 2), np.float32),
        "point_labels": np.full((1, 1), -1, np.float32),
        "high_res_feats_0": reference[f"{picture}/high_res_feats_0"],
        "high_res_feats_1": reference[f"{picture}/high_res_feats_1"],
        "mask_input": np.zeros_like(reference["decoder/nothing/mask_input"][:1]),
        "has_mask_input": np.zeros(1, np.float32),
    }
    expected, found = (
        dynamic.run("mask_decoder", {**prompt, "image_embed": one}) for one in embedded[:2]
    )
    for name, value in expected.items():
        assert _distance(value, found[name]) < 1e-5


def test_any_slot_may_be_filled_and_any_flag_that_is_not_above_zero_empties_it(
    banks: tuple[Runtime, Runtime, Arrays],
) -> None:
    dynamic, static, bank = banks
    expected = dynamic.run("memory_attention", bank)["image_embed"]
    filled = fill_slots(bank, float("nan"))
    moved = {
        name: value if name == "pix_feat" else np.roll(value, 3, axis=1)
        for name, value in filled.items()
    }
    for flag in (0.0, -1.0, float("nan")):
        for name in ("frames_valid", "pointers_valid"):
            moved[name] = np.where(moved[name] == 1, 1, flag).astype(np.float32)
        found = static.run("memory_attention", moved)["image_embed"]
        assert _distance(expected, found) < 1e-5


@pytest.mark.parametrize("left", ["frames", "pointers"])
def test_slots_of_one_kind_may_all_be_empty(
    banks: tuple[Runtime, Runtime, Arrays], left: str
) -> None:
    _, static, bank = banks
    found = static.run("memory_attention", fill_slots(bank, float("nan")))["image_embed"]
    names = {
        "frames": ("obj_ptrs", "obj_ptr_positions"),
        "pointers": ("memory_features", "frames_ago"),
    }[left]
    less = fill_slots({**bank, **{name: bank[name][:, :0] for name in names}}, float("nan"))
    alone = static.run("memory_attention", less)["image_embed"]
    assert np.isfinite(alone).all()
    assert _distance(found, alone) > 1e-4


@pytest.mark.parametrize("contract", FULL)
def test_a_graph_that_is_verified_already_takes_part_in_the_loop_alone(
    contract: str, trackers: Trackers
) -> None:
    golden, files = shrink(contract), trackers.graphs(contract)
    named = {graph["name"]: files[graph["file"]] for graph in golden["graphs"]}
    for untouched in ({"memory_attention", "mask_decoder", "memory_encoder"}, {"image_encoder"}):
        reference = trackers.load_reference(CONTRACTS[contract])
        document: Any = reference.document
        few = {
            **document,
            "decoder": document["decoder"][:2],
            "attention": [one for one in document["attention"] if one["conditioning"]][:2],
            "memory": document["memory"][:2],
            "loop": {**document["loop"], "frames": 2},
        }
        reference.document, reference.untouched = few, frozenset(untouched)
        runtime = Runtime(named, threads=1)
        checks = list(check(runtime.run, golden, reference))
        alone = {one.graph for one in checks if isinstance(one, TensorCheck)}
        assert alone == set(named) - untouched
        assert any(isinstance(one, LoopCheck) for one in checks)
        for one in checks:
            if isinstance(one, TensorCheck) and one.graph == "image_encoder":
                assert one.photograph == (one.case != "noise")
            if isinstance(one, TensorCheck) and "has no effect" in one.case:
                assert one.exact and not one.photograph
        assert runtime.strange == []
        assert set(runtime.samples) == set(named)
