"""Stage ingest: a checkpoint or a seed, once for all targets of a model."""

from dataclasses import replace

from modelkiln.building.prepare import make_plan
from modelkiln.catalog.weights import FileWeights
from modelkiln.planning.graph import PinnedFile
from tests.modelkiln.catalog.shared import CATALOG
from tests.modelkiln.lower_precision import MODEL, NAME, MakeKiln, Steps


def test_all_targets_of_a_model_share_it(steps: Steps) -> None:
    found = steps(f"{MODEL}/image/onnx-fp32", f"{MODEL}/tracker/onnx-fp32")
    assert [one.id for one in found.values() if one.stage == "ingest"] == [f"{NAME}/ingest"]
    step = found[f"{NAME}/ingest"]
    assert step.modules == ("exporters.stages.ingest", "exporters.sam2.ingest")
    assert step.params["source"] == {"kind": "random", "seed": 0}
    assert step.inputs == {}


def test_another_seed_is_another_step(steps: Steps) -> None:
    found = steps(f"{MODEL}+random0/image/onnx-fp32", f"{MODEL}+random7/image/onnx-fp32")
    seeds = [one.params["source"]["seed"] for one in found.values() if one.stage == "ingest"]
    assert seeds == [0, 7]


def test_the_official_checkpoint_is_known_by_its_pin(steps: Steps) -> None:
    pin = CATALOG.models[MODEL].checkpoint
    step = steps(f"{MODEL}/image/onnx-fp32", weights="official")[f"{MODEL}/ingest"]
    assert step.inputs["checkpoint"] == PinnedFile(sha256=pin.sha256, bytes=pin.bytes, model=MODEL)
    assert step.params["source"] == {"kind": "file", "format": "pt"}


def test_a_file_of_one_s_own_is_where_it_is_said_and_its_place_is_no_parameter(
    make_kiln: MakeKiln,
) -> None:
    kiln = make_kiln()
    own = FileWeights(path="/own/mine.safetensors", sha256="ab" * 32, format="safetensors", bytes=9)
    (target,) = kiln.targets(f"{MODEL}/image/onnx-fp32")
    found = make_plan(kiln, [replace(target, weights=own)]).steps
    step = found[f"{MODEL}+{'ab' * 6}/ingest"]
    assert step.inputs["checkpoint"] == PinnedFile(
        sha256="ab" * 32, bytes=9, model=MODEL, path="/own/mine.safetensors"
    )
    assert step.params["source"] == {"kind": "file", "format": "safetensors"}
    assert "/own" not in str(dict(step.params))
