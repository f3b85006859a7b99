"""`invoke inspect`: what a built target is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from modelkiln.commands import inspect
from tests.modelkiln.quality_case import CHECKS, miss
from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke


def test_inspect_tells_what_a_target_is(command_line: Invoke, invoke: Invoke, built: Path) -> None:
    done = command_line("inspect", TARGET, *RANDOM)
    assert done.returncode == 0, done.stderr
    for text in ("words.txt", "random weights", "words agree", "toy_a+random0/ingest"):
        assert text in done.stdout
    told = json.loads(invoke("inspect", TARGET, *RANDOM, "--json").stdout)
    assert told["signature"][0]["file"] == "words.txt"


def test_inspect_shows_gates_and_what_was_left_out(
    built_int8: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect.inspect_target(built_int8.kiln, "tiny")
    told = capsys.readouterr().out
    assert re.search(r"snr_db +cpu +encoder image_embed +31.25 +20 +ok", told)
    assert re.search(r"encoder high_res_feats_0 +no noise +20 +ok", told)
    assert "1 layer left out: Conv was not asked for" in told
    assert "encoder reaches infinity of float16's 65504 (blocks.2.add; 258 values" in told
    assert "blocks.1.mlp reaches 70123: stays in float32" in told
    assert "blocks.1.qkv reaches 40000: float16, above half of its range" in told
    assert "3 operators stay in float32, where float16 would overflow: Add 2, MatMul 1" in told
    assert "verified: 51 of 51 linears INT8" in told and "1.52x as fast" in told
    changed = miss(CHECKS, binding=False)
    (built_int8.folder / "verification.json").write_text(json.dumps(changed))
    inspect.inspect_target(built_int8.kiln, "tiny")
    told = capsys.readouterr().out
    assert "gates (not binding: random weights)" in told
    assert re.search(r"mask_iou .* missed", told)
