"""Targets: `MODEL[+WEIGHTS]/CONTRACT[@VARIANT]/FORMAT`, and the globs that select many.

VARIANT names, sorted and joined with dots, every parameter that differs from its default:
`sam2.1_hiera_tiny+random0/image@opset20/onnx-fp32`. WEIGHTS is `randomN`, or the first twelve hex
digits of a file's SHA-256; official weights are not named.
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import product
from typing import Any, TypeVar

from modelkiln.catalog import Catalog, Format, Model
from modelkiln.contract import Contract
from modelkiln.errors import UsageError
from modelkiln.parameter import Value
from modelkiln.signature import fill_contract

T = TypeVar("T")
Variant = tuple[tuple[str, Value], ...]
MAX_SEED = 2**32 - 1


@dataclass(frozen=True, kw_only=True)
class OfficialWeights:
    """The pinned checkpoint."""

    suffix: str = ""

    @property
    def label(self) -> str:
        return "official"


@dataclass(frozen=True, kw_only=True)
class RandomWeights:
    """Seeded random weights of the real architecture."""

    seed: int = 0

    @property
    def suffix(self) -> str:
        return f"+random{self.seed}"

    @property
    def label(self) -> str:
        return f"random:{self.seed}"


@dataclass(frozen=True, kw_only=True)
class FileWeights:
    """The user's own checkpoint; `format` is `pt` or `safetensors`."""

    path: str
    sha256: str
    format: str
    bytes: int

    @property
    def suffix(self) -> str:
        return f"+{self.sha256[:12]}"

    @property
    def label(self) -> str:
        return f"sha256:{self.sha256}"


Weights = OfficialWeights | RandomWeights | FileWeights


@dataclass(frozen=True, kw_only=True)
class Target:
    """One thing to build."""

    model: Model
    weights: Weights
    contract: Contract
    variant: Variant
    format: Format

    @property
    def model_name(self) -> str:
        """The model with its weights, as in a target."""
        return self.model.name + self.weights.suffix

    @property
    def contract_name(self) -> str:
        """The contract with its variant, as in a target."""
        tokens = sorted(self.contract.parameters[name].spell(value) for name, value in self.variant)
        return self.contract.name + ("@" + ".".join(tokens) if tokens else "")

    @property
    def name(self) -> str:
        return f"{self.model_name}/{self.contract_name}/{self.format.name}"

    @property
    def parameters(self) -> dict[str, Value]:
        """Every parameter of the contract with its value."""
        values = {name: one.default for name, one in self.contract.parameters.items()}
        return {**values, **dict(self.variant)}

    @cached_property
    def golden(self) -> Mapping[str, Any]:
        """The contract's document, filled in for this model and these parameters."""
        settings = self.model.settings.items()
        numbers = {name: value for name, value in settings if type(value) is int}
        for name, value in self.parameters.items():
            numbers |= self.contract.parameters[name].numbers(value)
        return fill_contract(self.contract.golden, numbers, self.model.checkpoint.bytes)

    @property
    def graphs(self) -> Sequence[Mapping[str, Any]]:
        """The graphs of the contract's document."""
        graphs: Sequence[Mapping[str, Any]] = self.golden["graphs"]
        return graphs

    @property
    def graph_files(self) -> tuple[str, ...]:
        """The files that hold the graphs, each with the one beside it if it has one."""
        return tuple(
            graph[kind] for graph in self.graphs for kind in ("file", "data") if kind in graph
        )

    @property
    def warning(self) -> str:
        """What everything says that random weights touch; empty for others."""
        if not isinstance(self.weights, RandomWeights):
            return ""
        return f"random weights: this {self.contract.yields} means nothing"


def parse_weights(text: str) -> OfficialWeights | RandomWeights | None:
    """What `--weights` means where it names no file: `official` or `random[:SEED]`."""
    if text == "official":
        return OfficialWeights()
    if text == "random":
        return RandomWeights()
    if text.startswith("random:"):
        return RandomWeights(seed=_seed(text.removeprefix("random:")))
    return None


def _seed(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > MAX_SEED:
        raise UsageError(
            f"{text!r} is no seed for random weights.",
            f"A seed is a whole number from 0 to {MAX_SEED}.",
            "For example: --weights random:0",
        )
    return int(text)


def select_targets(
    catalog: Catalog,
    texts: Iterable[str],
    weights: Weights,
    overrides: Mapping[str, Value] | None = None,
) -> list[Target]:
    """The targets that a command line names, each once, in the catalog's order.

    Args:
        catalog: What can be built.
        texts: Targets and globs.
        weights: What `--weights` says; a target's own `+randomN` goes before it.
        overrides: Parameters given as flags, several values with commas between them; a target's
            own variant goes before them.

    Raises:
        UsageError: a pattern is malformed or matches nothing (near matches are named).
    """
    flags = _Flags(overrides or {})
    chosen: dict[str, Target] = {}
    for text in texts:
        for target in _select(catalog, text.strip(), weights, flags):
            chosen.setdefault(target.name, target)
    flags.require_use(list(chosen.values()))
    if not chosen:
        raise UsageError(
            "No target was named.", "The list is empty.", "invoke targets shows every target."
        )
    return list(chosen.values())


def _select(catalog: Catalog, text: str, weights: Weights, flags: "_Flags") -> list[Target]:
    parts = text.split("/")
    if len(parts) != 3 or not all(parts):
        raise UsageError(
            f"{text!r} is no target.",
            "A target has three parts: MODEL/CONTRACT/FORMAT.",
            _suggest(catalog, text) or "For example: sam2.1_hiera_tiny/image/onnx-fp32",
        )
    model_text, _, weights_text = parts[0].partition("+")
    contract_text, _, variant_text = parts[1].partition("@")
    format_text, _, format_variant = parts[2].partition("@")
    if format_variant:
        raise UsageError(
            f"{text!r}: the format has no variant {format_variant!r}.",
            f"{format_text} takes no parameters.",
            f"Write {parts[0]}/{parts[1]}/{format_text}.",
        )
    chosen_weights = _weights_of(weights_text, weights, text)
    models = _match(catalog.models, model_text, "model", text, catalog)
    names = {one.name: one.name for one in catalog.contracts.values()}
    contracts = _match(names, contract_text, "contract", text, catalog)
    formats = _match(catalog.formats, format_text, "format", text, catalog)
    found = [
        Target(
            model=model,
            weights=chosen_weights,
            contract=contract,
            variant=variant,
            format=catalog.formats[name],
        )
        for model in models
        for contract in catalog.contracts_of(model)
        if contract.name in contracts
        for variant in _variants(contract, variant_text, flags, text)
        for name in contract.formats
        if fnmatchcase(name, format_text)
    ]
    if not found:
        flags.require_use([])
        raise UsageError(
            f"{text!r} matches no target.",
            _why_none(catalog, models, contracts, formats),
            _suggest(catalog, text) or "invoke targets shows every target.",
        )
    return found


def _why_none(
    catalog: Catalog, models: list[Model], contracts: list[str], formats: list[Format]
) -> str:
    offered = [one for model in models for one in catalog.contracts_of(model)]
    if any(one.name in contracts for one in offered):
        kinds = dict.fromkeys(n for one in offered if one.name in contracts for n in one.formats)
        asked = ", ".join(one.name for one in formats)
        return f"{', '.join(contracts)} comes as {', '.join(kinds)}, not as {asked}."
    asked = ", ".join(model.name for model in models)
    others = dict.fromkeys(name for one in contracts for name in catalog.models_with(one))
    return (
        f"{', '.join(contracts)} is no contract of {asked}; "
        f"it is offered by {', '.join(others) or 'no model'}."
    )


def _weights_of(text: str, default: Weights, target: str) -> Weights:
    if not text:
        return default
    if text.startswith("random"):
        return RandomWeights(seed=_seed(text.removeprefix("random")))
    if isinstance(default, FileWeights) and default.sha256[:12] == text:
        return default
    raise UsageError(
        f"{target!r} asks for weights {text!r}, which were not given.",
        "Weights of your own are found by their file.",
        "Name the file: --weights PATH",
    )


def _match(known: Mapping[str, T], pattern: str, kind: str, text: str, catalog: Catalog) -> list[T]:
    found = [value for name, value in known.items() if fnmatchcase(name, pattern)]
    if found:
        return found
    from difflib import get_close_matches

    near = get_close_matches(pattern, known, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(known)}."
    raise UsageError(
        f"There is no {kind} {pattern!r} (in {text!r}).",
        hint,
        _suggest(catalog, text) or "invoke targets shows every target.",
    )


class _Flags:
    """What flags say of parameters: a value, or several with commas between them.

    A contract takes those values that it allows; one that none takes is an error.
    """

    def __init__(self, given: Mapping[str, Value]) -> None:
        self._texts = {
            name: [one.strip() for one in str(value).split(",")] for name, value in given.items()
        }
        self._refused: dict[tuple[str, str], UsageError] = {}
        self._taken: set[tuple[str, str]] = set()

    def values(self, contract: Contract, but: Container[str]) -> dict[str, list[Value]]:
        """The values for a contract's parameters; `but` are those that a target itself gives."""
        values: dict[str, list[Value]] = {}
        for name, texts in self._texts.items():
            if name not in contract.parameters or name in but:
                continue
            values[name] = []
            for text in texts:
                try:
                    values[name].append(contract.parameters[name].parse(text))
                    self._taken.add((name, text))
                except UsageError as error:
                    self._refused.setdefault((name, text), error)
        return values

    def require_use(self, targets: Sequence[Target]) -> None:
        """Raises UsageError for a value that no contract takes, and a flag that no target knows."""
        for refused, error in self._refused.items():
            if refused not in self._taken or not targets:
                raise error
        for name in self._texts if targets else ():
            if not any(name in one.contract.parameters for one in targets):
                raise UsageError(
                    f"None of these targets has a parameter {name!r}.",
                    f"{targets[0].name} has {', '.join(targets[0].contract.parameters) or 'none'}.",
                    f"Leave --{name.replace('_', '-')} out.",
                )


def _variants(contract: Contract, text: str, flags: _Flags, target: str) -> Iterator[Variant]:
    """What a target's own variant and the flags ask for."""
    own: dict[str, Value] = {}
    for token in filter(None, text.split(".")):
        name, value = _read_token(contract, token, target)
        if own.setdefault(name, value) != value:
            raise UsageError(
                f"{target!r} gives {name} two values.",
                "A target has one value of each parameter.",
                f"Write two targets, or --{name.replace('_', '-')} with commas.",
            )
    given = flags.values(contract, but=own)
    for values in product(*given.values()):
        asked = {**own, **dict(zip(given, values, strict=True))}
        yield tuple(sorted((n, v) for n, v in asked.items() if v != contract.parameters[n].default))


def _read_token(contract: Contract, token: str, target: str) -> tuple[str, Value]:
    for name, parameter in contract.parameters.items():
        if (value := parameter.read_token(token)) is not None:
            return name, value
    allowed = ", ".join(parameter.forms for parameter in contract.parameters.values())
    raise UsageError(
        f"{target!r}: contract {contract.name} has no variant {token!r}.",
        f"It has {allowed}.",
        f"Leave @{token} out for the default.",
    )


def all_target_names(catalog: Catalog) -> list[str]:
    """Every target with default parameters and official weights."""
    return [
        f"{model.name}/{contract.name}/{name}"
        for model in catalog.models.values()
        for contract in catalog.contracts_of(model)
        for name in contract.formats
    ]


def _suggest(catalog: Catalog, text: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(text, all_target_names(catalog), n=2, cutoff=0.55)
    return f"For example: {' or '.join(near)}" if near else ""
