"""What can go wrong: every error says what happened, why, and what to run next.

The exit codes are part of the interface; see docs/errors.md.
"""

from typing import ClassVar


class KilnError(Exception):
    """Base of all errors that a user sees.

    Args:
        what: What happened, one sentence.
        why: The most likely reason.
        next: What to run or change next.
    """

    exit_code: ClassVar[int] = 5

    def __init__(self, what: str, why: str = "", next: str = "") -> None:  # noqa: A002
        super().__init__(what)
        self.what = what
        self.why = why
        self.next = next

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"  why:  {self.why}")
        if self.next:
            lines.append(f"  next: {self.next}")
        return "\n".join(lines)


class UsageError(KilnError):
    """The command, a target or a user's file is wrong."""

    exit_code = 2


class PinError(KilnError):
    """A pinned digest, size or version does not match what was found."""

    exit_code = 3


class EnvironmentFailure(KilnError):
    """An environment is missing or cannot be built: platform, network, Docker, GPU."""

    exit_code = 4


class StageFailure(KilnError):
    """A stage stopped before it had written its outputs."""

    exit_code = 5


class VerificationFailure(KilnError):
    """An artifact differs from its contract or from PyTorch."""

    exit_code = 6


class NotReproducible(KilnError):
    """One key gave two different results."""

    exit_code = 7


class StoreError(KilnError):
    """The store is locked, damaged or not writable."""

    exit_code = 8


class OutOfSpace(KilnError):
    """Disk or memory ran out."""

    exit_code = 9


class Interrupted(KilnError):
    """The user stopped the work."""

    exit_code = 130
