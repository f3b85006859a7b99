"""Which target another one is made from."""

from dataclasses import replace

from modelkiln.catalog.catalog import Catalog
from modelkiln.catalog.target import Target
from modelkiln.catalog.variants import Flags, read_variants
from modelkiln.errors import UsageError

# What every target begins with.
FIRST = "ingest"


def find_source(catalog: Catalog, target: Target) -> Target | None:
    """Return the target whose files a target's own are made from; None where there is none.

    Raises:
        UsageError: Its format names another one for this contract that does not exist there.
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
    name, _, variant = form.made_from.partition("@")
    if name not in target.contract.formats:
        raise UsageError(
            f"{target.name} cannot be made.",
            f"It is made from {name}, which the contract {target.contract.name} does not come as.",
            "Correct the `formats` of the contract.",
        )
    source = catalog.format_for(name, target.model, target.contract)
    (given,) = read_variants(
        source.parameters, variant, Flags({}), f"format {name}", form.made_from
    )
    return replace(target, format=source, format_variant=given, pictures=None)


def stages_of(catalog: Catalog, target: Target) -> tuple[str, ...]:
    """Return the stages that make a target's files, in order, without those that check them."""
    source = find_source(catalog, target) if target.format.made_from else None
    before = stages_of(catalog, source) if source else (FIRST,)
    return (*before, *target.format.stages)
