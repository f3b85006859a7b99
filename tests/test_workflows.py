"""The GitHub workflows: valid, sound, and nothing in them that can change under a name."""

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
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


def check_schema(path: Path) -> subprocess.CompletedProcess[str]:
    return run_tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(path))


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
def test_the_schema_accepts_it(path: Path) -> None:
    done = check_schema(path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_audit_finds_nothing(path: Path) -> None:
    done = audit(path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_refuses_a_misspelt_key(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yml"
    broken.write_text(WORKFLOWS[0].read_text().replace("runs-on:", "run-on:"))
    assert check_schema(broken).returncode == 1


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
