"""Decoded images that are kept, uint8 in their own size: in the memory of this run, or in a file.

A recipe resizes an image in one way for the mosaic and in another for the closing epochs, so what is kept is
what was decoded. The file is written once, whole or not at all; its name has the hash of all that decides its
content, so that it is found again for the same images alone.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from yolov9bench.data.loading import usable_cores
from yolov9bench.data.packed import Ragged, empty_bytes
from yolov9bench.errors import DatasetError, SettingsError, require_writable
from yolov9bench.io.files import atomic_path, remove_strays
from yolov9bench.io.locks import wait_for_turn
from yolov9bench.io.progress import Meter
from yolov9bench.ops.images import Pixels

USABLE = 0.9  # of the memory that is free: training needs some as well
CHUNK = 64  # images that are decoded before the first of them is stored

logger = logging.getLogger("yolov9bench")

Load = Callable[[int], Pixels]  # image by number


class MappedFile:
    """The bytes of a file, mapped into memory; a worker gets its path, and all share its pages."""

    def __init__(self, path: Path, length: int) -> None:
        self.path, self.length = path, length
        self._mapped = np.asarray(np.memmap(path, np.uint8, "r", shape=(length,)))

    def __reduce__(self) -> tuple[type[MappedFile], tuple[Path, int]]:
        return MappedFile, (self.path, self.length)

    def numpy(self) -> NDArray[Any]:
        """All bytes, not copied."""
        return self._mapped


def keep_in_memory(load: Load, bounds: Tensor, shared: bool) -> Ragged:
    """Decode all images into memory, on every core; `shared` with workers, who then need no copy.

    bounds: where each image begins and ends, in bytes. SettingsError if they do not fit.
    """
    count, needed = len(bounds) - 1, int(bounds[-1])
    free = free_memory()
    announce(count, needed, "memory", free)
    if free is not None and needed > USABLE * free:
        raise SettingsError(
            f"keeping {count:,} decoded images needs {gigabytes(needed)} of memory, and of the "
            f"{gigabytes(free)} that are free {100 * USABLE:.0f} % may be taken: give cache disk or none"
        )
    values = empty_bytes(needed, shared)
    kept, ends = values.numpy(), bounds.tolist()
    for number, pixels in enumerate(decode(load, count)):
        kept[ends[number] : ends[number + 1]] = pixels.ravel()
    return Ragged(values, bounds)


def keep_on_disk(load: Load, bounds: Tensor, key: str, folder: Path) -> Ragged:
    """Map the file of these images in `folder`, which the first process that needs it writes.

    Others wait for it. What a killed writer leaves is never taken for whole, and is removed by the next.
    SettingsError for a folder that cannot be written or lacks the space, StorageError if it runs full.
    """
    require_writable("cache_dir", folder, folder=True)
    count, needed = len(bounds) - 1, int(bounds[-1])
    path = folder / f"decoded-{key[:16]}.uint8"
    with wait_for_turn(path.with_suffix(".lock"), "decodes these images"):
        if path.exists() and path.stat().st_size == needed:
            logger.info("taking %s decoded images from %s", f"{count:,}", path)
        else:
            write_file(load, count, needed, path)
    return Ragged(MappedFile(path, needed), bounds)


def write_file(load: Load, count: int, needed: int, path: Path) -> None:
    """Decode all images into a new file of so many bytes."""
    remove_strays(path.parent)  # before the free space is counted
    free = shutil.disk_usage(path.parent).free
    announce(count, needed, f"space in {path.parent}", free)
    if needed > free:
        raise SettingsError(
            f"keeping {count:,} decoded images needs {gigabytes(needed)} in {path.parent}, where "
            f"{gigabytes(free)} are free: make space, give another cache_dir, or cache none"
        )
    with atomic_path(path) as fresh, fresh.open("wb") as file:
        for pixels in decode(load, count):
            file.write(np.ascontiguousarray(pixels).data)


def decode(load: Load, count: int) -> Iterator[Pixels]:
    """All images in order, a few ahead on every core; OpenCV lets other threads run while it decodes."""
    with ThreadPoolExecutor(usable_cores()) as pool, Meter(count, "decoding images", "images") as meter:
        for first in range(0, count, CHUNK):
            for pixels in pool.map(load, range(first, min(first + CHUNK, count))):
                yield pixels
                meter.update()


def key_of(paths: Iterable[Path], sizes: Sequence[tuple[int, int]]) -> str:
    """A hash of what decides the pixels: each image's name, size, bytes and time of change; the decoder.

    DatasetError for an image that is not there.
    """
    lines = [f"OpenCV {cv2.__version__}"]
    for path, (height, width) in zip(paths, sizes, strict=True):
        try:
            state = path.stat()
        except OSError as error:
            raise DatasetError(f"image {path.name} cannot be read ({error.strerror}): restore it") from error
        lines.append(f"{path.name} {height} {width} {state.st_size} {state.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def announce(count: int, needed: int, what: str, free: int | None) -> None:
    """Say what keeping the images takes, before it is taken."""
    there = "how much is free is not known here" if free is None else f"{gigabytes(free)} are free"
    logger.info("keeping %s decoded images needs %s of %s; %s", f"{count:,}", gigabytes(needed), what, there)


def gigabytes(count: int) -> str:
    """A number of bytes to read: 10^9 of them."""
    return f"{count / 1e9:,.2f} GB"


def free_memory(root: Path = Path("/")) -> int | None:
    """Bytes that a process may still take, within its control group; None where the system does not say."""
    facts = root / "proc/meminfo"
    found = re.search(
        r"^MemAvailable:\s+(\d+) kB$", facts.read_text() if facts.exists() else "", re.MULTILINE
    )
    if found is None:
        return None
    free = int(found[1]) * 1024
    group = root / "sys/fs/cgroup"
    limit, used, statistics = group / "memory.max", group / "memory.current", group / "memory.stat"
    if limit.exists() and used.exists() and (most := limit.read_text().strip()).isdecimal():
        # Pages of files that were only read count as used, but make room.
        files = re.search(r"^inactive_file (\d+)$", statistics.read_text(), re.MULTILINE)
        taken = int(used.read_text()) - (int(files[1]) if files else 0)
        free = min(free, max(int(most) - taken, 0))
    return free
