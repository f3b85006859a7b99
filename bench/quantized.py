"""What bench.quantize found: quantized files beside each other, and what is promised of ours."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from bench.measured import Promise, Side, median_ratio

BASE = "onnx-fp32"
SEED = "ModelOpt"
EQUAL = "equal settings"
PRESET = "onnx-int8"
DYNAMIC = "onnx-int8-dynamic"
OURS = (EQUAL, PRESET, DYNAMIC)

EMBEDDING = "image_embed"
SHARE_OF_ERROR = 0.3
HOPED_TIME = 1.5
LARGEST_PEAK = 5e9
FLAT = 1.05
STATIC_SPEED, DYNAMIC_SPEED = 1.4, 1.6
LARGEST_FILE = 34e6


@dataclass(frozen=True, kw_only=True)
class Making:
    """What quantizing took: seconds of a whole process, its peak, and how many pictures it saw."""

    seconds: float
    peak_bytes: int
    pictures: int


@dataclass(frozen=True, kw_only=True)
class Error:
    """An output's L2 distance from float32's, relative to that, and in decibels.

    Attributes:
        snr_db: None where there is no distance.
    """

    relative: float
    snr_db: float | None
    by_picture: Sequence[float] = ()

    @property
    def text(self) -> str:
        """Both, for people."""
        return f"{self.relative:.4f}, {'-' if self.snr_db is None else f'{self.snr_db:.1f}'} dB"


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """The error of what a linear layer computes, by side.

    Attributes:
        name: The layer's.
        op: MatMul or Gemm.
        quantized: The sides that quantize it.
    """

    name: str
    op: str
    errors: Mapping[str, float]
    quantized: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """One quantized file.

    Attributes:
        planned: How many integer kernels it was made for; None where nobody says.
        errors: By output.
        kernels: Integer kernels of a profile, by name.
    """

    name: str
    making: Making
    planned: int | None
    errors: Mapping[str, Error]
    kernels: Mapping[str, int]
    latency: Side

    @property
    def ran(self) -> int:
        """How many integer kernels ran."""
        return sum(self.kernels.values())


class Held(NamedTuple):
    """A promise, and where the table shows it."""

    row: str
    side: str
    promise: Promise


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole comparison.

    Attributes:
        weights: official or random.
        pictures: How many calibrated at equal settings.
        cropped: How many of all are crops that the bench made of the catalog's.
        held_out: The pictures that errors are measured on.
        cpu: What the processor has for integers.
        sides: The quantized ones: the example's, and `OURS`.
        memory: Our peak, by number of pictures.
        variants: Errors by output of ours with one thing as in the example.
        variant_kernels: Integer kernels that ran in them.
        tools: What the example's side was made by.
        machine: What it was measured on, for people.
    """

    target: str
    weights: str
    rounds: int
    threads: int
    pictures: int
    cropped: int
    held_out: Sequence[str]
    cpu: str
    base: Side
    sides: Sequence[Quantized]
    memory: Mapping[int, int]
    variants: Mapping[str, Mapping[str, Error]]
    variant_kernels: Mapping[str, int]
    layers: Sequence[LayerError]
    tools: str
    machine: Mapping[str, str] = field(default_factory=dict)

    def side(self, name: str) -> Quantized:
        """Return a side by its name."""
        return next(one for one in self.sides if one.name == name)

    def speed(self, name: str) -> float:
        """Return how many times as fast as float32 a side runs; median over the rounds."""
        return median_ratio(self.base.run_seconds, self.side(name).latency.run_seconds)

    def share_of_error(self, name: str, output: str) -> float:
        """Return a side's error of an output by that of the example."""
        seed, one = (self.side(each).errors[output].relative for each in (SEED, name))
        if not seed:
            return math.inf if one else 1.0
        return one / seed

    def share_of_time(self, name: str) -> float:
        """Return what quantizing took, by what it took the example."""
        return self.side(name).making.seconds / self.side(SEED).making.seconds

    @property
    def growth(self) -> float:
        """The largest of our peaks by the smallest, over numbers of pictures."""
        return max(self.memory.values()) / min(self.memory.values())

    def held(self) -> list[Held]:
        """Return what is promised."""
        return list(self._hold())

    def _hold(self) -> Iterator[Held]:
        def at_most(row: str, side: str, value: float, bound: float, unit: str = "x") -> Held:
            name = f"{row}, {side}"
            return Held(row, side, Promise(name=name, value=value, bound=bound, unit=unit))

        def at_least(row: str, side: str, value: float, bound: float) -> Held:
            promise = Promise(
                name=f"{row}, {side}", value=value, bound=bound, unit="x", at_least=True
            )
            return Held(row, side, promise)

        for output in self.side(SEED).errors:
            value = self.share_of_error(EQUAL, output)
            yield at_most(f"share of its error, {output}", EQUAL, value, 1.0)
        share = self.share_of_error(PRESET, EMBEDDING)
        yield at_most(f"share of its error, {EMBEDDING}", PRESET, share, SHARE_OF_ERROR)
        # The preset looks at pictures of another number.
        yield at_most("share of its time", EQUAL, self.share_of_time(EQUAL), 1.0)
        for name in (EQUAL, PRESET):
            peak = self.side(name).making.peak_bytes
            yield at_most("peak memory", name, peak, LARGEST_PEAK, "bytes")
        yield at_most("peak, most by least", EQUAL, self.growth, FLAT)
        for name, bound in ((PRESET, STATIC_SPEED), (DYNAMIC, DYNAMIC_SPEED)):
            yield at_least(f"speed over {BASE}", name, self.speed(name), bound)
            size = self.side(name).latency.file_bytes or 0
            yield at_most("files", name, size, LARGEST_FILE, "bytes")
        for name in OURS:
            one = self.side(name)
            if one.planned:
                yield at_least("integer kernels", name, one.ran / one.planned, 1.0)

    @property
    def stretch(self) -> str:
        """What was hoped for of the time at equal settings, and whether it came true."""
        times = 1 / self.share_of_time(EQUAL)
        verdict = "reached" if times >= HOPED_TIME else "not reached"
        return f"quantizes {times:.2f}x as fast; hoped for {HOPED_TIME:g}x: {verdict}"

    @property
    def ok(self) -> bool:
        """Whether all that is promised holds."""
        return all(one.promise.ok for one in self.held())

    def document(self) -> dict[str, object]:
        """Return all that was measured, as JSON."""
        return {
            **asdict(self),
            "speed": {one.name: self.speed(one.name) for one in self.sides},
            "share_of_error": {
                name: {out: self.share_of_error(name, out) for out in self.side(name).errors}
                for name in OURS
            },
            "share_of_time": {name: self.share_of_time(name) for name in OURS},
            "promises": [{**asdict(one.promise), "ok": one.promise.ok} for one in self.held()],
            "stretch": self.stretch,
            "ok": self.ok,
        }
