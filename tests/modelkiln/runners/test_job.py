"""The stage protocol: what lies in a scratch folder, and which variables a stage sees."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from modelkiln.runners.job import Job, clean_environment, prepare
from tests.jobs import make_job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "given").mkdir()
    one = make_job(tmp_path / "given", "pass", {"a.txt": "text"})
    return replace(one, inputs={"a.txt": one.inputs["a.txt"], "deep/b": one.inputs["a.txt"]})


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_a_stage_finds_its_sources_and_inputs(job: Job, scratch: Path) -> None:
    prepare(job, scratch)
    assert {path.name for path in scratch.iterdir()} == {
        "src", "inputs", "out", "home", "tmp", "step.json",
    }  # fmt: skip
    found = list((scratch / "src").rglob("*.py"))
    assert {path.relative_to(scratch / "src").as_posix() for path in found} == job.sources.keys()
    assert {path.stat().st_mode & 0o777 for path in found} == {0o444}
    assert not any(path.is_symlink() for path in found)
    assert (scratch / "inputs" / "deep" / "b").readlink() == job.inputs["a.txt"].resolve()
    assert list((scratch / "out").iterdir()) == []


def test_it_is_told_its_work_and_no_place_of_this_machine(job: Job, scratch: Path) -> None:
    prepare(job, scratch)
    text = (scratch / "step.json").read_text()
    assert json.loads(text) == {
        "protocol": 1,
        "step": "toy/stage",
        "stage": "stage",
        "modules": ["exporters.stage"],
        "params": {"one": 1},
        "inputs": {"a.txt": "inputs/a.txt", "deep/b": "inputs/deep/b"},
        "threads": 2,
        "seed": 0,
    }
    assert str(scratch.parent) not in text


def test_what_is_mounted_has_an_empty_file_in_its_place(job: Job, scratch: Path) -> None:
    prepare(job, scratch, mounted=True)
    for name in job.inputs:
        place = scratch / "inputs" / name
        assert place.read_bytes() == b"" and not place.is_symlink()


def test_a_stage_sees_variables_that_do_not_vary(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    before = clean_environment(job, "/scratch", "/tmp")
    monkeypatch.setenv("HOME", "/canary")
    monkeypatch.setenv("LD_PRELOAD", "canary")
    assert clean_environment(job, "/scratch", "/tmp") == before
    assert before["PYTHONPATH"] == "/scratch/src" and before["TMPDIR"] == "/tmp"
    assert {before[f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS")} == {"2"}
    assert before["CUDA_VISIBLE_DEVICES"] == ""
    assert "CUDA_VISIBLE_DEVICES" not in clean_environment(replace(job, gpu=True), "/s", "/tmp")
