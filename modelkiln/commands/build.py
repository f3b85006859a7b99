"""`invoke build` and `invoke build-all`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelkiln.building import unchanged
from modelkiln.building.available import find_reasons, note_left_out, split_available
from modelkiln.building.build import Built, build, raise_failures, rests_on
from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import Prepared, prepare
from modelkiln.building.publish import Published
from modelkiln.catalog.lineage import stages_of
from modelkiln.catalog.selection import all_target_names
from modelkiln.catalog.target import Target
from modelkiln.errors import EnvironmentFailure, UsageError
from modelkiln.planning.graph import PinnedFile
from modelkiln.planning.keys import Status
from modelkiln.report.summary import say_status
from modelkiln.util import console
from modelkiln.util.units import human_bytes


def build_targets(
    kiln: Kiln, text: str, *, until: str = "", dry_run: bool = False, as_json: bool = False
) -> None:
    """Build the targets that a command line names; `until` names the last stage that runs.

    Raises:
        UsageError: a target is wrong, or `until` is not a stage of all of them.
        KilnError: the first target's error, where any failed.
    """
    targets, left_out = split_available(kiln.targets(text))
    note_left_out(left_out)
    made = [stages_of(kiln.catalog, one) for one in targets]
    stages = set(made[0]).intersection(*made)
    if until and until not in stages:
        raise UsageError(
            f"--until {until} names no stage that a build can stop after.",
            f"These targets are made by {', '.join(sorted(stages))}.",
            "Leave --until out to build, verify and publish.",
        )
    prepared = prepare(kiln, targets, until or None)
    _build(
        kiln,
        prepared,
        until=until or None,
        dry_run=dry_run,
        as_json=as_json,
        skipped=find_reasons(left_out),
    )


def build_all(kiln: Kiln, *, dry_run: bool = False, as_json: bool = False) -> None:
    """Build every target that this machine can; the others are listed with the reason.

    Raises:
        EnvironmentFailure: it can build none.
        KilnError: the first target's error, where any failed.
    """
    everything = kiln.targets(all_target_names(kiln.catalog))
    targets, skipped = split_available(replace(one, by_name=False) for one in everything)
    note_left_out(skipped)
    prepared = prepare(kiln, targets)
    reasons = find_obstacles(kiln, prepared)
    able = [one for one in targets if one.name not in reasons]
    for name, reason in reasons.items():
        console.note(f"cannot build {name}: {reason}")
    if not able:
        raise EnvironmentFailure(
            "This machine can build none of the targets now.",
            next(iter(reasons.values())),
            "invoke doctor says more; --weights random tries the pipeline without checkpoints.",
        )
    if reasons:
        prepared = prepare(kiln, able)
    _build(
        kiln,
        prepared,
        dry_run=dry_run,
        as_json=as_json,
        left_out=reasons,
        skipped=find_reasons(skipped),
    )


def find_obstacles(kiln: Kiln, prepared: Prepared) -> dict[str, str]:
    """Return why targets cannot be built here, by target; those that can are not in it.

    A target whose steps are all done needs nothing; one that has still to be made needs its
    checkpoint: in the cache, or from a mirror or the official host.
    """
    obstacles: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for one in prepared.plan.targets:
        for step in (prepared.resolved[name] for name in prepared.plan.needed_by(one)):
            if step.status is Status.HIT:
                continue
            for source in step.step.inputs.values():
                if isinstance(source, PinnedFile) and source.path is None:
                    if source.model not in reasons:
                        reasons[source.model] = _checkpoint_obstacle(kiln, source.model)
                    if reasons[source.model]:
                        obstacles[one.target.name] = reasons[source.model]
    return obstacles


def _checkpoint_obstacle(kiln: Kiln, model: str) -> str:
    from modelkiln.fetch.checkpoints import find_cached, host_reachable

    checkpoint = kiln.catalog.models[model].checkpoint
    if find_cached(checkpoint, kiln.cache) is not None:
        return ""
    for mirror in kiln.options.mirrors:
        place = Path(mirror)
        if "://" in mirror or place.is_file() or (place / checkpoint.file).is_file():
            return ""
    if kiln.options.offline:
        return f"{checkpoint.file} is not in the cache, and --offline forbids to fetch it"
    if host_reachable(checkpoint.url):
        return ""
    host = checkpoint.url.split("/")[2]
    return f"{checkpoint.file} is not in the cache, and {host} cannot be reached"


def _build(
    kiln: Kiln,
    prepared: Prepared,
    *,
    until: str | None = None,
    dry_run: bool,
    as_json: bool,
    left_out: dict[str, str] | None = None,
    skipped: dict[str, str] | None = None,
) -> None:
    if dry_run:
        from modelkiln.building.dry_run import show_plan

        show_plan(kiln, prepared, as_json=as_json)
        return
    targets = prepared.targets
    built = build(kiln, prepared, until=until)
    kiln.save_caches()
    if as_json:
        says = console.json_text(
            {**describe(built), "left_out": {**(left_out or {}), **(skipped or {})}}
        )
    elif until and not built.failed:
        says = f"built {', '.join(one.name for one in targets)} until {until}; nothing is published"
    else:
        lines = [line for done in built.published for line in _tell(done)]
        says = "\n".join((*lines, *(_tell_held_back(one) for one in built.held_back)))
    if says:
        console.say(says)
    raise_failures(built)
    found = built.published or built.held_back
    if kiln.question and found and not left_out and not built.changed:
        unchanged.remember(kiln.question, says, rests_on(kiln, built, targets))


def describe(built: Built) -> dict[str, Any]:
    """Return a build's result as plain data."""
    return {
        "published": [
            {
                "target": one.target.name,
                "status": str(one.status),
                "folder": str(one.folder),
                "files": {n: {"sha256": b.sha256, "bytes": b.bytes} for n, b in one.files.items()},
                "written": list(one.written),
            }
            for one in built.published
        ],
        "failed": [
            {
                "target": one.target,
                "step": one.step,
                "what": one.error.what,
                "why": one.error.why,
                "next": one.error.next,
                "exit_code": one.error.exit_code,
            }
            for one in built.failed
        ],
        "held_back": [one.name for one in built.held_back],
        "seconds": {name: round(seconds, 3) for name, seconds in built.seconds.items()},
    }


def _tell_held_back(target: Target) -> str:
    return (
        f"{target.name}\n  does not pay here: neither smaller nor faster than "
        f"{target.format.replaces}, so it is not published; build it by its own name to have it"
    )


def _tell(done: Published) -> Iterator[str]:
    yield f"{done.target.name}{'' if done.written else '  (up to date)'}"
    if not done.written:
        return
    for name, blob in sorted(done.files.items()):
        size = human_bytes(blob.bytes)
        yield f"  {name:<20} {size:>9}  sha256:{blob.sha256[:12]}"
    yield f"  {say_status(done.status, done.checked.get('summary'), done.checked.get('benefit'))}"
    yield f"  in {done.folder}"
