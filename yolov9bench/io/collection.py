"""Python's garbage collection, out of the way while much is read that stays."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collection() -> Iterator[None]:
    """Without garbage collection, which takes half the time while millions of entries are made and read."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def imports_torch() -> Iterator[None]:
    """Let no collection look at what the imports within this make, torch's among them: it stays.

    These are some hundred thousand, which otherwise cost a quarter of a short evaluation. Where torch was
    imported before, nothing differs.
    """
    if "torch" in sys.modules:
        yield
        return
    with without_collection():
        yield
        gc.freeze()
