"""An allocator that keeps freed memory for the next use, instead of giving it back each time."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # of mallopt(3)
LARGEST = 2**31 - 1  # bytes: an int of C
# What glibc itself arrives at once a large block was freed: no block below 32 MiB is mapped.
USUAL = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 * 2**20, TRIM_THRESHOLD: 64 * 2**20}
_KEEPS: ContextVar[bool] = ContextVar("keeps", default=False)  # within the body


@contextmanager
def kept_memory() -> Iterator[bool]:
    """Let glibc keep what is freed while the body runs; yields whether it does, False without glibc.

    Large arrays are otherwise mapped anew each time, and the system clears every page of them on first use.
    Afterwards glibc has its usual limits again, and gives back what is free: at the end of the outer of two
    such bodies. It changes no number.
    """
    if _KEEPS.get():
        yield True
        return
    library = find_glibc()
    if library is None or not (library.mallopt(MMAP_MAX, 0) and library.mallopt(TRIM_THRESHOLD, LARGEST)):
        yield False
        return
    outer = _KEEPS.set(True)
    try:
        yield True
    finally:
        _KEEPS.reset(outer)
        for parameter, value in USUAL.items():
            library.mallopt(parameter, value)
        library.malloc_trim(0)


def give_back_free() -> None:
    """Give back every page that is free, also between what is in use, where freed memory is kept.

    What stays lies among what comes and goes there: the gaps become too short for a large array, and without
    this, every few batches, the process grows with each of them.
    """
    library = find_glibc() if _KEEPS.get() else None
    if library is not None:
        library.malloc_trim(0)


def find_glibc() -> Any:
    """The C library of this process if it is glibc, else None: others have no such limits to set."""
    if "CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
