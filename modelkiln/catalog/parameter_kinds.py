"""Kinds of parameters beside closed sets and sizes: numbers, lists, folders, the input's sides."""

import re
from dataclasses import dataclass

from modelkiln.catalog.parameters import Parameter, Value
from modelkiln.errors import UsageError

MOST_SIDE = 16384

_HEX = re.compile(r"[0-9a-f]{12}")


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
        """The number that a command line's text means; UsageError where it is none of these."""
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
    """

    first_counts: bool = False
    of_contract: bool = False

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
        return self.parse(text.replace("+", ","))

    def split(self, text: str) -> list[str]:
        return [text]

    def parse(self, text: str) -> Value:
        """The list that a command line's text means, each entry once; UsageError for another."""
        asked = [one.strip() for one in text.split(",")]
        others = len(set(asked)) > 1
        picked = [
            str(self.pick(one, f"Leave {one} out of {self.flag}." if others and one else ""))
            for one in asked
        ]
        if self.first_counts:
            return picked[0]
        return ",".join(str(one) for one in self.choices if one in picked)


def entries(value: Value) -> list[str]:
    """The entries of a list parameter's value."""
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
        """The digest's first digits: the folder has to be found by its flag."""
        text = self.bare(token)
        return text if text and _HEX.fullmatch(text) else None

    def split(self, text: str) -> list[str]:
        return [text]

    def parse(self, text: str) -> Value:
        return text


@dataclass(frozen=True, kw_only=True)
class SidesParameter(Parameter):
    """Height and width of the graph's picture, `HEIGHT,WIDTH`, which can but be what they are.

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
        """The sides that a command line's text means; UsageError where it names none."""
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
