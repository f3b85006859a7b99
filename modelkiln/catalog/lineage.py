"""Which target another one is made from."""

from collections.abc import Mapping
from dataclasses import replace

from modelkiln.catalog.catalog import Catalog
from modelkiln.catalog.parameters import Value
from modelkiln.catalog.target import Target
from modelkiln.catalog.variants import Parameters, Variant

# What every target begins with.
FIRST = "ingest"


def find_source(catalog: Catalog, target: Target) -> Target | None:
    """Return the target whose files a target's own are made from; None where there is none.

    What the target's variant says of the source's parameters is the source's variant.
    """
    form = target.format
    if form.replaces:
        return replace(
            target,
            format=catalog.format_for(form.replaces, target.model, target.contract),
            format_variant=(),
            pictures=None,
        )
    if not form.made_from:
        return None
    source = catalog.format_for(form.source, target.model, target.contract)
    return replace(
        target,
        variant=_spell(
            target.contract.parameters, {**form.contract_parameters, **dict(target.variant)}
        ),
        format=source,
        format_variant=_spell(source.parameters, {**dict(target.format_variant), **form.fixed}),
    )


def _spell(parameters: Parameters, values: Mapping[str, Value]) -> Variant:
    """Return the values of what has such parameters, without those that are defaults."""
    known = (one for one in values.items() if one[0] in parameters)
    return tuple(
        sorted((name, value) for name, value in known if value != parameters[name].default)
    )


def stages_of(catalog: Catalog, target: Target) -> tuple[str, ...]:
    """Return the stages that make a target's files, in order, without those that check them."""
    source = find_source(catalog, target) if target.format.made_from else None
    before = stages_of(catalog, source) if source else (FIRST,)
    return (*before, *target.format.stages)
