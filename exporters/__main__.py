"""`python -m exporters step.json`: runs one step in the current environment."""

import errno
import importlib
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Final

from exporters.protocol import (
    BAD_INPUT,
    OUT_OF_MEMORY,
    STAGE_FAILED,
    Result,
    StageError,
    Step,
    claim_stdout,
    read_step,
    write_json,
)

_DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: list[str]) -> int:
    """Run the step that the one argument describes; return the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m exporters step.json\n")
        return BAD_INPUT
    path = Path(arguments[0])
    claim_stdout()
    try:
        result = run_step(read_step(path))
        write_json(
            path.parent / "result.json",
            {
                "outputs": sorted(result.outputs),
                "metrics": dict(result.metrics),
                "modules": sorted(
                    name for name in sys.modules if name.partition(".")[0] == "exporters"
                ),
            },
        )
    except Exception as error:  # the boundary of the process: everything becomes error.json
        traceback.print_exc()
        return _fail(path, _explain(error))
    return 0


def run_step(step: Step) -> Result:
    """Run a step's stage and check that the outputs that it names exist.

    Raises:
        StageError: The stage failed, or did not write what it said.
    """
    step.out.mkdir(exist_ok=True)
    stage = importlib.import_module(step.modules[0])
    result = stage.run(step)
    if not isinstance(result, Result):
        raise StageError(
            f"{step.modules[0]}.run returned {type(result).__name__}.",
            "A stage must return a Result.",
            "Fix the stage.",
        )
    missing = [name for name in result.outputs if not (step.out / name).is_file()]
    if missing:
        raise StageError(
            f"{step.step} named outputs that it did not write: {', '.join(missing)}.",
            "The stage is faulty.",
            "Read the step's log.",
        )
    return result


def _explain(error: Exception) -> StageError:
    """Return what becomes error.json."""
    if _is_disk_full(error):
        return _disk_full()
    if isinstance(error, StageError):
        return error
    if _is_out_of_memory(error):
        return _out_of_memory()
    said = str(error).strip().split("\n")[0][:500]
    return StageError(
        f"The stage stopped with {type(error).__name__}.",
        f"It says: {said}" if said else "It gives no reason.",
        "Read the step's log, which holds the traceback.",
    )


def _is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or one that it arose from, says so; native libraries say it in
    words.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_FULL:
            return True
        if any(os.strerror(code) in str(error) for code in _DISK_FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def _disk_full() -> StageError:
    return StageError(
        "The disk is full.",
        "There is no room left, or no more is allowed, for what the stage writes.",
        "Free room where the step's scratch folder lies, and run the command again.",
        exit_code=OUT_OF_MEMORY,
    )


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    text = str(error)
    return "not enough memory" in text or "bad_alloc" in text or "Failed to allocate memory" in text


def _out_of_memory() -> StageError:
    return StageError(
        "The stage ran out of memory.",
        "The machine or the limit set for the step has too little for this model.",
        "Run fewer steps at once (--jobs 1), or use a machine with more memory.",
        exit_code=OUT_OF_MEMORY,
    )


def _fail(path: Path, error: StageError) -> int:
    status = error.exit_code or STAGE_FAILED
    document = {"what": error.what, "why": error.why, "next": error.next, "exit_code": status}
    try:
        write_json(path.parent / "error.json", document)
    except OSError as failure:
        if failure.errno not in _DISK_FULL:
            raise
        # Half-made outputs are of no use, and the reason needs their room.
        shutil.rmtree(path.parent / "out", ignore_errors=True)
        write_json(path.parent / "error.json", document)
    return status


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Native libraries keep threads and large heaps; nothing of theirs needs an orderly end.
    os._exit(status)
