"""Contracts: named, versioned graph signatures, one file each or several under one name.

A file may extend another (`extends = "STEM"`, a file of contracts/ without its suffix): what it
says replaces what that says; `options`, `parameters`, `tolerances` and `inert` are merged, entry by
entry. It may be for some models alone (`models = ["sam2.1_*"]`), so that files of one `name` share
it out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from modelkiln.errors import UsageError
from modelkiln.parameter import Parameter, read_parameters
from modelkiln.tables import load_table, need

ROOM = "contracts"
MERGED = ("options", "parameters", "tolerances", "inert")


@dataclass(frozen=True, kw_only=True)
class Contract:
    """A named, versioned graph signature, with what is needed to build and to check it.

    Attributes:
        models: The names of the models that offer it in this form.
        yields: What its graphs compute, in words: random weights make that meaningless.
        graphs: As the file has them; `Target.graphs` are those of one target.
        golden: The whole document, merged, without `extends` and `models`.
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
    yields: str
    golden: Mapping[str, Any]


def read_contracts(
    folders: Sequence[Path], model_families: Mapping[str, str]
) -> dict[str, Contract]:
    """The contracts of catalog folders, by the names of their files without suffix.

    A file of a later folder goes before one with its name, and before another file's contract of
    the same name, for the models that both are for.

    Args:
        folders: The catalog's folders.
        model_families: The family of each model.

    Raises:
        UsageError: A file is wrong; two of one folder have one name and a model in common.
    """
    files = {
        path.stem: path for folder in folders for path in sorted((folder / ROOM).glob("*.toml"))
    }
    read = {
        stem: _read_contract(path, _read_merged(stem, files), folders, model_families)
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


def _read_merged(
    stem: str, files: Mapping[str, Path], trail: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A file's document with what it extends."""
    path = files[stem]
    if stem in trail:
        raise UsageError(
            f"{files[trail[-1]]} extends {path}, and so itself.",
            f"The files go round: {' -> '.join([*trail[trail.index(stem) :], stem])}.",
            "Take `extends` out of one of them.",
        )
    data = load_table(path)
    if "extends" not in data:
        return data
    base = need(data, "extends", str, path)
    if base not in files:
        raise UsageError(
            f"{path} extends {path.with_name(base + '.toml')}, which is not there.",
            f"`extends` is a file of {ROOM}/ without its suffix: {', '.join(sorted(files))}.",
            "Correct it, or restore the file with git.",
        )
    merged = _read_merged(base, files, (*trail, stem))
    for name, value in data.items():
        if name in MERGED:
            merged[name] = {**merged.get(name, {}), **need(data, name, dict, path)}
        elif name != "extends":
            merged[name] = value
    merged.pop("extends", None)
    return merged


def _read_contract(
    path: Path, data: dict[str, Any], folders: Sequence[Path], model_families: Mapping[str, str]
) -> Contract:
    example = data.get("example")
    families = tuple(need(data, "families", list, path))
    known = [model for model, family in model_families.items() if family in families]
    return Contract(
        name=need(data, "name", str, path),
        version=need(data, "version", int, path),
        summary=need(data, "summary", str, path),
        families=families,
        models=_choose_models(path, data, known),
        provider=need(data, "provider", str, path),
        formats=tuple(need(data, "formats", list, path)),
        pictures=tuple(_find(folders, "pictures", name) for name in data.get("pictures", [])),
        example=_find(folders, "examples", example) if example else None,
        parameters=read_parameters(data.get("parameters", {}), path),
        options=data.get("options", {}),
        graphs=tuple(need(data, "graphs", list, path)),
        yields=str(data.get("yields", "mask")),
        golden={name: value for name, value in data.items() if name != "models"},
    )


def _choose_models(path: Path, data: Mapping[str, Any], known: Sequence[str]) -> tuple[str, ...]:
    if "models" not in data:
        return tuple(known)
    patterns = [str(one) for one in need(data, "models", list, path)]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise UsageError(
                f"{path}: `models` has {pattern!r}, which is no model.",
                f"The models of its families are {', '.join(known) or 'none'}.",
                "Correct the file.",
            )
    return tuple(name for name in known if any(fnmatchcase(name, pattern) for pattern in patterns))


def _find(folders: Sequence[Path], room: str, name: str) -> Path:
    for folder in reversed(folders):
        if (path := folder / room / name).is_file():
            return path
    raise UsageError(
        f"The catalog has no {room}/{name}.", "A contract names it.", "Restore the file with git."
    )
