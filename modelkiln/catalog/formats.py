"""Formats: what graphs are written as, one file each, and what presets say of their parameters.

A file of formats/ may extend another (`extends = "STEM"`): what it says replaces what that says;
`options`, `parameters`, `session` and `gates` are merged, entry by entry. A file of presets/ has
`models`, globs, and a table for each format: other defaults of its parameters for these models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelkiln.catalog.contracts import Contract, Quantization
from modelkiln.catalog.parameter_tables import read_parameters
from modelkiln.catalog.parameters import ListParameter, Parameter, Value
from modelkiln.catalog.tables import choose_models, find_files, load_merged, load_table, need
from modelkiln.errors import UsageError

ROOM = "formats"
MERGED = ("options", "parameters", "contract_parameters", "session", "gates")
PRESETS = "presets"

Presets = Mapping[tuple[str, str], Mapping[str, Value]]
# What judges a format unless its file says otherwise; one that replaces another is assessed too.
CHECKS = ("reference", "verify")


@dataclass(frozen=True, kw_only=True)
class Format:
    """What graphs are written as.

    Attributes:
        stages: What makes its files, in order; the last one's are published.
        checks: What judges them, in order; nothing is published that the last one refuses.
        environment: Where the stages run that come after those of the format that it replaces;
            empty for the model's.
        replaces: The format of higher precision that its graphs are made from and judged by; empty
            for none.
        made_from: The format, with its variant as in a target, whose verified files its stages
            take; empty for none. Those stages and checks go before its own, and those parameters
            are its own too, but for the ones that the variant fixes.
        fixed: What that variant says, by parameter.
        contract_parameters: Parameters of contracts that those files are made with, where a
            contract has them and a target does not say otherwise.
        files: What its files are called, with `{name}` for the graph's; empty for the contract's
            own names.
        unavailable: Why nothing can be built of it, and what to do instead; empty where it can.
        weights: The share of a checkpoint's bytes that its graphs take.
        opset: The least that its graphs have.
        options: What its stages are told.
        session: Configuration entries that every session of onnxruntime needs to run it.
        gates: Bounds of what it may lose.
        tensorrt: With which values of its parameters TensorRT's parser takes its graphs, each a
            case of its own; empty where it takes none, one case without values where it takes all.
    """

    name: str
    summary: str
    stages: tuple[str, ...]
    runtimes: tuple[str, ...]
    checks: tuple[str, ...] = CHECKS
    environment: str = ""
    replaces: str = ""
    made_from: str = ""
    fixed: Mapping[str, Value] = field(default_factory=dict)
    contract_parameters: Mapping[str, Value] = field(default_factory=dict)
    files: str = ""
    unavailable: tuple[str, ...] = ()
    weights: float = 1.0
    opset: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    session: Mapping[str, str] = field(default_factory=dict)
    gates: Mapping[str, Any] = field(default_factory=dict)
    tensorrt: tuple[Mapping[str, Value], ...] = ()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def source(self) -> str:
        """The name of the format that it is made from; empty for none."""
        return self.made_from.partition("@")[0]

    @property
    def chooses_graphs(self) -> bool:
        """Whether a contract's `quantization` says which graphs get lower precision, not all."""
        return bool(self.replaces) and not self.options.get("every_graph")


def read_formats(folders: Sequence[Path]) -> dict[str, Format]:
    """Return the formats of catalog folders, by name; a file of a later folder goes before another.

    Raises:
        UsageError: A file is wrong.
    """
    files = find_files(folders, ROOM)
    formats = {
        stem: _read_format(path, load_merged(stem, files, MERGED)) for stem, path in files.items()
    }
    for one in formats.values():
        base = formats.get(one.replaces)
        _check_source(files[one.name], one, formats)
        if one.replaces and (base is None or base.stages != one.stages[: len(base.stages)]):
            raise UsageError(
                f"{files[one.name]}: `replaces` names {one.replaces!r}.",
                "That is the format whose stages its own begin with.",
                "Correct the file.",
            )
    return {name: _inherit(files[name], one, formats) for name, one in formats.items()}


def _inherit(path: Path, one: Format, formats: Mapping[str, Format]) -> Format:
    """Return a format with the parameters of the one that it is made from."""
    if not one.made_from:
        return one
    source = _inherit(path, formats[one.source], formats)
    fixed: dict[str, Value] = {}
    for token in filter(None, one.made_from.partition("@")[2].split(".")):
        read = {n: p.read_token(token) for n, p in source.parameters.items()}
        said = {name: value for name, value in read.items() if value is not None}
        if not said:
            raise UsageError(
                f"{path}: `made_from` of {one.name} names {one.made_from!r}.",
                f"The format {source.name} has no variant {token!r}.",
                "Correct the file.",
            )
        fixed |= said
    parameters = {name: p for name, p in source.parameters.items() if name not in fixed}
    # Which graphs get lower precision is the source's to say.
    every = {"every_graph": True} if source.options.get("every_graph") else {}
    return replace(
        one,
        fixed=fixed,
        options={**every, **one.options},
        parameters={**parameters, **one.parameters},
    )


def _check_source(path: Path, one: Format, formats: Mapping[str, Format]) -> None:
    """Follow `made_from` to its end."""
    trail = [one.name]
    while one.made_from:
        source = one.source
        if source not in formats or one.replaces:
            why = "That is a format of the catalog, and stands in the place of `replaces`."
        elif source in trail:
            why = f"So it is made from itself: {' -> '.join([*trail, source])}."
        else:
            one = formats[source]
            trail.append(source)
            continue
        raise UsageError(
            f"{path}: `made_from` of {one.name} names {one.made_from!r}.", why, "Correct the file."
        )


def _read_format(path: Path, data: Mapping[str, Any]) -> Format:
    share = data.get("weights", 1.0)
    session = data.get("session", {})
    if type(share) not in (int, float) or share <= 0:
        raise _wrong(path, "`weights` must be a share of the checkpoint's bytes", share)
    if not isinstance(session, dict) or not all(isinstance(v, str) for v in session.values()):
        raise _wrong(path, "`session` must be a table of strings", session)
    opset = data.get("opset", 0)
    if type(opset) is not int:
        raise _wrong(path, "`opset` must be an integer", opset)
    parameters = read_parameters(data.get("parameters", {}), path, "format")
    return Format(
        name=path.stem,
        summary=need(data, "summary", str, path),
        stages=tuple(need(data, "stages", list, path)),
        runtimes=tuple(need(data, "runtimes", list, path)),
        checks=tuple(data.get("checks", (*CHECKS, "assess") if "replaces" in data else CHECKS)),
        environment=str(data.get("environment", "")),
        replaces=str(data.get("replaces", "")),
        made_from=str(data.get("made_from", "")),
        contract_parameters=need(data, "contract_parameters", dict, path)
        if "contract_parameters" in data
        else {},
        files=str(data.get("files", "")),
        unavailable=_read_unavailable(data, path),
        weights=float(share),
        opset=opset,
        options=data.get("options", {}),
        session=session,
        gates=data.get("gates", {}),
        tensorrt=_read_tensorrt(path, data.get("tensorrt", False), parameters),
        parameters=parameters,
    )


def _read_unavailable(data: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    if "unavailable" not in data:
        return ()
    table = need(data, "unavailable", dict, path)
    return need(table, "why", str, path), need(table, "next", str, path)


def _read_tensorrt(
    path: Path, given: Any, parameters: Mapping[str, Parameter]
) -> tuple[Mapping[str, Value], ...]:
    if isinstance(given, bool):
        return ({},) if given else ()
    if not isinstance(given, list) or not all(isinstance(one, dict) and one for one in given):
        raise _wrong(path, "`tensorrt` must be true, false or a list of parameters' values", given)
    cases = [_read_preset(path, path.stem, parameters, one) for one in given]
    return tuple(cases)


def _wrong(path: Path, what: str, found: object) -> UsageError:
    return UsageError(f"{path}: {what}.", f"It is {found!r}.", "Correct the file.")


def read_presets(
    folders: Sequence[Path], formats: Mapping[str, Format], models: Sequence[str]
) -> Presets:
    """Read other defaults, by model and format; files of later folders, or later by name, go
    before.

    Raises:
        UsageError: A file names a model, format or parameter that is not there, or a wrong value.
    """
    presets: dict[tuple[str, str], dict[str, Value]] = {}
    files = [path for folder in folders for path in sorted((folder / PRESETS).glob("*.toml"))]
    for path in files:
        data = load_table(path)
        need(data, "models", list, path)
        chosen = choose_models(path, data, models)
        for name in data.keys() - {"models"}:
            if name not in formats:
                raise UsageError(
                    f"{path}: there is no format {name!r}.",
                    f"The formats are {', '.join(formats)}.",
                    "Correct the file.",
                )
            table = need(data, name, dict, path)
            values = _read_preset(path, name, formats[name].parameters, table)
            for model in chosen:
                presets.setdefault((model, name), {}).update(values)
    return presets


def _read_preset(
    path: Path, owner: str, parameters: Mapping[str, Parameter], table: Mapping[str, Any]
) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, value in table.items():
        if name not in parameters:
            raise UsageError(
                f"{path}: {owner} has no parameter {name!r}.",
                f"It has {', '.join(parameters) or 'none'}.",
                "Correct the file.",
            )
        text = str(value).lower() if isinstance(value, bool) else str(value)
        try:
            values[name] = parameters[name].parse(text)
        except UsageError as error:
            raise UsageError(f"{path}: {error.what}", error.why, "Correct the file.") from error
    return values


def fit_format(one: Format, preset: Mapping[str, Value], contract: Contract) -> Format:
    """Return a format with the defaults that it has for a model and a contract."""
    if not one.parameters:
        return one
    fitted = {
        name: replace(parameter, default=preset.get(name, parameter.default))
        for name, parameter in one.parameters.items()
    }
    chosen = contract.quantization
    if one.options.get("every_graph"):
        chosen = Quantization(graphs=tuple(graph["name"] for graph in contract.graphs))
    for name, parameter in fitted.items():
        if isinstance(parameter, ListParameter) and parameter.of_contract:
            fitted[name] = _fit_graphs(parameter, chosen, contract)
    return replace(one, parameters=fitted)


def _fit_graphs(one: ListParameter, chosen: Quantization, contract: Contract) -> ListParameter:
    allowed = (*chosen.graphs, *chosen.on_request)
    others = [graph["name"] for graph in contract.graphs if graph["name"] not in allowed]
    reason = f"It keeps its precision in {contract.name}; {', '.join(allowed)} can be quantized."
    return replace(
        one,
        choices=allowed,
        default=",".join(chosen.graphs),
        refused=dict.fromkeys(others, reason),
    )
