"""How the catalog writes parameters.

A table `[parameters.NAME]` has `default`, `token` (how a target spells a value, with one `{}` for
it), `stages` (those whose keys it enters), `help`, perhaps `refused` (a table: words that are no
values, each with the reason, or with [reason, what to do]), and what its kind takes:

- `choices`: one of a closed set; `choices = [false, true]` is a switch;
- `multiple` and `most_pixels`: any picture size that fits them, `HEIGHTxWIDTH`;
- `least` and `most`: a whole number;
- `list_of`: some of a closed set (with `first_counts = true` the first that is named), or
  `list_of = "graphs"`: some of the graphs that the contract has for it, those of its default; with
  `plus = true` a flag joins them with plus signs, and its commas name several targets; `alone` has
  those that no other may join;
- `kind = "pictures"`: a folder of pictures; `kind = "sides"`: the picture's height and width;
  `kind = "profile"`: other sizes for the contract's dynamic axes in engines.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelkiln.catalog.flags import is_flag
from modelkiln.catalog.parameters import (
    ListParameter,
    NumberParameter,
    Parameter,
    PicturesParameter,
    SidesParameter,
    SizeParameter,
    write_value,
)
from modelkiln.catalog.profile_parameter import ProfileParameter
from modelkiln.catalog.tables import need
from modelkiln.errors import UsageError

_KINDS: Mapping[str, type[Parameter]] = {
    "pictures": PicturesParameter,
    "profile": ProfileParameter,
    "sides": SidesParameter,
}


def read_parameters(
    tables: Mapping[str, Any], path: Path, owner: str = "contract"
) -> dict[str, Parameter]:
    """Return the parameters of a contract's or a format's document, by name; UsageError where one
    is wrong.
    """
    return {name: _read(name, table, path, owner) for name, table in tables.items()}


def _read(name: str, table: Mapping[str, Any], path: Path, owner: str) -> Parameter:
    if not is_flag(name):
        raise UsageError(
            f"{path}: no parameter can be called {name!r}.",
            "It is an argument of every command: letters, digits and underscores, no keyword.",
            "Call it by another name.",
        )
    token = need(table, "token", str, path)
    default = table.get("default")
    refused = table.get("refused", {})
    if (
        token.count("{}") != 1
        or not isinstance(default, str | int)
        or not isinstance(refused, dict)
        or not all(_is_reason(one) for one in refused.values())
    ):
        raise UsageError(
            f"{path}: the parameter {name} is wrong.",
            "Its `token` has one {} for the value, its `default` is a text, a number or a switch, "
            "and `refused` a table of reasons, or of [reason, what to do].",
            "Correct the file.",
        )
    # A word that one file refuses may be a value where another extends it.
    values = [*table.get("choices", ()), *table.get("list_of", ())]
    shared: dict[str, Any] = {
        "name": name,
        "default": default,
        "choices": (),
        "token": token,
        "stages": tuple(need(table, "stages", list, path)),
        "help": str(table.get("help", "")),
        "owner": owner,
        "refused": {
            word: why if isinstance(why, str) else why[0]
            for word, why in refused.items()
            if word not in values
        },
        "remedies": {
            word: why[1]
            for word, why in refused.items()
            if word not in values and not isinstance(why, str)
        },
    }
    parameter = _make(table, shared, path)
    if isinstance(parameter, ListParameter) and parameter.of_contract:
        return parameter
    try:
        parameter.parse(write_value(default))
    except UsageError as error:
        raise UsageError(
            f"{path}: the default of the parameter {name} is none of its values.",
            f"{error.what} {error.why}",
            "Correct the file.",
        ) from error
    return parameter


def _is_reason(value: object) -> bool:
    parts = value if isinstance(value, list) and len(value) == 2 else [value]
    return all(isinstance(one, str) for one in parts)


def _make(table: Mapping[str, Any], shared: dict[str, Any], path: Path) -> Parameter:
    if "choices" in table:
        return Parameter(**{**shared, "choices": tuple(need(table, "choices", list, path))})
    if table.get("list_of") == "graphs":
        return ListParameter(**shared, of_contract=True)
    if "list_of" in table:
        return ListParameter(
            **{**shared, "choices": tuple(need(table, "list_of", list, path))},
            first_counts=bool(table.get("first_counts", False)),
            plus=bool(table.get("plus", False)),
            alone=tuple(table.get("alone", ())),
        )
    if "least" in table:
        least, most = (need(table, one, int, path) for one in ("least", "most"))
        return NumberParameter(**shared, least=least, most=most)
    if "kind" in table:
        kind = need(table, "kind", str, path)
        if kind not in _KINDS:
            raise UsageError(
                f"{path}: there is no kind of parameter {kind!r}.",
                f"The kinds are {', '.join(_KINDS)}.",
                "Correct the file.",
            )
        return _KINDS[kind](**shared)
    return SizeParameter(
        **shared,
        multiple=need(table, "multiple", int, path),
        most_pixels=need(table, "most_pixels", int, path),
    )
