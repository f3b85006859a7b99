"""What becomes of memory that a stage has freed."""

import ctypes
from typing import Final

_MMAP_THRESHOLD: Final = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
_LARGE: Final = 1 << 20


def return_freed_memory() -> None:
    """Make glibc hand every block of 1 MiB or more back to the system once it is freed.

    By itself it puts blocks of up to 32 MiB among small ones that live on, and a network's tensors
    of that size leave gigabytes of holes. Another C library is left as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
