"""The Dockerfiles: clean, built alike by every builder, on a pinned base, and for no root."""

import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest

from modelkiln.environments.base_images import load_base

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILES = sorted((ROOT / "docker").glob("*/Dockerfile"))
EVERY = [*DOCKERFILES, *sorted((ROOT / "tests").rglob("Dockerfile"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in EVERY]
LABELS = ("org.opencontainers.image.title", "org.opencontainers.image.licenses")
# What BuildKit alone understands; another builder refuses it or, worse, leaves it out silently.
UNPORTABLE = {
    "here-document": r"<<",
    "syntax directive": r"(?im)^\s*#\s*syntax\s*=",
    "--link": r"--link\b",
    "--chmod": r"--chmod\b",
    "--parents": r"--parents\b",
    "--exclude": r"--exclude\b",
    "RUN with options": r"(?im)^\s*RUN\s+--",
    "named context": r"(?i)--from=(?!build\b)",
}
SECRET = re.compile(r"(?i)token|passw|secret|credential|_key\b|proxy|^pip_|^uv_|index_url|cert")


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each with its arguments on one line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\[ \t]*\n", " ", "\n".join(lines)).splitlines()
    split = (line.strip().partition(" ") for line in joined if line.strip())
    return [(word.upper(), " ".join(rest.split())) for word, _, rest in split]


def find_unportable(text: str) -> list[str]:
    """What not every builder understands."""
    return [name for name, pattern in UNPORTABLE.items() if re.search(pattern, text)]


def find_faults(text: str, base: str) -> list[str]:
    """What is wrong with a Dockerfile, in a word or two each."""
    steps = instructions(text)
    words = [word for word, _ in steps]
    froms = [i for i, word in enumerate(words) if word == "FROM"]
    if len(froms) < 2:
        return ["one stage"]
    first, last = steps[: froms[0]], steps[froms[-1] + 1 :]
    faults = find_unportable(text)
    if first != [("ARG", f"BASE_IMAGE={base}")]:
        faults.append("base")
    if any(not re.fullmatch(r"\$\{BASE_IMAGE\}( AS \w+)?", steps[i][1]) for i in froms):
        faults.append("FROM")
    if any(word not in ("COPY", "ENV", "USER", "LABEL", "WORKDIR") for word, _ in last):
        faults.append("last stage")
    if [rest for word, rest in last if word == "COPY"] != ["--from=build /out/ /"]:
        faults.append("COPY")
    users = [rest for word, rest in last if word == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
        faults.append("USER")
    if {"HEALTHCHECK", "ADD", "VOLUME", "EXPOSE", "ONBUILD"} & set(words):
        faults.append("instruction")
    labels = " ".join(rest for word, rest in last if word == "LABEL")
    faults += [f"label {name}" for name in LABELS if f'{name}="' not in labels]
    named = " ".join(rest for word, rest in steps if word in ("ARG", "ENV")).split()
    faults += [f"secret {one}" for one in named if SECRET.search(one.partition("=")[0])]
    return faults


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    beside = sysconfig.get_path("scripts")
    tool = shutil.which("hadolint") or shutil.which("hadolint", path=beside)
    if not tool:
        pytest.skip("hadolint is not installed")
    # No settings of the user's or of the repository's: nothing is ignored.
    command = [tool, "--config", "/dev/null", "--disable-ignore-pragma", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def expected_base(path: Path) -> str:
    settings = tomllib.loads(path.with_name("environment.toml").read_text())
    return load_base(settings.get("base", "python"), {}).reference


def test_each_environment_has_one() -> None:
    assert [path.parent.name for path in DOCKERFILES] == sorted(
        path.parent.name for path in (ROOT / "docker").glob("*/requirements.in")
    )


@pytest.mark.parametrize("path", EVERY, ids=NAMES)
def test_the_linter_finds_nothing(path: Path) -> None:
    done = lint(path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", EVERY, ids=NAMES)
def test_every_builder_understands_it(path: Path) -> None:
    assert find_unportable(path.read_text()) == []


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_nothing_is_wrong_with_it(path: Path) -> None:
    assert find_faults(path.read_text(), expected_base(path)) == []


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_packages_are_built_as_the_local_runner_builds_them(path: Path) -> None:
    settings = tomllib.loads(path.with_name("environment.toml").read_text())
    given = " ".join(rest for word, rest in instructions(path.read_text()) if word == "ENV").split()
    for name, value in settings["variables"].items():
        assert f"{name}={value}" in given


def test_all_are_made_alike() -> None:
    """But for the variables of packages that are built, and the licences of those within."""
    alike = set()
    for path in DOCKERFILES:
        settings = tomllib.loads(path.with_name("environment.toml").read_text())
        own = {f"{name}={value}" for name, value in settings["variables"].items()}
        steps = [
            (word, " ".join(one for one in rest.split() if one not in own).replace(name, "NAME"))
            for name in [path.parent.name]
            for word, rest in instructions(re.sub(r'licenses="[^"]*"', "", path.read_text()))
        ]
        alike.add(tuple(steps))
    assert len(alike) == 1


def test_no_secret_can_be_copied_in() -> None:
    # The context is made by modelkiln, from the lock; a build by hand is told what it leaves out.
    for path in DOCKERFILES:
        copied = [rest for word, rest in instructions(path.read_text()) if word == "COPY"]
        assert copied == [". /context", "--from=build /out/ /"]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("RUN set", "RUN --mount=type=cache,target=/root/.cache set", "RUN with options"),
        ("RUN set", "RUN --network=none set", "RUN with options"),
        ("install seed.txt; \\", "cat <<END; \\", "here-document"),
        ("COPY --from=build", "COPY --link --from=build", "--link"),
        ("COPY --from=build", "COPY --chmod=755 --from=build", "--chmod"),
        ("--from=build /out", "--from=other /out", "named context"),
        ("ARG BASE_IMAGE", "# syntax=docker/dockerfile:1\nARG BASE_IMAGE", "syntax directive"),
        ("ARG BASE_IMAGE=python", "ARG BASE_IMAGE=debian", "base"),
        ("@sha256:", "@sha256:0", "base"),
        ("ARG BASE_IMAGE=", "ARG OTHER=1\nARG BASE_IMAGE=", "base"),
        ("FROM ${BASE_IMAGE}\n", "FROM python:3.11\n", "FROM"),
        ("FROM ${BASE_IMAGE}\n", "", "one stage"),
        ("USER 65532:65532", "USER 0:0", "USER"),
        ("USER 65532:65532", "USER somebody", "USER"),
        ("USER 65532:65532", "USER 65532:65532\nUSER root", "USER"),
        ("USER 65532:65532\n", "", "USER"),
        ("USER 65532:65532", "RUN true\nUSER 65532:65532", "last stage"),
        ("USER 65532:65532", "HEALTHCHECK CMD true\nUSER 65532:65532", "instruction"),
        ("COPY . /context", "ADD . /context", "instruction"),
        ("COPY --from=build /out/ /", "COPY --from=build /out/ /\nCOPY . /all/", "COPY"),
        ("image.licenses", "image.license", "label org.opencontainers.image.licenses"),
        ("ENV ", "ARG PIP_INDEX_URL\nENV ", "secret PIP_INDEX_URL"),
        ("ENV ", "ENV HTTPS_PROXY=http://proxy ", "secret HTTPS_PROXY=http://proxy"),
    ],
)
def test_what_is_wrong_is_found(old: str, new: str, fault: str) -> None:
    path = DOCKERFILES[0]
    text = path.read_text()
    assert old in text
    assert fault in find_faults(text.replace(old, new), expected_base(path))


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("COPY . /context", "ADD . /context", "DL3020"),
        ("WORKDIR /context", "WORKDIR context", "DL3000"),
        ("FROM ${BASE_IMAGE}\n", "FROM python:latest\n", "DL3007"),
        ("USER 65532:65532", "USER root", "DL3002"),
    ],
)
def test_the_linter_refuses_bad_ones(tmp_path: Path, old: str, new: str, rule: str) -> None:
    text = DOCKERFILES[0].read_text()
    assert old in text
    broken = tmp_path / "Dockerfile"
    broken.write_text(text.replace(old, new))
    done = lint(broken)
    assert done.returncode != 0 and rule in done.stdout
