"""`invoke reproduce`: two builds under different conditions, byte by byte."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelkiln.building.build import build, raise_failures
from modelkiln.building.kiln import Kiln
from modelkiln.building.manifest import target_folder
from modelkiln.building.prepare import prepare
from modelkiln.catalog.target import Target
from modelkiln.errors import NotReproducible
from modelkiln.runners.base import Runner
from modelkiln.runners.choice import contains_stages
from modelkiln.runners.processes import LocalRunner
from modelkiln.store.records import Blob
from modelkiln.util import console
from modelkiln.util.hashing import sha256_file


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a build should not depend on."""

    folder: str
    settings: Mapping[str, str]
    umask: int

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        return f"{settings}, umask {self.umask:03o}"


CONDITIONS = (
    Conditions(
        folder="one",
        settings={"TZ": "Pacific/Auckland", "LC_ALL": "C", "PYTHONHASHSEED": "1"},
        umask=0o022,
    ),
    Conditions(
        folder="another folder/with a longer name",
        settings={"TZ": "America/St_Johns", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "4242"},
        umask=0o077,
    ),
)


def reproduce_target(kiln: Kiln, text: str, *, as_json: bool = False) -> None:
    """Build a target's files twice from nothing, in different folders, time zones, locales, umasks
    and hash seeds, and compare them with each other and with what is published. Of engines for
    ranges of shapes no bytes are promised, and none are compared. With `--runner
    docker` the first build runs in containers, the second does not.

    Raises:
        NotReproducible: a file differs; both builds are kept and named.
    """
    target = prepare(kiln, text, runs=False).target
    root = kiln.store.scratch("reproduce")
    try:
        builds = {}
        for number, conditions in enumerate(CONDITIONS, start=1):
            folder = root / conditions.folder
            sealed = contains_stages(kiln.options.runner) and number == 1
            told = "in containers" if sealed else str(conditions)
            console.note(f"build {number}: {told}, in {folder}")
            builds[f"build {number}"] = _build(kiln, text, folder, None if sealed else conditions)
        published = _published(target_folder(kiln, target), builds["build 1"])
        if published:
            builds["published"] = published
        different = [
            name
            for name in builds["build 1"]
            if len({files[name] for files in builds.values()}) > 1
        ]
        free = [name for name in builds["build 1"] if name in target.unpromised]
        different = [name for name in different if name not in free]
        if as_json:
            document = {"target": target.name, "builds": builds, "different": different}
            console.say_json({**document, "not_promised": free})
        else:
            console.say_table(
                ("file", *builds, ""),
                [
                    (
                        name,
                        *(files[name][:16] for files in builds.values()),
                        "not promised" if name in free else "",
                    )
                    for name in builds["build 1"]
                ],
            )
        if different:
            kept = kiln.artifacts / "reproduce" / target.name
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            root.rename(kept)
            raise NotReproducible(
                f"{target.name} is not reproducible: {', '.join(different)} differ.",
                "A stage depends on something that its key does not name.",
                f"Compare the builds in {kept}.",
            )
        if not as_json:
            for line in _conclude(target, list(builds), free):
                console.say(line)
    finally:
        kiln.store.discard(root)


def _conclude(target: Target, builds: Sequence[str], free: Sequence[str]) -> Iterator[str]:
    among = "of the others " if free else ""
    if len(free) < len(target.graph_files):
        yield f"{target.name}: the same bytes {among}in {' and '.join(builds)}"
    if free:
        yield (
            f"not promised: {', '.join(free)}; TensorRT numbers what it compiles anew in each "
            "build for a range of shapes. With fixed ones (--profile AXIS=N) bytes are the same."
        )


def _build(kiln: Kiln, text: str, folder: Path, conditions: Conditions | None) -> dict[str, str]:
    """Build a target in a store of its own; without conditions by the kiln's own runner."""
    runner: Runner | None = None
    options = kiln.options
    if conditions is not None:
        options = replace(options, runner=LocalRunner.name)
        runner = LocalRunner(kiln.provisioner.python, conditions.settings, conditions.umask)
    other = Kiln(options, artifacts=folder)
    (target,) = other.targets(text)
    until = target.format.stages[-1]
    prepared = prepare(other, [target], until)
    built = build(other, prepared, until=until, runner=runner)
    raise_failures(built)
    outputs: Mapping[str, Blob] = built.records[prepared.plan.targets[0].graphs].outputs
    return {name: outputs[name].sha256 for name in sorted(outputs)}


def _published(folder: Path, names: Mapping[str, str]) -> dict[str, str]:
    if not all((folder / name).is_file() for name in names):
        return {}
    console.note(f"comparing with what is published in {folder}")
    return {name: sha256_file(folder / name) for name in names}
