"""The catalog: what can be built, as data.

A catalog is a folder with `models/*.toml` (one file a family), `contracts/*.toml`, `formats.toml`,
`stages.toml`, `pictures/` and `examples/`. Several folders are read in order; later ones add
entries or go before those of the same name, so that a family is added by files alone. A further
folder may also hold `exporters/` and `docker/NAME/`, the family's stages and environment.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelkiln.errors import UsageError

TYPE_NAMES = {int: "an integer", str: "a string", dict: "a table", list: "an array"}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A published checkpoint: accepted only with this size (bytes) and SHA-256 (hex)."""

    file: str
    url: str
    bytes: int
    sha256: str
    license: str


@dataclass(frozen=True, kw_only=True)
class Upstream:
    """The package that defines a family, and the patches that the export stage applies to a copy.

    Attributes:
        digest: SHA-256 over the package's sources, checked inside the stage before it is used.
        patches: Folder with `series` and the patches, or None.
    """

    package: str
    version: str
    digest: str
    patches: Path | None


@dataclass(frozen=True, kw_only=True)
class Model:
    """A checkpoint by its upstream name."""

    name: str
    family: str
    package: str
    environment: str
    license: str
    upstream: Upstream
    checkpoint: Checkpoint
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter that may stand in a target's variant.

    Attributes:
        token: How a value is written in a target, with one `{}` for the value.
        stages: The stages whose keys it enters.
    """

    name: str
    default: str | int
    choices: tuple[str | int, ...]
    token: str
    stages: tuple[str, ...]

    def spell(self, value: str | int) -> str:
        """The value as a target's variant spells it."""
        return self.token.format(value)

    def parse(self, text: str) -> str | int:
        """The value that a command line's text means; UsageError where it is none."""
        for choice in self.choices:
            if str(choice) == text:
                return choice
        allowed = ", ".join(map(str, self.choices))
        raise UsageError(
            f"{self.name} cannot be {text!r}.",
            f"The contract allows {allowed}.",
            f"Leave --{self.name} out for the default, {self.default}.",
        )


@dataclass(frozen=True, kw_only=True)
class Contract:
    """A named, versioned graph signature, with what is needed to build and to check it."""

    name: str
    version: int
    summary: str
    families: tuple[str, ...]
    provider: str
    formats: tuple[str, ...]
    pictures: tuple[Path, ...]
    example: Path | None
    parameters: Mapping[str, Parameter]
    options: Mapping[str, Any]
    graphs: tuple[Mapping[str, Any], ...]
    preprocessing: Mapping[str, Any]
    golden: Mapping[str, Any]

    @property
    def graph_files(self) -> tuple[str, ...]:
        """The names of the ONNX files, in the contract's order."""
        return tuple(graph["file"] for graph in self.graphs)


@dataclass(frozen=True, kw_only=True)
class Format:
    """What graphs are written as; `stages` make its files, the last one's are published."""

    name: str
    summary: str
    stages: tuple[str, ...]
    runtimes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class StageLimits:
    """What is set aside for a stage: CPU slots, bytes of memory and of disk, seconds; and whether
    it needs a GPU."""

    cpus: int
    memory_base: int
    memory_weights: float
    disk_base: int
    disk_weights: float
    timeout_s: int
    gpu: bool = False

    def memory(self, checkpoint_bytes: int) -> int:
        """Bytes to set aside for a model whose checkpoint has this size."""
        return int(self.memory_base + self.memory_weights * checkpoint_bytes)

    def disk(self, checkpoint_bytes: int) -> int:
        """Bytes that scratch and outputs take for a model whose checkpoint has this size."""
        return int(self.disk_base + self.disk_weights * checkpoint_bytes)


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """All that can be built."""

    models: Mapping[str, Model]
    contracts: Mapping[str, Contract]
    formats: Mapping[str, Format]
    stages: Mapping[str, StageLimits]
    threads: int
    seed: int
    folders: tuple[Path, ...] = field(default=())

    def contracts_of(self, model: Model) -> list[Contract]:
        """The contracts that a model's family offers."""
        return [one for one in self.contracts.values() if model.family in one.families]


def load_catalog(folders: Iterable[Path]) -> Catalog:
    """Read catalog folders; UsageError names the file and the entry that is wrong."""
    kept = tuple(folders)
    models: dict[str, Model] = {}
    contracts: dict[str, Contract] = {}
    formats: dict[str, Format] = {}
    stages: dict[str, StageLimits] = {}
    constants = {"threads": 2, "seed": 0}
    for folder in kept:
        if not folder.is_dir():
            raise UsageError(
                f"There is no catalog folder {folder}.",
                "MODELKILN_CATALOG names a folder that does not exist.",
                "Correct or unset MODELKILN_CATALOG.",
            )
        for path in sorted((folder / "models").glob("*.toml")):
            models.update(_read_models(path, folder))
        for path in sorted((folder / "contracts").glob("*.toml")):
            contract = _read_contract(path, kept)
            contracts[contract.name] = contract
        if (path := folder / "formats.toml").is_file():
            for name, table in _load(path).items():
                formats[name] = Format(
                    name=name,
                    summary=table["summary"],
                    stages=tuple(table["stages"]),
                    runtimes=tuple(table["runtimes"]),
                )
        if (path := folder / "stages.toml").is_file():
            for name, table in _load(path).items():
                if name in constants:
                    constants[name] = table
                else:
                    stages[name] = StageLimits(
                        cpus=table["cpus"],
                        memory_base=table["memory"]["base"],
                        memory_weights=table["memory"]["weights"],
                        disk_base=table["disk"]["base"],
                        disk_weights=table["disk"]["weights"],
                        timeout_s=table["timeout_s"],
                        gpu=bool(table.get("gpu", False)),
                    )
    return Catalog(
        models=models,
        contracts=contracts,
        formats=formats,
        stages=stages,
        threads=constants["threads"],
        seed=constants["seed"],
        folders=kept,
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read as TOML.", str(error), "Correct it, or restore it with git."
        ) from error


def _need(table: Mapping[str, Any], name: str, kind: type, path: Path) -> Any:
    value = table.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        found = "missing" if value is None else repr(value)
        raise UsageError(
            f"{path}: `{name}` must be {TYPE_NAMES[kind]}.", f"It is {found}.", "Correct the file."
        )
    return value


def _read_models(path: Path, folder: Path) -> dict[str, Model]:
    data = _load(path)
    upstream = _need(data, "upstream", dict, path)
    patches = upstream.get("patches")
    pinned = Upstream(
        package=_need(upstream, "package", str, path),
        version=_need(upstream, "version", str, path),
        digest=_need(upstream, "digest", str, path),
        patches=folder.parent / patches if patches else None,
    )
    found: dict[str, Model] = {}
    for name, table in _need(data, "models", dict, path).items():
        license_name = table.get("license", data["license"])
        checkpoint = _need(table, "checkpoint", dict, path)
        found[name] = Model(
            name=name,
            family=_need(data, "family", str, path),
            package=_need(data, "package", str, path),
            environment=_need(data, "environment", str, path),
            license=license_name,
            upstream=pinned,
            checkpoint=Checkpoint(
                file=_need(checkpoint, "file", str, path),
                url=_need(checkpoint, "url", str, path),
                bytes=_need(checkpoint, "bytes", int, path),
                sha256=_need(checkpoint, "sha256", str, path),
                license=license_name,
            ),
            settings={
                **data.get("settings", {}),
                **{n: v for n, v in table.items() if n not in ("checkpoint", "license")},
            },
        )
    return found


def _read_contract(path: Path, folders: Sequence[Path]) -> Contract:
    data = _load(path)
    parameters = {
        name: Parameter(
            name=name,
            default=table["default"],
            choices=tuple(table["choices"]),
            token=table["token"],
            stages=tuple(table["stages"]),
        )
        for name, table in data.get("parameters", {}).items()
    }
    example = data.get("example")
    return Contract(
        name=_need(data, "name", str, path),
        version=_need(data, "version", int, path),
        summary=_need(data, "summary", str, path),
        families=tuple(_need(data, "families", list, path)),
        provider=_need(data, "provider", str, path),
        formats=tuple(_need(data, "formats", list, path)),
        pictures=tuple(_find(folders, "pictures", name) for name in data.get("pictures", [])),
        example=_find(folders, "examples", example) if example else None,
        parameters=parameters,
        options=data.get("options", {}),
        graphs=tuple(_need(data, "graphs", list, path)),
        preprocessing=data.get("preprocessing", {}),
        golden=data,
    )


def _find(folders: Sequence[Path], room: str, name: str) -> Path:
    for folder in reversed(folders):
        if (path := folder / room / name).is_file():
            return path
    raise UsageError(
        f"The catalog has no {room}/{name}.", "A contract names it.", "Restore the file with git."
    )
