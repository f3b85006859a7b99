"""The header of a safetensors file, checked without reading its tensors.

The format: eight bytes with the header's length (little-endian), the header (JSON: for each tensor
its dtype, shape and place), the tensors. Their places must cover the rest of the file, no more, no
less. See https://huggingface.co/docs/safetensors/index#format.
"""

import json
import math
from pathlib import Path
from typing import Any

LONGEST_HEADER = 100_000_000
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip


class _BadHeaderError(ValueError):
    """A header that the format forbids; the text says why."""


def check_header(path: Path, size: int) -> str:
    """Say what is wrong with the header of a file of `size` bytes; empty where nothing is.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > LONGEST_HEADER:
            return f"Its header claims {length} bytes; at most {LONGEST_HEADER} are allowed."
        if 8 + length > size:
            return f"It was cut short: its header has {length} bytes, the whole file {size}."
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_refuse_repeated)
        spans = sorted(
            _check_tensor(str(name), tensor)
            for name, tensor in header.items()
            if name != "__metadata__"
        )
    except _BadHeaderError as error:
        return str(error)
    except (ValueError, RecursionError, AttributeError) as error:
        return f"Its header is not a JSON object ({error})."
    if not spans:
        return "It holds no tensors."
    end = 0
    for start, stop, name in spans:
        if start != end:
            return f"Its tensors overlap or leave gaps at {name!r} (byte {start}, expected {end})."
        end = stop
    if 8 + length + end != size:
        return f"Its tensors take {8 + length + end} bytes, the file has {size}: it was cut short."
    return ""


def _check_tensor(name: str, tensor: Any) -> tuple[int, int, str]:
    try:
        kind, shape, (start, stop) = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
        bits = _BITS[kind] * math.prod(shape)
    except (KeyError, TypeError, ValueError):
        raise _BadHeaderError(f"Its tensor {name!r} is described in no known way.") from None
    numbers = [start, stop, *shape]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise _BadHeaderError(f"Its tensor {name!r} has a size that is not a whole number.")
    if (stop - start) * 8 != bits:
        raise _BadHeaderError(
            f"Its tensor {name!r} of {kind} {shape} cannot take {stop - start} bytes."
        )
    return start, stop, name


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _BadHeaderError("Its header names something twice.")
    return found
