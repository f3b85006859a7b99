"""The GitHub workflows: valid, sound, and nothing in them that can change under a name."""

import json
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from modelkiln.building.matrix import Image, Leg

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
BUILD = ROOT / ".github" / "workflows" / "build.yml"
PINNED = re.compile(r"[\w.-]+(/[\w.-]+)+@[0-9a-f]{40} # v\d+\.\d+\.\d+")


def run_tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    beside = sysconfig.get_path("scripts")
    tool = shutil.which(name) or shutil.which(name, path=beside)
    if not tool:
        pytest.skip(f"{name} is not installed")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=False)


def find_unpinned(text: str) -> list[str]:
    """Values of `uses:` that are not OWNER/NAME@COMMIT # vVERSION; local actions are none."""
    used: list[str] = re.findall(r"^[ \t-]*[\"']?uses[\"']?[ \t]*:[ \t]*(.*?)[ \t]*$", text, re.M)
    return [one for one in used if not PINNED.fullmatch(one)]


MISSPELT = """
on: push
jobs:
  one:
    run-on: ubuntu-latest
    steps: [{run: make}]
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the schema has against the workflows, and against one with a misspelt key, by file."""
    broken = tmp_path_factory.mktemp("workflows") / "broken.yml"
    broken.write_text(MISSPELT)
    # One call for all: loading the schema takes longer than most files.
    schema = ("--builtin-schema", "vendor.github-workflows", "--output-format", "json")
    # Not by its program, whose first line names the Python of whoever installed it.
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *schema, *map(str, (*WORKFLOWS, broken))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert not told["parse_errors"]
    return {Path(one["filename"]).name: str(one) for one in told["errors"]}


def audit(path: Path) -> subprocess.CompletedProcess[str]:
    return run_tool("zizmor", "--offline", "--no-progress", "--persona=pedantic", str(path))


def test_there_is_a_workflow_that_runs_the_tests() -> None:
    assert any(re.search(r"^\s*run: make test$", path.read_text(), re.M) for path in WORKFLOWS)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_commit(path: Path) -> None:
    text = path.read_text()
    assert "uses:" in text
    assert find_unpinned(text) == []


@pytest.mark.parametrize(
    "value",
    [
        "actions/checkout@v6",
        "actions/checkout@main # v6.0.2",
        "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83d # v6.0.2",
        "actions/checkout@DE0FAC2E4500DABE0009E67214FF5F5447CE83DD # v6.0.2",
        "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd",
        "docker://alpine:3.20",
    ],
)
@pytest.mark.parametrize(
    "spelling", ["      - uses: {}\n", "        uses : {}\n", "  'uses': {}\n"]
)
def test_a_name_that_can_move_is_found(spelling: str, value: str) -> None:
    assert find_unpinned(spelling.format(value)) == [value]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_schema_accepts_it(refused: dict[str, str], path: Path) -> None:
    assert path.name not in refused, refused[path.name]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_audit_finds_nothing(path: Path) -> None:
    done = audit(path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_refuses_a_misspelt_key(refused: dict[str, str]) -> None:
    assert "'runs-on' is a required property" in refused["broken.yml"]


def test_the_audit_refuses_credentials_that_stay(tmp_path: Path) -> None:
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    broken = folder / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text().replace("persist-credentials: false", "clean: true"))
    done = audit(broken)
    assert done.returncode != 0
    assert "artipacked" in done.stdout


def test_permissions_are_granted_per_job_and_only_to_read() -> None:
    for path in WORKFLOWS:
        text = path.read_text()
        assert re.search(r"^permissions: \{\}$", text, re.M), path.name
        assert "write" not in re.sub(r"#.*", "", text), path.name


def load(path: Path) -> dict[str, Any]:
    yaml = pytest.importorskip("ruamel.yaml", reason="ruamel.yaml is not installed")
    document: dict[str, Any] = yaml.YAML(typ="safe").load(path.read_text())
    return document


def steps_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in load(path)["jobs"].items():
        for step in job["steps"]:
            yield name, step


def commands_of(text: str) -> list[list[str]]:
    """The `invoke` commands of a script, as words; what is redirected is left out."""
    joined = text.replace("\\\n", " ").replace("\n>>", " >>")
    lines = [line.partition(">>")[0] for line in joined.splitlines()]
    return [line.split("invoke ", 1)[1].split() for line in lines if ".venv/bin/invoke " in line]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_script_holds_no_expression(path: Path) -> None:
    scripts = [step["run"] for _, step in steps_of(path) if "run" in step]
    assert scripts
    assert [one for one in scripts if "${{" in one] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_scripts_call_is_there(path: Path) -> None:
    """Tasks with these flags, and targets of the Makefile."""
    from tasks import ns

    makefile = (ROOT / "Makefile").read_text()
    for _, step in steps_of(path):
        script = step.get("run", "")
        for target in re.findall(r"^\s*make ([\w-]+)$", script, re.M):
            assert re.search(rf"^{target}:", makefile, re.M), target
        for words in commands_of(script):
            task = ns[words[0]]
            flags = {flag for one in task.get_arguments() for flag in one.names}
            asked = {word.removeprefix("--") for word in words[1:] if word.startswith("--")}
            assert asked <= flags, words


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_script_has_the_variables_that_it_uses(path: Path) -> None:
    jobs = load(path)["jobs"]
    for job, step in steps_of(path):
        script = step.get("run", "")
        there = {"HOME", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"}
        there |= set(re.findall(r"\bfor (\w+) in", script))
        there |= set(jobs[job].get("env", {})) | set(step.get("env", {}))
        assert set(re.findall(r"\$\{?(\w+)", script)) <= there, step["name"]


def test_the_commands_of_a_script_are_found() -> None:
    assert commands_of('make setup\n.venv/bin/invoke a "$B" --c\n>>"$F"\necho invoke d') == [
        ["a", '"$B"', "--c"]
    ]


def test_the_build_follows_the_plan() -> None:
    workflow = load(BUILD)
    plan, images, build = (workflow["jobs"][name] for name in ("plan", "images", "build"))
    asked = [words for _, step in steps_of(BUILD) for words in commands_of(step.get("run", ""))]
    assert [words[0] for words in asked] == ["plan", "image.build", "build", "store.gc"]
    assert asked[0][asked[0].index("--format") + 1] == "github"
    assert asked[2][1:] == ['"$TARGETS"', "--runner", "docker"]
    assert plan["outputs"] == {
        name: f"${{{{ steps.plan.outputs.{name} }}}}" for name in ("matrix", "images")
    }
    assert images["strategy"]["matrix"]["image"] == "${{ fromJSON(needs.plan.outputs.images) }}"
    assert build["strategy"]["matrix"] == "${{ fromJSON(needs.plan.outputs.matrix) }}"
    # A leg with a GPU names the labels of a machine that has one; see the tests of the matrix.
    assert build["runs-on"] == "${{ matrix.runs_on }}"
    assert build["timeout-minutes"] == "${{ matrix.timeout }}"
    assert set(build["needs"]) == {"plan", "images"}


def test_the_build_asks_for_what_the_matrix_has() -> None:
    legs = {one.name for one in fields(Leg)}
    images = {one.name for one in fields(Image)}
    text = BUILD.read_text()
    assert set(re.findall(r"matrix\.(?!image\b)(\w+)", text)) <= legs
    assert set(re.findall(r"matrix\.(?:image|images\[\d\])\.(\w+)", text)) <= images


def test_what_is_kept_is_what_is_looked_for() -> None:
    """A cache is found by its key and its paths, letter by letter."""
    kept: dict[str, list[str]] = {"restore": [], "save": []}
    for _, step in steps_of(BUILD):
        for kind, found in kept.items():
            if f"actions/cache/{kind}@" in step.get("uses", ""):
                found.append(f"{step['with']['key']} {step['with']['path']}")
    spelt = {re.sub(r"images\[\d\]", "image", one) for one in kept["restore"]}
    assert spelt == set(kept["save"])
    assert len(kept["save"]) == 2


def test_there_is_a_step_for_each_image_that_a_leg_may_need() -> None:
    environments = list((ROOT / "docker").glob("*/requirements.txt"))
    restored = [
        step
        for job, step in steps_of(BUILD)
        if job == "build" and "matrix.images[" in str(step.get("with", {}).get("key"))
    ]
    assert len(restored) >= len(environments)
    for number, step in enumerate(restored):
        assert f"matrix.images[{number}].digest" in step["with"]["key"]
        assert step.get("if") == (f"matrix.images[{number}]" if number else None)


def test_no_image_is_pushed() -> None:
    """One of them holds packages that nobody may hand on."""
    for path in WORKFLOWS:
        assert not re.search(r"docker (?:image )?push|buildx|--push|login", path.read_text()), path


def test_a_cache_of_environments_is_cleared_of_what_may_not_be_handed_on() -> None:
    """Caches are saved when the job's own steps are done; whoever forks a repository reads them."""
    keeping = []
    for path in WORKFLOWS:
        for job, step in steps_of(path):
            if "modelkiln/environments" in str(step.get("with", {}).get("path")):
                keeping.append((path, job))
                last = list(load(path)["jobs"][job]["steps"])[-1]
                assert commands_of(last["run"]) == [["env.prune", "--licensed"]]
                assert last["if"] == "always()"
    assert keeping
