"""The image of the rtx environment, on each engine: built for real, and engines are built in it.

Its packages weigh 90 MB, so this is no test for `--only thorough`, as that of `export` is.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from modelkiln.containers.engine import Engine
from modelkiln.containers.images import Image, ensure_image, find_obstacle
from modelkiln.containers.trial import try_image
from modelkiln.environments.base_images import BasePin
from modelkiln.environments.environment import environment
from modelkiln.errors import EnvironmentFailure
from modelkiln.runners.containers import DockerRunner
from tests.containers.conftest import leave_out
from tests.jobs import make_job

RTX = environment("rtx")


@pytest.fixture(scope="module")
def image(engine: Engine, base: BasePin, image_cache: Path) -> Image:
    """Its self-test passes in it, sealed, before it is there; see the tests of images."""
    cache = image_cache / engine.kind
    obstacle = find_obstacle(engine, RTX, base, cache=cache, offline=False)
    if obstacle:
        leave_out(f"{engine} answers, but {obstacle}")
    return ensure_image(engine, RTX, base, cache=cache, offline=False, on_progress=lambda *_: None)


def test_it_is_small_and_says_whose_licence_it_is_under(engine: Engine, image: Image) -> None:
    assert 200_000_000 < image.bytes < 500_000_000
    labels = engine.client.images.get(image.id).labels
    assert "LicenseRef-NVIDIA-TensorRT" in labels["org.opencontainers.image.licenses"]


def test_a_stage_builds_an_engine_in_it_as_sealed_as_any(
    engine: Engine, image: Image, tmp_path: Path
) -> None:
    """No network, no GPU, nothing that can be written but the scratch folder and /tmp, no root."""
    runner = DockerRunner(engine, lambda _: image.id)
    runner.get_ready(["bare"])
    body = """
        import runpy
        test = runpy.run_path(str(step.input("selftest.py")))
        built = test["build"]()
        assert built == test["build"]()
        (step.out / "out.txt").write_bytes(built)
    """
    job = make_job(tmp_path, body, {"selftest.py": RTX.selftest.read_text()})
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    outcome = runner.run(job, scratch, lambda *_: None)
    assert outcome.seal["sealed"] == "full"
    built = outcome.outputs["out.txt"].read_bytes()
    assert built[:4] == b"vtrt" and tuple(built[24:28]) == (1, 7, 1, 116)
    assert int.from_bytes(built[16:24], "little") == len(built)


def test_another_version_would_not_pass(engine: Engine, image: Image, tmp_path: Path) -> None:
    other = tmp_path / "selftest.py"
    shutil.copyfile(RTX.selftest, other)
    other.write_text(other.read_text().replace('"1.7.1.116"', '"1.7.1.115"'))
    with pytest.raises(EnvironmentFailure, match="rtx image fails its self-test") as caught:
        try_image(engine, image.id, replace(RTX, selftest=other), tmp_path)
    assert "1.7.1.115 expected, 1.7.1.116 found" in caught.value.why
