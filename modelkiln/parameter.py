"""The parameters of a contract: what may stand in a target's variant and behind a flag.

A table `[parameters.NAME]` has `default`, `token` (how a target spells a value, with one `{}` for
it), `stages` (those whose keys it enters), `help`, and either `choices`, a closed set, or
`multiple` and `most_pixels`: then a value is any picture size that fits them, `HEIGHTxWIDTH`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from modelkiln.errors import UsageError
from modelkiln.flags import is_flag
from modelkiln.tables import need

Value = str | int

_SIZE = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter with a closed set of values.

    Attributes:
        choices: Its values.
        token: How a value is written in a target, with one `{}` for the value.
        stages: The stages whose keys it enters.
        help: What it means, for `--help`.
    """

    name: str
    default: Value
    choices: tuple[Value, ...]
    token: str
    stages: tuple[str, ...]
    help: str

    @property
    def forms(self) -> str:
        """Its values, as a target spells them."""
        return ", ".join(self.spell(one) for one in self.choices)

    def spell(self, value: Value) -> str:
        """The value as a target's variant spells it."""
        return self.token.format(value)

    def read_token(self, token: str) -> Value | None:
        """The value that a target's variant spells so; None where it spells none of this."""
        return next((one for one in self.choices if self.spell(one) == token), None)

    def parse(self, text: str) -> Value:
        """The value that a command line's text means; UsageError where it is none."""
        for choice in self.choices:
            if str(choice) == text:
                return choice
        allowed = ", ".join(map(str, self.choices))
        raise UsageError(
            f"{self.name} cannot be {text!r}.",
            f"The contract allows {allowed}.",
            f"Leave --{_flag(self.name)} out for the default, {self.default}.",
        )

    def numbers(self, value: Value) -> dict[str, int]:
        """What dims may use: a number under its name, a size as `height` and `width`."""
        if isinstance(value, int):
            return {self.name: value}
        found = _SIZE.fullmatch(value)
        return {"height": int(found[1]), "width": int(found[2])} if found else {}


@dataclass(frozen=True, kw_only=True)
class SizeParameter(Parameter):
    """A picture size, `HEIGHTxWIDTH` in pixels, of any that fit; `choices` is empty.

    Attributes:
        multiple: What both sides are multiples of.
        most_pixels: The most that height times width may be.
    """

    multiple: int
    most_pixels: int

    @property
    def forms(self) -> str:
        return self.spell("HEIGHTxWIDTH")

    def read_token(self, token: str) -> Value | None:
        before, after = self.token.split("{}")
        if not token.startswith(before) or not token.endswith(after):
            return None
        text = token[len(before) : len(token) - len(after)]
        return self.parse(text) if _SIZE.fullmatch(text) else None

    def parse(self, text: str) -> Value:
        """The size that a command line's text means, without leading zeros.

        Raises:
            UsageError: It is no size, too large, or not of these multiples; names the nearest two.
        """
        found = _SIZE.fullmatch(text)
        if not found:
            raise UsageError(
                f"{self.name} cannot be {text!r}.",
                "It is written HEIGHTxWIDTH, in pixels.",
                f"For example: --{_flag(self.name)} {self.default}",
            )
        height, width = map(int, found.groups())
        if height * width > self.most_pixels:
            why = (
                f"{height * width} pixels are more than {self.most_pixels}: what attention takes "
                "grows with the square of their number."
            )
        elif not height or not width or height % self.multiple or width % self.multiple:
            why = f"Height and width are multiples of {self.multiple}, the side of a patch."
        else:
            return f"{height}x{width}"
        near = self._nearest(height, width)
        verb = "are" if len(near) > 1 else "is"
        raise UsageError(
            f"{self.name} cannot be {text}.", why, f"The nearest {verb} {' or '.join(near)}."
        )

    def _nearest(self, height: int, width: int) -> list[str]:
        """The two nearest sizes round about; where all are too large, one of this shape."""
        step = self.multiple

        def around(side: int) -> set[int]:
            return {max(side // step, 1) * step, max(-(-side // step), 1) * step}

        sizes = product(around(height), around(width))
        fitting = [one for one in sizes if one[0] * one[1] <= self.most_pixels]
        fitting.sort(key=lambda one: (abs(one[0] - height) + abs(one[1] - width), one))
        return [f"{one[0]}x{one[1]}" for one in fitting[:2]] or [self._shrink(height, width)]

    def _shrink(self, height: int, width: int) -> str:
        """A size of about this shape that is not too large."""
        step, largest = self.multiple, self.most_pixels // self.multiple
        height, width = max(height, 1), max(width, 1)
        share = (self.most_pixels / (height * width)) ** 0.5
        high = min(max(int(height * share) // step * step, step), largest // step * step)
        wide = max(min(int(width * share), self.most_pixels // high) // step * step, step)
        return f"{high}x{wide}"


def read_parameters(tables: Mapping[str, Any], path: Path) -> dict[str, Parameter]:
    """The parameters of a contract's document, by name; UsageError where one is wrong."""
    return {name: _read(name, table, path) for name, table in tables.items()}


def _read(name: str, table: Mapping[str, Any], path: Path) -> Parameter:
    if not is_flag(name):
        raise UsageError(
            f"{path}: no parameter can be called {name!r}.",
            "It is an argument of every command: letters, digits and underscores, no keyword.",
            "Call it by another name.",
        )
    token = need(table, "token", str, path)
    default = table.get("default")
    if token.count("{}") != 1 or not isinstance(default, str | int):
        raise UsageError(
            f"{path}: the parameter {name} is wrong.",
            "Its `token` has one {} for the value, and its `default` is a text or an integer.",
            "Correct the file.",
        )
    shared: dict[str, Any] = {
        "name": name,
        "default": default,
        "token": token,
        "stages": tuple(need(table, "stages", list, path)),
        "help": str(table.get("help", "")),
    }
    if "choices" in table:
        parameter = Parameter(**shared, choices=tuple(need(table, "choices", list, path)))
    else:
        parameter = SizeParameter(
            **shared,
            choices=(),
            multiple=need(table, "multiple", int, path),
            most_pixels=need(table, "most_pixels", int, path),
        )
    try:
        parameter.parse(str(default))
    except UsageError as error:
        raise UsageError(
            f"{path}: the default of the parameter {name} is none of its values.",
            f"{error.what} {error.why}",
            "Correct the file.",
        ) from error
    return parameter


def _flag(name: str) -> str:
    return name.replace("_", "-")
