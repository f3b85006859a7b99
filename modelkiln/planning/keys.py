"""Keys: what a step's result depends on, and nothing else.

A key is the SHA-256 of a document (canonical JSON) with the stage, its parameters, the digests of
its inputs, the digests of the stage's own source files and the identity of its environment; and
what of the machine the catalog says that its result depends on, such as what the processor can do
or which GPU there is. The document is kept in the record, so that `plan --explain` can name the
part that changed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from modelkiln.planning.graph import PROTOCOL, PinnedFile, Plan, SourceFile, Step, StepOutput
from modelkiln.planning.sources import SourceTree
from modelkiln.store.records import Record
from modelkiln.util.hashing import sha256_json


class Status(StrEnum):
    """What a build would do with a step."""

    HIT = "hit"
    RUN = "run"
    PENDING = "pending"


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A step with its key, where its inputs are known.

    Attributes:
        waits_for: The unbuilt steps that the key waits for, where the status is `pending`.
        record: The result, where the status is `hit`.
    """

    step: Step
    status: Status
    key: str = ""
    document: Mapping[str, Any]
    record: Record | None = None
    waits_for: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class KeyMaker:
    """Makes the key document of a step from what is known of the rest.

    Attributes:
        sources: The exporters' room.
        environments: The identities of an environment by its name, one for each runner that may
            have made a record; that of the runner in use comes first.
        threads: Thread count of every stage, a constant of the catalog.
        seed: Seed of every stage, likewise.
        facts: What of this machine a step's bytes may depend on, by the name that stages.toml has
            for it.
    """

    sources: SourceTree
    environments: Callable[[str], Iterable[Mapping[str, Any]]]
    threads: int
    seed: int
    facts: Mapping[str, Callable[[], str]]

    def documents(self, step: Step, records: Mapping[str, Record]) -> Iterator[dict[str, Any]]:
        """Yield the key documents of a step, one for each identity of its environment.

        Args:
            records: Those of the steps that it needs, all of them.
        """
        inputs: dict[str, str] = {}
        for name, one in step.inputs.items():
            match one:
                case StepOutput(step=before, name=output):
                    inputs[name] = records[before].outputs[output].sha256
                case SourceFile(path=path):
                    inputs[name] = self.sources.digest(path)
                case PinnedFile(sha256=sha256):
                    inputs[name] = sha256
        common = {
            "protocol": PROTOCOL,
            "stage": step.stage,
            "params": step.params,
            "inputs": inputs,
            "source": dict(self.sources.digests(step.modules)),
            "threads": self.threads,
            "seed": self.seed,
            **{name: self.facts[name]() or "none" for name in step.key},
        }
        for identity in self.environments(step.environment):
            yield {**common, "environment": dict(identity)}


Lookup = Callable[[str], Record | None]


def resolve(plan: Plan, maker: KeyMaker, lookup: Lookup) -> dict[str, Resolved]:
    """Return the status of each step, in the plan's order: looks up records, builds nothing.

    A record counts only where every output that the plan names is in it.
    """
    records: dict[str, Record] = {}
    found: dict[str, Resolved] = {}
    for step in plan.steps.values():
        found[step.id] = resolve_step(step, maker, records, lookup)
        record = found[step.id].record
        if record is not None:
            records[step.id] = record
    return found


def resolve_step(
    step: Step, maker: KeyMaker, records: Mapping[str, Record], lookup: Lookup
) -> Resolved:
    """Return the status of one step, given the records of the steps before it.

    A record under any identity of its environment will do: whatever runner made it, its bytes are
    the same.
    """
    missing = tuple(one for one in step.needs if one not in records)
    if missing:
        return Resolved(step=step, status=Status.PENDING, document={}, waits_for=missing)
    missed: list[Resolved] = []
    for document in maker.documents(step, records):
        key = sha256_json(document)
        record = lookup(key)
        if record is not None:
            return Resolved(step=step, status=Status.HIT, key=key, document=document, record=record)
        missed.append(Resolved(step=step, status=Status.RUN, key=key, document=document))
    return missed[0]


def explain(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return what differs between two key documents, one line a part, sorted."""
    changes = []
    before, after = dict(_leaves(old)), dict(_leaves(new))
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            changes.append(f"{path}: gone (was {_short(before[path])})")
        elif path not in before:
            changes.append(f"{path}: new ({_short(after[path])})")
        elif before[path] != after[path]:
            changes.append(f"{path}: {_short(before[path])} -> {_short(after[path])}")
    return changes


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from _leaves(one, f"{path}[{name}]" if path else str(name))
    else:
        yield path, value


def _short(value: Any) -> str:
    text = str(value)
    if len(text) == 64 and all(one in "0123456789abcdef" for one in text):
        return text[:12]
    return text if len(text) <= 60 else text[:57] + "..."
