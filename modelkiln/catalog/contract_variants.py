"""What a contract's parameter changes in its document: other graphs, other options.

`[[variants.PARAMETER.VALUE.graphs]]` replaces the graph of that name where the parameter has that
value, and `[variants.PARAMETER.VALUE.options]` is laid over the options.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelkiln.catalog.parameters import Parameter, Value, write_value
from modelkiln.catalog.tables import need
from modelkiln.errors import UsageError

Changes = Mapping[str, Mapping[str, Mapping[str, Any]]]


def read_changes(
    path: Path, data: Mapping[str, Any], parameters: Mapping[str, Parameter]
) -> Changes:
    """Return a contract's `variants`, by parameter and by value as users write it.

    Raises:
        UsageError: They name a parameter, a value or a graph that the contract does not have, or
            say anything but `graphs` and `options`.
    """
    changes = need(data, "variants", dict, path) if "variants" in data else {}
    known = [graph["name"] for graph in data["graphs"]]
    for name in changes:
        if name not in parameters or not parameters[name].choices:
            closed = ", ".join(one for one in parameters if parameters[one].choices) or "none"
            raise _wrong(
                path, f"`variants` has {name!r}", f"Its parameters with choices are {closed}."
            )
        for value in need(changes, name, dict, path):
            _check(path, f"variants.{name}", changes[name], value, parameters[name], known)
    return changes


def _check(
    path: Path,
    place: str,
    table: Mapping[str, Any],
    value: str,
    parameter: Parameter,
    known: list[str],
) -> None:
    choices = [write_value(one) for one in parameter.choices]
    if value not in choices:
        why = f"The values of {parameter.name} are {', '.join(choices)}."
        raise _wrong(path, f"`{place}` has {value!r}", why)
    change = need(table, value, dict, path)
    strange = sorted(change.keys() - {"graphs", "options"})
    if strange:
        why = "A value may have `graphs` and `options` of its own."
        raise _wrong(path, f"`{place}.{value}` has {strange[0]!r}", why)
    if "options" in change:
        need(change, "options", dict, path)
    names = [
        need(graph, "name", str, path) if isinstance(graph, dict) else str(graph)
        for graph in (need(change, "graphs", list, path) if "graphs" in change else [])
    ]
    if len(set(names)) < len(names) or not set(names) <= set(known):
        raise _wrong(
            path,
            f"`{place}.{value}` does not replace graphs of the contract, each once",
            f"Its graphs are {', '.join(known)}; replaced are {', '.join(names)}.",
        )


def changed_graphs(changes: Changes) -> list[Mapping[str, Any]]:
    """Return the graphs that replace others, of all values."""
    return [
        graph
        for by_value in changes.values()
        for change in by_value.values()
        for graph in change.get("graphs", ())
    ]


def apply_changes(
    golden: Mapping[str, Any], changes: Changes, values: Mapping[str, Value]
) -> Mapping[str, Any]:
    """Return a contract's document as it is for these values of its parameters.

    Args:
        golden: The document.
        changes: What `read_changes` returned.
        values: Every parameter with its value.
    """
    for name, by_value in changes.items():
        change = by_value.get(write_value(values[name]), {})
        others = {graph["name"]: graph for graph in change.get("graphs", ())}
        graphs = [others.get(graph["name"], graph) for graph in golden["graphs"]]
        golden = {**golden, "graphs": graphs}
        if "options" in change:
            golden = {**golden, "options": {**golden.get("options", {}), **change["options"]}}
    return golden


def _wrong(path: Path, what: str, why: str) -> UsageError:
    return UsageError(f"{path}: {what}.", why, "Correct the file.")
