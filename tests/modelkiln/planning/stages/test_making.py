"""What steps are made from: weights in a word, a model's settings, and metadata."""

import json
from dataclasses import replace

from modelkiln.catalog.selection import select_targets
from modelkiln.catalog.target import Target
from modelkiln.catalog.weights import FileWeights, RandomWeights
from modelkiln.planning.stages.making import model_params, parameters_of, weights_digest
from tests.modelkiln.catalog.shared import CATALOG, OFFICIAL
from tests.modelkiln.lower_precision import INT8, MODEL, NAME, Steps


def target(text: str = f"{MODEL}/image/onnx-fp32") -> Target:
    (one,) = select_targets(CATALOG, [text], OFFICIAL)
    return one


def test_weights_are_told_by_their_digest_or_their_seed() -> None:
    one = target()
    assert weights_digest(one) == f"sha256:{one.model.checkpoint.sha256}"
    own = FileWeights(path="/a", sha256="ab" * 32, format="pt", bytes=1)
    assert weights_digest(replace(one, weights=own)) == f"sha256:{'ab' * 32}"
    random = weights_digest(replace(one, weights=RandomWeights(seed=7)))
    assert random.startswith("random:7 (random weights") and "means nothing" in random


def test_a_stage_is_told_what_decides_its_model() -> None:
    model = CATALOG.models[MODEL]
    told = model_params(model)
    assert told["model"] == MODEL
    assert told["upstream"] == {
        "package": model.upstream.package,
        "version": model.upstream.version,
        "digest": model.upstream.digest,
    }
    assert told.items() >= dict(model.settings).items()


def test_a_stage_is_told_the_parameters_that_enter_its_key() -> None:
    one = target(f"{MODEL}/image@opset20/onnx-fp32")
    assert parameters_of(one, "export") == {"opset": 20}
    assert parameters_of(one, "convert").keys() == {"opset", "simplifier"}
    assert parameters_of(one, "ingest") == {}


def test_graphs_say_what_they_are(steps: Steps) -> None:
    found = steps(INT8)
    plain = found[f"{NAME}/image/convert"].params["metadata"]
    lower = found[f"{NAME}/image/onnx-int8/quantize"].params["metadata"]
    assert plain["modelkiln.model"] == MODEL
    assert plain["modelkiln.weights"].startswith("random:0 ")
    assert json.loads(plain["modelkiln.preprocessing"])["size"] == 1024
    assert "modelkiln.format" not in plain
    # Those of lower precision are made by more sources.
    assert lower["modelkiln.stage_sources"] != plain["modelkiln.stage_sources"]
    shared = plain.keys() - {"modelkiln.stage_sources"}
    assert {name: lower[name] for name in shared} == {name: plain[name] for name in shared}
