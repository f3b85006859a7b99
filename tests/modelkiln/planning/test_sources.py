"""The static walk over a stage's imports."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkiln.building.build import build
from modelkiln.building.kiln import Kiln
from modelkiln.errors import UsageError
from modelkiln.planning.sources import SourceTree, read_imports
from modelkiln.util.hashing import sha256_file


def tree(root: Path, **modules: str) -> SourceTree:
    modules = {"__init__": "", "__main__": "", **modules}
    for name, text in modules.items():
        path = root / "exporters" / f"{name.replace('__in_', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return SourceTree(roots=(root,), digest=sha256_file)


def closure(source: SourceTree, *modules: str) -> set[str]:
    names = source.closure(modules)
    return {name.removeprefix("exporters/").removesuffix(".py") for name in names}


def test_imports_are_followed_at_any_depth(tmp_path: Path) -> None:
    source = tree(
        tmp_path,
        stage="import os\ndef run():\n    if os:\n        from exporters import deep\n",
        deep="import exporters.deeper as d\n",
        deeper="from exporters.leaf import thing\n",
        leaf="thing = 1\n",
        other="from exporters import leaf\n",
    )
    assert closure(source, "exporters.stage") == {
        "__init__", "__main__", "stage", "deep", "deeper", "leaf",
    }  # fmt: skip


def test_packages_above_a_module_count(tmp_path: Path) -> None:
    source = tree(
        tmp_path,
        stage="from exporters.sam.image import part\n",
        sam__in___init__="",
        sam__in_image="part = 1\n",
    )
    assert closure(source, "exporters.stage") == {
        "__init__", "__main__", "stage", "sam/__init__", "sam/image",
    }  # fmt: skip


def test_a_cycle_ends(tmp_path: Path) -> None:
    source = tree(tmp_path, one="import exporters.two\n", two="import exporters.one\n")
    assert {"one", "two"} <= closure(source, "exporters.one")


def test_another_familys_file_is_not_in_the_digests(tmp_path: Path) -> None:
    source = tree(tmp_path, stage="", family="", other="")
    before = source.digests(["exporters.stage", "exporters.family"])
    (tmp_path / "exporters" / "other.py").write_text("changed = True\n")
    again = SourceTree(roots=(tmp_path,), digest=sha256_file)
    assert again.digests(["exporters.stage", "exporters.family"]) == before
    (tmp_path / "exporters" / "family.py").write_text("changed = True\n")
    changed = SourceTree(roots=(tmp_path,), digest=sha256_file)
    differing = {
        name
        for name, digest in changed.digests(["exporters.stage", "exporters.family"]).items()
        if before[name] != digest
    }
    assert differing == {"exporters/family.py"}


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"exporters\.gone"):
        tree(tmp_path).closure(["exporters.gone"])


def test_a_relative_import_is_refused() -> None:
    with pytest.raises(UsageError, match="relative import"):
        read_imports("from . import graphs\n", "stage.py")


def test_a_syntax_error_is_named() -> None:
    with pytest.raises(UsageError, match=r"stage\.py"):
        read_imports("def run(:\n", "stage.py")


def test_the_first_root_goes_before(tmp_path: Path) -> None:
    tree(tmp_path / "one", stage="first = 1\n")
    tree(tmp_path / "two", stage="second = 2\n", other="")
    source = SourceTree(roots=(tmp_path / "one", tmp_path / "two"), digest=sha256_file)
    assert source.closure(["exporters.stage"])["exporters/stage.py"].is_relative_to(
        tmp_path / "one"
    )
    assert source.find("exporters.other") is not None


NAMES = st.sampled_from(["exporters", "exporters.a", "exporters.a.b", "os", "exporters_other"])


@given(st.lists(NAMES, max_size=6))
def test_only_the_rooms_modules_are_found(names: list[str]) -> None:
    text = "".join(f"import {name}\n" for name in names)
    ast.parse(text)
    wanted = {name for name in names if name.split(".")[0] == "exporters"}
    assert set(read_imports(text)) == wanted


MakeKiln = Callable[..., Kiln]
TARGET = "toy_a/words/toy-text"


def test_a_broken_stage_is_found_before_anything_runs(make_kiln: MakeKiln, toy_copy: Path) -> None:
    (toy_copy / "exporters" / "stages" / "convert.py").write_text("def run(:\n")
    kiln = make_kiln()
    with pytest.raises(UsageError, match=r"convert\.py is not valid Python"):
        build(kiln, kiln.targets(TARGET))
    assert not (kiln.artifacts / "records").exists()
