"""`invoke pins.check` and `invoke pins.lock`."""

import os
from dataclasses import asdict
from pathlib import Path

from modelkiln.building.kiln import Kiln
from modelkiln.commands.pins_checks import Scope, ask_registries, find_faults, lock_files
from modelkiln.environments.base_images import load_bases
from modelkiln.environments.requirements import known_locks, make_lock, versions
from modelkiln.errors import PinError, UsageError
from modelkiln.paths import REPOSITORY
from modelkiln.util import console


def check_pins(kiln: Kiln, *, as_json: bool = False) -> None:
    """Check every pin; print the faults, each with what fixes it.

    Raises:
        PinError: There is a fault.
    """
    scope = Scope(
        root=REPOSITORY,
        catalog=kiln.catalog,
        environment=lambda name: kiln.provisioner.environment(name).lock.parent,
        variables=os.environ,
    )
    faults = find_faults(scope)
    # A base that only this machine has is no registry's business.
    malformed = any(one.about == "bases" for one in faults)
    bases = {} if malformed else {one.name: one for one in load_bases({})}
    if kiln.options.offline:
        unasked = dict.fromkeys(bases, "--offline")
    else:
        drifted, unasked = ask_registries(bases)
        faults += drifted
    if as_json:
        console.say_json(
            {
                "faults": [asdict(one) for one in faults],
                "locks": [path.relative_to(REPOSITORY).as_posix() for path in lock_files()],
                "checkpoints": len(kiln.catalog.models),
                "bases": {
                    name: {
                        "reference": one.reference,
                        "asked": name not in unasked,
                        "reason": unasked.get(name, ""),
                    }
                    for name, one in bases.items()
                },
            }
        )
    else:
        for fault in faults:
            console.say(f"fault  {fault.about}: {fault.message}\n       -> {fault.remedy}")
        console.say(f"looked at the locks {', '.join(sorted(known_locks()))} and those of benches")
        console.say(f"looked at {len(kiln.catalog.models)} checkpoints, {len(bases)} bases")
        for name, reason in unasked.items():
            console.say(f"not asked: the registry of base {name}, {reason}")
    if faults:
        raise PinError(
            f"{len(faults)} pins are at fault; the first: {faults[0].about}.",
            faults[0].message,
            faults[0].remedy,
        )


def lock_requirements(
    kiln: Kiln, name: str, *, cpu: bool = False, upgrade: bool = False, as_json: bool = False
) -> None:
    """Make a lock anew from its requirements, and say what moved.

    Raises:
        UsageError: There is no such lock, or its requirements contradict each other.
    """
    locks = known_locks()
    if name not in locks:
        raise UsageError(
            f"There is no lock {name!r}.",
            f"The locks are: {', '.join(sorted(locks))}.",
            "Name one of them.",
        )
    lock = locks[name]
    before = {} if cpu else _before(lock.path)
    path = make_lock(
        lock,
        root=REPOSITORY,
        cache=kiln.cache,
        cpu=cpu,
        upgrade=upgrade,
        offline=kiln.options.offline,
    )
    after = dict(versions(path))
    moved = {
        package: {"from": before.get(package), "to": after.get(package)}
        for package in sorted(before.keys() | after.keys())
        if before.get(package) != after.get(package)
    }
    if as_json:
        console.say_json({"lock": str(path), "packages": len(after), "moved": moved})
        return
    for package, step in moved.items():
        console.say(f"{package}: {step['from'] or 'not there'} -> {step['to'] or 'gone'}")
    console.say(f"wrote {path}: {len(after)} packages, {len(moved)} of them moved")


def _before(path: Path) -> dict[str, str]:
    try:
        return dict(versions(path))
    except PinError:
        return {}
