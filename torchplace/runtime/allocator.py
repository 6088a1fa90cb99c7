"""The C library's allocator: let it keep the memory that tensors on the CPU give back.

Out of the box, glibc gives large blocks back to the system as soon as they are free, and gets them anew, page by page,
with the next op: that is slow, above all from several threads, and how slow depends on what stood at the end of the
heap. A program allocates the same blocks step after step, so they are kept.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

VARIABLE = "TORCHPLACE_KEEP_MEMORY"
"""Set to 0 in the environment, it leaves the allocator as it is."""

# Parameters of mallopt(3), from malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_ALL, _PAD = 2**31 - 1, 64 * 2**20


@functools.cache
def keep_freed_memory() -> bool:
    """Have glibc keep what is freed, in this process, from now on; says whether it does.

    Elsewhere, with another allocator, and where the environment says so (`VARIABLE`, or glibc's own variables and
    tunables, which somebody has set with a purpose), nothing is changed.
    """
    if os.environ.get(VARIABLE) == "0" or sys.platform != "linux" or _is_tuned():
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = ((_MMAP_THRESHOLD, _ALL), (_TRIM_THRESHOLD, _ALL), (_TOP_PAD, _PAD))
    return all(library.mallopt(parameter, value) for parameter, value in settings)


def _is_tuned() -> bool:
    return any(name.startswith("MALLOC_") and name.endswith("_") for name in os.environ) or (
        "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    )
