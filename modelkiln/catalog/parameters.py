"""The parameters of contracts and formats: what may stand in a target's variant, behind a flag.

A parameter has one of a closed set of values, a picture size, a number, a list, a folder of
pictures or a pair of sides. `parameter_tables` says how each is written in the catalog.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

from modelkiln.errors import UsageError

MOST_SIDE = 16384
Value = str | int

_HEX = re.compile(r"[0-9a-f]{12}")
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
        remedies: What to do in the place of some of these.
    """

    name: str
    default: Value
    choices: tuple[Value, ...]
    token: str
    stages: tuple[str, ...]
    help: str
    owner: str = "contract"
    refused: Mapping[str, str] = field(default_factory=dict)
    remedies: Mapping[str, str] = field(default_factory=dict)

    @property
    def flag(self) -> str:
        """Its flag."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def forms(self) -> str:
        """Its values, as a target spells them."""
        return ", ".join(self.spell(one) for one in self.choices)

    def spell(self, value: Value) -> str:
        """Return the value as a target's variant spells it."""
        return self.token.format(write_value(value))

    def read_token(self, token: str) -> Value | None:
        """Return the value that a target's variant spells so; None where it spells none of this.

        Raises:
            UsageError: It spells one that is refused.
        """
        for word in self.refused:
            if self.spell(word) == token:
                self.parse(word)
        return next((one for one in self.choices if self.spell(one) == token), None)

    def split(self, text: str) -> list[str]:
        """Return the values that a flag's text names, each to be parsed."""
        return [one.strip() for one in text.split(",")]

    def parse(self, text: str) -> Value:
        """Return the value that a command line's text means; UsageError where it is none."""
        return self.pick(text)

    def pick(self, text: str, advice: str = "") -> Value:
        """Return the choice with this name, in any case; UsageError where there is none.

        Args:
            advice: What fixes it, where that is not to leave the flag out.
        """
        for choice in self.choices:
            if write_value(choice).lower() == text.lower():
                return choice
        allowed = ", ".join(map(write_value, self.choices))
        raise UsageError(
            f"{self.name} cannot be {text!r}.",
            self.refused.get(text.lower(), f"The {self.owner} allows {allowed}."),
            self.remedies.get(text.lower())
            or advice
            or f"Leave {self.flag} out for the default, {self.written_default}.",
        )

    @property
    def written_default(self) -> str:
        """Its default, as users write it."""
        return write_value(self.default)

    def bare(self, token: str) -> str | None:
        """Return what stands in a token for the value; None where it is another parameter's."""
        before, after = self.token.split("{}")
        long = len(token) > len(before) + len(after)
        if not long or not token.startswith(before) or not token.endswith(after):
            return None
        return token[len(before) : len(token) - len(after)]

    def numbers(self, value: Value) -> dict[str, int]:
        """Return what dims may use: a number under its name, a size as `height` and `width`."""
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
        """Return the size that a command line's text means, without leading zeros.

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
        """Return the two nearest sizes round about; where all are too large, one of this shape."""
        step = self.multiple

        def around(side: int) -> set[int]:
            return {max(side // step, 1) * step, max(-(-side // step), 1) * step}

        sizes = product(around(height), around(width))
        fitting = [one for one in sizes if one[0] * one[1] <= self.most_pixels]
        fitting.sort(key=lambda one: (abs(one[0] - height) + abs(one[1] - width), one))
        return [f"{one[0]}x{one[1]}" for one in fitting[:2]] or [self._shrink(height, width)]

    def _shrink(self, height: int, width: int) -> str:
        """Return a size of about this shape that is not too large."""
        step, largest = self.multiple, self.most_pixels // self.multiple
        height, width = max(height, 1), max(width, 1)
        share = (self.most_pixels / (height * width)) ** 0.5
        high = min(max(int(height * share) // step * step, step), largest // step * step)
        wide = max(min(int(width * share), self.most_pixels // high) // step * step, step)
        return f"{high}x{wide}"


def write_value(value: Value) -> str:
    """Return a value as users write it: switches are `true` and `false`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, kw_only=True)
class NumberParameter(Parameter):
    """A whole number from `least` to `most`; `choices` is empty."""

    least: int
    most: int

    @property
    def forms(self) -> str:
        return self.spell("NUMBER")

    def read_token(self, token: str) -> Value | None:
        text = self.bare(token)
        return self.parse(text) if text and text.isascii() and text.isdecimal() else None

    def parse(self, text: str) -> Value:
        """Return the number that a command line's text means; UsageError where it is none of
        these.
        """
        if text.isascii() and text.isdecimal() and len(text) < 10:
            number = int(text)
            if self.least <= number <= self.most:
                return number
        raise UsageError(
            f"{self.name} cannot be {text!r}.",
            f"It is a whole number from {self.least} to {self.most}.",
            f"Leave {self.flag} out for the default, {self.default}.",
        )


@dataclass(frozen=True, kw_only=True)
class ListParameter(Parameter):
    """Some of a closed set, at least one: a text with commas, and with plus signs in a target.

    Attributes:
        first_counts: Whether a value is but the first entry, so that the others only have to be
            known; otherwise entries stand in the order of `choices`.
        of_contract: Whether `choices` and `default` come from the contract: its graphs.
        plus: Whether a flag joins entries with plus signs too, so that its commas name several
            lists.
        alone: Those that no other may join.
    """

    first_counts: bool = False
    of_contract: bool = False
    plus: bool = False
    alone: tuple[str, ...] = ()

    @property
    def forms(self) -> str:
        if self.first_counts:
            return super().forms
        return self.token.format("+".join(map(str, self.choices)))

    def spell(self, value: Value) -> str:
        return self.token.format(str(value).replace(",", "+"))

    def read_token(self, token: str) -> Value | None:
        text = self.bare(token)
        known = {str(one).lower() for one in (*self.choices, *self.refused)}
        if not text or not known.intersection(text.lower().split("+")):
            return None
        return self.parse(text if self.plus else text.replace("+", ","))

    @property
    def written_default(self) -> str:
        return str(self.default).replace(",", "+" if self.plus else ",")

    def split(self, text: str) -> list[str]:
        return super().split(text) if self.plus else [text]

    def parse(self, text: str) -> Value:
        """Return the list that a command line's text means, each entry once; UsageError for
        another.
        """
        # A default is written with commas.
        asked = [one.strip() for one in re.split(r"[,+]" if self.plus else ",", text)]
        others = len(set(asked)) > 1
        picked = [
            str(self.pick(one, f"Leave {one} out of {self.flag}." if others and one else ""))
            for one in asked
        ]
        if self.first_counts:
            return picked[0]
        for one in self.alone:
            if one in picked and len(set(picked)) > 1:
                raise UsageError(
                    f"{self.name} cannot be {text!r}.",
                    f"{one} goes with no other.",
                    f"Give {self.flag} {one}, or the others alone.",
                )
        return ",".join(str(one) for one in self.choices if one in picked)


def entries(value: Value) -> list[str]:
    """Return the entries of a list parameter's value."""
    return str(value).split(",")


@dataclass(frozen=True, kw_only=True)
class PicturesParameter(Parameter):
    """A folder of pictures of the user's own; a target spells what is taken of it, by its digest.

    A value is the folder's path, or empty for the pictures of the catalog.
    """

    @property
    def forms(self) -> str:
        return self.spell("DIGEST")

    def read_token(self, token: str) -> Value | None:
        """Return the digest's first digits: the folder has to be found by its flag."""
        text = self.bare(token)
        return text if text and _HEX.fullmatch(text) else None

    def split(self, text: str) -> list[str]:
        return [text]

    def parse(self, text: str) -> Value:
        return text


@dataclass(frozen=True, kw_only=True)
class SidesParameter(Parameter):
    """Height and width of the graph's picture, `HEIGHT,WIDTH`, which must equal the graph's.

    A value is such a text without leading zeros, or empty.
    """

    @property
    def forms(self) -> str:
        return ""

    def read_token(self, token: str) -> Value | None:  # noqa: ARG002
        return None

    def split(self, text: str) -> list[str]:
        return [text]

    def parse(self, text: str) -> Value:
        """Return the sides that a command line's text means; UsageError where it names none."""
        if not text:
            return ""
        sides = [one.strip() for one in text.split(",")]
        fit = all(re.fullmatch(r"[0-9]{1,9}", one) for one in sides)
        if len(sides) != 2 or not fit or not all(1 <= int(one) <= MOST_SIDE for one in sides):
            raise UsageError(
                f"{self.name} cannot be {text!r}.",
                f"It is written HEIGHT,WIDTH, in pixels, each from 1 to {MOST_SIDE}.",
                f"For example: {self.flag} 1024,1024",
            )
        return ",".join(str(int(one)) for one in sides)
