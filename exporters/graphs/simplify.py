"""Simplifying one ONNX graph with someone else's tool, as a program of its own.

`python -m exporters.graphs.simplify TOOL SOURCE TARGET`. The tools are native code or large
rewriters; a crash in one ends this process and not the stage that started it.
"""

import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from exporters.protocol import StageError


class Simplifier(StrEnum):
    """The tools; `none` leaves the graph as it was traced."""

    ONNXSIM = "onnxsim"
    ONNXSLIM = "onnxslim"
    NONE = "none"

    @property
    def other(self) -> "Simplifier":
        """The tool to try when this one fails."""
        return Simplifier.ONNXSLIM if self is Simplifier.ONNXSIM else Simplifier.ONNXSIM


def simplify_apart(tool: Simplifier, model: ModelProto, scratch: Path, step: str) -> ModelProto:
    """Simplify a model in a child process.

    Args:
        tool: The tool; `none` returns the model itself.
        model: The graph; small, its weights set aside.
        scratch: A folder for the two files.
        step: What the error names.

    Raises:
        StageError: The tool crashed or refused; names the command with the other tool.
    """
    if tool is Simplifier.NONE:
        return model
    source, target = scratch / "simplify.in.onnx", scratch / "simplify.out.onnx"
    source.write_bytes(model.SerializeToString(deterministic=True))
    command = [sys.executable, "-m", "exporters.graphs.simplify", tool, str(source), str(target)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), check=False
    )
    if done.returncode or not target.is_file():
        ending = (
            f"was ended by signal {-done.returncode}"
            if done.returncode < 0
            else f"ended with status {done.returncode}"
        )
        raise StageError(
            f"{tool} failed on {model.graph.name or 'a graph'} of {step}.",
            f"Its process {ending}; the step's log has its last words.",
            "Give the same options and the other tool: "
            f"invoke build '{_target_of(step)}' --simplifier {tool.other}",
        )
    simplified = onnx.load_model(target, load_external_data=False)
    source.unlink()
    target.unlink()
    return simplified


def _target_of(step: str) -> str:
    """Return the targets that a step like `MODEL+random0/image@opset20/convert` is for, as a
    glob.
    """
    model, contract, *_ = (*step.split("/"), "*", "*")
    return f"{model.partition('+')[0]}/{contract.partition('@')[0]}/*"


def main(arguments: list[str]) -> int:
    """Return the program: reads SOURCE, simplifies it with TOOL, writes TARGET."""
    tool, source, target = Simplifier(arguments[0]), Path(arguments[1]), Path(arguments[2])
    model: Any = onnx.load_model(source, load_external_data=False)
    match tool:
        case Simplifier.ONNXSIM:
            import onnxsim

            # check_n=0: verify compares with PyTorch; random inputs would prove less.
            model, _ = onnxsim.simplify(model, check_n=0)
        case Simplifier.ONNXSLIM:
            import onnxslim

            model = onnxslim.slim(model)
        case Simplifier.NONE:
            pass
    target.write_bytes(model.SerializeToString(deterministic=True))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
