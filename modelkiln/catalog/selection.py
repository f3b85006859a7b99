"""Targets selected by names and globs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TypeVar

from modelkiln.catalog.catalog import Catalog
from modelkiln.catalog.formats import Format
from modelkiln.catalog.models import Model
from modelkiln.catalog.parameters import (
    Parameter,
    PicturesParameter,
    SidesParameter,
    Value,
)
from modelkiln.catalog.pictures import (
    ChoosePictures,
    choose_anew,
    choose_own,
    require_no_count,
    require_sides,
)
from modelkiln.catalog.profile_parameter import (
    ProfileParameter,
    read_overrides,
    write_overrides,
)
from modelkiln.catalog.profiles import collect_axes, keep_effective, keep_known, require_axes
from modelkiln.catalog.target import Target
from modelkiln.catalog.variants import Flags, read_variants
from modelkiln.catalog.weights import FileWeights, RandomWeights, Weights, read_seed
from modelkiln.errors import UsageError

T = TypeVar("T")
GLOB = frozenset("*?[")


def select_targets(
    catalog: Catalog,
    texts: Iterable[str],
    weights: Weights,
    overrides: Mapping[str, Value] | None = None,
    choose: ChoosePictures = choose_anew,
) -> list[Target]:
    """Return the targets that a command line names, each once, in the catalog's order.

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
    matched = [
        (one, text.strip())
        for text in texts
        for one in _select(catalog, text.strip(), weights, flags)
    ]
    _require_sizes(matched)
    chosen: dict[str, Target] = {}
    for one, text in matched:
        target = _settle(one, text, choose)
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
            f"{text!r} is not a target.",
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
    """Return the target with its calibration pictures, and without what only had to be checked or
    changes nothing."""
    values = target.format_parameters
    kept: list[tuple[str, Value]] = []
    for name, value in target.format_variant:
        if isinstance(target.format.parameters[name], SidesParameter):
            graphs = [one for one in target.graphs if one["name"] in target.quantized]
            sized = "size" in target.contract.parameters
            plain = f"{target.model_name}/{target.contract_name}"
            require_sides(str(value), graphs, plain, sized)
        elif isinstance(target.format.parameters[name], ProfileParameter):
            if sizes := _settle_sizes(target, name, value, text):
                kept.append((name, sizes))
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


def _require_sizes(matched: Sequence[tuple[Target, str]]) -> None:
    """Raise UsageError where flags give sizes to an axis that none of the targets has."""
    takers = [
        one
        for one, text in matched
        for parameter in one.format.parameters.values()
        if isinstance(parameter, ProfileParameter) and not _spells(parameter, text)
    ]
    asked = {
        key
        for one in takers
        for name, value in one.format_variant
        if isinstance(one.format.parameters[name], ProfileParameter)
        for key in read_overrides(value)
    }
    if asked:
        others = len(takers) - 1
        more = f" and {others} other target{'s' if others > 1 else ''}" if others else ""
        axes = collect_axes(graph for one in takers for graph in one.graphs)
        require_axes(axes, asked, f"the graphs of {_name_plainly(takers[0])}{more}")


def _spells(parameter: Parameter, text: str) -> bool:
    """Return whether a target's own text gives a parameter of its format a value."""
    tokens = text.split("/")[2].partition("@")[2].split(".")
    return any(parameter.read_token(one) is not None for one in tokens)


def _name_plainly(target: Target) -> str:
    return f"{target.model_name}/{target.contract_name}/{target.format.name}"


def _settle_sizes(target: Target, name: str, value: Value, text: str) -> Value:
    """Return what a profile parameter says, checked, without what the contract says too, and of a
    flag without what the target does not have."""
    parameter, sizes = target.format.parameters[name], read_overrides(value)
    if not _spells(parameter, text):
        sizes = keep_known(target.graphs, sizes)
    try:
        effective = keep_effective(target.graphs, target.contract.profile, sizes)
    except UsageError as error:
        what = f"{_name_plainly(target)}: {error.what}"
        raise UsageError(what, error.why, error.next) from error
    # Where the default itself has sizes, to say less would be to mean those.
    return write_overrides(sizes if parameter.default else effective)


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
        f"{', '.join(contracts)} is not a contract of {asked}; "
        f"it is offered by {', '.join(others) or 'no model'}."
    )


def _weights_of(text: str, default: Weights, target: str) -> Weights:
    if not text:
        return default
    if text.startswith("random"):
        return RandomWeights(seed=read_seed(text.removeprefix("random")))
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
    """Yield every target with default parameters and official weights."""
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
