"""bench.quantize: our INT8 encoder beside what NVIDIA's example makes with ModelOpt's API.

All sides start from the same published float32 encoder and the same photographs. Each is quantized
once, in a process of its own without a network; then every file runs once a round in a process of
its own, in an order that turns. Errors are against float32 on photographs that calibrated nothing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import export
from bench.process import Command, describe_machine, require_rounds, run_measured
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
from bench.scripts import Contender, Scripts
from modelkiln.errors import UsageError
from modelkiln.paths import REPOSITORY
from modelkiln.util.machine import cpu_level, unshare_command

FEW = 2
MOST = 4095


@dataclass(frozen=True, kw_only=True)
class Offline(Scripts):
    """Runs the scripts of bench/ without a network, where the machine allows that."""

    def tell(self, script: str, *arguments: str) -> Any:
        """Run a script; what its last line says, and `wall_seconds` of its process.

        Raises:
            StageFailure: It failed.
        """
        log = self.workspace / f"{script}.log"
        command = Command(
            argv=(
                *(unshare_command() or ()),
                str(self.python),
                "-m",
                f"bench.sides.{script}",
                *arguments,
            ),
            cwd=REPOSITORY,
            environment={"PYTHONDONTWRITEBYTECODE": "1"},
        )
        usage = run_measured(command, log, memory=False)
        told = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])
        return {**told, "wall_seconds": usage.wall_seconds}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """How it is measured.

    Attributes:
        python: The interpreter of the environment `quantize`, for the scripts in bench/.
        workspace: An existing folder for scratch.
        calibration: The folder of the catalog's calibration pictures.
        held_out: The folder of those that errors are measured on.
        preset: How many pictures the model's preset calibrates with.
        pictures: How many the example is asked for, and we at its settings.
        rounds: How often each file runs.
        runs: How often in each round; their median counts.
    """

    python: Path
    threads: int
    workspace: Path
    calibration: Path
    held_out: Path
    preset: int
    pictures: int
    rounds: int
    on_progress: export.OnProgress
    runs: int = 2

    def run(
        self,
        target: str,
        graph: Path,
        plans: Mapping[str, Mapping[str, Any]],
        *,
        weights: str,
    ) -> Report:
        """Measure all sides.

        Args:
            target: What the float32 graphs are called.
            graph: Their encoder.
            plans: What the steps of `PRESET` and of `DYNAMIC` are told, as
                bench.sides.quantize_ours takes it.
            weights: Which they are, in a word.

        Raises:
            UsageError: `rounds` is less than 1, or there are fewer than two pictures.
            StageFailure: A command failed.
        """
        require_rounds(self.rounds)
        if not FEW <= self.pictures <= MOST:
            raise UsageError(
                f"bench.quantize takes {FEW} to {MOST} calibration pictures, not {self.pictures}.",
                "The example reads one more than it is asked for.",
                f"Give --pictures {FEW} to {MOST}.",
            )
        scripts = Offline(
            python=self.python, workspace=self.workspace, on_progress=self.on_progress
        )
        made = self._write_pictures(scripts)
        files = {name: self._write_plan(name, plan) for name, plan in plans.items()}
        sides = {
            SEED: self._make_seed(scripts, graph),
            EQUAL: self._make_ours(scripts, EQUAL, files[PRESET], graph, self.pictures),
            PRESET: self._make_ours(scripts, PRESET, files[PRESET], graph, self.preset),
            DYNAMIC: self._make_ours(scripts, DYNAMIC, files[DYNAMIC], graph, 0),
        }
        few = self._make_ours(scripts, "few", files[PRESET], graph, FEW)
        points = [few.making, sides[EQUAL].making, sides[PRESET].making]
        variants = self._write_variants(scripts, graph, sides)
        told = self._compare(scripts, graph, sides, variants)
        contenders = self._race(scripts, graph, sides)
        return Report(
            target=target,
            weights=weights,
            rounds=self.rounds,
            threads=self.threads,
            pictures=self.pictures,
            cropped=made,
            held_out=told["pictures"],
            cpu=cpu_level(),
            base=contenders[BASE].side(),
            sides=[
                Quantized(
                    name=name,
                    making=side.making,
                    planned=side.planned,
                    errors=_errors(told["graphs"][name]),
                    kernels=told["graphs"][name]["kernels"],
                    latency=contenders[name].side(),
                )
                for name, side in sides.items()
            ],
            memory={one.pictures: one.peak_bytes for one in points},
            variants={name: _errors(told["graphs"][name]) for name in variants},
            variant_kernels={
                name: sum(told["graphs"][name]["kernels"].values()) for name in variants
            },
            layers=self._measure_layers(scripts, graph, sides),
            tools=sides[SEED].runtime,
            machine=describe_machine(),
        )

    def _write_pictures(self, scripts: Scripts) -> int:
        """Fill the folders `set`, and `seed` with what the example reads; how many are crops."""
        both = {"set": max(self.pictures + 1, self.preset), "seed": self.pictures + 1}
        made = 0
        for name, count in both.items():
            folder = str(self.workspace / name)
            told = scripts.tell("quantize_pictures", str(self.calibration), folder, str(count))
            made = max(made, told["made"])
        return made

    def _write_plan(self, name: str, plan: Mapping[str, Any]) -> Path:
        path = self.workspace / f"{name}.json"
        path.write_text(json.dumps(plan), encoding="utf-8")
        return path

    def _make_seed(self, scripts: Scripts, graph: Path) -> "_Made":
        self.on_progress(f"quantizing: {SEED}, {self.pictures} pictures and one")
        folder = self.workspace / "modelopt"
        folder.mkdir()
        out = folder / graph.name
        told = scripts.tell(
            "quantize_seed",
            str(graph),
            str(self.workspace / "seed"),
            str(out),
            str(self.pictures),
            f"--threads={self.threads}",
        )
        self.on_progress(f"    {told['wall_seconds']:.1f} s")
        return _Made.of(told, out)

    def _make_ours(
        self, scripts: Scripts, name: str, plan: Path, graph: Path, count: int
    ) -> "_Made":
        self.on_progress(f"quantizing: {name}, {count} pictures")
        shown = [f"--pictures={self.workspace / 'set'}", f"--count={count}"] if count else []
        out = self._folder(name)
        told = scripts.tell("quantize_ours", str(plan), str(graph), str(out), *shown)
        self.on_progress(f"    {told['wall_seconds']:.1f} s")
        return _Made.of(told, Path(told["file"]))

    def _folder(self, name: str) -> Path:
        return self.workspace / f"made-{name.replace(' ', '-')}"

    def _write_variants(
        self, scripts: Scripts, graph: Path, sides: Mapping[str, "_Made"]
    ) -> Mapping[str, str]:
        """Write files by what in each of them is as in the example's."""
        self.on_progress("quantizing: one thing at a time as in the example")
        told = scripts.tell(
            "quantize_variants",
            str(graph),
            str(sides[SEED].file),
            str(self._folder(EQUAL) / "calibrate" / "out" / "calibration.json"),
            str(self.workspace / "set"),
            str(self.workspace / "variants"),
            str(self.pictures),
            f"--threads={self.threads}",
        )
        files: dict[str, str] = told["files"]
        return files

    def _compare(
        self,
        scripts: Scripts,
        graph: Path,
        sides: Mapping[str, "_Made"],
        variants: Mapping[str, str],
    ) -> Any:
        self.on_progress("errors on pictures held out")
        files = {**{name: one.file for name, one in sides.items()}, **variants}
        pairs = [f"{name}={file}" for name, file in files.items()]
        flags = f"--threads={self.threads}"
        return scripts.tell("quantize_errors", str(graph), str(self.held_out), *pairs, flags)

    def _race(
        self, scripts: Scripts, graph: Path, sides: Mapping[str, "_Made"]
    ) -> Mapping[str, Contender]:
        picture = str(self._held_out()[0])
        files = {BASE: graph, **{name: one.file for name, one in sides.items()}}
        contenders = {
            name: Contender(name=name, arguments=[str(file), picture], files=_files(file))
            for name, file in files.items()
        }
        scripts.measure(
            list(contenders.values()),
            "quantize_latency",
            f"--runs={self.runs}",
            f"--threads={self.threads}",
            rounds=self.rounds,
        )
        return contenders

    def _measure_layers(
        self, scripts: Scripts, graph: Path, sides: Mapping[str, "_Made"]
    ) -> Sequence[LayerError]:
        self.on_progress("errors by layer")
        told = scripts.tell(
            "quantize_layers",
            str(graph),
            str(self._held_out()[0]),
            str(self.workspace / "layers"),
            *(f"{name}={sides[name].file}" for name in (SEED, EQUAL)),
            f"--threads={self.threads}",
        )
        return [LayerError(**one) for one in told["layers"]]

    def _held_out(self) -> list[Path]:
        return sorted(one for one in self.held_out.iterdir() if one.suffix == ".jpg")


@dataclass(frozen=True, kw_only=True)
class _Made:
    """A quantized file, and what making it took."""

    file: Path
    making: Making
    planned: int | None
    runtime: str

    @classmethod
    def of(cls, told: Mapping[str, Any], file: Path) -> "_Made":
        return cls(
            file=file,
            making=Making(
                seconds=told["wall_seconds"],
                peak_bytes=told["peak_bytes"],
                pictures=len(told["pictures"]),
            ),
            planned=told.get("integer_kernels"),
            runtime=told["runtime"],
        )


def _files(graph: Path) -> list[Path]:
    """Return a graph and the weights beside it, as either tool names them."""
    beside = (graph.with_name(graph.name + end) for end in (".data", "_data"))
    return [graph, *(one for one in beside if one.is_file())]


def _errors(told: Mapping[str, Any]) -> dict[str, Error]:
    return {output: Error(**one) for output, one in told["errors"].items()}
