"""Optimization profiles: sizes for dynamic axes, from contracts and from flags."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from modelkiln.catalog.catalog import load_catalog
from modelkiln.catalog.profiles import (
    Range,
    check_profile,
    find_axes,
    keep_effective,
    resolve_profile,
    resolve_profiles,
    spell_shapes,
)
from modelkiln.catalog.selection import all_target_names, select_targets
from modelkiln.errors import UsageError
from tests.full_size.small_sam2 import write_catalog
from tests.modelkiln.catalog.shared import CATALOG, FOLDER, OFFICIAL, add_contract

FILE = Path("words.toml")
ROWS = "{frames[1] * count + words[2] // 4 * num}"
GRAPH: Mapping[str, Any] = {
    "name": "attention",
    "inputs": [
        {"name": "still", "dims": [1, 3]},
        {"name": "words", "dims": ["batch", "num", 16]},
        {"name": "frames", "dims": ["count", 32]},
        {"name": "rows", "dims": ["batch", "rows", 16]},
        {"name": "scalar", "dims": []},
    ],
    "outputs": [{"name": "other", "dims": ["elsewhere"]}],
}
TABLE: Mapping[str, Any] = {"batch": 1, "num": [1, 8, 16], "count": [1, 7, 7], "rows": ROWS}
SECOND: Mapping[str, Any] = {
    "name": "decoder",
    "inputs": [{"name": "points", "dims": ["batch", "points", 2]}],
    "outputs": [],
}
PROFILE = {"attention": TABLE, "decoder": {"batch": 1, "points": [1, 2, 8]}}


def sizes(*numbers: int) -> Range:
    return Range(*numbers) if len(numbers) == 3 else Range(*numbers * 3)


def refusal(overrides: Mapping[str, Range]) -> str:
    with pytest.raises(UsageError) as caught:
        resolve_profiles([GRAPH, SECOND], PROFILE, overrides)
    assert caught.value.exit_code == 2 and caught.value.next
    return f"{caught.value.what} {caught.value.why}"


def test_every_input_has_its_shape_in_order() -> None:
    shapes = resolve_profile(GRAPH, TABLE, {})
    assert list(shapes) == ["still", "words", "frames", "rows", "scalar"]
    assert shapes["still"] == (sizes(1), sizes(3))
    assert shapes["words"] == (sizes(1), sizes(1, 8, 16), sizes(16))
    assert shapes["frames"] == (sizes(1, 7, 7), sizes(32))
    assert shapes["rows"] == (
        sizes(1),
        sizes(32 + 4, 7 * 32 + 8 * 4, 7 * 32 + 16 * 4),
        sizes(16),
    )
    assert shapes["scalar"] == ()


def test_axes_are_those_of_inputs() -> None:
    assert find_axes(GRAPH) == ["batch", "num", "count", "rows"]
    unfilled = {"inputs": [{"name": "x", "dims": ["{height}", "batch", 3]}]}
    assert find_axes(unfilled) == ["batch"]


def test_a_graph_without_dynamic_axes_needs_no_table() -> None:
    fixed = {"name": "a", "inputs": [{"name": "x", "dims": [1, 3]}]}
    assert resolve_profile(fixed, {}, {}) == {"x": (sizes(1), sizes(3))}
    # What another variant of the graph has is not used.
    assert resolve_profile(fixed, {"count": [1, 7, 7], "rows": "{count * 2}"}, {}) == {
        "x": (sizes(1), sizes(3))
    }


def test_shapes_are_spelled_for_inputs_with_a_dynamic_axis_alone() -> None:
    spelled = spell_shapes(GRAPH, resolve_profile(GRAPH, TABLE, {}))
    assert list(spelled) == ["words", "frames", "rows"]
    assert spelled["words"] == {"min": [1, 1, 16], "opt": [1, 8, 16], "max": [1, 16, 16]}


def test_a_range_is_fixed_if_it_has_one_size() -> None:
    assert sizes(4).fixed and not sizes(1, 1, 4).fixed
    assert (str(sizes(4)), str(sizes(1, 1, 4))) == ("4", "1:1:4")


def test_an_override_is_for_every_graph_or_for_one() -> None:
    given = {"decoder.batch": sizes(3), "batch": sizes(1, 2, 4)}
    for order in (given, dict(reversed(given.items()))):
        found = resolve_profiles([GRAPH, SECOND], PROFILE, order)
        assert found["attention"]["words"][0] == sizes(1, 2, 4)
        assert found["attention"]["rows"][0] == sizes(1, 2, 4)
        assert found["decoder"]["points"][0] == sizes(3)
    # An axis that one of the graphs has is not asked of the others.
    found = resolve_profiles([GRAPH, SECOND], PROFILE, {"points": sizes(5)})
    assert found["decoder"]["points"][1] == sizes(5)


def test_what_follows_from_others_follows_from_overrides() -> None:
    found = resolve_profiles([GRAPH, SECOND], PROFILE, {"count": sizes(2), "num": sizes(3)})
    assert found["attention"]["rows"][1] == sizes(2 * 32 + 4 * 3)


@pytest.mark.parametrize(
    ("key", "given", "said"),
    [
        ("batc", sizes(1), "Did you mean batch?"),
        ("xyz", sizes(1), "are batch, num, count, rows, points."),
        ("decodr.batch", sizes(1), "Did you mean decoder?"),
        ("decoder.point", sizes(1), "Did you mean points?"),
        ("decoder.xyz", sizes(1), "axes of decoder's inputs are batch, points."),
        ("attention.elsewhere", sizes(1), "--profile names attention.elsewhere, which these"),
        ("count", sizes(4, 2, 7), "attention: count cannot be 4:2:7. Sizes are given as MIN:OPT"),
        ("count", sizes(1, 8, 7), "each at least the one before, and these are 1, 8 and 7."),
        ("count", sizes(0, 1, 7), "Sizes are 1 or more, and its smallest is 0."),
        ("rows", sizes(36, 36, 36), f"It follows from other sizes, {ROWS}, and is 36:256:288."),
    ],
)
def test_a_wrong_override_is_told(key: str, given: Range, said: str) -> None:
    assert said in refusal({key: given})


def test_what_follows_may_be_given_as_it_is() -> None:
    given = {"rows": sizes(36, 256, 288)}
    assert resolve_profiles([GRAPH, SECOND], PROFILE, given) == resolve_profiles(
        [GRAPH, SECOND], PROFILE, {}
    )


def test_an_axis_without_an_entry_is_told_with_a_way_out() -> None:
    with pytest.raises(UsageError, match="attention has no size for its axis batch") as caught:
        resolve_profile(GRAPH, {}, {})
    assert "--profile batch=" in caught.value.next
    assert resolve_profile(SECOND, {}, {"batch": sizes(1), "points": sizes(2)})


@pytest.mark.parametrize("text", ["{nothing * 2}", "{frames[2]}", "{rows}", "{rows[1]}", "{count"])
def test_a_wrong_expression_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="has no value"):
        resolve_profile(GRAPH, {**TABLE, "rows": text}, {})


def test_what_an_expression_comes_to_has_to_be_possible() -> None:
    with pytest.raises(UsageError, match="rows cannot be 15:8:0"):
        resolve_profile(GRAPH, {**TABLE, "rows": "{16 - num + 1 - 1}"}, {})


def test_overrides_that_change_nothing_are_left_out() -> None:
    def kept(**given: Range) -> dict[str, Range]:
        return keep_effective(
            [GRAPH, SECOND], PROFILE, {k.replace("__", "."): v for k, v in given.items()}
        )

    assert kept() == {}
    assert kept(batch=sizes(1), decoder__points=sizes(1, 2, 8), rows=sizes(36, 256, 288)) == {}
    assert kept(batch=sizes(2)) == {"batch": sizes(2)}
    assert kept(batch=sizes(2), decoder__batch=sizes(2)) == {"batch": sizes(2)}
    assert kept(batch=sizes(1), decoder__batch=sizes(2)) == {"decoder.batch": sizes(2)}
    assert keep_effective([SECOND], {}, {"batch": sizes(1), "points": sizes(2)}) == {
        "batch": sizes(1),
        "points": sizes(2),
    }
    with pytest.raises(UsageError):
        kept(batc=sizes(1))


def check(profile: Mapping[str, Any]) -> None:
    check_profile(FILE, [GRAPH, SECOND, {"name": "decoder", "inputs": []}], profile)


def test_a_file_s_tables_name_every_axis() -> None:
    check({})
    check(PROFILE)
    # A table of a graph that another file has, and this one has not.
    check({**PROFILE, "gone": {}})


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({**PROFILE, "decodr": {"batch": 1}}, "`profile` names a graph 'decodr'. Did you mean dec"),
        ({"attention": TABLE}, "no entry for decoder.batch, decoder.points"),
        ({**PROFILE, "decoder": {"batch": 1}}, "no entry for decoder.points"),
        (
            {**PROFILE, "decoder": {"batch": 1, "point": 1}},
            "names an axis 'point'. Did you mean po",
        ),
        ({**PROFILE, "decoder": 1}, "`profile.decoder` is no table"),
        ({**PROFILE, "decoder": {"batch": "1", "points": 1}}, "`profile.decoder.batch` is '1'"),
        ({**PROFILE, "decoder": {"batch": [1, 2], "points": 1}}, "a size, [min, opt, max], or"),
        ({**PROFILE, "decoder": {"batch": [1, 2, 2.5], "points": 1}}, "a size, [min, opt, max]"),
        ({**PROFILE, "decoder": {"batch": True, "points": 1}}, "a size, [min, opt, max], or"),
        ({**PROFILE, "decoder": {"batch": 0, "points": 1}}, "Sizes are 1 or more"),
        ({**PROFILE, "decoder": {"batch": [3, 2, 4], "points": 1}}, "these are 3, 2 and 4"),
        ({**PROFILE, "decoder": {"batch": "{1", "points": 1}}, "`profile.decoder.batch` is '{1'"),
    ],
)
def test_a_wrong_table_is_told_with_its_file(profile: Mapping[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(profile)
    assert said in f"{caught.value.what} {caught.value.why}" and str(FILE) in caught.value.what


def test_a_contract_s_tables_are_merged_by_graph_and_checked(tmp_path: Path) -> None:
    text = 'extends = "tracker"\nname = "mine"\n[profile.mask_decoder]\nbatch_size = 2\n'
    path = add_contract(tmp_path, "mine", text)
    with pytest.raises(UsageError, match=r"no entry for mask_decoder\.num_points"):
        load_catalog([FOLDER, tmp_path])
    path.write_text(text + "num_points = 3\n")
    mine, base = (load_catalog([FOLDER, tmp_path]).contracts[one] for one in ("mine", "tracker"))
    assert mine.profile == {**base.profile, "mask_decoder": {"batch_size": 2, "num_points": 3}}
    assert "profile" not in mine.golden


def test_every_target_of_the_catalog_has_shapes() -> None:
    for target in select_targets(CATALOG, all_target_names(CATALOG), OFFICIAL):
        assert target.contract.profile
        for graph in target.graphs:
            shapes = target.profiles[graph["name"]]
            for value in graph["inputs"]:
                shape = shapes[value["name"]]
                assert len(shape) == len(value["dims"])
                for dim, size in zip(value["dims"], shape, strict=True):
                    assert not size.problem
                    assert isinstance(dim, str) or size == sizes(dim)


def test_nvidia_s_shapes_are_the_tracker_s(tmp_path: Path) -> None:
    (target,) = select_targets(CATALOG, ["sam2.1_hiera_large/tracker/onnx-fp16"], OFFICIAL)
    shapes = target.profiles["memory_attention"]
    assert shapes["memory_0"] == (sizes(1), sizes(1, 16, 16), sizes(256))
    assert shapes["memory_1"][:2] == (sizes(1), sizes(1, 7, 7))
    assert shapes["memory_pos_embed"] == (sizes(1), sizes(4100, 28736, 28736), sizes(64))
    assert target.profiles["mask_decoder"]["point_coords"] == (sizes(1), sizes(1, 2, 2), sizes(2))
    # With smaller maps there are fewer rows.
    write_catalog(tmp_path, "tracker")
    small = load_catalog([FOLDER, tmp_path])
    (target,) = select_targets(small, ["sam2_small/tracker/onnx-fp32"], OFFICIAL)
    assert target.profiles["memory_attention"]["memory_pos_embed"][1] == sizes(68, 512, 512)


def test_encoders_and_features_are_fixed() -> None:
    wanted = {"image", "treedect", "tracker", "tracker-ex", "features", "treedect-features"}
    seen = set()
    for target in select_targets(CATALOG, all_target_names(CATALOG), OFFICIAL):
        for graph, shapes in target.profiles.items():
            fixed = all(size.fixed for shape in shapes.values() for size in shape)
            assert fixed is not ("decoder" in graph or "attention" in graph), (target.name, graph)
        seen.add(target.contract.name)
    assert wanted <= seen


def test_more_values_than_tensorrt_counts_are_refused() -> None:
    graph: dict[str, Any] = {
        "name": "decoder",
        "inputs": [{"name": "points", "dims": ["batch", 2]}],
        "outputs": [],
    }
    most = Range(1, 1, 2**30 - 1)
    assert resolve_profile(graph, {"batch": 1}, {"batch": most})["points"][0] == most
    with pytest.raises(UsageError) as caught:
        resolve_profile(graph, {"batch": 1}, {"batch": Range(1, 1, 2**30)})
    assert caught.value.what == "decoder: points cannot have 1073741824 x 2 values."
