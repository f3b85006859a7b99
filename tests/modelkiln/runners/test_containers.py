"""What a container is shown of its inputs: mounts, and copies where there are too many."""

from pathlib import Path
from typing import cast

from modelkiln.containers.engine import Engine
from modelkiln.runners.containers import DockerRunner
from modelkiln.runners.job import Job, prepare


def make_job(folder: Path, frames: int) -> Job:
    inputs = {"graph.onnx": folder / "graph.onnx"}
    inputs["graph.onnx"].write_text("a graph, which is large")
    for number in range(frames):
        path = inputs[f"frames/{number:05d}.jpg"] = folder / f"{number}.jpg"
        path.write_text(str(number))
    return Job(
        name="track",
        environment="bare",
        stage="track",
        modules=(),
        params={},
        inputs=inputs,
        sources={},
        threads=1,
        seed=0,
        timeout_s=1,
        cpus=1,
        memory=1,
    )


def show(tmp_path: Path, frames: int) -> tuple[dict[str, str], Path]:
    given, scratch = tmp_path / "given", tmp_path / "scratch"
    given.mkdir()
    scratch.mkdir()
    job = make_job(given, frames)
    prepare(job, scratch, mounted=True)
    runner = DockerRunner(cast(Engine, None), str)
    mounts = {one["Target"]: one["Source"] for one in runner._mounts(job, scratch)}
    return {name: one for name, one in mounts.items() if "/inputs/" in name}, scratch / "inputs"


def test_few_inputs_are_all_mounted(tmp_path: Path) -> None:
    mounts, inputs = show(tmp_path, 3)
    assert len(mounts) == 4
    assert (inputs / "frames" / "00002.jpg").read_text() == ""


def test_of_many_the_largest_are_mounted_and_the_others_copied(tmp_path: Path) -> None:
    mounts, inputs = show(tmp_path, 1000)
    assert len(mounts) == 200
    assert any(name.endswith("/graph.onnx") for name in mounts)
    assert (inputs / "graph.onnx").read_text() == ""
    for number in range(1000):
        name = f"frames/{number:05d}.jpg"
        copied = (inputs / name).read_text() == str(number)
        assert copied is not any(one.endswith(name) for one in mounts)
