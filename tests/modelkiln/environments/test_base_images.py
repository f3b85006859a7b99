"""modelkiln.environments.base_images: bases are named in full, and a user's own go before."""

import subprocess
import sys
from pathlib import Path

import pytest

from modelkiln.environments.base_images import BasePin, load_base, load_bases
from modelkiln.errors import PinError, UsageError
from modelkiln.paths import REPOSITORY

DIGEST = f"sha256:{'ab' * 32}"
PIN = f"""[bases.python]
image = "my-base"
tag = "bookworm"
digest = "{DIGEST}"
interpreter = "cpython-3.11.2-x86_64"
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "pins.toml"
    path.write_text(PIN)
    return path


def test_the_repository_pins_its_base() -> None:
    base = load_base("python", {})
    assert base.reference == f"python:{base.tag}@{base.digest}"
    assert base.interpreter.startswith("cpython-3.11.")
    assert load_bases({}) == (base,)


def test_the_users_own_pins_go_before(own: Path) -> None:
    variables = {"MODELKILN_PINS": str(own)}
    base = load_base("python", variables)
    assert base == BasePin(
        name="python",
        image="my-base",
        tag="bookworm",
        digest=DIGEST,
        interpreter="cpython-3.11.2-x86_64",
    )
    assert base.reference == f"my-base:bookworm@{DIGEST}"
    own.write_text(PIN.replace("bases.python", "bases.other"))
    assert load_base("other", variables).name == "other"
    assert load_base("python", variables) == load_base("python", {})
    assert [one.name for one in load_bases(variables)] == ["other", "python"]


def test_the_environment_variable_of_this_process_counts(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELKILN_PINS", str(own))
    assert load_base().image == "my-base"


@pytest.mark.parametrize(
    "image", ["python", "team/python", "registry.example/team/python", "127.0.0.1:5000/python"]
)
def test_names_with_and_without_a_registry_are_good(own: Path, image: str) -> None:
    own.write_text(PIN.replace("my-base", image))
    assert load_base("python", {"MODELKILN_PINS": str(own)}).image == image


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (DIGEST, "unknown", "digest"),
        (DIGEST, "", "digest"),
        (DIGEST, DIGEST[:-1], "digest"),
        (DIGEST, DIGEST.upper(), "digest"),
        (DIGEST, f"{DIGEST}\\n", "digest"),
        (f'digest = "{DIGEST}"', "", "digest"),
        (f'digest = "{DIGEST}"', "digest = 7", "digest"),
        ("my-base", "My Base", "image"),
        ("my-base", "my-base@sha256", "image"),
        ("bookworm", "", "tag"),
        ("bookworm", "a/b", "tag"),
        ("cpython-3.11.2-x86_64", "python3", "interpreter"),
        ("tag =", 'tags = "x"\ntag =', "tags"),
    ],
)
def test_a_malformed_pin_is_refused(own: Path, old: str, new: str, word: str) -> None:
    own.write_text(PIN.replace(old, new, 1))
    with pytest.raises(PinError, match=rf"'python'.*{word}") as failure:
        load_base("python", {"MODELKILN_PINS": str(own)})
    assert failure.value.next


def test_a_base_that_nothing_names_is_a_mistake(own: Path) -> None:
    with pytest.raises(UsageError, match="no base 'cuda'") as failure:
        load_base("cuda", {"MODELKILN_PINS": str(own)})
    assert "python" in failure.value.why


@pytest.mark.parametrize("text", ["bases = 1", "[", "[other]", b"\xff"])
def test_a_file_of_pins_that_is_none_is_a_mistake(own: Path, text: str | bytes) -> None:
    own.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=r"pins\.toml cannot be read") as failure:
        load_base("python", {"MODELKILN_PINS": str(own)})
    assert "MODELKILN_PINS" in failure.value.next
    with pytest.raises(UsageError, match="cannot be read"):
        load_base("python", {"MODELKILN_PINS": str(own.with_name("missing.toml"))})


def test_it_is_light() -> None:
    program = (
        "import sys; before = set(sys.modules); import modelkiln.environments.base_images;"
        "new = set(sys.modules) - before;"
        "sys.exit(bool(new & {'urllib.request', 'requests', 'docker', 'json', 'subprocess'}))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)
