"""The order in which images are trained on, and which of them are each rank's."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.random import SeedSequence, default_rng
from torch.utils.data import Sampler

from yolov9bench.ops.ranks import Ranks

Key = tuple[int, int]  # epoch and image: sent with every request, so that workers keep no state


def images_each(count: int, world_size: int) -> int:
    """How many of `count` images each of so many processes trains on in an epoch: as many as every other."""
    return math.ceil(count / world_size)


class Order(Sampler[list[Key]]):
    """Which images make up the batches of the current epoch."""

    def __init__(self, count: int, batch_size: int, seed: int, epoch: int, start: int, ranks: Ranks) -> None:
        self.count, self.batch_size, self.seed, self.ranks = count, batch_size, seed, ranks
        self.epoch, self.start = epoch, start

    @property
    def share(self) -> int:
        """Images of this rank in an epoch."""
        return images_each(self.count, self.ranks.world_size)

    def __len__(self) -> int:
        return max(math.ceil(self.share / self.batch_size) - self.start, 0)

    def __iter__(self) -> Iterator[list[Key]]:
        generator = default_rng(SeedSequence(self.seed, spawn_key=(self.epoch,)))
        order = np.resize(generator.permutation(self.count), self.share * self.ranks.world_size)
        keys = [(self.epoch, index) for index in order[self.ranks.rank :: self.ranks.world_size].tolist()]
        for first in range(self.start * self.batch_size, self.share, self.batch_size):
            yield keys[first : first + self.batch_size]
