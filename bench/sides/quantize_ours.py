"""An encoder through our stages `calibrate` and `quantize`, in one process.

Runs inside the environment `quantize`; its last line is one of JSON:

    python -m bench.sides.quantize_ours PLAN.json GRAPH.onnx OUT [--pictures FOLDER --count N] [...]

    {"runtime": "modelkiln", "pictures": ["a.jpg", "b.jpg", ...], "peak_bytes": B,
     "file": "OUT/quantize/out/encoder.onnx", "integer_kernels": 51, "quantized": 51,
     "linears": 51}

PLAN.json has the parameters of both steps as the plan of a target has them; `calibrate` is null for
a format that needs none. The first COUNT pictures by name calibrate.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.sides.quantize_pictures import hold_to
from bench.sides.side import peak_bytes
from exporters.protocol import Step
from exporters.stages import calibrate, quantize


def make_step(
    stage: str,
    params: Mapping[str, Any],
    inputs: Mapping[str, Path],
    folder: Path,
    plan: Mapping[str, Any],
) -> Step:
    """Return a step whose outputs go to FOLDER/STAGE/out."""
    out = folder / stage / "out"
    out.mkdir(parents=True)
    return Step(
        step=f"bench/{stage}",
        stage=stage,
        modules=(f"exporters.stages.{stage}",),
        params=params,
        inputs=inputs,
        out=out,
        threads=plan["threads"],
        seed=plan["seed"],
    )


def run_stages(
    plan: Mapping[str, Any], graph: Path, out: Path, pictures: Sequence[Path]
) -> tuple[Path, dict[str, Any]]:
    """Run both stages on one graph; return the quantized one, and its quantization.json."""
    (golden,) = plan["quantize"]["graphs"]
    inputs = {golden["file"]: graph}
    if plan["calibrate"] is not None:
        named = {f"calibration/{index:05}-{one.name}": one for index, one in enumerate(pictures)}
        shown = {"calib_size": len(named), "pictures": list(named)}
        params = {**plan["calibrate"], **shown}
        step = make_step("calibrate", params, {**inputs, **named}, out, plan)
        calibrate.run(step)
        inputs["calibration.json"] = step.out / "calibration.json"
    step = make_step("quantize", plan["quantize"], inputs, out, plan)
    quantize.run(step)
    document = json.loads((step.out / "quantization.json").read_text(encoding="utf-8"))
    return step.out / golden["file"], document


def main() -> None:
    """Read the command line, quantize, print."""
    parser = argparse.ArgumentParser(description="Our side of bench.quantize.")
    parser.add_argument("plan", type=Path)
    parser.add_argument("graph", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--count", type=int, default=0)
    options = parser.parse_args()
    plan = json.loads(options.plan.read_text(encoding="utf-8"))
    hold_to(plan["threads"])
    pictures = sorted(options.pictures.iterdir())[: options.count] if options.pictures else []
    if len(pictures) < options.count:
        raise ValueError(f"{options.pictures} has {len(pictures)} pictures, not {options.count}")
    file, document = run_stages(plan, options.graph, options.out, pictures)
    (told,) = document["graphs"].values()
    line = {
        "runtime": "modelkiln",
        "pictures": [path.name for path in pictures],
        "peak_bytes": peak_bytes(),
        "file": str(file),
        "integer_kernels": told["integer_kernels"],
        "quantized": told["quantized"],
        "linears": told["linears"],
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
