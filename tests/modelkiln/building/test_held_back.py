"""What does not pay is built and held back, unless its own name was given; with a toy format."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.building.build import build
from modelkiln.building.kiln import Kiln
from modelkiln.building.manifest import find_manifest
from modelkiln.building.prepare import make_plan, resolve_plan
from modelkiln.commands.verify import verify_target, verify_targets
from modelkiln.errors import UsageError

MakeKiln = Callable[..., Kiln]
Invoke = Callable[..., "subprocess.CompletedProcess[str]"]
RANDOM = ("--weights", "random")
SMALL, GLOB = "toy_a/words/toy-small", "toy_a/words/*"
PLACE = Path("out/toy_a+random0/words")

FORMAT = """
extends = "toy-text"
stages = ["export", "convert", "quantize"]
replaces = "toy-text"

[options]
mode = "small"
integer_kernels = false

[session]
quietly = "1"

[parameters.layout]
default = "short"
choices = ["short", "long"]
token = "{}"
stages = ["quantize"]
"""

QUANTIZE = '''"""Toy precision: fewer letters."""

import json

from exporters.protocol import Result, Step


def run(step: Step) -> Result:
    """Writes words.txt and quantization.json."""
    words = step.input("words.txt").read_text()
    (step.out / "words.txt").write_text(words[: 9 if step.param("layout") == "short" else 12])
    (step.out / "quantization.json").write_text(json.dumps({"layout": step.param("layout")}))
    return Result(outputs=["words.txt", "quantization.json"], metrics={"graphs": {}})
'''

ASSESS = '''"""Toy assessment: whether it pays is a constant."""

from exporters.protocol import Result, Step

PAYS = False


def run(step: Step) -> Result:
    """Writes verification.json."""
    whole = step.input("fp32/words.txt").read_text()
    assert whole.startswith(step.input("words.txt").read_text())
    assert step.input("fp32/verification.json").read_text()
    assert step.input("quantization.json").read_text()
    (step.out / "verification.json").write_text("{}")
    return Result(
        outputs=["verification.json"], metrics={"summary": "fewer words agree", "pays": PAYS}
    )
'''


@pytest.fixture
def catalog(
    toy_copy: Path, make_built: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A toy catalog with a format that replaces the other, and does not pay."""
    (toy_copy / "formats" / "toy-small.toml").write_text(FORMAT)
    (toy_copy / "exporters" / "stages" / "quantize.py").write_text(QUANTIZE)
    (toy_copy / "exporters" / "stages" / "assess.py").write_text(ASSESS)
    (toy_copy / "exporters" / "toy" / "verify.py").write_text("")
    contract = toy_copy / "contracts" / "words.toml"
    text = contract.read_text().replace('["toy-text"]', '["toy-text", "toy-small"]')
    contract.write_text(text + '\n[quantization]\ngraphs = ["words"]\n')
    stages = toy_copy / "stages.toml"
    limits = stages.read_text().partition("[reference]")[2].partition("[export]")[0]
    stages.write_text(f"{stages.read_text()}\n[quantize]{limits}\n[assess]{limits}")
    monkeypatch.setattr(Kiln, "gpu", "")
    # The stages have run, so that a test is about what becomes of their results.
    make_built(GLOB, published=False)
    return toy_copy


def let_pay(catalog: Path, said: str) -> None:
    path = catalog / "exporters" / "stages" / "assess.py"
    path.write_text(path.read_text().replace("PAYS = False", said))


def made(kiln: Kiln, text: str) -> tuple[set[str], set[str]]:
    """The formats that a build publishes, and those that it holds back."""
    built = build(kiln, kiln.targets(text))
    assert not built.failed
    published = {one.target.format_name for one in built.published}
    return published, {one.format_name for one in built.held_back}


def test_a_glob_holds_it_back_and_its_name_publishes_it(
    catalog: Path, toy: Path, make_kiln: MakeKiln
) -> None:
    assert made(make_kiln(), GLOB) == ({"toy-text"}, {"toy-small"})
    assert {one.name for one in (toy / PLACE).iterdir()} == {"toy-text"}
    # Everything is there already; the rule is the same.
    assert made(make_kiln(), GLOB) == ({"toy-text"}, {"toy-small"})
    assert made(make_kiln(), f"{GLOB},{SMALL}") == ({"toy-text", "toy-small"}, set())
    assert made(make_kiln(), SMALL) == ({"toy-small"}, set())
    assert made(make_kiln(parameters={"layout": "long"}), SMALL) == ({"toy-small@long"}, set())


@pytest.mark.parametrize("said", ["PAYS = True", "PAYS = None"])
def test_what_pays_is_published_by_a_glob(catalog: Path, make_kiln: MakeKiln, said: str) -> None:
    let_pay(catalog, said)
    assert made(make_kiln(), GLOB) == ({"toy-text", "toy-small"}, set())


def test_what_is_stopped_before_is_neither(catalog: Path, make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    built = build(kiln, kiln.targets("toy_a/words/toy-s*"), until="quantize")
    assert (built.published, built.held_back) == ((), ())


def test_a_build_says_what_it_holds_back(catalog: Path, invoke: Invoke) -> None:
    done = invoke("build", GLOB, *RANDOM)
    assert done.returncode == 0, done.stderr
    assert "toy_a+random0/words/toy-small\n  does not pay here: " in done.stdout
    assert "than toy-text" in done.stdout
    told = json.loads(invoke("build", GLOB, *RANDOM, "--json").stdout)
    assert told["held_back"] == ["toy_a+random0/words/toy-small"]
    assert [one["target"] for one in told["published"]] == ["toy_a+random0/words/toy-text"]
    named = invoke("build", SMALL, *RANDOM)
    assert "does not pay" not in named.stdout
    assert "verified: fewer words agree" in named.stdout


def test_the_manifest_tells_the_format_s_parameters_and_session(
    catalog: Path, toy: Path, make_kiln: MakeKiln
) -> None:
    kiln = make_kiln(parameters={"layout": "long"})
    (target,) = kiln.targets(SMALL)
    build(kiln, [target])
    manifest = find_manifest(kiln, target)
    assert manifest["target"] == "toy_a+random0/words/toy-small@long"
    assert manifest["format"] == "toy-small"
    assert manifest["format_parameters"] == {"layout": "long"}
    assert manifest["session"] == {"quietly": "1"}
    assert set(manifest["files"]) == {"words.txt", "quantization.json", "verification.json"}
    folder = toy / PLACE / "toy-small@long"
    assert (folder / "words.txt").read_text() == "words: seed "
    kiln = make_kiln()
    build(kiln, kiln.targets("toy_a/words/toy-text"))
    plain = find_manifest(kiln, kiln.targets("toy_a/words/toy-text")[0])
    assert not {"format_parameters", "session"} & set(plain)


def test_it_is_verified_anew_beside_what_it_replaces(
    catalog: Path, make_kiln: MakeKiln, capsys: pytest.CaptureFixture[str]
) -> None:
    kiln = make_kiln()
    (target,) = kiln.targets(SMALL)
    build(kiln, [target])
    assert verify_target(kiln, target)["summary"] == "fewer words agree"
    # A glob that it was held back from passes over it; its name does not.
    build(kiln, kiln.targets(GLOB))
    verify_targets(kiln, GLOB)
    assert "left out toy_a+random0/words/toy-small@" not in capsys.readouterr().err
    long = make_kiln(parameters={"layout": "long"})
    verify_targets(long, GLOB)
    assert "left out toy_a+random0/words/toy-small@long: " in capsys.readouterr().err
    for text in (SMALL, "toy_a/words/*small", f"toy_a/words/toy-text,{SMALL}"):
        with pytest.raises(UsageError, match="toy-small@long has not been built"):
            verify_targets(long, text)
    # The published files are what is checked, so the store may have lost them.
    done = resolve_plan(kiln, make_plan(kiln, [target]))[
        "toy_a+random0/words/toy-small/quantize"
    ].record
    assert done is not None
    kiln.store.blob_path(done.outputs["quantization.json"].sha256).unlink()
    assert verify_target(make_kiln(), target)["summary"] == "fewer words agree"
    step = "toy_a+random0/words/toy-text/verify"
    record = resolve_plan(kiln, make_plan(kiln, [target]))[step].record
    assert record is not None
    kiln.store.blob_path(record.outputs["verification.json"].sha256).unlink()
    with pytest.raises(UsageError, match="checked against is not in the store") as caught:
        verify_target(make_kiln(), target)
    assert step in caught.value.why
