"""What the store refuses: bytes that are not what a digest or an earlier build says."""

from collections.abc import Callable
from pathlib import Path

from modelkiln.errors import NotReproducible, StoreError
from modelkiln.store.records import Blob, Record
from modelkiln.util.units import human_bytes


class DamagedBlob(StoreError):
    """A stored file is missing or is not what its name says.

    Attributes:
        blob: What should have been there.
        quarantined: Where the damaged file is now; None where there was none or it cannot move.
    """

    def __init__(self, blob: Blob, path: Path, reason: str, quarantined: Path | None) -> None:
        moved = f"it is now {quarantined}" if quarantined else "it is left where it was"
        super().__init__(
            f"Damaged file in the store: {path} {reason}.",
            "The disk lost it, or something other than modelkiln changed it"
            + ("." if reason == "is missing" else f"; {moved}."),
            "Build again: the step that made it runs once more.",
        )
        self.blob = blob
        self.quarantined = quarantined


class DifferentBytes(NotReproducible):
    """A step ran twice with one key and gave different files.

    Attributes:
        first: The record that was published first and stays.
        second: The record that was refused.
    """

    def __init__(
        self, first: Record, second: Record, blob_path: Callable[[str], Path], lost: bool
    ) -> None:
        lines = [f"The step {second.step} gave other bytes than before for the same key."]
        for name in sorted(first.outputs.keys() | second.outputs.keys()):
            was, now = first.outputs.get(name), second.outputs.get(name)
            if was == now:
                continue
            lines.append(f"  {name}")
            for word, blob in (("first:", was), ("now:", now)):
                text = "no such output"
                if blob is not None:
                    text = f"{blob_path(blob.sha256)}, {human_bytes(blob.bytes)}"
                lines.append(f"    {word:<6} {text}")
        super().__init__(
            "\n".join(lines),
            "The stage reads something that its key does not name, or its result varies.",
            "Build again: the first result is lost, so the next one counts."
            if lost
            else "Compare the two files; the first one stays in use.",
        )
        self.first = first
        self.second = second
