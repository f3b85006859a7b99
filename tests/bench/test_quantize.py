"""bench.quantize with scripts whose figures are known."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from bench.quantize import Bench
from bench.quantized import (
    DYNAMIC,
    EQUAL,
    PRESET,
    SEED,
    Report,
)
from modelkiln.errors import StageFailure, UsageError
from modelkiln.util.machine import cpu_level

PLANS: Mapping[str, Mapping[str, Any]] = {
    PRESET: {"quantize": {"mode": "int8"}},
    DYNAMIC: {"quantize": {"mode": "int8-dynamic"}},
}

SCRIPT = f"""#!{sys.executable}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
_, flag, module, *given = sys.argv
assert flag == '-m' and pathlib.Path('bench').is_dir()
flags = dict(one[2:].split('=') for one in given if one.startswith('--'))
given = [one for one in given if not one.startswith('--')]
name = module.removeprefix('bench.sides.quantize_')
with open(here / 'calls', 'a') as calls:
    print(json.dumps([name, given, flags]), file=calls)
print('noise before the result')
def folder(path):
    path = pathlib.Path(path)
    path.mkdir(parents=True)
    return path
def errors(value):
    one = dict(relative=value, snr_db=20.0, by_picture=[value])
    return dict(image_embed=one, high_res_feats_0=one)
if name == 'pictures':
    source, out, count = given
    for number in range(int(count)):
        (folder(out) if not number else pathlib.Path(out)).joinpath(str(number)).touch()
    told = dict(pictures=['a.jpg'], made=max(0, int(count) - 3))
elif name == 'seed':
    graph, pictures, out, count = given
    assert len(list(pathlib.Path(pictures).iterdir())) == int(count) + 1
    pathlib.Path(out).write_text('seed')
    pathlib.Path(out + '_data').write_text('weights')
    told = dict(runtime='modelopt 0', pictures=['a'] * (int(count) + 1), peak_bytes=6000)
elif name == 'ours':
    plan, graph, out = given
    mode = json.loads(pathlib.Path(plan).read_text())['quantize']['mode']
    count = int(flags.get('count', 0))
    file = folder(out) / 'encoder.onnx'
    file.write_text('o' * 10)
    told = dict(runtime='modelkiln', pictures=['a'] * count, peak_bytes=3000 + count,
                file=str(file), integer_kernels=51, mode=mode)
elif name == 'variants':
    base, seed, calibration, pictures, out, count = given
    assert pathlib.Path(seed).read_text() == 'seed'
    told = dict(attention=1, left_out=0, files={{"attention's": out + '/0/encoder.onnx'}})
elif name == 'errors':
    base, pictures, *pairs = given
    graphs = {{}}
    for number, pair in enumerate(pairs):
        side, file = pair.split('=')
        kernels = {{}} if side == '{SEED}' else dict(QGemm=50, DynamicQuantizeMatMul=1)
        graphs[side] = dict(errors=errors(0.5 / (number + 1)), kernels=kernels)
    told = dict(pictures=['x.jpg'], graphs=graphs)
elif name == 'latency':
    graph, picture, out = given
    seconds = 2.0 if 'base' in graph else 1.0
    told = dict(runtime='onnxruntime 0', load_seconds=0.1, run_seconds=seconds, peak_bytes=9)
else:
    assert name == 'layers'
    base, picture, scratch, *pairs = given
    found = {{pair.split('=')[0]: 0.25 for pair in pairs}}
    told = dict(layers=[dict(name='/qkv', op='MatMul', errors=found, quantized=['{EQUAL}'])])
print(json.dumps(told))
"""


@dataclass(kw_only=True)
class Made:
    """A bench of fake scripts, and what it called."""

    bench: Bench
    folder: Path

    def calls(self, name: str) -> list[tuple[list[str], dict[str, str]]]:
        lines = (self.folder / "calls").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        return [(given, flags) for one, given, flags in found if one == name]

    def run(self) -> Report:
        return self.bench.run("a/target", self.folder / "base.onnx", PLANS, weights="random")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    python = tmp_path / "python"
    python.write_text(SCRIPT)
    python.chmod(0o755)
    (tmp_path / "base.onnx").write_text("b" * 100)
    for name in ("work", "calibration", "held"):
        (tmp_path / name).mkdir()
    for name in ("README.md", "x.jpg", "y.jpg"):
        (tmp_path / "held" / name).touch()
    bench = Bench(
        python=python,
        threads=2,
        workspace=tmp_path / "work",
        calibration=tmp_path / "calibration",
        held_out=tmp_path / "held",
        preset=16,
        pictures=4,
        rounds=3,
        on_progress=lambda _: None,
    )
    return Made(bench=bench, folder=tmp_path)


def test_every_side_is_quantized_with_the_pictures_that_it_should_see(made: Made) -> None:
    report = made.run()
    counts = [flags.get("count") for _, flags in made.calls("ours")]
    assert counts == ["4", "16", None, "2"]
    modes = [Path(given[0]).stem for given, _ in made.calls("ours")]
    assert modes == [PRESET, PRESET, DYNAMIC, PRESET]
    ((_, pictures, _, count), flags), *others = made.calls("seed")
    assert (Path(pictures).name, count, flags, others) == ("seed", "4", {"threads": "2"}, [])
    shown = {one.name: one.making.pictures for one in report.sides}
    assert shown == {SEED: 5, EQUAL: 4, PRESET: 16, DYNAMIC: 0}
    assert report.memory == {2: 3002, 4: 3004, 16: 3016}
    # The set holds the preset's pictures too, of which 13 are crops.
    assert report.cropped == 13


def test_the_set_holds_what_the_example_reads_too_much(made: Made) -> None:
    replace(made.bench, pictures=32).run("a", made.folder / "base.onnx", PLANS, weights="random")
    counts = {Path(given[1]).name: given[2] for given, _ in made.calls("pictures")}
    assert counts == {"set": "33", "seed": "33"}


def test_all_files_run_in_every_round_in_an_order_that_turns(made: Made) -> None:
    report = made.run()
    shown = [Path(given[0]).parent.name for given, _ in made.calls("latency")]
    first = ["modelopt", "made-equal-settings", "made-onnx-int8", "made-onnx-int8-dynamic"]
    sides = [made.folder.name, *first]
    assert shown == [*sides, *sides[1:], *sides[:1], *sides[2:], *sides[:2]]
    assert all(flags == {"runs": "2", "threads": "2"} for _, flags in made.calls("latency"))
    assert {Path(given[1]).name for given, _ in made.calls("latency")} == {"x.jpg"}
    assert report.base.run_seconds == [2.0] * 3
    assert report.speed(PRESET) == 2.0
    assert report.side(SEED).latency.file_bytes == len("seed") + len("weights")
    assert report.side(PRESET).latency.file_bytes == 10


def test_errors_are_told_of_every_side_and_variant(made: Made) -> None:
    report = made.run()
    (((_, pictures, *pairs), _),) = made.calls("errors")
    assert Path(pictures).name == "held"
    assert [one.split("=")[0] for one in pairs] == [SEED, EQUAL, PRESET, DYNAMIC, "attention's"]
    assert report.share_of_error(EQUAL, "image_embed") == 0.5
    assert report.variants["attention's"]["image_embed"].relative == pytest.approx(0.1)
    assert report.variant_kernels == {"attention's": 51}
    assert (report.side(SEED).ran, report.side(PRESET).ran) == (0, 51)
    assert report.side(PRESET).planned == 51
    assert report.side(SEED).planned is None
    assert report.layers[0].quantized == [EQUAL]
    assert report.layers[0].errors == {SEED: 0.25, EQUAL: 0.25}
    assert report.cpu == cpu_level()
    assert report.side(PRESET).making.seconds > 0


def test_variants_start_from_the_example_s_file_and_our_calibration(made: Made) -> None:
    made.run()
    (((_, seed, calibration, pictures, _, count), _),) = made.calls("variants")
    assert Path(seed).parent.name == "modelopt"
    assert calibration.endswith("made-equal-settings/calibrate/out/calibration.json")
    assert (Path(pictures).name, count) == ("set", "4")


def test_a_side_that_fails_is_named(made: Made) -> None:
    made.bench.python.write_text(f"#!{sys.executable}\nraise SystemExit(3)")
    with pytest.raises(StageFailure, match=r"status 3.*quantize_pictures"):
        made.run()


@pytest.mark.parametrize("change", [{"rounds": 0}, {"pictures": 1}, {"pictures": 4096}])
def test_too_little_to_measure_is_refused(made: Made, change: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        replace(made.bench, **change).run(  # type: ignore[arg-type]
            "a", made.folder / "base.onnx", PLANS, weights="random"
        )
    assert not (made.folder / "calls").exists()
