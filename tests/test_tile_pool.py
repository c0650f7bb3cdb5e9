"""Tiles that stay in memory: the same batches, no more bytes than may be taken, nothing decoded twice."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yolov9bench.data import tile_pool
from yolov9bench.data import training_set as module
from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.data.loader import TrainingBatches
from yolov9bench.data.loading import Loading
from yolov9bench.data.tile_pool import TilePool, pool_bytes
from yolov9bench.data.training_sample import training_sample
from yolov9bench.data.training_set import training_set
from yolov9bench.errors import SettingsError
from yolov9bench.ops.images import read_image
from yolov9bench.zoo.recipes import YOLOV9

SMALL = YOLOV9.varied(augmentation={"image_size": 64})
CLOSING = SMALL.run.epochs - 1
# Tiles of `painted`, whose images have these heights and widths, are 64 px at their long side.
SIZES = [(48, 90), (56, 84), (64, 78), (72, 72), (80, 66), (88, 60)]
TILES = [
    3 * int(height * 64 / max(height, width)) * int(width * 64 / max(height, width))
    for height, width in SIZES
]


@pytest.fixture
def dataset(painted: Path) -> CocoDataset:
    return read_coco(painted, "val")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image is decoded."""
    found: Counter[str] = Counter()

    def read(path: Path) -> Any:
        found[path.name] += 1
        return read_image(path)

    monkeypatch.setattr(module, "read_image", read)
    return found


@pytest.mark.parametrize("room", [0, 1, sum(TILES[:3]), sum(TILES)])
def test_batches_are_the_same_with_any_pool(dataset: CocoDataset, room: int) -> None:
    plain = TrainingBatches(dataset, SMALL, 4, seed=2)
    pooled = TrainingBatches(dataset, SMALL, 4, seed=2, loading=Loading(pool_bytes=room))
    for epoch in (0, 1, CLOSING, 2):
        for (images, targets), (others, other_targets) in zip(
            pooled.of_epoch(epoch), plain.of_epoch(epoch), strict=True
        ):
            assert images.equal(others) and targets.equal(other_targets)


@pytest.mark.slow(10)
def test_workers_with_pools_of_their_own_give_the_same_batches(dataset: CocoDataset) -> None:
    plain = TrainingBatches(dataset, SMALL, 2, seed=2)
    pooled = TrainingBatches(dataset, SMALL, 2, seed=2, loading=Loading(2, pool_bytes=2 * sum(TILES)))
    for epoch in (0, 1):
        for (images, targets), (others, other_targets) in zip(
            pooled.of_epoch(epoch), plain.of_epoch(epoch), strict=True
        ):
            assert images.equal(others) and targets.equal(other_targets)


def test_what_fits_is_decoded_once(dataset: CocoDataset, reads: Counter[str]) -> None:
    batches = TrainingBatches(dataset, SMALL, 4, seed=2, loading=Loading(pool_bytes=sum(TILES)))
    for epoch in range(4):
        list(batches.of_epoch(epoch))
    assert sorted(reads.values()) == [1] * 6
    list(batches.of_epoch(CLOSING))  # where an image is scaled in another way
    assert sorted(reads.values()) == [2] * 6


def test_the_pool_holds_tiles_up_to_its_bytes_and_keeps_what_came_first(
    dataset: CocoDataset, reads: Counter[str]
) -> None:
    images = training_set(dataset, mask_refine=False)
    pool = TilePool(limit=sum(sorted(TILES)[:3]) + 1)
    for index in range(6):
        for epoch in range(3):
            training_sample(images, index, SMALL, 0, epoch, pool)
    kept = {index: tile for index in range(6) if (tile := pool.find(index)) is not None}
    assert 0 < sum(tile.nbytes for tile in kept.values()) <= pool.limit
    assert 1 <= len(kept) <= 3 and not any(tile.flags.writeable for tile in kept.values())
    for index, tile in kept.items():
        assert tile.nbytes == TILES[index]
        assert reads[dataset.images[index].file_name] == 1
    assert max(reads.values()) > 3  # of those that found no room


def test_the_bytes_are_shared_out_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By hand: a hundred images of 480 x 640 are tiles of 230,400 bytes each at 320 px."""
    caplog.set_level(logging.INFO)
    sizes = torch.tensor([[480, 640]] * 100)
    monkeypatch.setattr(tile_pool, "free_memory", lambda: 40_000_000)
    assert pool_bytes(sizes, 320, Loading(pool_bytes=2_304_000)) == 2_304_000
    assert caplog.messages[-1].endswith(
        "up to 0.00 GB of decoded images in the memory of this process: about 10.0 % of 100 images"
    )
    assert pool_bytes(sizes, 320, Loading(workers=2, local_ranks=2, pool_bytes=9_216_000)) == 2_304_000
    assert caplog.messages[-1].endswith("of 4 processes, each its own: about 10.0 % of 100 images")
    assert pool_bytes(sizes, 320, Loading(pool_bytes=10**12)) == 10_000_000  # a quarter of what is free
    assert "about 43.4 %" in caplog.messages[-1]
    monkeypatch.setattr(tile_pool, "free_memory", lambda: None)
    assert pool_bytes(sizes, 320, Loading(pool_bytes=10**12)) == 10**12
    assert "about 100.0 %" in caplog.messages[-1]
    said = len(caplog.messages)
    assert pool_bytes(sizes, 320, Loading()) == 0
    assert pool_bytes(sizes, 320, Loading(cache="ram", pool_bytes=10**9)) == 0
    assert len(caplog.messages) == said
    with pytest.raises(SettingsError, match=r"^pool_bytes is -1: give 0 or more"):
        Loading(pool_bytes=-1)


def test_a_kept_tile_cannot_be_written_into() -> None:
    pool = TilePool(limit=10)
    pool.keep(3, np.zeros((1, 2, 3), np.uint8))
    tile = pool.find(3)
    assert tile is not None and pool.find(2) is None
    with pytest.raises(ValueError, match="read-only"):
        tile[0] = 1
    pool.keep(4, np.zeros((1, 2, 3), np.uint8))  # which would be 12 bytes in all
    assert pool.find(4) is None
