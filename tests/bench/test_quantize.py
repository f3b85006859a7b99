"""bench.quantize with scripts whose figures are known."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import quantize_page, quantize_sides
from bench.layers_plot import draw_layers
from bench.measured import Side
from bench.quantize import Bench
from bench.quantize_sides import find_sides, plan_steps
from bench.quantized import (
    BASE,
    DYNAMIC,
    EQUAL,
    PRESET,
    SEED,
    Error,
    LayerError,
    Making,
    Quantized,
    Report,
)
from modelkiln.building.kiln import Kiln
from modelkiln.building.options import Options
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


def side(name: str, *, error: float, seconds: float, run: float, peak: int = 10) -> Quantized:
    one = Error(relative=error, snr_db=10.0)
    return Quantized(
        name=name,
        making=Making(seconds=seconds, peak_bytes=peak, pictures=8),
        planned=None if name == SEED else 51,
        errors={"high_res_feats_0": one, "image_embed": one},
        kernels={} if name == SEED else {"QGemm": 51},
        latency=latency(name, run),
    )


def latency(name: str, run: float, size: int = 30_000_000) -> Side:
    return Side(
        name=name,
        runtime="a runtime",
        run_seconds=[run, run, 10 * run],
        peak_bytes=[100] * 3,
        load_seconds=[0.1] * 3,
        file_bytes=size,
    )


GOOD = {
    SEED: side(SEED, error=0.1, seconds=30.0, run=1.0),
    EQUAL: side(EQUAL, error=0.1, seconds=20.0, run=0.9),
    PRESET: side(PRESET, error=0.03, seconds=30.0, run=1 / 1.4),
    DYNAMIC: side(DYNAMIC, error=0.05, seconds=3.0, run=0.625),
}
LAYERS = [
    LayerError(name="/<qkv>", op="MatMul", errors={SEED: 0.1, EQUAL: 0.01}, quantized=[EQUAL]),
    LayerError(name="/proj", op="Gemm", errors={SEED: 0.02, EQUAL: 0.0}, quantized=[SEED, EQUAL]),
]


def report_of(**changed: Quantized) -> Report:
    return Report(
        target="a/<target>",
        weights="random",
        rounds=3,
        threads=2,
        pictures=8,
        cropped=0,
        held_out=["x.jpg"],
        cpu="x86-64-v4 avx512_vnni",
        base=latency(BASE, 1.0, 100_000_000),
        sides=[changed.get(one.name.split("-")[-1].split()[0], one) for one in GOOD.values()],
        memory={2: 1000, 8: 1050, 16: 1020},
        variants={"attention's": {"image_embed": Error(relative=0.09, snr_db=20.9)}},
        variant_kernels={"attention's": 51},
        layers=LAYERS,
        tools="modelopt 0",
        machine={"processor": "abacus"},
    )


def missed(report: Report) -> list[str]:
    return [one.promise.name for one in report.held() if not one.promise.ok]


def test_what_is_just_kept_is_kept() -> None:
    report = report_of()
    assert missed(report) == []
    assert report.ok
    assert report.stretch == "quantizes 1.50x as fast; hoped for 1.5x: reached"


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("equal", {"errors": {"high_res_feats_0": Error(relative=0.101, snr_db=9.9),
                              "image_embed": Error(relative=0.1, snr_db=10.0)}},
         ["share of its error, high_res_feats_0, equal settings"]),
        ("int8", {"errors": {"high_res_feats_0": Error(relative=0.2, snr_db=9.9),
                             "image_embed": Error(relative=0.031, snr_db=10.0)}},
         ["share of its error, image_embed, onnx-int8"]),
        ("equal", {"making": Making(seconds=30.1, peak_bytes=10, pictures=8)},
         ["share of its time, equal settings"]),
        ("int8", {"making": Making(seconds=31.0, peak_bytes=5_100_000_000, pictures=8)},
         ["peak memory, onnx-int8"]),
        ("int8", {"latency": latency(PRESET, 0.72)}, ["speed over onnx-fp32, onnx-int8"]),
        ("dynamic", {"latency": latency(DYNAMIC, 0.63)},
         ["speed over onnx-fp32, onnx-int8-dynamic"]),
        ("int8", {"latency": latency(PRESET, 0.5, 34_000_001)}, ["files, onnx-int8"]),
        ("dynamic", {"kernels": {"DynamicQuantizeMatMul": 50}},
         ["integer kernels, onnx-int8-dynamic"]),
    ],
)  # fmt: skip
def test_what_is_missed_is_named(name: str, change: dict[str, Any], expected: list[str]) -> None:
    full = {"equal": EQUAL, "int8": PRESET, "dynamic": DYNAMIC}[name]
    report = report_of(**{name: replace(GOOD[full], **change)})
    assert missed(report) == expected
    assert not report.ok
    assert report.document()["ok"] is False


def test_memory_that_grows_is_missed() -> None:
    report = replace(report_of(), memory={2: 1000, 64: 1051})
    assert missed(report) == ["peak, most by least, equal settings"]


def test_no_error_beside_no_error_is_no_loss() -> None:
    nothing = Error(relative=0.0, snr_db=None)
    both = {"image_embed": nothing, "high_res_feats_0": nothing}
    report = report_of(ModelOpt=replace(GOOD[SEED], errors=both))
    assert report.share_of_error(EQUAL, "image_embed") == float("inf")
    report = replace(report, sides=[replace(one, errors=both) for one in report.sides])
    assert report.share_of_error(EQUAL, "image_embed") == 1.0


def test_the_table_says_what_is_promised_of_whom() -> None:
    report = report_of(
        int8=replace(GOOD[PRESET], latency=latency(PRESET, 0.8)),
        dynamic=replace(GOOD[DYNAMIC], kernels={"DynamicQuantizeMatMul": 50}),
    )
    titles, rows = quantize_page.table(report)
    assert titles[:-1] == ("", BASE, SEED, EQUAL, PRESET, DYNAMIC)
    assert all(len(row) == len(titles) for row in rows)
    shown = {row[0]: row[1:] for row in rows}
    assert shown["speed over onnx-fp32"] == (
        "-",
        "1.00x",
        "1.11x",
        "1.25x",
        "1.60x",
        "onnx-int8 >= 1.4x MISSED; onnx-int8-dynamic >= 1.6x ok",
    )
    assert shown["integer kernels"][:-1] == ("-", "0", "51 of 51", "51 of 51", "50 of 51")
    assert shown["error, image_embed"][1] == "0.1000, 10.0 dB"
    assert shown["share of its error, image_embed"][1:5] == ("-", "1.00x", "0.30x", "0.50x")
    assert shown["share of its time"][1:3] == ("-", "0.67x")
    assert shown["image_embed with attention's"][2] == "0.0900, 51 integer kernels"
    told = " ".join(row[-1] for row in rows)
    assert told.count(" ok") + told.count("MISSED") == len(report.held())


def test_the_report_is_written_whole(tmp_path: Path) -> None:
    data, page = quantize_page.write(report_of(), tmp_path / "bench")
    told = json.loads(data.read_text())
    assert told["ok"] and all(one["ok"] for one in told["promises"])
    assert told["speed"][PRESET] == pytest.approx(1.4)
    assert told["share_of_error"][PRESET]["image_embed"] == pytest.approx(0.3)
    assert told["layers"][0]["errors"] == {SEED: 0.1, EQUAL: 0.01}
    text = page.read_text()
    assert "a/&lt;target&gt;" in text and "<target>" not in text
    assert "x86-64-v4 avx512_vnni" in text and "attention&#x27;s" in text
    assert "http" not in text
    ElementTree.parse(page.with_name(quantize_page.PLOT))


def test_the_plot_has_a_dot_for_each_layer_and_side() -> None:
    root = ElementTree.fromstring(draw_layers(LAYERS, SEED, EQUAL))
    space = {"svg": "http://www.w3.org/2000/svg"}
    dots = root.findall("svg:circle", space)
    kinds = [one.get("class") for one in dots]
    assert kinds == ["other bare", "other", "ours", "ours"]
    titles = [dot.findtext("svg:title", namespaces=space) for dot in dots]
    assert titles[0] == "/<qkv>: 0.1000"
    # Lower errors stand lower; none at all stands on the floor.
    heights = [float(dot.get("cy", "")) for dot in dots]
    assert heights[0] < heights[1] < heights[2] <= heights[3]
    assert all(34 <= one <= 340 - 46 for one in heights)


def test_a_plot_of_no_errors_is_drawn() -> None:
    none = [LayerError(name="a", op="MatMul", errors={SEED: 0.0, EQUAL: 0.0})]
    ElementTree.fromstring(draw_layers(none, SEED, EQUAL))


def test_our_steps_are_those_of_the_plan() -> None:
    kiln = Kiln(Options(weights="random"))
    (target,) = kiln.targets("sam2.1_hiera_tiny/image/onnx-int8")
    told = plan_steps(kiln, target)
    assert [one["name"] for one in told["quantize"]["graphs"]] == ["encoder"]
    assert told["calibrate"]["calib_size"] == 16
    assert (told["threads"], told["seed"]) == (kiln.catalog.threads, kiln.catalog.seed)
    json.dumps(told)
    (target,) = kiln.targets("sam2.1_hiera_tiny/image/onnx-int8-dynamic")
    assert plan_steps(kiln, target)["calibrate"] is None


def test_a_target_that_cannot_be_built_is_no_side(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Nothing:
        failed = ()

    monkeypatch.setattr(quantize_sides, "build", lambda *_: Nothing())
    kiln = Kiln(Options(weights="random"), artifacts=tmp_path)
    with pytest.raises(StageFailure, match="has no encoder"):
        find_sides(kiln, "sam2.1_hiera_tiny/image/onnx-fp32")
    folder = tmp_path / "out" / "sam2.1_hiera_tiny+random0" / "image" / "onnx-fp32"
    folder.mkdir(parents=True)
    (folder / "encoder.onnx").touch()
    sides = find_sides(kiln, "sam2.1_hiera_tiny/image/onnx-fp32")
    assert (sides.graph, sides.weights) == (folder / "encoder.onnx", "random")
    assert (sides.preset, sides.calibration.name, sides.held_out.name) == (
        16,
        "calibration",
        "pictures",
    )
