"""Targets: `MODEL[+WEIGHTS]/CONTRACT[@VARIANT]/FORMAT[@VARIANT]`, and the globs that select many.

VARIANT names, sorted and joined with dots, every parameter of the contract or of the format that
differs from its default: `sam2.1_hiera_tiny+random0/image@opset20/onnx-fp32`. WEIGHTS is `randomN`,
or the first twelve hex digits of a file's SHA-256; official weights are not named.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, TypeVar

from modelkiln.catalog.catalog import Catalog, Model
from modelkiln.catalog.contracts import Contract
from modelkiln.catalog.dims import fill_contract
from modelkiln.catalog.formats import Format
from modelkiln.catalog.parameter_kinds import PicturesParameter, SidesParameter, entries
from modelkiln.catalog.parameters import Parameter, Value
from modelkiln.catalog.picture_options import (
    ChoosePictures,
    choose_anew,
    choose_own,
    require_no_count,
    require_sides,
)
from modelkiln.catalog.pictures import Pictures
from modelkiln.catalog.variants import Flags, Variant, read_variants
from modelkiln.errors import UsageError

T = TypeVar("T")
MAX_SEED = 2**32 - 1
GLOB = frozenset("*?[")


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
    """One thing to build.

    Attributes:
        format: With the defaults that it has for this model and contract.
        pictures: Calibration pictures of the user's own.
        by_name: Whether its name was given, and no glob that it matches.
    """

    model: Model
    weights: Weights
    contract: Contract
    variant: Variant
    format: Format
    format_variant: Variant = ()
    pictures: Pictures | None = None
    by_name: bool = field(default=True, compare=False)

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
    def format_name(self) -> str:
        """The format with its variant, as in a target."""
        tokens = sorted(
            self.spell_format(name, value)
            for name, value in self.format_variant
            if name in self.format.parameters
        )
        return self.format.name + ("@" + ".".join(tokens) if tokens else "")

    def spell_format(self, name: str, value: Value) -> str:
        """A value of one of the format's parameters, as its variant spells it."""
        parameter = self.format.parameters[name]
        if isinstance(parameter, PicturesParameter) and self.pictures is not None:
            return parameter.spell(self.pictures.digest[:12])
        return parameter.spell(value)

    @property
    def name(self) -> str:
        return f"{self.model_name}/{self.contract_name}/{self.format_name}"

    @property
    def parameters(self) -> dict[str, Value]:
        """Every parameter of the contract with its value."""
        values = {name: one.default for name, one in self.contract.parameters.items()}
        return {**values, **dict(self.variant)}

    @property
    def format_parameters(self) -> dict[str, Value]:
        """Every parameter of the format with its value."""
        values = {name: one.default for name, one in self.format.parameters.items()}
        return {**values, **dict(self.format_variant)}

    @property
    def all_parameters(self) -> Mapping[str, Parameter]:
        """Those of the contract, then those of the format."""
        return {**self.contract.parameters, **self.format.parameters}

    @cached_property
    def golden(self) -> Mapping[str, Any]:
        """The contract's document, filled in for this model and these parameters, with what the
        format's sessions need."""
        settings = self.model.settings.items()
        numbers = {name: value for name, value in settings if type(value) is int}
        for name, value in self.parameters.items():
            numbers |= self.contract.parameters[name].numbers(value)
        size = int(self.model.checkpoint.bytes * self.format.weights)
        filled = fill_contract(self.contract.golden, numbers, size)
        return {**filled, "session": dict(self.format.session)} if self.format.session else filled

    @property
    def graphs(self) -> Sequence[Mapping[str, Any]]:
        """The graphs of the contract's document."""
        graphs: Sequence[Mapping[str, Any]] = self.golden["graphs"]
        return graphs

    @property
    def quantized(self) -> list[str]:
        """The names of the graphs that the format gives lower precision."""
        chosen = self.format_parameters.get("graphs_to_quantize")
        return entries(chosen) if chosen else []

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
    choose: ChoosePictures = choose_anew,
) -> list[Target]:
    """The targets that a command line names, each once, in the catalog's order.

    Args:
        catalog: What can be built.
        texts: Targets and globs.
        weights: What `--weights` says; a target's own `+randomN` goes before it.
        overrides: Parameters given as flags, several values with commas between them; a target's
            own variant goes before them.
        choose: Chooses calibration pictures of a folder.

    Raises:
        UsageError: a pattern is malformed or matches nothing (near matches are named), or there are
            no such calibration pictures.
    """
    flags = Flags(overrides or {})
    chosen: dict[str, Target] = {}
    for text in texts:
        for one in _select(catalog, text.strip(), weights, flags):
            target = _settle(one, text.strip(), choose)
            known = chosen.setdefault(target.name, target)
            if target.by_name and not known.by_name:
                chosen[target.name] = target
    found = list(chosen.values())
    flags.require_use([list(one.all_parameters) for one in found], found[0].name if found else "")
    if not chosen:
        raise UsageError(
            "No target was named.", "The list is empty.", "invoke targets shows every target."
        )
    return list(chosen.values())


def _select(catalog: Catalog, text: str, weights: Weights, flags: Flags) -> list[Target]:
    parts = text.split("/")
    if len(parts) != 3 or not all(parts):
        raise UsageError(
            f"{text!r} is no target.",
            "A target has three parts: MODEL/CONTRACT/FORMAT.",
            _suggest(catalog, text) or "For example: sam2.1_hiera_tiny/image/onnx-fp32",
        )
    model_text, _, weights_text = parts[0].partition("+")
    contract_text, _, variant_text = parts[1].partition("@")
    format_text, _, format_variant_text = parts[2].partition("@")
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
            format=form,
            format_variant=format_variant,
            by_name=not GLOB.intersection(text),
        )
        for model in models
        for contract in catalog.contracts_of(model)
        if contract.name in contracts
        for variant in read_variants(
            contract.parameters, variant_text, flags, f"contract {contract.name}", text
        )
        for name in contract.formats
        if fnmatchcase(name, format_text)
        for form in [catalog.format_for(name, model, contract)]
        for format_variant in read_variants(
            form.parameters, format_variant_text, flags, f"format {name}", text
        )
    ]
    if not found:
        flags.require_use([])
        raise UsageError(
            f"{text!r} matches no target.",
            _why_none(catalog, models, contracts, formats),
            _suggest(catalog, text) or "invoke targets shows every target.",
        )
    return found


def _settle(target: Target, text: str, choose: ChoosePictures) -> Target:
    """The target with its calibration pictures, and without what only had to be checked."""
    values = target.format_parameters
    kept = []
    for name, value in target.format_variant:
        if isinstance(target.format.parameters[name], SidesParameter):
            graphs = [one for one in target.graphs if one["name"] in target.quantized]
            sized = "size" in target.contract.parameters
            plain = f"{target.model_name}/{target.contract_name}"
            require_sides(str(value), graphs, plain, sized)
        else:
            kept.append((name, value))
    require_no_count(values, dict(kept))
    target = replace(target, format_variant=tuple(kept), pictures=choose_own(values, choose))
    for token in filter(None, text.split("/")[2].partition("@")[2].split(".")):
        for parameter in target.format.parameters.values():
            if not isinstance(parameter, PicturesParameter):
                continue
            asked = parameter.read_token(token)
            found = target.pictures.digest[:12] if target.pictures else None
            if asked not in (None, found):
                raise UsageError(
                    f"{text!r} asks for pictures {asked}, which were not given.",
                    "Pictures of your own are found by their folder"
                    + (f"; those of this one are {found}." if found else "."),
                    "Name the folder: --calibration DIR",
                )
    return target


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
