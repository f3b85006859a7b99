"""The first 64 bytes of an engine of TensorRT for RTX.

NVIDIA does not document them; these fields were found by comparing engines that were built for
different GPUs. They serve to check what was written here. The documented way,
`Runtime.get_engine_validity`, needs a GPU to say anything.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LENGTH: Final = 64
MAGIC: Final = b"vtrt"
PORTABLE: Final = "portable"
# Bits of the word at byte 32; the one of portable engines stands for GPUs that are still to come.
GPU_BITS: Final[Mapping[str, int]] = {
    "sm75": 1,
    "sm80": 2,
    "sm86": 4,
    "sm89": 8,
    "sm120": 16,
    "sm121": 32,
}
LATER_BIT: Final = 64

_SIZE: Final = struct.Struct("<Q")
_MASK: Final = struct.Struct("<I")


class HeaderError(ValueError):
    """A file is no whole engine; the message says what both sides are."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What an engine's file says of itself.

    Attributes:
        version: Of the TensorRT for RTX that built it, and that alone can load it.
        gpus: The GPUs that it names, by compute capability.
        portable: Whether it is for later ones as well.
        bytes: Its length.
    """

    version: str
    gpus: tuple[str, ...]
    portable: bool
    bytes: int


def read_header(path: Path) -> Header:
    """Read the header of an engine, and compare the length that it names with the file's.

    Raises:
        HeaderError: The file is no engine, or is truncated.
    """
    length = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(LENGTH)
    if len(head) < LENGTH or head[:4] != MAGIC:
        raise HeaderError(
            f"{path.name} is no engine of TensorRT for RTX: it begins with {head[:4]!r}, "
            f"not with {MAGIC!r}, or is shorter than its header"
        )
    (said,) = _SIZE.unpack_from(head, 16)
    if said != length:
        raise HeaderError(f"{path.name} has {length} bytes, and its header says {said}")
    (mask,) = _MASK.unpack_from(head, 32)
    return Header(
        version=".".join(map(str, head[24:28])),
        gpus=tuple(name for name, bit in GPU_BITS.items() if mask & bit),
        portable=bool(mask & LATER_BIT),
        bytes=length,
    )


def find_faults(header: Header, version: str, gpus: Iterable[str]) -> list[str]:
    """Return how an engine's header differs from what was asked for, both sides in each line.

    Args:
        header: The engine's.
        version: The TensorRT for RTX that it should be of.
        gpus: The GPUs that it was built for: compute capabilities, or `portable` alone.
    """
    faults = []
    if header.version != version:
        faults.append(
            f"it is of TensorRT for RTX {header.version}, and {version} was to build it: an engine "
            "loads in the version that built it and in no other"
        )
    asked = list(gpus)
    if header.portable != (asked == [PORTABLE]):
        kind = "portable" if header.portable else f"for {', '.join(header.gpus) or 'no GPU'}"
        faults.append(f"it is {kind}, and {', '.join(asked)} was asked for")
    elif not header.portable and set(header.gpus) != set(asked):
        faults.append(
            f"it is for {', '.join(header.gpus) or 'no GPU'}, and {', '.join(asked)} was asked for"
        )
    return faults
