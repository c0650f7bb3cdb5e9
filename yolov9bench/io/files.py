"""Files that are whole or not there: hashing, atomic writing, full disks in a sentence."""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yolov9bench.errors import DownloadError, StorageError


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a fresh path beside `path`; the file written there takes its place when the block succeeds.

    The fresh path has the suffix of `path`. When the block raises, the fresh file is removed and `path` stays
    as it was. Missing folders are made. StorageError for a full or forbidden disk.
    """
    fresh = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield fresh
        place_file(fresh, path)
    except OSError as error:
        remedy = "make space" if error.errno == errno.ENOSPC else "check the path and its rights"
        raise StorageError(
            f"{path} cannot be written ({error.strerror}): {remedy} and run it again."
        ) from error
    finally:
        fresh.unlink(missing_ok=True)


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
