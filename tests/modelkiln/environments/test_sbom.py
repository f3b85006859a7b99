"""The bill of materials of an image: valid, whole, and the same bytes each time."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelkiln.environments.base_images import load_base
from modelkiln.environments.environment import Environment, environment
from modelkiln.environments.lockfile import read_lock
from modelkiln.environments.sbom import bill_of_materials
from modelkiln.paths import REPOSITORY

BASE = load_base("python", {})


@pytest.fixture
def export(tmp_path: Path) -> Environment:
    """A copy of the export environment, with a Dockerfile."""
    shutil.copytree(REPOSITORY / "docker" / "export", tmp_path / "docker" / "export")
    (tmp_path / "docker" / "export" / "Dockerfile").write_text("FROM scratch\n")
    return environment("export", tmp_path / "docker")


@pytest.fixture
def document(export: Environment) -> Any:
    return json.loads(bill_of_materials(export, BASE))


def _validate(text: str) -> object:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)


def test_the_schema_accepts_it(export: Environment) -> None:
    assert _validate(bill_of_materials(export, BASE)) is None


def test_the_schema_refuses_what_is_wrong(document: Any) -> None:
    document["components"][0]["type"] = "thing"
    assert _validate(json.dumps(document)) is not None


def test_every_package_is_there_with_its_hashes(export: Environment, document: Any) -> None:
    packages = {one["name"]: one for one in document["components"] if one["type"] == "library"}
    locked = read_lock(export.lock)
    assert packages.keys() == {one.name for one in locked}
    for one in locked:
        found = packages[one.name]
        assert found["version"] == one.version
        assert found["purl"] == f"pkg:pypi/{one.name}@{one.version}"
        assert {hash_["alg"] for hash_ in found["hashes"]} == {"SHA-256"}
        contents = {hash_["content"] for hash_ in found["hashes"]}
        assert contents and all(f"sha256:{content}" in one.text for content in contents)
        assert len(contents) == one.text.count("--hash=")


def test_the_base_and_the_image_are_there(export: Environment, document: Any) -> None:
    (base,) = [one for one in document["components"] if one["type"] == "container"]
    assert base["hashes"] == [{"alg": "SHA-256", "content": BASE.digest.removeprefix("sha256:")}]
    assert base["purl"].startswith("pkg:oci/python@sha256")
    assert "docker.io/library/python" in base["purl"].replace("%2F", "/")
    image = document["metadata"]["component"]
    assert image["name"] == "modelkiln/export"
    assert image["version"] == export.image_digest(BASE)[:16]
    (asks,) = [one for one in document["dependencies"] if one["ref"] == image["bom-ref"]]
    assert set(asks["dependsOn"]) == {one["bom-ref"] for one in document["components"]}


def test_the_bytes_depend_on_the_image_alone(
    export: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bill_of_materials(export, BASE)
    # A later second, another process, another order of sets.
    time.sleep(1.1)
    program = (
        "import sys; from pathlib import Path;"
        "from modelkiln.environments.environment import environment;"
        "from modelkiln.environments.base_images import load_base;"
        "from modelkiln.environments.sbom import bill_of_materials;"
        "sys.stdout.write(bill_of_materials(environment('export', Path(sys.argv[1])),"
        "load_base('python', {})))"
    )
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    done = subprocess.run(
        [sys.executable, "-c", program, str(export.lock.parent.parent)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == first
    other = replace(BASE, digest=f"sha256:{'0' * 64}")
    serials = [json.loads(one)["serialNumber"] for one in (first, bill_of_materials(export, other))]
    assert serials[0] != serials[1]


def test_commands_that_write_none_do_not_load_the_library() -> None:
    program = "import sys, tasks; sys.exit('cyclonedx' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)
