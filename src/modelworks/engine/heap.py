"""Heap: let the C allocator keep the memory that one step frees and the next one wants again.

glibc returns every large block to the system at once, so each step of a network with large activations faults
hundreds of megabytes of fresh pages in. Kept blocks make training of small convolutional networks on a CPU up to
twice as fast (docs/experiments.md). What is kept is bounded by what a step uses.
"""

from __future__ import annotations

import ctypes
import sys

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # <malloc.h>
_LARGEST = 1 << 30


def keep() -> bool:
    """Keep freed blocks up to 1 GiB in the heap; whether the allocator could be told so."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has none
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, _LARGEST))
