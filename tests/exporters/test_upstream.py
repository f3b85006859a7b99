"""Upstream is the pinned wheel, and only a patch that applies exactly may change its copy."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exporters import upstream
from exporters.protocol import StageError
from exporters.upstream import apply_series, check_upstream, package_digest
from tests.exporters.stages import PATCHES, UPSTREAM, Done

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


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of one module, as if installed."""
    folder = tmp_path / "site" / "pack"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text("one\ntwo\nthree\n")
    (folder / "data.yaml").write_text("x: 1\n")
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


def test_an_enclosing_repository_does_not_swallow_patches(package: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    apply_series(package, _series(tmp_path, one=PATCH), tmp_path / "deep" / "scratch")
    assert "TWO" in (tmp_path / "deep/scratch/pack/a.py").read_text()


def test_settings_of_git_do_not_reach_in(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_WORK_TREE", "/")
    apply_series(package, _series(tmp_path, one=PATCH), tmp_path / "scratch")
    assert "TWO" in (tmp_path / "scratch/pack/a.py").read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (PATCH.replace("\n", "\r\n"), "carriage returns"),
        (PATCH.replace("b/pack/a.py", "b/../a.py"), "does not lie below a/ or b/"),
        (PATCH.replace("a/pack/a.py", "/etc/passwd"), "does not lie below a/ or b/"),
        (PATCH.replace("pack/a.py", "other/a.py"), "outside the package pack"),
        (PATCH.replace("---\ndiff", "---\nnew file mode 120000\ndiff"), "makes links"),
        (PATCH.replace(" one", " uno"), "patch does not apply"),
        ("Nothing but words.\n", "changes no file"),
    ],
)
def test_a_bad_patch_is_refused(text: str, words: str, package: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"one\.patch cannot be applied") as failure:
        apply_series(package, _series(tmp_path, one=text), tmp_path / "scratch")
    assert words in failure.value.why
    assert failure.value.exit_code == 5


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


def test_our_patches_say_why_and_apply(exported: Callable[..., Done]) -> None:
    names = sorted(name.removeprefix("patches/") for name in PATCHES if name.endswith(".patch"))
    assert exported().metrics["patches"] == names
    for name in names:
        head = PATCHES[f"patches/{name}"].read_text().partition("---\n")[0]
        assert len(head.splitlines()) >= 3
    assert UPSTREAM["digest"] == package_digest(upstream.installed_folder("sam2"))
