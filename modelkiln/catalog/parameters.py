"""The parameters of contracts and formats: what may stand in a target's variant, behind a flag.

A parameter has one of a closed set of values, or a picture size. `parameter_kinds` has others,
`parameter_table` says how each is written in the catalog.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

from modelkiln.errors import UsageError

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
        owner: Whose it is: `contract` or `format`.
        refused: Words that might be expected among its values and are none, with the reason.
    """

    name: str
    default: Value
    choices: tuple[Value, ...]
    token: str
    stages: tuple[str, ...]
    help: str
    owner: str = "contract"
    refused: Mapping[str, str] = field(default_factory=dict)

    @property
    def flag(self) -> str:
        """Its flag."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def forms(self) -> str:
        """Its values, as a target spells them."""
        return ", ".join(self.spell(one) for one in self.choices)

    def spell(self, value: Value) -> str:
        """The value as a target's variant spells it."""
        return self.token.format(write_value(value))

    def read_token(self, token: str) -> Value | None:
        """The value that a target's variant spells so; None where it spells none of this.

        Raises:
            UsageError: It spells one that is refused.
        """
        for word in self.refused:
            if self.spell(word) == token:
                self.parse(word)
        return next((one for one in self.choices if self.spell(one) == token), None)

    def split(self, text: str) -> list[str]:
        """The values that a flag's text names, each to be parsed."""
        return [one.strip() for one in text.split(",")]

    def parse(self, text: str) -> Value:
        """The value that a command line's text means; UsageError where it is none."""
        return self.pick(text)

    def pick(self, text: str, advice: str = "") -> Value:
        """The choice with this name, in any case; UsageError where there is none.

        Args:
            advice: What mends it, where that is not to leave the flag out.
        """
        for choice in self.choices:
            if write_value(choice).lower() == text.lower():
                return choice
        allowed = ", ".join(map(write_value, self.choices))
        default = write_value(self.default)
        raise UsageError(
            f"{self.name} cannot be {text!r}.",
            self.refused.get(text.lower(), f"The {self.owner} allows {allowed}."),
            advice or f"Leave {self.flag} out for the default, {default}.",
        )

    def bare(self, token: str) -> str | None:
        """What stands in a token for the value; None where it is another parameter's."""
        before, after = self.token.split("{}")
        long = len(token) > len(before) + len(after)
        if not long or not token.startswith(before) or not token.endswith(after):
            return None
        return token[len(before) : len(token) - len(after)]

    def numbers(self, value: Value) -> dict[str, int]:
        """What dims may use: a number under its name, a size as `height` and `width`."""
        if type(value) is int:
            return {self.name: value}
        found = _SIZE.fullmatch(str(value))
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
        text = self.bare(token)
        return self.parse(text) if text and _SIZE.fullmatch(text) else None

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
                f"For example: {self.flag} {self.default}",
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


def write_value(value: Value) -> str:
    """A value as users write it: switches are `true` and `false`."""
    return str(value).lower() if isinstance(value, bool) else str(value)
