"""TensorRT's log, kept instead of printed: errors in its own words, and figures of the build."""

import re
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

_MEMORY: Final = re.compile(r"Total (Activation|Weights) Memory: (\d+) bytes")
# What follows every other error on a machine without a driver.
_NO_DRIVER: Final = ("catchCudaError", "CUDA initialization failure", "cudaError 35")


def clean(text: str) -> str:
    """Return a message in one line, without what only says that there is no driver."""
    lines = (one for one in text.splitlines() if not any(word in one for word in _NO_DRIVER))
    return " ".join(" ".join(lines).split())


class Log:
    """What TensorRT said while this log listened.

    TensorRT has one logger in a process, the first that it was given, for as long as anything lives
    that was made with it. So all logs share one, and the one that listens hears it.

    Attributes:
        logger: The `trt.ILogger` to hand to builder and parser.
        errors: Its errors, without those that only say that there is no GPU.
        memory: Bytes by kind, `activation` and `weights`, of the largest shapes.
    """

    def __init__(self, trt: Any) -> None:
        self.errors: list[str] = []
        self.memory: dict[str, int] = {}
        self.logger = _find_logger(trt)
        self.listen()

    def listen(self) -> None:
        """Hear what TensorRT says from now on, in the place of any other log."""
        global _listening
        _listening = self

    def add(self, text: str, *, error: bool, warning: bool) -> None:
        """Take a line of the log."""
        if found := _MEMORY.search(text):
            self.memory[found[1].lower()] = int(found[2])
        if error and (said := clean(text)):
            self.errors.append(said)
        if warning:
            sys.stderr.write(f"TensorRT: {text}\n")

    def said(self) -> Iterator[str]:
        """Yield its errors, each once."""
        yield from dict.fromkeys(self.errors)


@cache
def _find_logger(trt: Any) -> Any:
    # The base class comes with the bindings.
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            if _listening is not None:
                _listening.add(
                    text,
                    error=severity <= trt.ILogger.ERROR,
                    warning=severity <= trt.ILogger.WARNING,
                )

    return Logger()


_listening: Log | None = None
