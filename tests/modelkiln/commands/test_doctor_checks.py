"""modelkiln.commands.doctor_checks: each check finds what is wrong, and says what mends it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modelkiln.catalog.models import Checkpoint
from modelkiln.commands import doctor_checks
from modelkiln.commands.doctor_checks import (
    Surroundings,
    check_disk,
    check_environments,
    check_machine,
    check_programs,
    check_weights,
    diagnose,
)
from modelkiln.commands.doctor_findings import Finding, Kind, Severity, has_problem
from modelkiln.environments.environment import environment
from modelkiln.errors import EnvironmentFailure
from modelkiln.util.machine import Probe

CHECKPOINT = Checkpoint(
    file="small.pt", url="http://127.0.0.1:9/small.pt", bytes=3, sha256="0" * 64, license="none"
)


@pytest.fixture
def here(tmp_path: Path) -> Surroundings:
    return Surroundings(
        artifacts=tmp_path / "artifacts",
        cache=tmp_path / "cache",
        environments=[environment("export")],
        checkpoints=[CHECKPOINT],
        offline=True,
    )


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {one.about: one for one in findings}


def test_whole_diagnosis_changes_nothing(here: Surroundings, tmp_path: Path) -> None:
    findings = diagnose(here)
    named = by_name(iter(findings))
    about = {"platform", "cache", "artifacts", "git", "uv", "containers", "gpu", "onnx-*"}
    assert about <= set(named)
    assert list(tmp_path.iterdir()) == []
    for one in findings:
        if one.severity in (Severity.WARNING, Severity.PROBLEM) and one.about != "onnx-*":
            assert one.remedy, one


def test_wrong_platform_is_a_problem(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise EnvironmentFailure("modelkiln does not run here.", "why", "Go elsewhere.")

    monkeypatch.setattr(doctor_checks, "check_platform", refuse)
    found = by_name(check_machine(here))["platform"]
    assert (found.severity, found.remedy) == (Severity.PROBLEM, "Go elsewhere.")
    assert has_problem(diagnose(here))


def test_little_memory_is_a_warning(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "memory_available", lambda: 2_000_000_000)
    found = by_name(check_machine(here))["memory"]
    assert found.severity is Severity.WARNING
    assert "2.0 GB" in found.message


def test_little_disk_is_a_problem(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_checks, "disk_free", lambda _: 4_000_000_000)
    found = by_name(check_disk(here))
    assert found["cache"].severity is Severity.PROBLEM
    assert "4.0 GB free, 6.0 GB needed" in found["cache"].message
    assert "MODELKILN_CACHE" in found["cache"].remedy
    assert found["artifacts"].severity is Severity.GOOD


def test_read_only_artifacts_are_a_warning(
    here: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    found = by_name(check_disk(here))["artifacts"]
    assert found.severity is Severity.WARNING
    assert "cannot be written" in found.message


def test_missing_git_is_a_note(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(name: str, *_: str) -> Probe:
        return Probe(found=name not in ("git", "node"), detail=f"about {name}")

    monkeypatch.setattr(doctor_checks, "probe_command", probe)
    found = by_name(check_programs(here))
    assert found["git"].severity is Severity.NOTE
    assert found["git"].remedy == "apt-get install git"
    assert found["node"].severity is Severity.NOTE


def test_environment_is_looked_for(here: Surroundings) -> None:
    found = by_name(check_environments(here))["environment export"]
    assert found.severity is Severity.WARNING
    assert "--offline forbids" in found.message
    folder = here.cache / "environments" / here.environments[0].digest
    (folder / "bin").mkdir(parents=True)
    (folder / "environment.json").write_text("{}")
    (folder / "bin" / "python").symlink_to("/bin/sh")
    assert by_name(check_environments(here))["environment export"].severity is Severity.GOOD


def test_an_environment_of_formats_alone_stops_no_build(
    here: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = replace(
        here,
        environments=[*here.environments, environment("rtx")],
        formats={"rtx": ["rtx-fp16", "rtx-fp32"]},
    )
    found = by_name(check_environments(replace(more, offline=False)))["environment rtx"]
    assert (found.severity, found.remedy) == (Severity.NOTE, "")
    assert "the first build of rtx-fp16, rtx-fp32 installs it" in found.message
    found = by_name(check_environments(more))["environment rtx"]
    assert found.severity is Severity.WARNING and "without --offline" in found.remedy
    # 6.0 GB for the environment of every build, and 0.29 more for that of two formats.
    for free, severity in ((5_999, "problem"), (6_000, "warning"), (6_300, "good")):
        monkeypatch.setattr(doctor_checks, "disk_free", lambda _, free=free: free * 1_000_000)
        found = by_name(check_disk(more))["cache"]
        assert found.severity is Severity(severity)
        assert found.severity is not Severity.WARNING or "6.3 GB" in found.message


def test_an_older_glibc_is_told(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelkiln.environments.environment.glibc_version", lambda: "2.27")
    found = by_name(check_environments(here))["environment export"]
    assert found.severity is Severity.WARNING
    assert "glibc 2.28 or later" in found.message and "glibc 2.27" in found.message
    assert "--runner docker" in found.remedy


def test_unreachable_host_is_a_warning(here: Surroundings) -> None:
    assert [one.about for one in check_weights(here)] == ["weights"]
    online = Surroundings(
        artifacts=here.artifacts,
        cache=here.cache,
        environments=[],
        checkpoints=[CHECKPOINT],
        offline=False,
    )
    found = by_name(check_weights(online))["host 127.0.0.1:9"]
    assert found.severity is Severity.WARNING
    assert "MODELKILN_MIRROR" in found.remedy
    path = here.cache / "weights" / CHECKPOINT.sha256 / CHECKPOINT.file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"123")
    assert [one.message for one in check_weights(online)] == ["1 of 1 checkpoints are in the cache"]


def test_failing_check_stops_no_other(here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    def check_broken(_: Surroundings) -> Iterator[Finding]:
        raise OSError("no such device")

    monkeypatch.setattr(doctor_checks, "CHECKS", (check_broken, check_machine))
    named = by_name(iter(diagnose(here)))
    assert "no such device" in named["broken"].message
    assert "platform" in named


@pytest.mark.parametrize("contained", [False, True])
@pytest.mark.parametrize(
    ("unfit", "onnx", "rtx"),
    [
        ({"rtx": ["rtx-fp16"]}, "all", "none"),
        ({"quantize": ["onnx-int8", "rtx-fp16"]}, "some", "none"),
        ({"export": None}, "none", "none"),
        ({"other": ["toy-text"]}, "all", "all"),
    ],
)
def test_environments_that_this_machine_cannot_hold_stop_the_formats_that_need_them(
    here: Surroundings,
    monkeypatch: pytest.MonkeyPatch,
    unfit: dict[str, list[str] | None],
    onnx: str,
    rtx: str,
    *,
    contained: bool,
) -> None:
    kinds = {
        "onnx-*": Kind(formats=("onnx-fp32", "onnx-int8")),
        "rtx-*": Kind(runs_on_gpu=True, formats=("rtx-fp16",)),
    }
    (name,) = unfit
    known = environment("export")
    monkeypatch.setattr(
        doctor_checks, "CHECKS", (check_environments, lambda _: iter([containers(good=contained)]))
    )
    monkeypatch.setattr("modelkiln.environments.environment.glibc_version", lambda: "2.27")
    more = replace(
        here,
        environments=[replace(known, name=name)],
        kinds=kinds,
        formats={one: names for one, names in unfit.items() if names},
    )
    findings = diagnose(more)
    found = by_name(iter(findings))
    where = f": see environment {name}"
    said = {
        "all": "can be built here",
        "some": "can be built here, but "
        + ("onnx-int8 in containers alone" if contained else "not onnx-int8")
        + where,
        "none": ("can be built here in containers alone" if contained else "cannot be built here")
        + where,
    }
    assert found["onnx-*"].message == said[onnx]
    if rtx == "all":
        assert found["rtx-*"].message.startswith("can be built here, without a GPU")
    else:
        assert found["rtx-*"].message == said[rtx]
    # Nothing can be built without what every build needs.
    assert has_problem(findings) is (name == "export" and not contained)
    for family, share in (("onnx-*", onnx), ("rtx-*", rtx)):
        one = found[family]
        less = Severity.PROBLEM if name == "export" and not contained else Severity.WARNING
        assert one.severity is (Severity.GOOD if share == "all" else less)
        assert ("--runner docker" in one.remedy) is (share != "all")
        assert ("newer system" in one.remedy) is (share != "all" and not contained)


def containers(*, good: bool) -> Finding:
    return Finding(
        about="containers",
        severity=Severity.GOOD if good else Severity.NOTE,
        message="an engine" if good else "none",
    )
