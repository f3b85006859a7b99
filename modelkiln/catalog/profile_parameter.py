"""The parameter that overrides an optimization profile: `--profile batch=1:1:4,decoder.points=8`.

An entry is `AXIS=MIN:OPT:MAX`, or `AXIS=N` for a single size; `GRAPH.AXIS` is of one graph. A
target spells it without the characters that separate its own parts: `batch-1-1-4+decoder-points-8`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from modelkiln.catalog.parameters import Parameter, Value
from modelkiln.catalog.profiles import Range
from modelkiln.errors import UsageError

# It becomes a part of a folder's name, which may have 255.
MOST_CHARACTERS: Final = 180

_NAME = "[A-Za-z_][A-Za-z0-9_]*"
_SIZES = "([0-9]{1,9})"
_ENTRY = re.compile(rf"((?:{_NAME}\.)?{_NAME})={_SIZES}(?::{_SIZES}:{_SIZES})?")
_TOKEN = re.compile(rf"(?:({_NAME})-)?({_NAME})-{_SIZES}(?:-{_SIZES}-{_SIZES})?")


@dataclass(frozen=True, kw_only=True)
class ProfileParameter(Parameter):
    """Other sizes for dynamic axes; `choices` is empty.

    A value is such a text, its entries sorted and each once, or empty: the contract's own sizes.
    Whether a target has these axes is for `profiles` to say.
    """

    @property
    def forms(self) -> str:
        return self.spell("AXIS=MIN:OPT:MAX")

    def spell(self, value: Value) -> str:
        return self.token.format(re.sub("[.=:]", "-", str(value)).replace(",", "+"))

    def read_token(self, token: str) -> Value | None:
        text = self.bare(token)
        entries = [_TOKEN.fullmatch(one) for one in text.split("+")] if text else []
        if not entries or None in entries:
            return None
        return self.parse(",".join(_write_token(found) for found in entries if found))

    def split(self, text: str) -> list[str]:
        return [text]

    def parse(self, text: str) -> Value:
        """Return the overrides that a command line's text means, in one order.

        Raises:
            UsageError: It is not written so, sizes are out of order, or an axis has two.
        """
        sizes: dict[str, Range] = {}
        for entry in (one.strip() for one in text.split(",")) if text.strip() else ():
            found = _ENTRY.fullmatch(entry)
            if not found:
                raise self._wrong(
                    entry,
                    "An entry is AXIS=MIN:OPT:MAX or AXIS=SIZE, or the same with GRAPH. before it; "
                    "commas stand between entries.",
                )
            key, least, best, most = found.groups()
            one = Range(int(least), int(best or least), int(most or least))
            if one.problem:
                raise self._wrong(entry, one.problem)
            if sizes.setdefault(key, one) != one:
                raise self._wrong(entry, f"It gives {key} also {sizes[key]}.")
        value = write_overrides(sizes)
        if len(value) > MOST_CHARACTERS:
            raise self._wrong(
                value,
                f"It has {len(value)} characters, and {MOST_CHARACTERS} fit into a folder's name.",
            )
        return value

    def _wrong(self, text: str, why: str) -> UsageError:
        return UsageError(
            f"{self.name} cannot be {text!r}.", why, f"For example: {self.flag} batch=1:1:4"
        )


def write_overrides(sizes: Mapping[str, Range]) -> str:
    """Return the value that means these sizes."""
    return ",".join(f"{key}={sizes[key]}" for key in sorted(sizes))


def read_overrides(value: Value) -> dict[str, Range]:
    """Return the sizes that a parameter's value means, by `AXIS` or `GRAPH.AXIS`."""
    found: dict[str, Range] = {}
    for entry in filter(None, str(value).split(",")):
        key, _, text = entry.partition("=")
        numbers = [int(one) for one in text.split(":")]
        found[key] = Range(numbers[0], numbers[len(numbers) // 2], numbers[-1])
    return found


def _write_token(found: re.Match[str]) -> str:
    graph, axis, *numbers = found.groups()
    sizes = ":".join(one for one in numbers if one)
    return f"{graph}.{axis}={sizes}" if graph else f"{axis}={sizes}"
