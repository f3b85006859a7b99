"""Targets: `MODEL[+WEIGHTS]/CONTRACT[@VARIANT]/FORMAT[@VARIANT]`, and the globs that select many.

VARIANT names, sorted and joined with dots, every parameter of the contract or of the format that
differs from its default: `sam2.1_hiera_tiny+random0/image@opset20/onnx-fp32`. WEIGHTS is `randomN`,
or the first twelve hex digits of a file's SHA-256; official weights are not named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from modelkiln.catalog.contract_variants import apply_changes
from modelkiln.catalog.contracts import Contract
from modelkiln.catalog.dims import fill_contract
from modelkiln.catalog.formats import Format
from modelkiln.catalog.models import Model
from modelkiln.catalog.parameters import Parameter, PicturesParameter, Value, entries
from modelkiln.catalog.pictures import Pictures
from modelkiln.catalog.profile_parameter import ProfileParameter, read_overrides
from modelkiln.catalog.profiles import Range, Shapes, resolve_profiles
from modelkiln.catalog.variants import Variant
from modelkiln.catalog.weights import RandomWeights, Weights


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
        """Return a value of one of the format's parameters, as its variant spells it."""
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
        golden = apply_changes(self.contract.golden, self.contract.changes, self.parameters)
        filled = fill_contract(golden, numbers, size)
        return {**filled, "session": dict(self.format.session)} if self.format.session else filled

    @property
    def options(self) -> dict[str, Any]:
        """The options of the contract's document."""
        return dict(self.golden.get("options", {}))

    @property
    def graphs(self) -> Sequence[Mapping[str, Any]]:
        """The graphs of the contract's document."""
        graphs: Sequence[Mapping[str, Any]] = self.golden["graphs"]
        return graphs

    @cached_property
    def profiles(self) -> Mapping[str, Shapes]:
        """The sizes that an engine takes, by graph and input: the contract's, or the format's own.

        Raises:
            UsageError: They do not fit the graphs, or the contract has none.
        """
        return resolve_profiles(self.graphs, self.contract.profile, self._sizes)

    @property
    def _sizes(self) -> dict[str, Range]:
        """What the format's parameters say of sizes, by axis."""
        return {
            key: sizes
            for name, value in self.format_parameters.items()
            if isinstance(self.format.parameters[name], ProfileParameter)
            for key, sizes in read_overrides(value).items()
        }

    @property
    def fits_tensorrt(self) -> bool:
        """Whether TensorRT's parser takes the graphs, with these values of the format's
        parameters."""
        values = self.format_parameters
        return any(
            all(values[name] == value for name, value in one.items())
            for one in self.format.tensorrt
        )

    @property
    def quantized(self) -> list[str]:
        """The names of the graphs that the format gives lower precision."""
        chosen = self.format_parameters.get("graphs_to_quantize")
        return entries(chosen) if chosen else []

    @property
    def graph_files(self) -> tuple[str, ...]:
        """The files that hold the graphs: one each, or two where weights lie beside an ONNX
        graph.
        """
        if self.format.files:
            return tuple(self.engine_files.values())
        return tuple(
            graph[kind] for graph in self.graphs for kind in ("file", "data") if kind in graph
        )

    @property
    def engine_files(self) -> dict[str, str]:
        """What the file of each graph is called, by the graph's name, where the format names
        them.
        """
        return {one["name"]: self.format.files.format(name=one["name"]) for one in self.graphs}

    @property
    def unpromised(self) -> frozenset[str]:
        """The files of which another build may have other bytes: engines for ranges of shapes."""
        if not self.format.files:
            return frozenset()
        return frozenset(
            file
            for name, file in self.engine_files.items()
            if not all(dim.fixed for dims in self.profiles[name].values() for dim in dims)
        )

    @property
    def warning(self) -> str:
        """What everything says that random weights touch; empty for others."""
        if not isinstance(self.weights, RandomWeights):
            return ""
        return f"random weights: this {self.contract.yields} means nothing"
