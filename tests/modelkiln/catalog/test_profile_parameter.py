"""Other sizes for dynamic axes: as flags and targets write them, and as targets take them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.catalog.catalog import load_catalog
from modelkiln.catalog.parameter_tables import read_parameters
from modelkiln.catalog.profile_parameter import MOST_CHARACTERS, read_overrides, write_overrides
from modelkiln.catalog.profiles import Range
from modelkiln.catalog.selection import select_targets
from modelkiln.catalog.target import Target
from modelkiln.errors import UsageError
from tests.modelkiln.catalog.shared import CATALOG, FOLDER, OFFICIAL

TABLE = {"default": "", "kind": "profile", "token": "profile-{}", "stages": ["engine"]}
PARAMETER = read_parameters({"profile": TABLE}, Path("rtx.toml"), "format")["profile"]
TRACKER = "sam2.1_hiera_tiny/tracker-ex"

Select = Callable[..., list[Target]]


@pytest.fixture
def select(tmp_path: Path) -> Select:
    """Selects targets of a catalog whose tracker-ex has a format with this parameter."""
    (tmp_path / "formats").mkdir()
    text = (
        'extends = "onnx-fp32"\nsummary = "engines"\n[parameters.profile]\nhelp = "sizes"\n'
        'default = ""\nkind = "profile"\ntoken = "profile-{}"\nstages = ["convert"]\n'
    )
    (tmp_path / "formats" / "engine.toml").write_text(text)
    (tmp_path / "contracts").mkdir()
    for one in ("tracker-ex", "features"):
        text = (FOLDER / "contracts" / f"{one}.toml").read_text()
        changed = text.replace("formats = [", 'formats = ["engine", ')
        (tmp_path / "contracts" / f"{one}.toml").write_text(changed)
    catalog = load_catalog([FOLDER, tmp_path])

    def choose(*texts: str, **flags: str) -> list[Target]:
        return select_targets(catalog, texts, OFFICIAL, flags)

    return choose


@pytest.mark.parametrize(
    ("text", "value", "token"),
    [
        ("batch=1:1:4", "batch=1:1:4", "profile-batch-1-1-4"),
        ("batch=4", "batch=4", "profile-batch-4"),
        ("batch=4:4:4,batch=4", "batch=4", "profile-batch-4"),
        (
            "b_2=01:1:4, mask_decoder.num=1:2:16,a=2",
            "a=2,b_2=1:1:4,mask_decoder.num=1:2:16",
            "profile-a-2+b_2-1-1-4+mask_decoder-num-1-2-16",
        ),
        ("g.a1=2", "g.a1=2", "profile-g-a1-2"),
    ],
)
def test_one_order_and_one_spelling(text: str, value: str, token: str) -> None:
    assert PARAMETER.parse(text) == value
    assert PARAMETER.parse(value) == value
    assert PARAMETER.spell(value) == token
    assert not set("/.,@=:") & set(token)
    assert PARAMETER.read_token(token) == value
    assert write_overrides(read_overrides(value)) == value
    assert PARAMETER.split(text) == [text]


def test_a_token_in_another_order_is_the_same() -> None:
    assert PARAMETER.read_token("profile-b-1-1-4+a-2") == "a=2,b=1:1:4"


@pytest.mark.parametrize(
    "token", ["profile-", "batch-1", "profile-batch", "profile-1", "profile-a-1-2", "profile-a-1+"]
)
def test_what_spells_no_sizes_is_no_token(token: str) -> None:
    assert PARAMETER.read_token(token) is None


def test_no_sizes_is_the_default() -> None:
    assert PARAMETER.parse("") == PARAMETER.parse(" ") == PARAMETER.default == ""
    assert read_overrides("") == {}


def test_sizes_are_read_back() -> None:
    assert read_overrides("a=2,g.b=1:3:4") == {"a": Range(2, 2, 2), "g.b": Range(1, 3, 4)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch", "An entry is AXIS=MIN:OPT:MAX"),
        ("batch=1:4", "An entry is AXIS=MIN:OPT:MAX"),
        ("batch=", "An entry is AXIS=MIN:OPT:MAX"),
        ("batch=-1", "An entry is AXIS=MIN:OPT:MAX"),
        ("batch=1:2:3:4", "An entry is AXIS=MIN:OPT:MAX"),
        ("a.b.c=1", "An entry is AXIS=MIN:OPT:MAX"),
        ("batch=1,", "An entry is AXIS=MIN:OPT:MAX"),
        ("batch=1:1:9999999999", "An entry is AXIS=MIN:OPT:MAX"),
        ("batch=4:2:1", "these are 4, 2 and 1"),
        ("batch=0", "Sizes are 1 or more"),
        ("batch=1,batch=2", "It gives batch also 1."),
        ("a" * MOST_CHARACTERS + "=1", f"{MOST_CHARACTERS} fit into a folder's name"),
    ],
)
def test_a_wrong_text_is_told(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        PARAMETER.parse(text)
    assert said in caught.value.why and "--profile batch=1:1:4" in caught.value.next


def test_a_target_takes_the_sizes_that_it_names(select: Select) -> None:
    (target,) = select(f"{TRACKER}/engine", profile="num_points=1:2:16,memory_encoder.batch=1:1:4")
    token = "profile-memory_encoder-batch-1-1-4+num_points-1-2-16"
    assert target.name == f"{TRACKER}/engine@{token}"
    assert select(target.name) == [target]
    assert target.profiles["mask_decoder"]["point_labels"] == (Range(1, 1, 4), Range(1, 2, 16))
    assert target.profiles["memory_encoder"]["occ_logit"][0] == Range(1, 1, 4)
    (plain,) = select(f"{TRACKER}/engine")
    assert plain.profiles["memory_encoder"]["occ_logit"][0] == Range(1, 1, 1)


def test_sizes_that_a_target_has_anyway_are_not_spelled(select: Select) -> None:
    for text in ("num_points=1:2:8", "num_points=1:2:8,memory_encoder.batch=1"):
        assert select(f"{TRACKER}/engine", profile=text) == select(f"{TRACKER}/engine")
    (target,) = select(f"{TRACKER}/engine@profile-num_points-1-2-8+num_frames-7")
    assert target.name == f"{TRACKER}/engine@profile-num_frames-7"


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("num_point=1", "Did you mean num_points"),
        ("mask_decodr.batch=1", "Did you mean mask_decoder"),
        ("memory_encoder.num_points=1", "dynamic axes of memory_encoder's inputs are batch."),
    ],
)
def test_sizes_that_do_not_fit_are_told_when_a_target_is_chosen(
    select: Select, profile: str, said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        select(f"{TRACKER}/engine", profile=profile)
    assert said in caught.value.why and caught.value.exit_code == 2
    token = PARAMETER.spell(PARAMETER.parse(profile))
    with pytest.raises(UsageError, match="do not have"):
        select(f"{TRACKER}/engine@{token}")


def test_formats_without_engines_take_no_sizes(select: Select) -> None:
    with pytest.raises(UsageError, match="None of these targets has a parameter 'profile'"):
        select(f"{TRACKER}/onnx-fp32", profile="batch=1")
    names = [one.name for one in select("dinov2_vits14/features/*", profile="batch=1:1:8")]
    assert "dinov2_vits14/features/engine@profile-batch-1-1-8" in names
    assert "dinov2_vits14/features/onnx-fp32" in names


def test_of_several_targets_each_takes_the_sizes_of_its_own_axes(select: Select) -> None:
    texts = (f"{TRACKER}/engine", "dinov2_vits14/features/engine")
    names = [one.name for one in select(*texts, profile="num_points=1:2:16,batch=1:1:2")]
    assert names == [
        f"{TRACKER}/engine@profile-batch-1-1-2+num_points-1-2-16",
        "dinov2_vits14/features/engine@profile-batch-1-1-2",
    ]
    for one in ("num_points=1:2:16", "mask_decoder.num_points=1:2:16"):
        tracker, features = select(*texts, profile=one)
        assert tracker.profiles["mask_decoder"]["point_labels"][1] == Range(1, 2, 16)
        assert features.name == texts[1]
    # Where what it takes is what it has anyway, it is the plain target.
    assert select(*texts, profile="num_points=1:2:8") == select(*texts)


@pytest.mark.parametrize(
    ("profile", "key", "said"),
    [
        ("batch=1:1:2,num_framez=7", "num_framez", "Did you mean num_frames"),
        ("feature.batch=2", "feature.batch", "Did you mean features"),
        ("features.num_points=2", "features.num_points", "axes of features's inputs are batch."),
    ],
)
def test_sizes_that_no_target_takes_are_told(
    select: Select, profile: str, key: str, said: str
) -> None:
    # The one that has the near name is not the first.
    texts = ("dinov2_vits14/features/engine", f"{TRACKER}/engine")
    with pytest.raises(UsageError) as caught:
        select(*texts, profile=profile)
    assert caught.value.exit_code == 2 and said in caught.value.why
    assert caught.value.what == (
        f"--profile names {key}, which the graphs of {texts[0]} and 1 other target do not have."
    )


def test_a_target_s_own_sizes_have_to_fit_it_and_take_none_of_a_flag(select: Select) -> None:
    features, own = "dinov2_vits14/features/engine", "engine@profile-num_points-1-2-16"
    found = select(f"{TRACKER}/{own}", features, profile="batch=1:1:2")
    assert [one.name for one in found] == [f"{TRACKER}/{own}", f"{features}@profile-batch-1-1-2"]
    with pytest.raises(UsageError, match=f"^--profile names num_frames, .* of {features} do not"):
        select(f"{TRACKER}/{own}", features, profile="num_frames=7")
    with pytest.raises(UsageError, match=f"^{features}: --profile names num_points") as caught:
        select(f"{TRACKER}/engine", f"dinov2_vits14/*/{own}")
    assert caught.value.exit_code == 2


def test_sizes_that_contradict_name_their_target() -> None:
    texts = ["sam2.1_hiera_tiny/image/rtx-fp16", "sam2.1_hiera_tiny/tracker/rtx-fp16"]
    said = f"^{texts[1]}: memory_attention: buff_size_embed cannot be 5"
    with pytest.raises(UsageError, match=said):
        select_targets(CATALOG, texts, OFFICIAL, {"profile": "buff_size_embed=5"})
