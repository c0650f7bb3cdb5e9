"""Files that are whole or not there: hashing, atomic writing, full disks in a sentence."""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from yolov9bench.errors import DownloadError, StorageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, no quota, or a limit on the size of files
FRESH = re.compile(r"\..+-[0-9a-f]{8}\.fresh(\.[^.]*)?")  # what is written before it gets its name


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Say in a sentence, as a StorageError, that `path` cannot be written: a full disk, or missing rights."""
    try:
        yield
    except OSError as error:
        remedy = "make space" if error.errno in FULL else "check the path and its rights"
        reason = error.strerror or type(error).__name__
        raise StorageError(f"{path} cannot be written ({reason}): {remedy} and run it again.") from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a fresh, empty file beside `path`, which takes its place when the block succeeds.

    The fresh path has the suffix of `path`. When the block raises, the fresh file is removed and `path` stays
    as it was. Missing folders are made, and what killed processes left beside `path` is removed. StorageError
    for a full or forbidden disk.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_strays(path.parent)
        with _fresh_file(path) as fresh:
            yield fresh
            place_file(fresh, path)


@contextmanager
def _fresh_file(path: Path) -> Iterator[Path]:
    """A new file beside `path`, locked while the block runs and removed then, if it is still there."""
    fresh, descriptor = _make_fresh(path)
    try:
        yield fresh
    finally:
        with suppress(OSError):  # a folder that became read-only: the error that led here says so
            fresh.unlink(missing_ok=True)
        os.close(descriptor)


def _make_fresh(path: Path) -> tuple[Path, int]:
    """A new file beside `path`, and the descriptor that locks it until it is closed, also by a kill.

    Where a sweep takes the file between its making and its locking, another is made.
    """
    while True:
        fresh = path.with_name(f".{path.stem}-{secrets.token_hex(4)}.fresh{path.suffix}")
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            if _lock(descriptor) and os.fstat(descriptor).st_nlink:
                return fresh, descriptor
        except BaseException:
            fresh.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Whether an open file could be locked; a file system without locks lets everyone, and sweeps nothing."""
    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError:
        return True


def finished_files(folder: Path, pattern: str) -> list[Path]:
    """What matches a pattern below a folder, sorted, less what a process is writing or was killed at."""
    return sorted(path for path in folder.glob(pattern) if not FRESH.fullmatch(path.name))


def remove_strays(folder: Path) -> None:
    """Remove from a folder what writers that were killed have left there.

    A file that is being written is locked, and stays. Nothing is said of what cannot be removed: whoever
    writes there will be told.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if FRESH.fullmatch(entry.name):
                _remove_stray(Path(entry.path))


def _remove_stray(path: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR)
        try:
            if lock_descriptor(descriptor, blocking=False):  # OSError without locks: nobody knows whose it is
                path.unlink()
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, where they are missing; StorageError."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with its line ends as given, whole or not at all."""
    with atomic_path(path) as fresh:
        fresh.write_text(text, encoding="utf-8", newline="")


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes, whole or not at all."""
    with atomic_path(path) as fresh:
        fresh.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all; ValueError on NaN and infinity."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def place_file(whole: Path, path: Path) -> None:
    """Give a finished file its name; what had it before is replaced."""
    with whole.open("rb+") as file:
        os.fsync(file.fileno())  # the name must not reach the disk before the bytes
    whole.replace(path)


def require_space(path: Path, needed: int) -> None:
    """DownloadError if the disk of `path` has fewer bytes free than are needed."""
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise DownloadError(
            f"{path} needs {needed:,} bytes but {free:,} are free: make space and run it again."
        )


@contextmanager
def disk_errors(path: Path, needed: int | None = None) -> Iterator[None]:
    """Say a full or forbidden disk in a sentence; `needed` bytes in all, where known."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            place = error.filename or path
            raise DownloadError(
                f"{place} cannot be used ({error.strerror}): check the path and its rights."
            ) from error
        wanted = "more" if needed is None else f"{needed:,}"
        free = shutil.disk_usage(path.parent).free
        raise DownloadError(
            f"{path} needs {wanted} bytes but {free:,} are free: make space and run it again."
        ) from error
