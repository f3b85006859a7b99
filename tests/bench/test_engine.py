"""bench.engine with sides whose engines and figures are known."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.engine import BOUND_BYTES, LARGEST_ONNX, Bench, require_alike
from bench.engine_sides import Source
from modelkiln.errors import NotReproducible, StageFailure, UsageError, VerificationFailure
from tests.bench.engine_case import FACTS, graph, report, side

PARAMS: Any = {
    "graphs": [{"name": "encoder"}, {"name": "decoder"}],
    "onnx": {"encoder": ["encoder.onnx", "encoder.data"], "decoder": ["decoder.onnx"]},
    "engines": {"encoder": "encoder.engine", "decoder": "decoder.engine"},
    "shapes": {
        "encoder": {"image": [[1, 3], [1, 3], [1, 3]]},
        "decoder": {"points": [[1, 2], [2, 2], [8, 2]]},
    },
    "gpus": ["sm89"],
    "tf32": False,
    "verbosity": "detailed",
    "precision": "fp16",
}

# A side says what it was told, and writes what `says` has for it.
PYTHON = f"""#!{sys.executable}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
if sys.argv[1] == '-m':
    _, _, module, told, out = sys.argv
    assert module == 'bench.sides.engine' and pathlib.Path('bench').is_dir()
    told = json.loads(pathlib.Path(told).read_text())
    (golden,) = told['params']['graphs']
    side, name = 'ours', golden['name']
    assert told['params']['precision'] == 'fp16' and told['threads'] == 2
    assert set(told['inputs']) == {{'encoder.onnx', 'encoder.data', 'decoder.onnx'}}
    assert all(pathlib.Path(one).is_file() for one in told['inputs'].values())
    out = pathlib.Path(out)
    out.mkdir()
    engine = out / told['params']['engines'][name]
else:
    _, script, told, graph, engine = sys.argv
    assert script.endswith('bench/sides/engine_plain.py')
    told = json.loads(pathlib.Path(told).read_text())
    side, name = 'theirs', pathlib.Path(graph).stem
    assert set(told) == {{'shapes', 'gpus', 'tf32', 'verbosity'}} and told['gpus'] == ['sm89']
    assert list(told['shapes']) == [dict(encoder='image', decoder='points')[name]]
    engine = pathlib.Path(engine)
with open(here / 'calls', 'a') as calls:
    print(side, name, file=calls)
count = (here / 'calls').read_text().count(side + ' ' + name)
says = json.loads((here / 'says').read_text())
if says.get('fails') == side:
    sys.exit('it broke')
engine.write_text(says['bytes'].get(side + ' ' + name + ' ' + str(count), 'an engine'))
print('noise before the result')
parse = dict(ours=2.0, theirs=1.0)[side]
print(json.dumps(dict(says['facts'][side], parse_seconds=parse, build_seconds=count)))
"""


@pytest.fixture
def source(tmp_path: Path) -> Source:
    folder = tmp_path / "published"
    folder.mkdir()
    inputs = ["decoder.onnx", "encoder.data", "encoder.onnx"]
    for name in inputs:
        (folder / name).write_bytes(b"x" * 10)
    return Source(
        target="tiny/image/rtx-fp16",
        made_from="tiny/image/onnx-fp16",
        weights="random",
        folder=folder,
        environment="rtx",
        params=PARAMS,
        inputs=inputs,
        threads=2,
        seed=0,
    )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    say(python)
    workspace = tmp_path / "work"
    workspace.mkdir()
    return Bench(python=python, workspace=workspace, rounds=2, on_progress=lambda _: None)


def say(python: Path, *, fails: str = "", theirs: Any = FACTS, **written: str) -> None:
    """Say which side fails, what TensorRT tells the script, and what differing engines hold."""
    told = {
        "fails": fails,
        "facts": {"ours": FACTS, "theirs": theirs},
        "bytes": {name.replace("_", " "): text for name, text in written.items()},
    }
    python.with_name("says").write_text(json.dumps(told))


def test_sides_take_turns_graph_by_graph(bench: Bench, source: Source) -> None:
    found = bench.run(source)
    calls = bench.python.with_name("calls").read_text().splitlines()
    assert [one.split()[0] for one in calls] == ["ours", "theirs", "theirs", "ours"] * 2
    assert [one.split()[1] for one in calls] == ["encoder"] * 4 + ["decoder"] * 4
    encoder, decoder = found.graphs
    assert (encoder.fixed, decoder.fixed) == (True, False)
    assert (encoder.onnx_bytes, decoder.onnx_bytes) == (20, 10)
    assert encoder.ours.parse_seconds == [2.0, 2.0]
    assert encoder.theirs.build_seconds == [1, 2]
    assert encoder.ours.sizes == encoder.theirs.sizes == [len("an engine")] * 2
    assert min(encoder.ours.wall_seconds) > 0 and min(one.peak_bytes for one in encoder.ours.usage)
    assert (found.tensorrt, found.target) == ("1.7.1.116", source.target)
    assert list(bench.workspace.iterdir()) == []


@pytest.mark.parametrize("which", ["ours_encoder_2", "theirs_encoder_1"])
def test_other_bytes_of_fixed_shapes_are_an_error(bench: Bench, source: Source, which: str) -> None:
    say(bench.python, **{which: "another"})
    with pytest.raises(NotReproducible, match="engines of encoder differ"):
        bench.run(source)


def test_other_bytes_of_ranges_are_none(bench: Bench, source: Source) -> None:
    say(bench.python, ours_decoder_1="one", theirs_decoder_1="another")
    decoder = bench.run(source).graphs[1]
    assert len({*decoder.ours.digests, *decoder.theirs.digests}) == 3


@pytest.mark.parametrize("fact", FACTS)
def test_engines_of_other_networks_are_not_compared(
    bench: Bench, source: Source, fact: str
) -> None:
    say(bench.python, theirs={**FACTS, fact: 1})
    with pytest.raises(VerificationFailure, match="do not build the same engine of encoder"):
        bench.run(source)


@pytest.mark.parametrize("fails", ["ours", "theirs"])
def test_a_side_that_fails_is_shown(bench: Bench, source: Source, fails: str) -> None:
    say(bench.python, fails=fails)
    with pytest.raises(StageFailure) as failure:
        bench.run(source)
    assert "it broke" in failure.value.why


def test_no_round_is_no_bench(bench: Bench, source: Source) -> None:
    with pytest.raises(UsageError):
        replace(bench, rounds=0).run(source)
    assert not bench.python.with_name("calls").exists()


@pytest.mark.parametrize(
    ("ours", "theirs", "ok"),
    [
        ([1.5], [1.0], True),
        ([1.6], [1.0], False),
        ([13.0], [10.0], False),
        ([12.7], [10.0], True),
        # Round by round: the slow ones were slow for both.
        ([1.0, 50.0, 2.0], [1.0, 40.0, 1.5], True),
        ([2.0, 50.0, 2.0], [1.0, 90.0, 1.0], False),
    ],
)
def test_the_time_is_bound_by_a_ratio_and_a_little_more(
    ours: list[float], theirs: list[float], ok: bool
) -> None:
    one = graph(side(*ours), side(*theirs))
    assert (one.fast, one.ok, report(one).ok) == (ok, ok, ok)


def test_every_round_keeps_the_bound_on_memory() -> None:
    theirs = side(1.0, 1.0)
    # `side` adds a byte in the second round.
    assert graph(side(1.0, 1.0, peak=BOUND_BYTES - 1), theirs).small is True
    assert graph(side(1.0, 1.0, peak=BOUND_BYTES), theirs).ok is False
    large = graph(side(1.0, peak=BOUND_BYTES + 1), side(1.0), onnx_bytes=LARGEST_ONNX + 1)
    assert large.small is None and large.ok
    assert graph(side(1.0, peak=BOUND_BYTES), side(1.0), onnx_bytes=LARGEST_ONNX).small is True


def test_one_graph_that_misses_is_enough() -> None:
    good, bad = graph(side(1.0), side(1.0)), graph(side(9.0), side(1.0))
    assert report(good, good).ok and not report(good, bad).ok


def test_both_sides_digests_are_told() -> None:
    apart = graph(side(1.0, digest="a" * 64), side(1.0, digest="b" * 64))
    with pytest.raises(NotReproducible) as error:
        require_alike(apart)
    assert "a" * 12 in error.value.why and "b" * 12 in error.value.why
    require_alike(replace(apart, fixed=False))


def test_the_document_has_bounds_and_verdicts() -> None:
    document: Any = report(graph(side(1.0), side(1.0))).document()
    json.dumps(document)
    assert document["bound_ratio"] == 1.25 and document["bound_bytes"] == 10**9
    assert document["graphs"][0]["ok"] is True and document["ok"] is True
    assert document["graphs"][0]["ours"]["usage"][0]["wall_seconds"] == 1.0
