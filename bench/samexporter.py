"""samexporter 0.5.0 on modelkiln's own export environment: what the benches measure against.

It runs as its documentation says, with the same torch, onnx and onnxsim that modelkiln uses and the
same weights; nothing of it is changed.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from bench.process import Command, run_measured
from modelkiln.environments.cache import ensure_tools
from modelkiln.paths import REPOSITORY
from modelkiln.util.console import OnProgress
from modelkiln.util.hashing import sha256_file, sha256_json

NAME = "samexporter 0.5.0"
LOCK = REPOSITORY / "bench" / "samexporter.txt"
CHECKPOINT = REPOSITORY / "bench" / "sides" / "checkpoint.py"


def install(*, python: Path, cache: Path, offline: bool = False, on_progress: OnProgress) -> Path:
    """Install samexporter beside the export environment and return the folder for PYTHONPATH.

    Args:
        python: The export environment's interpreter.

    Raises:
        EnvironmentFailure, PinError, OutOfSpace: As `modelkiln.environments.cache.ensure_tools`.
    """
    return ensure_tools(
        NAME, LOCK, python=python, cache=cache, offline=offline, on_progress=on_progress
    )


def write_checkpoint(weights: Path, out: Path, *, python: Path, log: Path) -> Path:
    """Write weights (safetensors) as a checkpoint of the form that Meta publishes.

    Raises:
        StageFailure: The weights cannot be read.
    """
    argv = (str(python), str(CHECKPOINT), str(weights.resolve()), str(out.resolve()))
    run_measured(Command(argv=argv, cwd=out.parent), log, memory=False)
    return out


def export_command(
    *, python: Path, tools: Path, checkpoint: Path, model: str, out: Path
) -> Command:
    """Return the command that turns a checkpoint into OUT/encoder.onnx and OUT/decoder.onnx,
    simplified.

    Args:
        tools: What `install` returned.
        model: A model's upstream name, such as ``sam2.1_hiera_tiny``.
        out: A folder that exists.
    """
    return Command(
        argv=(
            str(python),
            "-m",
            "samexporter.export_sam2",
            f"--checkpoint={checkpoint.resolve()}",
            f"--output_encoder={out.resolve() / 'encoder.onnx'}",
            f"--output_decoder={out.resolve() / 'decoder.onnx'}",
            f"--model_type={model}",
            "--simplify",
        ),
        cwd=out,
        environment={"PYTHONPATH": str(tools), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def graphs(out: Path) -> Mapping[str, Path]:
    """Return the graphs that `export_command` writes, by name."""
    return {name: out / f"{name}.onnx" for name in ("encoder", "decoder")}


def cached_export(
    weights: Path, *, python: Path, tools: Path, model: str, environment: str, cache: Path
) -> Path:
    """Return a folder with samexporter's graphs of some weights, made once and then kept in the
    cache.

    It takes a minute and 6 GB of memory, and its result depends on nothing but what names the
    folder: the weights, the model, samexporter's lock and the environment.

    Args:
        weights: A file of safetensors, as the ingest stage writes it.
        environment: Digest of the export environment.

    Raises:
        StageFailure: samexporter failed.
    """
    key = sha256_json(
        {
            "samexporter": sha256_file(LOCK),
            "environment": environment,
            "weights": sha256_file(weights),
            "model": model,
        }
    )
    place = cache / "samexporter" / key
    if place.is_dir():
        return place
    import tempfile

    place.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".making-", dir=place.parent))
    try:
        log = made / "log.txt"
        checkpoint = write_checkpoint(weights, made / "checkpoint.pt", python=python, log=log)
        command = export_command(
            python=python, tools=tools, checkpoint=checkpoint, model=model, out=made
        )
        run_measured(command, log, memory=False)
        checkpoint.unlink()
        made.rename(place)
    except OSError:
        # Another process was quicker: a folder that has files in it is never renamed over.
        if not place.is_dir():
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return place
