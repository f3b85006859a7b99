"""A comparison of quantized files in which every promise is just kept."""

from bench.measured import Side
from bench.quantized import (
    BASE,
    DYNAMIC,
    EQUAL,
    PRESET,
    SEED,
    Error,
    LayerError,
    Making,
    Quantized,
    Report,
)


def side(name: str, *, error: float, seconds: float, run: float, peak: int = 10) -> Quantized:
    one = Error(relative=error, snr_db=10.0)
    return Quantized(
        name=name,
        making=Making(seconds=seconds, peak_bytes=peak, pictures=8),
        planned=None if name == SEED else 51,
        errors={"high_res_feats_0": one, "image_embed": one},
        kernels={} if name == SEED else {"QGemm": 51},
        latency=latency(name, run),
    )


def latency(name: str, run: float, size: int = 30_000_000) -> Side:
    return Side(
        name=name,
        runtime="a runtime",
        run_seconds=[run, run, 10 * run],
        peak_bytes=[100] * 3,
        load_seconds=[0.1] * 3,
        file_bytes=size,
    )


GOOD = {
    SEED: side(SEED, error=0.1, seconds=30.0, run=1.0),
    EQUAL: side(EQUAL, error=0.1, seconds=20.0, run=0.9),
    PRESET: side(PRESET, error=0.03, seconds=30.0, run=1 / 1.4),
    DYNAMIC: side(DYNAMIC, error=0.05, seconds=3.0, run=0.625),
}


LAYERS = [
    LayerError(name="/<qkv>", op="MatMul", errors={SEED: 0.1, EQUAL: 0.01}, quantized=[EQUAL]),
    LayerError(name="/proj", op="Gemm", errors={SEED: 0.02, EQUAL: 0.0}, quantized=[SEED, EQUAL]),
]


def report_of(**changed: Quantized) -> Report:
    return Report(
        target="a/<target>",
        weights="random",
        rounds=3,
        threads=2,
        pictures=8,
        cropped=0,
        held_out=["x.jpg"],
        cpu="x86-64-v4 avx512_vnni",
        base=latency(BASE, 1.0, 100_000_000),
        sides=[changed.get(one.name.split("-")[-1].split()[0], one) for one in GOOD.values()],
        memory={2: 1000, 8: 1050, 16: 1020},
        variants={"attention's": {"image_embed": Error(relative=0.09, snr_db=20.9)}},
        variant_kernels={"attention's": 51},
        layers=LAYERS,
        tools="modelopt 0",
        machine={"processor": "abacus"},
    )
