"""Contracts: named, versioned graph signatures, one file each or several under one name.

A file may extend another (`extends = "STEM"`, a file of contracts/ without its suffix): what it
says replaces what that says; `options`, `parameters`, `variants`, `tolerances`, `inert` and
`profile` are merged, entry by entry (of `profile`, graph by graph). It may be for some models alone
(`models = ["sam2.1_*"]`), so that files of one `name` share it out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelkiln.catalog.contract_variants import Changes, changed_graphs, read_changes
from modelkiln.catalog.parameter_tables import read_parameters
from modelkiln.catalog.parameters import Parameter
from modelkiln.catalog.profiles import check_profile
from modelkiln.catalog.tables import choose_models, find_files, load_merged, need
from modelkiln.errors import UsageError

ROOM = "contracts"
MERGED = ("options", "parameters", "variants", "tolerances", "inert", "profile")
# What the orchestrator alone reads; kept from stages and keys, for no graph depends on it.
UNSEEN = frozenset(
    {
        "example",
        "families",
        "formats",
        "models",
        "parameters",
        "profile",
        "provider",
        "quantization",
        "summary",
        "uses",
        "variants",
    }
)


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """Which graphs of a contract formats of lower precision take: by default, and on request."""

    graphs: tuple[str, ...] = ()
    on_request: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Contract:
    """A named, versioned graph signature, with what is needed to build and to check it.

    Attributes:
        models: The names of the models that offer it in this form.
        uses: What its graphs can be used for, of the stages that run outside of plans: `predict`,
            `track`; the provider has a module for each.
        yields: What its graphs compute, in words: random weights make that meaningless.
        graphs: As the file has them; `Target.graphs` are those of one target.
        profile: The sizes of dynamic axes in engines, by graph and axis; empty where there are no
            engines of it. `Target.profiles` are those of one target.
        golden: The merged document, without what no graph depends on: see `UNSEEN`.
        changes: What values of its parameters change in that document.
    """

    name: str
    version: int
    summary: str
    families: tuple[str, ...]
    models: tuple[str, ...]
    provider: str
    formats: tuple[str, ...]
    pictures: tuple[Path, ...]
    example: Path | None
    parameters: Mapping[str, Parameter]
    options: Mapping[str, Any]
    graphs: tuple[Mapping[str, Any], ...]
    uses: tuple[str, ...]
    yields: str
    golden: Mapping[str, Any]
    changes: Changes = field(default_factory=dict)
    quantization: Quantization = field(default=Quantization())
    profile: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_contracts(
    folders: Sequence[Path], model_families: Mapping[str, str]
) -> dict[str, Contract]:
    """Return the contracts of catalog folders, by the names of their files without suffix.

    A file of a later folder goes before one with its name, and before another file's contract of
    the same name, for the models that both are for.

    Args:
        folders: The catalog's folders.
        model_families: The family of each model.

    Raises:
        UsageError: A file is wrong; two of one folder have one name and a model in common.
    """
    files = find_files(folders, ROOM)
    read = {
        stem: _read_contract(path, load_merged(stem, files, MERGED), folders, model_families)
        for stem, path in files.items()
    }
    claims: dict[tuple[str, str], dict[int, str]] = {}
    for stem, contract in read.items():
        place = folders.index(files[stem].parent.parent)
        for model in contract.models:
            other = claims.setdefault((contract.name, model), {}).setdefault(place, stem)
            if other != stem:
                raise UsageError(
                    f"{files[other]} and {files[stem]} both say what {contract.name} is "
                    f"for {model}.",
                    "Files that share a name must be for different models.",
                    "Give each its `models`, or one of them another `name`.",
                )
    owners = {claim: places[max(places)] for claim, places in claims.items()}
    return {
        stem: replace(
            one, models=tuple(model for model in one.models if owners[one.name, model] == stem)
        )
        for stem, one in read.items()
    }


def _read_contract(
    path: Path, data: dict[str, Any], folders: Sequence[Path], model_families: Mapping[str, str]
) -> Contract:
    example = data.get("example")
    families = tuple(need(data, "families", list, path))
    known = [model for model, family in model_families.items() if family in families]
    parameters = read_parameters(data.get("parameters", {}), path, "contract")
    graphs = need(data, "graphs", list, path)
    changes = read_changes(path, data, parameters)
    profile = data.get("profile", {})
    check_profile(path, [*graphs, *changed_graphs(changes)], profile)
    return Contract(
        name=need(data, "name", str, path),
        version=need(data, "version", int, path),
        summary=need(data, "summary", str, path),
        families=families,
        models=choose_models(path, data, known),
        provider=need(data, "provider", str, path),
        formats=tuple(need(data, "formats", list, path)),
        pictures=tuple(_find(folders, "pictures", name) for name in data.get("pictures", [])),
        example=_find(folders, "examples", example) if example else None,
        parameters=parameters,
        options=data.get("options", {}),
        graphs=tuple(graphs),
        changes=changes,
        profile=profile,
        quantization=_read_quantization(path, data),
        uses=tuple(need(data, "uses", list, path)) if "uses" in data else (),
        yields=str(data.get("yields", "mask")),
        golden={name: value for name, value in data.items() if name not in UNSEEN},
    )


def _read_quantization(path: Path, data: Mapping[str, Any]) -> Quantization:
    if "quantization" not in data:
        return Quantization()
    table = need(data, "quantization", dict, path)
    graphs, on_request = need(table, "graphs", list, path), table.get("on_request", [])
    known = [graph["name"] for graph in data["graphs"]]
    strange = [str(name) for name in (*graphs, *on_request) if name not in known]
    if strange or not graphs or len({*graphs, *on_request}) < len(graphs) + len(on_request):
        raise UsageError(
            f"{path}: `quantization` does not name graphs of the contract, each once.",
            f"Its graphs are {', '.join(known)}; named are "
            f"{', '.join(map(str, (*graphs, *on_request))) or 'none'}.",
            "Correct the file.",
        )
    return Quantization(graphs=tuple(graphs), on_request=tuple(on_request))


def _find(folders: Sequence[Path], room: str, name: str) -> Path:
    for folder in reversed(folders):
        if (path := folder / room / name).is_file():
            return path
    raise UsageError(
        f"The catalog has no {room}/{name}.", "A contract names it.", "Restore the file with git."
    )
