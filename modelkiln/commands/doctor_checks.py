"""What this machine can and cannot build, and how to fix it: small checks, each with its findings.

A check looks and changes nothing. A new one is a function and a line in CHECKS.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modelkiln.catalog.models import Checkpoint
from modelkiln.commands.doctor_findings import Finding, Kind, Severity, good, judge
from modelkiln.environments.cache import find
from modelkiln.environments.environment import Environment, require_glibc
from modelkiln.errors import EnvironmentFailure, KilnError
from modelkiln.util.machine import (
    check_platform,
    cpu_count,
    disk_free,
    memory_available,
    probe_command,
    probe_gpu,
    unshare_command,
)
from modelkiln.util.units import human_bytes

_MEMORY_WANTED = 6_000_000_000
_BUILD_BYTES = 3_000_000_000


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the checks look at.

    Attributes:
        environments: All that builds may need.
        offline: Whether to leave the network alone.
        kinds: The families of formats, such as `onnx-*`.
        formats: The formats that alone need an environment, by its name; one that is not named is
            needed by every build.
    """

    artifacts: Path
    cache: Path
    environments: Sequence[Environment]
    checkpoints: Sequence[Checkpoint]
    offline: bool
    kinds: Mapping[str, Kind] = field(default_factory=lambda: {"onnx-*": Kind()})
    formats: Mapping[str, Sequence[str]] = field(default_factory=dict)


Check = Callable[[Surroundings], Iterable[Finding]]


def diagnose(surroundings: Surroundings) -> list[Finding]:
    """Run every check. One that fails itself is a finding too, and stops no other."""
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings.extend(check(surroundings))
        except (KilnError, OSError) as error:
            name = check.__name__.removeprefix("check_")
            findings.append(
                Finding(about=name, severity=Severity.WARNING, message=f"not known: {error}")
            )
    findings.extend(judge(findings, surroundings.kinds, surroundings.formats))
    return findings


def check_machine(_: Surroundings) -> Iterator[Finding]:
    """Check the platform, Python, processors, memory."""
    try:
        check_platform()
    except KilnError as error:
        yield Finding(
            about="platform", severity=Severity.PROBLEM, message=error.what, remedy=error.next
        )
    else:
        version = ".".join(map(str, sys.version_info[:3]))
        yield good("platform", f"{sys.platform} {os.uname().machine}, Python {version}")
    yield good("processors", str(cpu_count()))
    memory = memory_available()
    text = f"{human_bytes(memory)} available"
    if memory >= _MEMORY_WANTED:
        yield good("memory", text)
    else:
        yield Finding(
            about="memory",
            severity=Severity.WARNING,
            message=f"{text}; large models want {human_bytes(_MEMORY_WANTED)}",
            remedy="build the small models, one at a time: --jobs 1",
        )


def check_disk(surroundings: Surroundings) -> Iterator[Finding]:
    """Check room and permission to write, for the cache and the artifacts."""
    always, some = 0, 0
    for one in surroundings.environments:
        size = 0 if find(one, surroundings.cache) else _size(one)
        if one.name in surroundings.formats:
            some += size
        else:
            always += size
    for about, folder, need, more, variable in (
        ("cache", surroundings.cache, always, some, "MODELKILN_CACHE"),
        ("artifacts", surroundings.artifacts, _BUILD_BYTES, 0, "MODELKILN_ARTIFACTS"),
    ):
        existing = next(one for one in (folder, *folder.parents) if one.exists())
        free = disk_free(folder)
        text = f"{folder}: {human_bytes(free)} free"
        remedy = f"let {variable} name another folder"
        if not os.access(existing, os.W_OK | os.X_OK):
            yield Finding(
                about=about,
                severity=Severity.WARNING,
                message=f"{folder} cannot be written; what it holds can still be used",
                remedy=remedy,
            )
        elif free < need:
            yield Finding(
                about=about,
                severity=Severity.PROBLEM,
                message=f"{text}, {human_bytes(need)} needed",
                remedy=f"{remedy}, or free some with invoke env.prune and invoke store.gc",
            )
        elif free < need + more:
            yield Finding(
                about=about,
                severity=Severity.WARNING,
                message=f"{text}; the environments of all formats want {human_bytes(need + more)}",
                remedy=f"{remedy}, or free some with invoke env.prune and invoke store.gc",
            )
        else:
            yield good(about, text)


def check_programs(_: Surroundings) -> Iterator[Finding]:
    """Yield the programs that builds and checks start."""
    git = probe_command("git", "--version")
    if git.found:
        yield good("git", git.detail)
    else:
        yield Finding(
            about="git",
            severity=Severity.NOTE,
            message=f"{git.detail}; images then do not say which revision they were built from",
            remedy="apt-get install git",
        )
    from modelkiln.environments.uv import find_uv

    try:
        yield good("uv", probe_command(find_uv(), "--version").detail)
    except KilnError as error:
        yield Finding(about="uv", severity=Severity.PROBLEM, message=error.what, remedy=error.next)
    node = probe_command("node", "--version")
    if node.found:
        yield good("node", node.detail)
    else:
        yield Finding(
            about="node",
            severity=Severity.NOTE,
            message=f"{node.detail}; the check in onnxruntime-web is left out",
            remedy="install Node.js 20 or later, with npm",
        )


def _size(one: Environment) -> int:
    from modelkiln.environments.install import read_settings

    size = read_settings(one.settings).bytes
    return size + size // 5


def check_environments(surroundings: Surroundings) -> Iterator[Finding]:
    """Find which environments are installed, and which cannot be."""
    offline = surroundings.offline
    for one in surroundings.environments:
        about = f"environment {one.name}"
        if find(one, surroundings.cache) is not None:
            yield good(about, f"installed, {one.digest[:12]}")
            continue
        try:
            require_glibc(one)
        except EnvironmentFailure as error:
            yield Finding(
                about=about,
                severity=Severity.WARNING,
                message=error.what,
                remedy=error.next,
                unfit=one.name,
            )
            continue
        formats = surroundings.formats.get(one.name, ())
        first = f"the first build of {', '.join(formats)}" if formats else "the first build"
        again = "build one of them once without --offline" if offline else ""
        yield Finding(
            about=about,
            severity=Severity.WARNING if offline else Severity.NOTE,
            message=f"not installed; {first} installs it"
            + (", which --offline forbids" if offline else ""),
            remedy=again if formats else "make quickstart",
        )


def check_weights(surroundings: Surroundings) -> Iterator[Finding]:
    """Find which checkpoints are in the cache, and whether the others can be fetched."""
    from urllib.parse import urlsplit

    from modelkiln.fetch.checkpoints import find_cached, host_reachable

    missing: dict[str, list[Checkpoint]] = {}
    for one in surroundings.checkpoints:
        if find_cached(one, surroundings.cache) is None:
            missing.setdefault(urlsplit(one.url).netloc, []).append(one)
    count = len(surroundings.checkpoints)
    cached = count - sum(map(len, missing.values()))
    yield good("weights", f"{cached} of {count} checkpoints are in the cache")
    for host, absent in missing.items():
        if surroundings.offline:
            continue
        if host_reachable(absent[0].url):
            yield good(f"host {host}", "reached")
        else:
            yield Finding(
                about=f"host {host}",
                severity=Severity.WARNING,
                message=f"cannot be reached; {len(absent)} checkpoints cannot be fetched",
                remedy="check the network and HTTPS_PROXY; or set MODELKILN_MIRROR to a folder "
                "with the files; or try the pipeline with --weights random",
            )


def check_runners(_: Surroundings) -> Iterator[Finding]:
    """Find how well steps can be sealed, and what the machine has beside its processors."""
    if unshare_command() is not None:
        yield good("network seal", "the local runner can take the network away from a step")
    else:
        yield Finding(
            about="network seal",
            severity=Severity.NOTE,
            message="unshare is not allowed here: local steps keep the network",
            remedy="allow unprivileged user namespaces, or build in a container as root",
        )
    yield check_engine()
    gpu = probe_gpu()
    severity = Severity.GOOD if gpu.found else Severity.NOTE
    yield Finding(about="gpu", severity=severity, message=gpu.detail)


def check_engine() -> Finding:
    """Find whether steps can run in containers."""
    from modelkiln.containers.owner import open_engine

    try:
        engine = open_engine()
    except KilnError as error:
        return Finding(
            about="containers", severity=Severity.NOTE, message=error.what, remedy=error.next
        )
    engine.client.close()
    return good("containers", f"{engine} answers on {engine.socket}")


CHECKS: tuple[Check, ...] = (
    check_machine,
    check_disk,
    check_programs,
    check_environments,
    check_weights,
    check_runners,
)
