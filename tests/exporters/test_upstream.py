"""Upstream is the pinned wheel, and only a patch that applies exactly may change its copy."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from exporters import upstream
from exporters.protocol import StageError
from exporters.upstream import apply_series, check_upstream, package_digest
from tests.exporters.shrunken import PATCHES, UPSTREAM, Done

PATCH = """Why.
---
diff --git a/pack/a.py b/pack/a.py
--- a/pack/a.py
+++ b/pack/a.py
@@ -1,3 +1,3 @@
 one
-two
+TWO
 three
"""


BINARY = """diff --git a/pack/a.py b/pack/a.py
index 1e..2f 100644
Binary files a/pack/a.py and b/pack/a.py differ
"""
SWAPPED = "@@ -3 +3 @@\n-three\n+THREE\n"
MORE = """diff --git a/pack/data.yaml b/pack/data.yaml
--- a/pack/data.yaml
+++ b/pack/data.yaml
@@ -2 +2,2 @@
 y: 2
+z: 3
"""
AGAIN = """diff --git a/pack/a.py b/pack/a.py
--- a/pack/a.py
+++ b/pack/a.py
@@ -2,2 +2,3 @@
 TWO
+and a half
 three
"""
FILES = """diff --git a/pack/sub/new.py b/pack/sub/new.py
new file mode 100644
--- /dev/null
+++ b/pack/sub/new.py
@@ -0,0 +1,2 @@
+first
+last
\\ No newline at end of file
diff --git a/pack/data.yaml b/pack/data.yaml
deleted file mode 100644
--- a/pack/data.yaml
+++ /dev/null
@@ -1,2 +0,0 @@
-x: 1
-y: 2
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of one module, as if installed."""
    folder = tmp_path / "site" / "pack"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("one\ntwo\nthree\n")
    (folder / "data.yaml").write_text("x: 1\ny: 2\n")
    return folder


def _series(folder: Path, **patches: str) -> dict[str, Path]:
    files = {"series": "# order\n" + "".join(f"{name}.patch\n" for name in patches)}
    files |= {f"{name}.patch": text for name, text in patches.items()}
    paths = {name: folder / name for name in files}
    for name, path in paths.items():
        path.write_bytes(files[name].encode())
    return paths


def test_a_patch_changes_the_copy_alone(package: Path, tmp_path: Path) -> None:
    names = apply_series(package, _series(tmp_path, one=PATCH), tmp_path / "scratch")
    assert names == ("one.patch",)
    assert (tmp_path / "scratch/pack/a.py").read_text() == "one\nTWO\nthree\n"
    assert (package / "a.py").read_text() == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PATCH.replace("\n", "\r\n"), "carriage returns"),
        (PATCH.replace("b/pack/a.py", "b/../a.py"), "does not lie below a/ or b/"),
        (PATCH.replace("a/pack/a.py", "/etc/passwd"), "does not lie below a/ or b/"),
        (PATCH.replace("pack/a.py", "other/a.py"), "outside the package pack"),
        (PATCH.replace("---\ndiff", "---\nnew file mode 120000\ndiff"), "makes links"),
        (
            PATCH.replace("---\ndiff", "---\nold mode 100644\nnew mode 100755\ndiff"),
            "changes modes",
        ),
        (PATCH.replace(" one", " uno"), "patch does not apply"),
        (PATCH.replace("+TWO", "+two"), "leaves pack/a.py as it was"),
        (PATCH.replace("-1,3", "-2,3"), "patch does not apply"),
        (PATCH.replace("-1,3", "-1,4"), "malformed"),
        (PATCH.replace(" three\n", "\n"), "malformed"),
        (PATCH.replace(" three\n", " three\n-- \n2.40\n"), "malformed"),
        (PATCH.replace("@@ -1,3 +1,3 @@", "@@ -1,3 @@"), "what changes in pack/a.py"),
        (PATCH + "@@ -1,1 +1,1 @@\n-one\n+ONE\n", "malformed"),
        (PATCH + "\n@@ -4,0 +4 @@\n+four\n", "malformed"),
        (PATCH.replace(" three\n", " three\n\\ No newline at end of file\n"), "does not apply"),
        (PATCH.replace("diff --git a/pack/a.py b/pack/a.py\n", ""), "changes no file"),
        (PATCH + PATCH[PATCH.index("--- a/") :].replace("/a.py", "/b.py"), "malformed"),
        (PATCH.replace("--- a/pack/a.py", "--- a/pack/b.py"), "pack/a.py and pack/b.py"),
        (PATCH.replace("pack/a.py", "pack/b.py"), "pack/b.py is missing"),
        (PATCH.replace("--- a/pack/a.py", "--- /dev/null"), "pack/a.py is there already"),
        (PATCH.replace("@@ -1,3", SWAPPED + "@@ -1,3"), "malformed"),
        (PATCH + "\n--- a/pack/b.py\n+++ b/pack/b.py\n", "malformed"),
        (FILES.replace("-1,2 +0,0 @@\n-x", "-1,2 +1 @@\n x"), "it leaves"),
        (PATCH.replace("-1,3 +1,3", "-1,2 +1,2").replace(" three\n", ""), "does not apply"),
        (PATCH + "@@ -2,0 +3 @@\n+half\n", "malformed"),
        (
            AGAIN.replace("-2,2 +2,3", "-2,0 +3").replace(" TWO\n", "").replace(" three\n", ""),
            "not apply",
        ),
        (BINARY, "makes links"),
        ("Nothing but words.\n", "changes no file"),
    ],
)
def test_a_bad_patch_is_refused(text: str, words: str, package: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"one\.patch cannot be applied") as failure:
        apply_series(package, _series(tmp_path, one=text), tmp_path / "scratch")
    assert words in failure.value.why
    assert failure.value.exit_code == 5


def test_a_patch_adds_and_removes_files(package: Path, tmp_path: Path) -> None:
    (package / "a.py").chmod(0o444)
    apply_series(package, _series(tmp_path, one=PATCH, two=FILES), tmp_path / "scratch")
    copy = tmp_path / "scratch" / "pack"
    assert (copy / "sub" / "new.py").read_bytes() == b"first\nlast"
    assert sorted(path.name for path in copy.iterdir()) == ["a.py", "sub"]


def test_a_patch_that_fails_in_one_file_changes_none(package: Path, tmp_path: Path) -> None:
    bad = PATCH + MORE.replace(" y: 2", " y: 7")
    with pytest.raises(StageError, match=r"one\.patch cannot be applied"):
        apply_series(package, _series(tmp_path, one=bad), tmp_path / "scratch")
    assert package_digest(tmp_path / "scratch" / "pack") == package_digest(package)


def test_a_file_is_matched_byte_by_byte(package: Path, tmp_path: Path) -> None:
    (package / "a.py").write_bytes(b"one\r\ntwo\r\nthree\r\n")
    with pytest.raises(StageError, match=r"one\.patch cannot be applied"):
        apply_series(package, _series(tmp_path, one=PATCH), tmp_path / "scratch")


def _git_applied(package: Path, patches: Iterable[Path], folder: Path) -> Path:
    copy = folder / package.name
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for patch in patches:
        command = ["git", "apply", "-p1", "--whitespace=nowarn", str(patch)]
        # No repository above may take the paths for its own.
        variables = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
        subprocess.run(command, cwd=folder, env=variables, check=True)
    return copy


@pytest.mark.skipif(not shutil.which("git"), reason="compares with git, which is not installed")
def test_a_patch_gives_what_git_gives(package: Path, tmp_path: Path) -> None:
    last = FILES.replace("-1,2", "-1,3").replace("-y: 2", "-y: 2\n-z: 3")
    patches = _series(tmp_path, one=PATCH + MORE + AGAIN, two=last)
    (tmp_path / "git").mkdir()
    expected = _git_applied(package, [patches["one.patch"], patches["two.patch"]], tmp_path / "git")
    apply_series(package, patches, tmp_path / "scratch")
    assert _tree(tmp_path / "scratch" / "pack") == _tree(expected)
    assert b"and a half" in (expected / "a.py").read_bytes()


@pytest.mark.skipif(not shutil.which("git"), reason="compares with git, which is not installed")
def test_our_patches_give_what_git_gives(tmp_path: Path) -> None:
    package = upstream.installed_folder("sam2")
    patches = {name.removeprefix("patches/"): path for name, path in PATCHES.items()}
    names = apply_series(package, patches, tmp_path / "scratch")
    (tmp_path / "git").mkdir()
    expected = _git_applied(package, [patches[name] for name in names], tmp_path / "git")
    assert _tree(tmp_path / "scratch" / "sam2") == _tree(expected)
    assert _tree(expected) != _tree(package)


def _tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_patch_that_is_there_already_is_refused(package: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"two\.patch cannot be applied"):
        apply_series(package, _series(tmp_path, one=PATCH, two=PATCH), tmp_path / "scratch")


def test_series_and_folder_must_agree(package: Path, tmp_path: Path) -> None:
    patches = _series(tmp_path, one=PATCH)
    (tmp_path / "series").write_text("one.patch\ntwo.patch\n")
    with pytest.raises(StageError, match="series cannot be applied"):
        apply_series(package, patches, tmp_path / "scratch")
    with pytest.raises(StageError, match="series cannot be applied"):
        apply_series(package, {"one.patch": patches["one.patch"]}, tmp_path / "other")


def test_the_digest_sees_names_and_contents(package: Path) -> None:
    first = package_digest(package)
    (package / "a.pyc").write_text("compiled")
    assert package_digest(package) == first
    (package / "data.yaml").write_text("x: 2\n")
    second = package_digest(package)
    (package / "a.py").rename(package / "b.py")
    assert len({first, second, package_digest(package)}) == 3


def test_an_edited_package_is_refused(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = {"package": "pack", "version": "1.0", "digest": package_digest(package)}
    monkeypatch.syspath_prepend(str(package.parent))
    assert check_upstream(pin) == package
    (package / "a.py").write_text("one\n")
    with pytest.raises(StageError, match=r"pack in the environment is not the pinned 1\.0") as f:
        check_upstream(pin)
    assert f.value.exit_code == 3


def test_a_package_that_is_missing_is_refused() -> None:
    with pytest.raises(StageError, match="no package no_such_package") as failure:
        check_upstream({"package": "no_such_package", "version": "1", "digest": ""})
    assert failure.value.exit_code == 4


def test_a_patched_copy_is_not_upstream(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "__init__.py").write_text("")
    pin = {"package": "pack", "version": "1", "digest": package_digest(package)}
    patches = _series(tmp_path, one=PATCH)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr(sys, "path", [*sys.path])
    upstream.use_patched(pin, patches, tmp_path / "scratch")
    with pytest.raises(StageError, match="is not the pinned 1"):
        check_upstream(pin)
    import pack  # type: ignore[import-not-found]

    try:
        assert Path(pack.__file__).is_relative_to(tmp_path / "scratch")
        sys.path.remove(str(tmp_path / "scratch"))
        with pytest.raises(StageError, match="is not the pinned 1"):
            check_upstream(pin)
    finally:
        del sys.modules["pack"]


def test_patches_come_too_late_for_a_loaded_package(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "__init__.py").write_text("")
    pin = {"package": "pack", "version": "1", "digest": package_digest(package)}
    monkeypatch.syspath_prepend(str(package.parent))
    import pack  # noqa: F401

    try:
        with pytest.raises(StageError, match="was loaded before its patches"):
            upstream.use_patched(pin, _series(tmp_path, one=PATCH), tmp_path / "scratch")
    finally:
        del sys.modules["pack"]


def test_without_patches_the_installed_package_is_used(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(package.parent))
    pin = {"package": "pack", "version": "1", "digest": package_digest(package)}
    assert upstream.use_patched(pin, {}, tmp_path / "scratch") == ()
    assert not (tmp_path / "scratch").exists()
    assert upstream.installed_folder("pack") == package
    with pytest.raises(StageError, match="is not the pinned 2"):
        upstream.use_patched({**pin, "version": "2", "digest": "0"}, {}, tmp_path / "scratch")


def test_our_patches_say_why_and_apply(exported: Callable[..., Done]) -> None:
    names = sorted(name.removeprefix("patches/") for name in PATCHES if name.endswith(".patch"))
    assert exported().metrics["patches"] == names
    for name in names:
        head = PATCHES[f"patches/{name}"].read_text().partition("---\n")[0]
        assert len(head.splitlines()) >= 3
    assert UPSTREAM["digest"] == package_digest(upstream.installed_folder("sam2"))
