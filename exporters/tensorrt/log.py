"""TensorRT's log, kept instead of printed: errors in its own words, and figures of the build."""

import re
import sys
from collections.abc import Iterator
from typing import Any, Final

_MEMORY: Final = re.compile(r"Total (Activation|Weights) Memory: (\d+) bytes")
# What follows every other error on a machine without a driver.
_NO_DRIVER: Final = ("catchCudaError", "CUDA initialization failure", "cudaError 35")


class Log:
    """What TensorRT said during one build.

    Attributes:
        logger: The `trt.ILogger` to hand to builder and parser.
        errors: Its errors, without those that only say that there is no GPU.
        memory: Bytes by kind, `activation` and `weights`, of the largest shapes.
    """

    def __init__(self, trt: Any) -> None:
        self.errors: list[str] = []
        self.memory: dict[str, int] = {}
        self.logger = _make_logger(trt, self)

    def add(self, text: str, *, error: bool, warning: bool) -> None:
        """Take a line of the log."""
        if found := _MEMORY.search(text):
            self.memory[found[1].lower()] = int(found[2])
        if error and not any(one in text for one in _NO_DRIVER):
            self.errors.append(" ".join(text.split()))
        if warning:
            sys.stderr.write(f"TensorRT: {text}\n")

    def said(self) -> Iterator[str]:
        """Yield its errors, each once."""
        yield from dict.fromkeys(self.errors)


def _make_logger(trt: Any, log: Log) -> Any:
    # The base class comes with the bindings.
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            log.add(
                text,
                error=severity <= trt.ILogger.ERROR,
                warning=severity <= trt.ILogger.WARNING,
            )

    return Logger()
