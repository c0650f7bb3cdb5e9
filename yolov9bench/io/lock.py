"""One process at a time at one place on the disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger("yolov9bench")

SECONDS_BEFORE_NOTICE = 1.0


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock of a file or folder; whoever comes second waits, with one line in the log.

    It is the system's own lock on a file beside `path`, which ends with its process, however that ends. Its
    file is removed last, while the lock is held: a waiting process notices and locks another one.
    OSError where no lock can be made, as in a folder that must not be written.
    """
    from filelock import FileLock, Timeout  # takes longer to import than most commands need it

    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f".{path.name}.lock")
    lock = FileLock(place, fallback_to_soft=False)
    try:
        lock.acquire(timeout=SECONDS_BEFORE_NOTICE)
    except Timeout:
        logger.info("another process is at work on %s: waiting for it", path)
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps a file that is open
            place.unlink()
        lock.release()
