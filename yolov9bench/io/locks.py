"""One process at a time: a folder that is claimed by its first user, and work that is done once for all.

The locks are the system's own: it lets go of those of a process that dies, however it dies.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from filelock import FileLock, Timeout

from yolov9bench.errors import BusyError
from yolov9bench.io.files import storage_errors, write_json

PATIENCE = 5.0  # seconds for a process that is ending, as one whose parent was killed does

logger = logging.getLogger("yolov9bench")


@contextmanager
def claim_folder(folder: Path, name: str = "run") -> Iterator[None]:
    """Hold a folder, which is made, for this process alone while the body runs.

    `<name>.lock` and a note of the holder lie in it meanwhile. If the body leaves a folder empty that was
    made for it, the folder goes too. BusyError, with process, host and time, if another process holds it;
    StorageError for a full or forbidden disk.
    """
    path, note = folder / f"{name}.lock", folder / f"{name}.lock.json"
    is_new = not folder.exists()
    lock = _acquire(path, note)
    try:
        write_json(note, _describe_process())
        yield
    finally:
        _release(lock, note, path)
        if is_new:
            with suppress(OSError):  # it holds something, or somebody else has it now
                folder.rmdir()


def _acquire(path: Path, note: Path) -> FileLock:
    lock, latest = FileLock(path, timeout=PATIENCE), monotonic() + PATIENCE
    with storage_errors(path):
        while not lock.is_locked:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout as error:
                raise BusyError(
                    f"{path.parent} is in use by {describe_holder(note)}: wait until that has ended, or give "
                    "another folder"
                ) from error
            except FileNotFoundError:  # its holder has just ended, and removed the folder
                if monotonic() > latest:
                    raise
    return lock


@contextmanager
def wait_for_turn(path: Path, what: str) -> Iterator[None]:
    """Run the body in one process at a time, while others wait; `path` is there meanwhile. StorageError.

    what: what the other process does, for the log of one that waits.
    """
    lock = FileLock(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("waiting for another process that %s", what)
            lock.acquire()
    try:
        yield
    finally:
        _release(lock, path)


def beside(path: Path) -> Path:
    """The lock's file for a file or folder that one process makes for all."""
    return path.with_name(f".{path.name}.lock")


def _release(lock: FileLock, *paths: Path) -> None:
    """Remove a lock's files and let go of it, in this order: who waits for it sees that its file is gone."""
    with suppress(OSError):  # the error that led here is the one to tell
        for path in paths:
            path.unlink(missing_ok=True)
    lock.release()


def describe_holder(note: Path) -> str:
    """Who holds a lock, by the note beside it; "another process" where there is none that can be read."""
    try:
        holder = json.loads(note.read_text(encoding="utf-8"))
        return f"process {holder['process']} on {holder['host']} since {holder['since']}"
    except (OSError, ValueError, LookupError, TypeError):
        return "another process"


def _describe_process() -> dict[str, str | int]:
    since = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": since}
