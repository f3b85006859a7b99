"""A repository of two locks, made by the real uv from a folder of packages; it asks no index."""

import zipfile
from pathlib import Path

import pytest

from modelkiln.environments.base_images import load_base
from modelkiln.environments.requirements import known_locks, make_lock

SETTINGS = 'bytes = 1\nseed = ["small"]\nleft_out = ["Heavy_Part"]\n[variables]\n'


def make_wheel(folder: Path, name: str, version: str, *needs: str) -> None:
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    metadata += [f"Requires-Dist: {need}\n" for need in needs]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", "".join(metadata))
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


def see_only(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_NO_CONFIG", "1")


def make_locked(folder: Path) -> None:
    """Fill a folder with packages, wheels/, and a repository that is locked to them, root/."""
    (folder / "wheels").mkdir(parents=True)
    make_wheel(folder / "wheels", "small", "1.0", "heavy-part")
    make_wheel(folder / "wheels", "small", "1.1", "heavy-part")
    make_wheel(folder / "wheels", "heavy_part", "3.0")
    with pytest.MonkeyPatch.context() as patch:
        see_only(folder / "wheels", patch)
        lock_all(folder / "root", folder / "cache")


def lock_all(root: Path, cache: Path) -> None:
    for name in ("requirements", "docker/work", "bench"):
        (root / name).mkdir(parents=True)
    (root / "requirements/host.in").write_text("# why\nsmall==1.0\n")
    (root / "requirements/dev.in").write_text("-r host.in\nheavy-part\n")
    (root / "docker/work/requirements.in").write_text("small>=1.0\n")
    (root / "docker/work/environment.toml").write_text(SETTINGS)
    base = load_base("python", {}).reference
    (root / "docker/work/Dockerfile").write_text(f"ARG BASE_IMAGE={base}\nFROM ${{BASE_IMAGE}}\n")
    (root / "bench/peer.txt").write_text(f"# a peer\npeer==1 --hash=sha256:{'0' * 64}\n")
    for lock in known_locks(root).values():
        make_lock(lock, root=root, cache=cache)
