"""Names of targets: what parses, what is selected, and what is said of what does not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkiln.catalog.catalog import Catalog, load_catalog
from modelkiln.catalog.selection import all_target_names, select_targets
from modelkiln.catalog.weights import FileWeights, RandomWeights
from modelkiln.errors import UsageError
from modelkiln.paths import REPOSITORY
from tests.modelkiln.catalog.shared import CATALOG, OFFICIAL, names


def test_every_listed_target_names_itself() -> None:
    listed = all_target_names(CATALOG)
    # Of SAM 2 image, treedect, tracker and tracker-ex for all models, tracker-legacy for four;
    # of DINOv2 features and treedect-features for all. Image, tracker and features come in all
    # precisions, the others in float32 and float16, and tracker-legacy as no engine.
    assert len(listed) == len(set(listed)) == 8 * 3 * (5 + 4 + 4) + 8 * 3 * (2 + 2 + 2) + 4 * 2
    assert names(*listed) == listed


def test_sam_2_has_no_legacy_tracker() -> None:
    assert CATALOG.models_with("tracker-legacy") == [n for n in CATALOG.models if "2.1" in n]
    with pytest.raises(UsageError, match="matches no target") as caught:
        names("sam2_hiera_tiny/tracker-legacy/onnx-fp32")
    assert "it is offered by sam2.1_hiera_tiny, " in caught.value.why


def test_glob_selects_in_the_order_of_the_catalog() -> None:
    assert names("sam2.1_*/image/onnx-fp*") == [
        f"sam2.1_hiera_{size}/image/onnx-{form}"
        for size in ("tiny", "small", "base_plus", "large")
        for form in ("fp32", "fp16", "fp8")
    ]


def test_a_target_named_twice_is_built_once() -> None:
    assert len(names("*_tiny/image/onnx-fp32", "sam2_hiera_tiny/*/onnx-fp32")) == 1 + 4


def test_random_weights_are_part_of_the_name() -> None:
    (target,) = select_targets(CATALOG, ["sam2_hiera_tiny+random7/image/onnx-fp32"], OFFICIAL)
    assert target.weights == RandomWeights(seed=7)
    assert target.name == "sam2_hiera_tiny+random7/image/onnx-fp32"


def test_own_weights_are_named_by_their_digest() -> None:
    own = FileWeights(path="mine.pt", sha256="ab" * 32, format="pt", bytes=3)
    (target,) = select_targets(CATALOG, ["sam2_hiera_tiny/image/onnx-fp32"], own)
    assert target.model_name == "sam2_hiera_tiny+" + "ab" * 6
    (same,) = select_targets(CATALOG, [target.name], own)
    assert same == target
    with pytest.raises(UsageError, match="were not given") as caught:
        select_targets(CATALOG, [target.name], OFFICIAL)
    assert "--weights PATH" in caught.value.next


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sam2.1_hiera_tny/image/onnx-fp32", "sam2.1_hiera_tiny"),
        ("sam2.1_hiera_tiny/imag/onnx-fp32", "Did you mean image?"),
        ("sam2.1_hiera_tiny/image/onnx-fp23", "onnx-fp32"),
        ("sam3*/image/onnx-fp32", "sam2"),
        ("sam2.1_hiera_tiny/image", "three parts"),
        ("sam2.1_hiera_tiny//onnx-fp32", "three parts"),
        ("", "three parts"),
        ("sam2_hiera_tiny/image@opset21/onnx-fp32", "opset20"),
        ("sam2_hiera_tiny/image/onnx-fp32@fast", "takes no parameters"),
        ("sam2_hiera_tiny+random-1/image/onnx-fp32", "whole number"),
        ("sam2_hiera_tiny+0123456789ab/image/onnx-fp32", "were not given"),
    ],
)
def test_a_wrong_target_gets_near_matches(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        names(text)
    assert said in str(caught.value)
    assert caught.value.next


def test_a_contract_that_a_model_does_not_offer_is_told_with_who_does(tmp_path: Path) -> None:
    (tmp_path / "contracts").mkdir()
    text = 'extends = "image"\nname = "newer"\nmodels = ["sam2.1_hiera_[st]*"]\n'
    text += 'formats = ["onnx-fp32"]\n'
    (tmp_path / "contracts" / "newer.toml").write_text(text)
    catalog = load_catalog([REPOSITORY / "catalog", tmp_path])
    listed = [one for one in all_target_names(catalog) if "/newer/" in one]
    assert listed == [f"sam2.1_hiera_{size}/newer/onnx-fp32" for size in ("tiny", "small")]
    found = select_targets(catalog, ["*/newer/*"], OFFICIAL)
    assert [one.name for one in found] == listed
    with pytest.raises(UsageError, match="matches no target") as caught:
        select_targets(catalog, ["sam2_hiera_tiny/newer/onnx-fp32"], OFFICIAL)
    assert caught.value.why == (
        "newer is not a contract of sam2_hiera_tiny; "
        "it is offered by sam2.1_hiera_tiny, sam2.1_hiera_small."
    )
    assert "sam2.1_hiera_tiny/newer/onnx-fp32" in caught.value.next


def test_a_format_that_a_contract_does_not_come_as_is_told() -> None:
    both = load_catalog([REPOSITORY / "catalog", REPOSITORY / "tests" / "toy"])
    with pytest.raises(UsageError, match="matches no target") as caught:
        select_targets(both, ["toy_a/words/onnx-fp32"], OFFICIAL)
    assert caught.value.why == "words comes as toy-text, not as onnx-fp32."


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser_or_leaves_the_folder(text: str) -> None:
    try:
        found = names(text)
    except UsageError:
        return
    for name in found:
        path = (Path("/out") / name).resolve()
        assert path.is_relative_to("/out")
        assert len(path.relative_to("/out").parts) == 3


def test_catalog_of_the_tests_extends_the_real_one() -> None:
    both: Catalog = load_catalog([REPOSITORY / "catalog", REPOSITORY / "tests" / "toy"])
    assert {"toy_a", "sam2.1_hiera_tiny"} <= both.models.keys()
    assert not any(one.startswith("toy") and "/image/" in one for one in all_target_names(both))
