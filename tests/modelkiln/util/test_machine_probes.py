"""modelkiln.util.machine: what is found, and why not."""

from pathlib import Path

import pytest

from modelkiln.util.machine import Probe, probe_command, probe_gpu


def test_probe_of_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not probe_gpu().found
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 570.1, 9.0'\n")
    program.chmod(0o755)
    assert probe_gpu() == Probe(found=True, detail="NVIDIA H200, 570.1, 9.0")
    program.write_text("#!/bin/sh\necho 'no driver' >&2\nexit 9\n")
    assert probe_command("nvidia-smi") == Probe(found=False, detail="nvidia-smi failed: no driver")
