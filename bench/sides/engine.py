"""An engine as our stage `engine` builds it, with all that the stage checks.

Runs inside the environment `rtx`; its last line is one of JSON:

    python -m bench.sides.engine STEP.json OUT

    {"parse_seconds": 1.2, "build_seconds": 3.4, "activation_memory": 5, "weights_memory": 6,
     "layers": 7, "tensorrt": "1.7.1.116"}

STEP.json has `params` (those of the plan's step, for one graph), `inputs` (paths by name),
`threads` and `seed`. OUT is a new folder for what the stage writes.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from exporters.protocol import Step
from exporters.stages import engine

P = ParamSpec("P")
R = TypeVar("R")

# What the stage calls to parse and check a graph, and to build and write its engine.
PARTS: Mapping[str, str] = {"read_network": "parse_seconds", "build_engine": "build_seconds"}


def read_step(path: Path, out: Path) -> Step:
    """Return the step that a file describes."""
    told = json.loads(path.read_text(encoding="utf-8"))
    out.mkdir(parents=True)
    return Step(
        step="bench/engine",
        stage="engine",
        modules=("exporters.stages.engine",),
        params=told["params"],
        inputs={name: Path(file) for name, file in told["inputs"].items()},
        out=out,
        threads=told["threads"],
        seed=told["seed"],
    )


def build(step: Step) -> dict[str, Any]:
    """Run the stage on a step of one graph; return what it took, and what it says of the engine.

    The stage itself runs: only its two parts are put on a clock.
    """
    seconds: dict[str, float] = {}
    plain = {name: getattr(engine, name) for name in PARTS}
    try:
        for name, part in plain.items():
            setattr(engine, name, _put_on_a_clock(part, PARTS[name], seconds))
        result = engine.run(step)
    finally:
        for name, part in plain.items():
            setattr(engine, name, part)
    (described,) = result.metrics["graphs"].values()
    wanted = ("activation_memory", "weights_memory", "layers")
    version = result.metrics["tensorrt"]["version"]
    return {**seconds, **{name: described[name] for name in wanted}, "tensorrt": version}


def _put_on_a_clock(part: Callable[P, R], name: str, seconds: dict[str, float]) -> Callable[P, R]:
    def timed(*given: P.args, **named: P.kwargs) -> R:
        began = time.perf_counter()
        try:
            return part(*given, **named)
        finally:
            seconds[name] = time.perf_counter() - began

    return timed


def main() -> None:
    """Read the command line, build, print."""
    parser = argparse.ArgumentParser(description="Our side of bench.engine.")
    parser.add_argument("step", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    print(json.dumps(build(read_step(options.step, options.out))))


if __name__ == "__main__":
    main()
