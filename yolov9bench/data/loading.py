"""How training batches are prepared: in how many processes, from which copy of the images.

None of it changes a batch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from yolov9bench.errors import SettingsError, require_choice, require_in_range

Cache = Literal["none", "ram", "disk"]
MOST_WORKERS = 8  # by default: each holds PREFETCHED batches, and torch and OpenCV of its own


@dataclass(frozen=True)
class Loading:
    """What prepares the batches.

    workers: processes that prepare batches ahead; 0: the training process itself, when it needs one.
    cache: where decoded images are kept, as uint8 in their own size: nowhere; in the memory of this run; or
        in a file in `cache_folder`, which later runs and all processes of a machine share.
    pool_bytes: with cache "none", what the tiles of mosaics may take in the memory of this machine, shared
        out among the processes that prepare batches; see `tile_pool`.
    pin_memory: batches come in page-locked memory, which a GPU copies from while it computes. CUDA alone.
    local_ranks: training processes of this run on this machine.

    SettingsError: numbers or a choice that cannot be, "disk" without a folder, "ram" for several processes.
    """

    workers: int = 0
    cache: Cache = "none"
    cache_folder: Path | None = None
    pin_memory: bool = False
    local_ranks: int = 1
    pool_bytes: int = 0

    def __post_init__(self) -> None:
        require_in_range(0, workers=self.workers, pool_bytes=self.pool_bytes)
        require_in_range(1, local_ranks=self.local_ranks)
        require_choice("cache", self.cache, get_args(Cache))
        if self.cache == "disk" and self.cache_folder is None:
            raise SettingsError("cache is disk, but there is no cache_dir: give a folder for the file")
        if self.cache == "ram" and self.local_ranks > 1:
            raise SettingsError(
                f"cache is ram, which each of {self.local_ranks} processes would fill for itself: take disk, "
                "whose file they share, and which stays in memory where there is room"
            )


PLAIN = Loading()  # in the training process, nothing kept


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers(ranks: int) -> int:
    """Workers for each of so many training processes on this machine: its cores, one left for training."""
    return min(max(usable_cores() // ranks - 1, 0), MOST_WORKERS)
