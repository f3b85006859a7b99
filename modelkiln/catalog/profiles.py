"""Optimization profiles: the sizes that an engine takes where a graph leaves them open.

A contract has a table `[profile.GRAPH]` with an entry for each dynamic axis of the graph's inputs,
by the axis's name in `dims`:

- an integer: the axis has this size in an engine, and no other;
- `[min, opt, max]`: it takes the sizes from min to max, and is made for opt;
- a text in braces: its size follows from others. The expression may use axes by their names, and a
  dim of an input as `input[index]`: `{memory_1[3] * buff_size}`.

Flags override entries, by `AXIS` in every graph that has it or by `GRAPH.AXIS` in one. Of several
targets each takes those that its graphs have; one that none has is an error.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

from modelkiln.catalog.dims import evaluate
from modelkiln.errors import UsageError

WHICH: Final = ("min", "opt", "max")

# TensorRT counts the elements of a tensor in 31 bits.
MOST_ELEMENTS: Final = 2**31 - 1

_CORRECT: Final = "Correct the file."


@dataclass(frozen=True)
class Range:
    """The sizes of an axis: from `min` to `max`, made for `opt`."""

    min: int
    opt: int
    max: int

    @property
    def fixed(self) -> bool:
        """Whether there is one size only."""
        return self.min == self.max

    @property
    def problem(self) -> str:
        """Why it cannot be, in a sentence; empty where it can."""
        if self.min < 1:
            return f"Sizes are 1 or more, and its smallest is {self.min}."
        if not self.min <= self.opt <= self.max:
            return (
                "Sizes are given as MIN:OPT:MAX, each at least the one before, and these are "
                f"{self.min}, {self.opt} and {self.max}."
            )
        return ""

    def __str__(self) -> str:
        """Write it as a flag has it: `1:2:8`, or `1` for a single size."""
        return str(self.min) if self.fixed else f"{self.min}:{self.opt}:{self.max}"


Shape = tuple[Range, ...]
Shapes = dict[str, Shape]
Overrides = Mapping[str, Range]


def find_axes(graph: Mapping[str, Any]) -> list[str]:
    """Return the dynamic axes of a graph's inputs, each once, in order."""
    dims = (dim for value in graph["inputs"] for dim in value["dims"])
    return list(dict.fromkeys(dim for dim in dims if _is_axis(dim)))


def collect_axes(graphs: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the dynamic axes by graph; graphs of one name together have them."""
    axes: dict[str, dict[str, None]] = {}
    for graph in graphs:
        axes.setdefault(graph["name"], {}).update(dict.fromkeys(find_axes(graph)))
    return {name: list(one) for name, one in axes.items()}


def is_dynamic(value: Mapping[str, Any]) -> bool:
    """Return whether an input's entry in a contract has a dynamic axis."""
    return any(_is_axis(dim) for dim in value["dims"])


def _is_axis(dim: Any) -> bool:
    return isinstance(dim, str) and not dim.startswith("{")


def _follows(entry: Any) -> bool:
    return isinstance(entry, str)


def check_profile(
    path: Path, graphs: Sequence[Mapping[str, Any]], profile: Mapping[str, Any]
) -> None:
    """Check the tables of a contract's file, as far as they can be read without a target.

    Args:
        path: The contract's file.
        graphs: Its graphs, in every variant; those of one name together have the axes.
        profile: Its tables, by graph; without any the contract has no engines.

    Raises:
        UsageError: A table names a graph or axis that there is not, an axis has no entry, or an
            entry is neither a size, three sizes in order nor an expression.
    """
    axes = collect_axes(graphs)
    for name, table in profile.items():
        if not isinstance(table, Mapping):
            raise UsageError(
                f"{path}: `profile.{name}` is no table.", f"It is {table!r}.", _CORRECT
            )
        # An empty one takes back what another file says of a graph that this one leaves out.
        if name not in axes and table:
            raise UsageError(
                f"{path}: `profile` names a graph {name!r}.", _near(name, axes, "graphs"), _CORRECT
            )
        for axis, entry in table.items():
            if axis not in axes[name]:
                raise UsageError(
                    f"{path}: `profile.{name}` names an axis {axis!r}.",
                    _near(axis, axes[name], f"dynamic axes of {name}'s inputs"),
                    _CORRECT,
                )
            _check_entry(path, f"profile.{name}.{axis}", entry)
    missing = [
        f"{name}.{axis}"
        for name, names in axes.items()
        for axis in names
        if profile and axis not in profile.get(name, {})
    ]
    if missing:
        raise UsageError(
            f"{path}: `profile` has no entry for {', '.join(missing)}.",
            "An engine needs a size, or three, for every dynamic axis.",
            _CORRECT,
        )


def _check_entry(path: Path, place: str, entry: Any) -> None:
    if _follows(entry):
        fits = entry.startswith("{") and entry.endswith("}")
    else:
        sizes = entry if isinstance(entry, list) and len(entry) == 3 else [entry]
        fits = all(type(one) is int for one in sizes)
    if not fits:
        raise UsageError(
            f"{path}: `{place}` is {entry!r}.",
            "It is a size, [min, opt, max], or an expression in braces.",
            _CORRECT,
        )
    if not _follows(entry) and (problem := _read_entry(entry).problem):
        raise UsageError(f"{path}: `{place}` is {entry!r}.", problem, _CORRECT)


def _read_entry(entry: Any) -> Range:
    return Range(*entry) if isinstance(entry, list) else Range(entry, entry, entry)


def resolve_profiles(
    graphs: Sequence[Mapping[str, Any]], profile: Mapping[str, Any], overrides: Overrides
) -> dict[str, Shapes]:
    """Return the shapes of every graph's inputs in an engine, by graph and input.

    Args:
        graphs: Those of a target, filled in.
        profile: The contract's tables, by graph.
        overrides: By `AXIS` or `GRAPH.AXIS`; the latter goes before.

    Raises:
        UsageError: An override names a graph or axis that there is not; or see `resolve_profile`.
    """
    axes = collect_axes(graphs)
    require_axes(axes, overrides)
    own: dict[str, dict[str, Range]] = {name: {} for name in axes}
    for key in sorted(overrides, key=lambda one: "." in one):
        for one in _find_owners(axes, key):
            own[one][key.rpartition(".")[2]] = overrides[key]
    return {
        graph["name"]: resolve_profile(graph, profile.get(graph["name"], {}), own[graph["name"]])
        for graph in graphs
    }


def _find_owners(axes: Mapping[str, Sequence[str]], key: str) -> list[str]:
    """Return the graphs that an override is for."""
    name, _, axis = key.rpartition(".")
    return [one for one, names in axes.items() if axis in names and name in ("", one)]


def keep_known(graphs: Iterable[Mapping[str, Any]], overrides: Overrides) -> dict[str, Range]:
    """Return the overrides without those of a graph or axis that these graphs do not have."""
    axes = collect_axes(graphs)
    return {key: one for key, one in overrides.items() if _find_owners(axes, key)}


def require_axes(
    axes: Mapping[str, Sequence[str]], overrides: Iterable[str], whose: str = "these graphs"
) -> None:
    """Raise UsageError, with near names, for an override of a graph or axis that there is not.

    Args:
        axes: The dynamic axes by graph.
        overrides: `AXIS` or `GRAPH.AXIS` each.
        whose: The graphs, in words.
    """
    for key in sorted(overrides):
        if _find_owners(axes, key):
            continue
        name, _, axis = key.rpartition(".")
        if name and name not in axes:
            raise _unknown(key, _near(name, axes, "graphs"), whose)
        known = axes[name] if name else [one for names in axes.values() for one in names]
        owner = f"{name}'s inputs" if name else "these graphs' inputs"
        raise _unknown(key, _near(axis, known, f"dynamic axes of {owner}"), whose)


def keep_effective(
    graphs: Sequence[Mapping[str, Any]], profile: Mapping[str, Any], overrides: Overrides
) -> dict[str, Range]:
    """Return the overrides without those that change no shape; UsageError for wrong ones."""
    kept = dict(overrides)
    wanted = resolve_profiles(graphs, profile, kept)
    for key in sorted(overrides):
        fewer = {name: one for name, one in kept.items() if name != key}
        try:
            if resolve_profiles(graphs, profile, fewer) == wanted:
                kept = fewer
        except UsageError:
            # The contract has no entry for this axis, or none that goes with the other overrides.
            continue
    return kept


def resolve_profile(
    graph: Mapping[str, Any], table: Mapping[str, Any], overrides: Overrides
) -> Shapes:
    """Return the shapes of a graph's inputs in an engine, by input, in the contract's order.

    Args:
        graph: One of a target, filled in.
        table: What the contract has for it, by axis; entries for other axes are not used.
        overrides: By axis.

    Raises:
        UsageError: An axis has no entry or a wrong one, or an override names no axis of this graph
            or contradicts what follows from others.
    """
    axes, name = find_axes(graph), graph["name"]
    for axis in overrides:
        if axis not in axes:
            near = _near(axis, axes, f"dynamic axes of {name}'s inputs")
            raise _unknown(f"{name}.{axis}", near, "these graphs")
    ranges: dict[str, Range] = {}
    for axis in axes:
        if axis not in table and axis not in overrides:
            raise UsageError(
                f"{name} has no size for its axis {axis}.",
                "Its contract says nothing of it, and an engine needs a size, or three.",
                f"Give one, for example --profile {axis}=1:1:4, or add `profile.{name}.{axis}` to "
                "the contract.",
            )
        if axis in overrides or not _follows(table[axis]):
            ranges[axis] = overrides[axis] if axis in overrides else _read_entry(table[axis])
            _require_possible(name, axis, ranges[axis])
    given = dict(ranges)
    for axis in axes:
        if not _follows(table.get(axis)):
            continue
        others = {one: given[one] for one in given if not _follows(table.get(one))}
        computed = Range(*_compute(table[axis], graph, others))
        _require_possible(name, axis, computed)
        if given.get(axis, computed) != computed:
            raise UsageError(
                f"{name}: {axis} cannot be {given[axis]}.",
                f"It follows from other sizes, {table[axis]}, and is {computed}.",
                f"Leave {axis} out of --profile, or change what it follows from.",
            )
        ranges[axis] = computed
    shapes = {
        value["name"]: tuple(
            ranges[dim] if isinstance(dim, str) else Range(dim, dim, dim) for dim in value["dims"]
        )
        for value in graph["inputs"]
    }
    for value, sizes in shapes.items():
        if (count := prod(one.max for one in sizes)) > MOST_ELEMENTS:
            raise UsageError(
                f"{name}: {value} cannot have {' x '.join(str(one.max) for one in sizes)} values.",
                f"They are {count}, and TensorRT counts those of a tensor in 31 bits: the compiler "
                "takes more and then names too little memory.",
                "Give a smaller maximum with --profile.",
            )
    return shapes


def spell_shapes(graph: Mapping[str, Any], shapes: Shapes) -> dict[str, dict[str, list[int]]]:
    """Return min, opt and max of all dims of a graph's inputs that have a dynamic axis, by name.

    Args:
        graph: One of a target, filled in.
        shapes: Those of its inputs in an engine.
    """
    return {
        value["name"]: {
            which: [int(getattr(size, which)) for size in shapes[value["name"]]] for which in WHICH
        }
        for value in graph["inputs"]
        if is_dynamic(value)
    }


def _compute(text: str, graph: Mapping[str, Any], ranges: Mapping[str, Range]) -> Iterator[int]:
    for which in WHICH:
        numbers = {axis: int(getattr(one, which)) for axis, one in ranges.items()}
        dims = {
            f"{value['name']}[{index}]": numbers.get(dim, dim)
            for value in graph["inputs"]
            for index, dim in enumerate(value["dims"])
        }
        yield evaluate(text, numbers | {key: dim for key, dim in dims.items() if type(dim) is int})


def _require_possible(graph: str, axis: str, sizes: Range) -> None:
    if sizes.problem:
        raise UsageError(
            f"{graph}: {axis} cannot be {sizes}.",
            sizes.problem,
            f"Correct {axis}: --profile {axis}=MIN:OPT:MAX",
        )


def _unknown(key: str, why: str, whose: str) -> UsageError:
    return UsageError(
        f"--profile names {key}, which {whose} do not have.", why, "Correct --profile."
    )


def _near(name: str, known: Mapping[str, Any] | Sequence[str], what: str) -> str:
    from difflib import get_close_matches

    names = list(dict.fromkeys(known))
    if near := get_close_matches(name, names, n=3, cutoff=0.5):
        return f"Did you mean {' or '.join(near)}?"
    return f"The {what} are {', '.join(names)}." if names else f"There are no {what}."
