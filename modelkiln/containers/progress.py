"""How far a build is, told from what its builder says."""

import re

from modelkiln.util.console import OnProgress

_BUILDKIT = re.compile(r"#\d+ \[(?:\S+ )?(\d+)/(\d+)\] (.*)")
_CLASSIC = re.compile(r"(?i)step (\d+)/(\d+) ?: (.*)")
_WORDS = re.compile(r"(?:#\d+ [\d.]+ +)?(Building wheel for \S+|Installing collected packages)")
_LENGTH = 70


class BuildProgress:
    """Tells the step that a builder is at."""

    def __init__(self, on_progress: OnProgress) -> None:
        self._on_progress = on_progress
        self._share: float | None = None
        self._message = "sending the packages to the builder"

    def tell(self, line: str) -> None:
        """Take a line of the builder's."""
        if found := _CLASSIC.match(line):
            self._share = (int(found[1]) - 1) / int(found[2])
            self._message = found[3]
        elif found := _BUILDKIT.match(line):
            self._message = found[3]
        elif found := _WORDS.match(line):
            self._message = found[1]
        message = " ".join(self._message.split())
        shown = message if len(message) <= _LENGTH else f"{message[: _LENGTH - 3]}..."
        self._on_progress(self._share, shown)
