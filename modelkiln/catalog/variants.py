"""Variants: the values of a contract's or a format's parameters, from a target's own text and from
flags."""

from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import product

from modelkiln.catalog.parameters import Parameter, PicturesParameter, Value
from modelkiln.errors import UsageError

Parameters = Mapping[str, Parameter]
Variant = tuple[tuple[str, Value], ...]


class Flags:
    """What flags say of parameters: a value, or several with commas between them.

    A contract or format takes those values that it allows; one that none takes is an error.
    """

    def __init__(self, given: Mapping[str, Value]) -> None:
        self._given = {name: str(value) for name, value in given.items()}
        self._refused: dict[tuple[str, str], UsageError] = {}
        self._taken: set[tuple[str, str]] = set()

    def values(self, parameters: Parameters, but: Container[str]) -> dict[str, list[Value]]:
        """Return the values for these parameters; `but` are those that a target itself gives."""
        values: dict[str, list[Value]] = {}
        for name, given in self._given.items():
            if name not in parameters or name in but:
                continue
            values[name] = []
            for text in parameters[name].split(given):
                try:
                    values[name].append(parameters[name].parse(text))
                    self._taken.add((name, text))
                except UsageError as error:
                    self._refused.setdefault((name, text), error)
        return values

    def require_use(self, known: Sequence[Sequence[str]], first: str = "") -> None:
        """Raise UsageError for a value that nothing takes, and a flag that no target knows.

        Args:
            known: The names of each target's parameters; none where there are no targets.
            first: The first target's name.
        """
        for refused, error in self._refused.items():
            if refused not in self._taken or not known:
                raise error
        for name in self._given if known else ():
            if not any(name in names for names in known):
                raise UsageError(
                    f"None of these targets has a parameter {name!r}.",
                    f"{first} has {', '.join(known[0]) or 'none'}.",
                    f"Leave --{name.replace('_', '-')} out.",
                )


def read_variants(
    parameters: Parameters, text: str, flags: Flags, owner: str, target: str
) -> Iterator[Variant]:
    """Yield what a target's own variant and the flags ask for, the defaults left out.

    Args:
        text: The variant, tokens with dots between them.
        owner: Whose parameters they are, in words.
        target: The target's text, for messages.

    Raises:
        UsageError: A token means nothing, or two of them give one parameter two values.
    """
    own: dict[str, Value] = {}
    for token in filter(None, text.split(".")):
        name, value = _read_token(parameters, token, owner, target)
        if isinstance(parameters[name], PicturesParameter):
            # What it spells is found by its flag.
            continue
        if own.setdefault(name, value) != value:
            raise UsageError(
                f"{target!r} gives {name} two values.",
                "A target has one value of each parameter.",
                f"Write two targets, or --{name.replace('_', '-')} with commas.",
            )
    given = flags.values(parameters, but=own)
    for values in product(*given.values()):
        asked = {**own, **dict(zip(given, values, strict=True))}
        yield tuple(sorted((n, v) for n, v in asked.items() if v != parameters[n].default))


def _read_token(parameters: Parameters, token: str, owner: str, target: str) -> tuple[str, Value]:
    for name, parameter in parameters.items():
        if (value := parameter.read_token(token)) is not None:
            return name, value
    allowed = ", ".join(one.forms for one in parameters.values() if one.forms)
    raise UsageError(
        f"{target!r}: {owner} has no variant {token!r}.",
        f"It has {allowed}." if allowed else "It takes no parameters.",
        f"Leave @{token} out for the default.",
    )
