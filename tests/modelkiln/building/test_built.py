"""What was built and never run: said of it everywhere, and that it is verified nowhere."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.modelkiln.engine_case import BUILT

Invoke = Callable[..., "subprocess.CompletedProcess[str]"]
RANDOM = ("--weights", "random")
TARGET, SOURCE = "toy_a/words/toy-engine", "toy_a/words/toy-text"
PLACE = Path("out/toy_a+random0/words/toy-engine")

FORMAT = """
summary = "engines of text"
made_from = "toy-text"
stages = ["engine"]
checks = ["check_engine"]
runtimes = ["nothing"]
files = "{name}.engine"

[options]
flavour = "rtx"
precision = "fp16"
tf32 = false
verbosity = "detailed"

[parameters.gpu]
default = "portable"
list_of = ["portable", "sm89"]
plus = true
token = "{}"
stages = ["engine"]
"""

ENGINE = '''"""Toy engines: the text, compiled to capitals."""

from exporters.protocol import Result, Step


def run(step: Step) -> Result:
    """Writes words.engine and engines.json."""
    (step.out / "words.engine").write_text(step.input("words.txt").read_text().upper())
    (step.out / "engines.json").write_text("{}")
    return Result(outputs=["words.engine", "engines.json"], metrics={"graphs": {}})
'''

CHECK = '''"""Toy checks: an engine has to be in capitals."""

import json

from exporters.protocol import NOT_VERIFIED, Result, StageError, Step

SUMMARY = {summary!r}
GRAPH = {graph!r}


def run(step: Step) -> Result:
    """Writes built.json."""
    if not step.input("words.engine").read_text().isupper():
        raise StageError("Small letters.", "They are.", "Build it.", exit_code=NOT_VERIFIED)
    assert step.input("verification.json").is_file()
    summary = {{**SUMMARY, "onnx": {{"target": step.param("source"), "summary": None}}}}
    document = {{**summary, "tf32": False, "ran_on": None, "graphs": {{"words": GRAPH}}}}
    (step.out / "built.json").write_text(json.dumps(document))
    return Result(outputs=["built.json"], metrics={{"summary": summary}})
'''

SUMMARY = {name: BUILT[name] for name in ("status", "says", "tensorrt", "gpus", "precision")}
SUMMARY["activation_memory"] = 753_000_000
GRAPH = {**BUILT["graphs"]["decoder"], "file": "words.engine"}


@pytest.fixture(autouse=True)
def engines(toy_copy: Path) -> Path:
    """The toy's catalog with engines."""
    for name, text in {
        "formats/toy-engine.toml": FORMAT,
        "exporters/stages/engine.py": ENGINE,
        "exporters/stages/check_engine.py": CHECK.format(summary=SUMMARY, graph=GRAPH),
    }.items():
        (toy_copy / name).write_text(text)
    contract = toy_copy / "contracts" / "words.toml"
    formats = 'formats = ["toy-text", "toy-engine"]'
    contract.write_text(contract.read_text().replace('formats = ["toy-text"]', formats))
    return toy_copy


@pytest.fixture
def built(invoke: Invoke, toy: Path) -> Path:
    done = invoke("build", TARGET, *RANDOM)
    assert done.returncode == 0, done.stderr
    assert "built, not run: no GPU has computed anything" in done.stdout
    assert "verified" not in done.stdout
    return toy / PLACE


def test_out_and_the_manifest_say_built(built: Path) -> None:
    names = {path.name for path in built.iterdir()}
    assert names == {"words.engine", "engines.json", "built.json", "manifest.json"}
    manifest = json.loads((built / "manifest.json").read_text())
    assert manifest["status"] == "built"
    assert "verification" not in manifest
    assert manifest["built"]["onnx"]["target"] == "toy_a+random0/words/toy-text"
    steps = manifest["steps"]
    # The engine rests on its source's verification, which is among its steps.
    assert "toy_a+random0/words/toy-text/verify" in steps
    del manifest["steps"]
    assert "verified" not in json.dumps(manifest)


def test_its_source_says_more(built: Path, invoke: Invoke) -> None:
    done = invoke("build", SOURCE, *RANDOM, "--json")
    (published,) = json.loads(done.stdout)["published"]
    assert published["status"] == "verified"
    manifest = json.loads((Path(published["folder"]) / "manifest.json").read_text())
    assert (manifest["status"], manifest["verification"]) == ("verified", "words agree")
    assert "built" not in manifest


def test_json_inspect_report_and_verify_say_built(
    built: Path, invoke: Invoke, tmp_path: Path
) -> None:
    done = invoke("build", TARGET, *RANDOM, "--json")
    (published,) = json.loads(done.stdout)["published"]
    assert published["status"] == "built"

    done = invoke("inspect", TARGET, *RANDOM)
    assert "\nbuilt, not run: " in done.stdout
    assert "words.engine" in done.stdout
    assert "same bytes not promised" in done.stdout
    # Only the name of its source's step has the word's stem.
    assert "verified" not in done.stdout

    told = json.loads(invoke("inspect", TARGET, *RANDOM, "--json").stdout)
    assert [row["file"] for row in told["engines"]["rows"]] == ["words.engine"]

    page = tmp_path / "page.html"
    done = invoke("report", TARGET, *RANDOM, "--out", str(page))
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert '<span class="pill">built, not run</span>' in text
    assert ">verified<" not in text
    assert "1.0 MB" in text

    done = invoke("verify", TARGET, *RANDOM)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("--  toy_a+random0/words/toy-engine  built, not run: ")
    done = invoke("verify", f"{TARGET},{SOURCE}", *RANDOM, "--json")
    assert done.returncode == 2, "the source itself has not been published"
    invoke("build", SOURCE, *RANDOM)
    done = invoke("verify", f"{TARGET},{SOURCE}", *RANDOM, "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert {name.rpartition("/")[2]: (one["ok"], one["status"]) for name, one in found.items()} == {
        "toy-engine": (None, "built"),
        "toy-text": (True, "verified"),
    }


def test_a_changed_engine_is_told_and_put_back(built: Path, invoke: Invoke) -> None:
    engine = built / "words.engine"
    engine.chmod(0o644)
    engine.write_text(engine.read_text()[:-1])
    done = invoke("verify", TARGET, *RANDOM)
    assert done.returncode == 6
    assert "words.engine" in done.stderr
    done = invoke("build", TARGET, *RANDOM)
    assert "restored" in done.stderr
    assert engine.read_text().endswith(".")


def test_engines_run_nowhere_here(built: Path, invoke: Invoke) -> None:
    video = built.parent / "video.txt"
    video.write_text("frame")
    done = invoke("track", TARGET, str(video), "--box", "0,0,1,1", *RANDOM)
    assert done.returncode == 2
    assert "toy_a+random0/words/toy-text" in done.stderr


def test_until_knows_the_source_s_stages(invoke: Invoke, toy: Path) -> None:
    done = invoke("build", TARGET, *RANDOM, "--until", "convert")
    assert done.returncode == 0, done.stderr
    assert not (toy / "out").exists()
    done = invoke("plan", TARGET, *RANDOM)
    assert "4 run" not in done.stdout
    done = invoke("build", TARGET, *RANDOM, "--until", "quantize")
    assert done.returncode == 2
    assert "convert, engine, export, ingest" in done.stderr


def test_a_source_that_fails_its_check_leaves_no_engine_in_out(
    engines: Path, invoke: Invoke, toy: Path
) -> None:
    verify = engines / "exporters" / "stages" / "verify.py"
    verify.write_text(
        "from exporters.protocol import NOT_VERIFIED, StageError\n\n\n"
        "def run(step):\n"
        '    raise StageError("Words differ.", "They do.", "Look.", exit_code=NOT_VERIFIED)\n'
    )
    done = invoke("build", TARGET, *RANDOM)
    assert done.returncode == 6
    assert not (toy / PLACE).exists()
    shutil.rmtree(toy)
