"""Tiles of mosaics that stay in memory, up to a number of bytes, so that they are not decoded each time.

Which images are drawn is not the pool's business: a batch is the same with any pool. A mosaic takes its tiles
from the whole set, each as likely as any other, so none deserves to be given up for another, and what came
first stays. The share of tiles that need no decoding is then the share of images that the pool has room for.
"""

from __future__ import annotations

import logging

from torch import Tensor

from yolov9bench.data.decoded import free_memory, gigabytes
from yolov9bench.data.loading import Loading
from yolov9bench.ops.images import Pixels

LARGEST_SHARE = 0.25  # of the memory that is free when a training begins

logger = logging.getLogger("yolov9bench")


class TilePool:
    """Tiles of one size, by the number of their image. Each process has one of its own."""

    def __init__(self, limit: int) -> None:
        self.limit = limit  # bytes
        self._tiles: dict[int, Pixels] = {}
        self._bytes = 0

    def find(self, index: int) -> Pixels | None:
        """The tile of an image, if it was kept."""
        return self._tiles.get(index)

    def keep(self, index: int, tile: Pixels) -> None:
        """Keep a tile if there is room for it; nobody may write into it any more."""
        if self._bytes + tile.nbytes > self.limit:
            return
        tile.flags.writeable = False
        self._tiles[index] = tile
        self._bytes += tile.nbytes


def pool_bytes(sizes: Tensor, image_size: int, loading: Loading) -> int:
    """The bytes that the pool of each process may take, said in the log with the share of tiles they are.

    sizes: height and width of all images [n, 2]. All pools of a machine together take what `loading` gives
    them, at most a quarter of the memory that is free. 0 where all images are kept already.
    """
    if loading.cache != "none" or not loading.pool_bytes:
        return 0
    free = free_memory()
    given = loading.pool_bytes if free is None else min(loading.pool_bytes, int(LARGEST_SHARE * free))
    processes = max(loading.workers, 1) * loading.local_ranks
    scales = image_size / sizes.amax(dim=1).clamp(min=1)
    needed = int((3 * sizes.prod(dim=1) * scales**2).sum())
    share = min(given / processes / max(needed, 1), 1.0)
    logger.info(
        "mosaics keep up to %s of decoded images in the memory of %s: about %.1f %% of %s images",
        gigabytes(given),
        "this process" if processes == 1 else f"{processes} processes, each its own",
        100 * share,
        f"{len(sizes):,}",
    )
    return given // processes
