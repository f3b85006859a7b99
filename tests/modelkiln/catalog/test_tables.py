"""Reading the catalog's TOML: what is wrong is named with its file."""

from pathlib import Path

import pytest

from modelkiln.catalog.catalog import load_catalog
from modelkiln.catalog.tables import choose_models, find_files, load_merged, load_table, need
from modelkiln.errors import UsageError
from tests.modelkiln.catalog.shared import FOLDER, add_contract


@pytest.mark.parametrize(
    ("texts", "what", "why"),
    [
        ({"a": 'extends = "gone"'}, ("a.toml extends", "gone.toml, which is not"), "treedect"),
        ({"a": 'extends = "a"'}, ("a.toml extends", "and so itself"), "a -> a"),
        (
            {"a": 'extends = "b"', "b": 'extends = "c"', "c": 'extends = "b"'},
            ("b.toml", "c.toml", "and so itself"),
            "b -> c -> b",
        ),
        ({"a": "extends = 3"}, ("a.toml: `extends` must be a string",), "3"),
        ({"a": 'extends = "image"\noptions = 3'}, ("a.toml: `options` must be a table",), "3"),
        ({"a": 'extends = "image"\nmodels = "all"'}, ("a.toml: `models` must be an array",), "all"),
        ({"a": 'extends = "image"\nmodels = ["sam3*"]'}, ("a.toml", "'sam3*'"), "sam2_hiera_tiny"),
    ],
)  # fmt: skip
def test_a_wrong_extension_is_named(
    tmp_path: Path, texts: dict[str, str], what: tuple[str, ...], why: str
) -> None:
    for stem, text in texts.items():
        add_contract(tmp_path, stem, text)
    with pytest.raises(UsageError) as caught:
        load_catalog([FOLDER, tmp_path])
    assert all(one in caught.value.what for one in what)
    assert why in caught.value.why


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("content", [b"a = ", b"a = 1\na = 2", b"\xff = 1"])
def test_what_is_no_toml_is_told_with_its_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.toml cannot be read as TOML"):
        load_table(path)
    with pytest.raises(UsageError, match=r"gone\.toml cannot be read"):
        load_table(tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("kind", "value", "what"),
    [
        (int, "1", "an integer"),
        (int, True, "an integer"),
        (str, 1, "a string"),
        (list, "ab", "an array"),
        (dict, [], "a table"),
    ],
)
def test_an_entry_of_another_type_is_refused(kind: type, value: object, what: str) -> None:
    path = Path("a.toml")
    with pytest.raises(UsageError, match=f"`it` must be {what}") as caught:
        need({"it": value}, "it", kind, path)
    assert caught.value.why == f"It is {value!r}."
    with pytest.raises(UsageError) as caught:
        need({}, "it", kind, path)
    assert caught.value.why == "It is missing."
    assert need({"it": kind()}, "it", kind, path) == kind()


def test_a_file_of_a_later_folder_takes_the_place_of_one_of_its_name(tmp_path: Path) -> None:
    for name in ("a/contracts/one.toml", "a/contracts/two.toml", "b/contracts/two.toml"):
        write(tmp_path, name, "")
    write(tmp_path, "b/contracts/notes.txt", "")
    found = find_files([tmp_path / "a", tmp_path / "b", tmp_path / "none"], "contracts")
    assert {stem: path.parts[-3] for stem, path in found.items()} == {"one": "a", "two": "b"}


def test_only_the_tables_that_are_named_are_merged(tmp_path: Path) -> None:
    files = {
        "base": write(tmp_path, "base.toml", "[merged]\na = 1\nb = 1\n[other]\na = 1\n"),
        "over": write(tmp_path, "over.toml", 'extends = "base"\n[merged]\nb = 2\n[other]\nb = 2\n'),
    }
    assert load_merged("over", files, ("merged",)) == {
        "merged": {"a": 1, "b": 2},
        "other": {"b": 2},
    }
    assert load_merged("base", files, ("merged",))["other"] == {"a": 1}


def test_globs_choose_models_in_the_order_that_is_known() -> None:
    known = ["small", "tiny", "large"]
    path = Path("a.toml")
    assert choose_models(path, {}, known) == ("small", "tiny", "large")
    assert choose_models(path, {"models": ["t*", "small"]}, known) == ("small", "tiny")
    assert choose_models(path, {"models": []}, known) == ()
    with pytest.raises(UsageError, match=r"'T\*', which is not a model"):
        choose_models(path, {"models": ["T*"]}, known)
