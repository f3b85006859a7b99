"""The tasks `bench.*`, a part of the front door."""

from typing import TYPE_CHECKING

from invoke.collection import Collection

from modelkiln.commands.task import command

if TYPE_CHECKING:
    from modelkiln.building.kiln import Kiln


@command("export", help={"rounds": "measurements of each side; the median counts"})
def export(kiln: "Kiln", rounds: int = 3, json: bool = False) -> None:
    """Measure time and memory of an export, beside samexporter's, and the encoders' latency."""
    from bench.commands import bench_export as measure

    measure(kiln, rounds=rounds, as_json=json)


@command("null", help={"rounds": "measurements of each side; the median counts"})
def null(kiln: "Kiln", rounds: int = 7, json: bool = False) -> None:
    """Measure the time of a build with nothing to do, beside make's and a bare Python start."""
    from bench.commands import bench_null as measure

    measure(kiln, rounds=rounds, as_json=json)


@command("runner", help={"rounds": "measurements of each side; the median counts"})
def runner(kiln: "Kiln", rounds: int = 7, json: bool = False) -> None:
    """Measure the time of a stage in a container, beside the same stage in a local process."""
    from bench.commands import bench_runner as measure

    measure(kiln, rounds=rounds, as_json=json)


@command("tracker", help={"rounds": "measurements of each side; the median counts"})
def tracker(kiln: "Kiln", rounds: int = 5, json: bool = False) -> None:
    """Measure time and memory of memory attention, beside the public exporter's way and PyTorch."""
    from bench.commands import bench_tracker as measure

    measure(kiln, rounds=rounds, as_json=json)


@command("dinov2", help={"rounds": "measurements of each side; the median counts"})
def dinov2(kiln: "Kiln", rounds: int = 7, json: bool = False) -> None:
    """Measure DINOv2's latency, beside a plain export of timm's and PyTorch, with a profile."""
    from bench.commands import bench_dinov2 as measure

    measure(kiln, rounds=rounds, as_json=json)


@command(
    "quantize",
    help={
        "pictures": "how many calibrate; what the catalog lacks are crops of its pictures",
        "rounds": "measurements of each side's latency; the median counts",
    },
)
def quantize(kiln: "Kiln", pictures: int = 8, rounds: int = 5, json: bool = False) -> None:
    """Measure INT8's error, latency, time and memory, beside NVIDIA's example for ModelOpt."""
    from bench.commands import bench_quantize as measure

    measure(kiln, pictures=pictures, rounds=rounds, as_json=json)


@command(
    "engine",
    help={
        "target": "whose engines (default: sam2.1_hiera_tiny/image/rtx-fp16)",
        "rounds": "engines that each side builds of each graph; the median counts",
    },
)
def engine(kiln: "Kiln", target: str = "", rounds: int = 3, json: bool = False) -> None:
    """Measure time, memory and size of TensorRT engines, beside a short script of its own API."""
    from bench.commands import bench_engine as measure

    measure(kiln, target, rounds=rounds, as_json=json)


benches = Collection("bench", export, null, runner, tracker, dinov2, quantize, engine)
