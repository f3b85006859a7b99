"""The catalog: what can be built, as data.

A catalog is a folder with `models/*.toml` (one file a family), `contracts/*.toml`,
`formats/*.toml`, `presets/*.toml`, `stages.toml`, `pictures/`, `calibration/` and `examples/`.
Several folders are read in order; later ones add entries or go before those of the same name, so
that a family is added by files alone. A further folder may also hold `exporters/` and
`docker/NAME/`, the family's stages and environment.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelkiln.catalog.contracts import Contract, read_contracts
from modelkiln.catalog.formats import Format, Presets, fit_format, read_formats, read_presets
from modelkiln.catalog.models import Checkpoint, Model, Upstream
from modelkiln.catalog.parameters import Value
from modelkiln.catalog.tables import load_table, need
from modelkiln.errors import UsageError

# What of a machine may enter a key: its processor's instructions, its GPU and driver.
MACHINE_FACTS = frozenset({"cpu", "gpu"})


@dataclass(frozen=True, kw_only=True)
class StageLimits:
    """What is set aside for a stage: CPU slots, bytes of memory and of disk, seconds.

    Attributes:
        key: What of the machine its bytes depend on, in `MACHINE_FACTS`; one that names `gpu` needs
            one.
    """

    cpus: int
    memory_base: int
    memory_weights: float
    disk_base: int
    disk_weights: float
    timeout_s: int
    key: tuple[str, ...] = ()

    def memory(self, checkpoint_bytes: int) -> int:
        """Return the bytes to set aside for a model whose checkpoint has this size."""
        return int(self.memory_base + self.memory_weights * checkpoint_bytes)

    def disk(self, checkpoint_bytes: int) -> int:
        """Return the bytes that scratch and outputs take for a model whose checkpoint has this
        size.
        """
        return int(self.disk_base + self.disk_weights * checkpoint_bytes)


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """All that can be built.

    Attributes:
        contracts: By file; several may have one name, for different models.
        formats: As their files have them; `format_for` has a model's.
        presets: Other defaults of the formats' parameters, by model and format.
    """

    models: Mapping[str, Model]
    contracts: Mapping[str, Contract]
    formats: Mapping[str, Format]
    stages: Mapping[str, StageLimits]
    threads: int
    seed: int
    folders: tuple[Path, ...] = field(default=())
    presets: Presets = field(default_factory=dict)

    def contracts_of(self, model: Model) -> list[Contract]:
        """Return the contracts that a model offers."""
        return [one for one in self.contracts.values() if model.name in one.models]

    def contract(self, name: str, model: Model) -> Contract | None:
        """Return the contract of this name in the form that a model offers, if it does."""
        return next((one for one in self.contracts_of(model) if one.name == name), None)

    def format_for(self, name: str, model: Model, contract: Contract) -> Format:
        """Return a format with its defaults for a model and a contract."""
        return fit_format(self.formats[name], self._preset_of(name, model), contract)

    def _preset_of(self, name: str, model: Model) -> dict[str, Value]:
        """Return other defaults of a format's parameters, those of what it is made from as well."""
        form = self.formats[name]
        below = self._preset_of(form.source, model) if form.source else {}
        return {**below, **self.presets.get((model.name, name), {})}

    @property
    def calibration(self) -> Path:
        """The folder of the calibration pictures that the catalog has: the last of its folders'."""
        rooms = [folder / "calibration" for folder in self.folders]
        return next((one for one in reversed(rooms) if one.is_dir()), rooms[0])

    def models_with(self, name: str) -> list[str]:
        """Return the names of the models that offer a contract, in the catalog's order."""
        return [model.name for model in self.models.values() if self.contract(name, model)]


def load_catalog(folders: Iterable[Path]) -> Catalog:
    """Read catalog folders; UsageError names the file and the entry that is wrong."""
    kept = tuple(folders)
    models: dict[str, Model] = {}
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
        if (path := folder / "stages.toml").is_file():
            for name, table in load_table(path).items():
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
                        key=_read_key(path, name, table.get("key", [])),
                    )
    contracts = read_contracts(kept, {name: one.family for name, one in models.items()})
    formats = read_formats(kept)
    _check_formats(contracts, formats)
    return Catalog(
        models=models,
        contracts=contracts,
        formats=formats,
        presets=read_presets(kept, formats, list(models)),
        stages=stages,
        threads=constants["threads"],
        seed=constants["seed"],
        folders=kept,
    )


def _read_key(path: Path, stage: str, names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not MACHINE_FACTS.issuperset(map(str, names)):
        raise UsageError(
            f"{path}: `key` of {stage} is {names!r}.",
            "It lists what of the machine the stage's bytes depend on: "
            f"{', '.join(sorted(MACHINE_FACTS))}.",
            "Correct the file.",
        )
    return tuple(map(str, names))


def _check_formats(contracts: Mapping[str, Contract], formats: Mapping[str, Format]) -> None:
    for stem, contract in contracts.items():
        for name in contract.formats:
            if name not in formats:
                why = f"The formats are {', '.join(formats) or 'none'}."
            elif formats[name].source not in ("", *contract.formats):
                why = (
                    f"It is made from {formats[name].source}, which the contract does not come as."
                )
            elif formats[name].chooses_graphs and not contract.quantization.graphs:
                why = "Its `quantization` does not say which graphs get lower precision."
            else:
                continue
            raise UsageError(
                f"The contract {stem} cannot come as {name!r}.", why, "Correct its file."
            )


def _read_models(path: Path, folder: Path) -> dict[str, Model]:
    data = load_table(path)
    upstream = need(data, "upstream", dict, path)
    patches = upstream.get("patches")
    pinned = Upstream(
        package=need(upstream, "package", str, path),
        version=need(upstream, "version", str, path),
        digest=need(upstream, "digest", str, path),
        patches=folder.parent / patches if patches else None,
    )
    found: dict[str, Model] = {}
    for name, table in need(data, "models", dict, path).items():
        license_name = table.get("license", data["license"])
        checkpoint = need(table, "checkpoint", dict, path)
        found[name] = Model(
            name=name,
            family=need(data, "family", str, path),
            package=need(data, "package", str, path),
            environment=need(data, "environment", str, path),
            license=license_name,
            upstream=pinned,
            checkpoint=Checkpoint(
                file=need(checkpoint, "file", str, path),
                url=need(checkpoint, "url", str, path),
                bytes=need(checkpoint, "bytes", int, path),
                sha256=need(checkpoint, "sha256", str, path),
                license=license_name,
            ),
            settings={
                **data.get("settings", {}),
                **{n: v for n, v in table.items() if n not in ("checkpoint", "license")},
            },
        )
    return found
