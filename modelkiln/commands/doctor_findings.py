"""What `invoke doctor` finds, what follows from it for each kind of target, and how it is told."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters: a problem stops every build, a warning some of them."""

    GOOD = "good"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found.

    Attributes:
        about: What was looked at, in one or two words.
        message: What is the case.
        remedy: What fixes it; empty where nothing needs fixing.
        unfit: The environment that this machine holds in a container alone; empty for none.
    """

    about: str
    severity: Severity
    message: str
    remedy: str = ""
    unfit: str = ""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Formats of one family.

    Attributes:
        why: Why they cannot be built at all; empty where they can.
        remedy: What to do instead.
        runs_on_gpu: Whether what is built takes a GPU to run.
        formats: Their names.
    """

    why: str = ""
    remedy: str = ""
    runs_on_gpu: bool = False
    formats: Sequence[str] = ()


def good(about: str, message: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(about=about, severity=Severity.GOOD, message=message)


def has_problem(findings: Iterable[Finding]) -> bool:
    """Return whether anything stops every build; the command then ends with 4."""
    return any(one.severity is Severity.PROBLEM for one in findings)


def to_document(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Return the findings as JSON."""
    return [
        {
            "about": one.about,
            "severity": one.severity.value,
            "message": one.message,
            "remedy": one.remedy,
        }
        for one in findings
    ]


def to_lines(findings: Iterable[Finding]) -> list[str]:
    """Return the findings as plain lines, aligned, each remedy below what it mends."""
    listed = list(findings)
    width = max((len(one.about) for one in listed), default=0)
    lines = []
    for one in listed:
        lines.append(f"{one.severity.value:<8} {one.about:<{width}}  {one.message}")
        if one.remedy:
            lines.append(f"{'':<8} {'':<{width}}  -> {one.remedy}")
    return lines


def judge(
    findings: Sequence[Finding],
    kinds: Mapping[str, Kind],
    formats: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Finding]:
    """Say from the other findings which kinds of target can be built here.

    Args:
        findings: Those of all checks.
        kinds: The families of formats.
        formats: The formats that alone need an environment, by its name.
    """
    stopping = [one.about for one in findings if one.severity is Severity.PROBLEM]
    for name, kind in kinds.items():
        if kind.why:
            yield Finding(
                about=name,
                severity=Severity.NOTE,
                message=f"cannot be built: {kind.why}",
                remedy=kind.remedy,
            )
        elif stopping:
            yield Finding(
                about=name,
                severity=Severity.PROBLEM,
                message=f"cannot be built here: see {', '.join(stopping)}",
            )
        elif unfit := _find_unfit(findings, kind, formats or {}):
            always = any(one.unfit and one.unfit not in (formats or {}) for one in findings)
            yield _judge_unfit(findings, name, kind, unfit, always=always)
        elif kind.runs_on_gpu:
            yield good(name, "can be built here, without a GPU; running them takes one")
        else:
            yield good(name, "can be built here")


def _find_unfit(
    findings: Sequence[Finding], kind: Kind, formats: Mapping[str, Sequence[str]]
) -> dict[str, Sequence[str]]:
    """Return the formats of a kind that need an environment which this machine holds in a
    container alone, by what found it."""
    found = {
        one.about: [name for name in kind.formats if name in formats.get(one.unfit, kind.formats)]
        for one in findings
        if one.unfit
    }
    return {about: names for about, names in found.items() if names}


def _judge_unfit(
    findings: Sequence[Finding],
    name: str,
    kind: Kind,
    unfit: Mapping[str, Sequence[str]],
    *,
    always: bool,
) -> Finding:
    """Say what is left of a kind; `always` says that every build needs what cannot be held."""
    contained = any(one.about == "containers" and one.severity is Severity.GOOD for one in findings)
    stopped = [one for one in kind.formats if any(one in names for names in unfit.values())]
    see = ", ".join(unfit)
    if len(stopped) < len(kind.formats):
        message = "can be built here, " + (
            f"but {', '.join(stopped)} in containers alone"
            if contained
            else f"but not {', '.join(stopped)}"
        )
    else:
        message = "can be built here in containers alone" if contained else "cannot be built here"
    remedy = (
        "build with --runner docker"
        if contained
        else ("use a newer system, or a container engine with --runner docker")
    )
    severity = Severity.PROBLEM if always and not contained else Severity.WARNING
    return Finding(about=name, severity=severity, message=f"{message}: see {see}", remedy=remedy)
