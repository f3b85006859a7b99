"""SAM 2.1 tiny at full size in containers: the same bytes as without.

For `invoke test --only thorough`: the image takes minutes and 5 GB. `make test` compares the
runners on images of toy environments (test_builds.py).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.containers.engine import Engine
from modelkiln.containers.images import find_obstacle
from modelkiln.paths import REPOSITORY, artifacts_root
from modelkiln.util.hashing import sha256_file
from tests.containers.conftest import leave_out

pytestmark = [pytest.mark.full_size, pytest.mark.thorough]

TARGET = "sam2.1_hiera_tiny+random0/image/onnx-fp32"
# What the seal of a run says, and nothing else, may differ.
DIFFERENT = {"manifest.json"}


def invoke(*arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(autouse=True)
def export_image_can_be_had(docker_engine: Engine) -> None:
    kiln = Kiln()
    export = kiln.provisioner.environment("export")
    obstacle = find_obstacle(
        docker_engine, export, kiln.provisioner.base(export), cache=kiln.cache, offline=False
    )
    if obstacle:
        leave_out(f"{docker_engine} answers, but {obstacle}")


def test_containers_and_processes_give_the_same_bytes(
    docker_engine: Engine, tmp_path: Path
) -> None:
    """The export image is built, or found, and every stage runs in it: all files are those that
    the local runner gives."""
    arguments = ("build", TARGET, "--runner")
    sealed = invoke(*arguments, "docker", MODELKILN_ARTIFACTS=str(tmp_path))
    assert sealed.returncode == 0, sealed.stderr
    plain = invoke(*arguments, "local")
    assert plain.returncode == 0, plain.stderr
    folders = [tmp_path / "out" / TARGET, artifacts_root() / "out" / TARGET]
    found = [
        {path.name: sha256_file(path) for path in folder.iterdir() if path.name not in DIFFERENT}
        for folder in folders
    ]
    assert len(found[0]) >= 4
    assert found[0] == found[1]
    seals = [
        {
            one["sealed"]
            for one in json.loads((folder / "manifest.json").read_text())["steps"].values()
        }
        for folder in folders
    ]
    assert seals == [{"full"}, {"partial"}]


def test_the_export_image_is_what_its_lock_says(docker_engine: Engine) -> None:
    """The packages in the image are those of the lock, and it carries no CUDA part left out."""
    listed = invoke("image.list", "--json")
    assert listed.returncode == 0, listed.stderr
    (image,) = [
        one
        for one in json.loads(listed.stdout)
        if one["name"].rpartition("/")[2].startswith("export:") and one["needed"]
    ]
    assert image["bytes"] < 5_200_000_000
    said = docker_engine.client.containers.run(
        image["id"],
        ["-c", "import importlib.metadata as m; print(sorted(d.name for d in m.distributions()))"],
        entrypoint=["/opt/venv/bin/python"],
        network_mode="none",
        remove=True,
    )
    packages = said.decode()
    assert "'torch'" in packages
    for absent in ("triton", "nvidia-cusolver", "nvidia-nvtx", "nvidia-cuda-nvrtc", "pip'"):
        assert absent not in packages
