"""Batches beside those of the plain arithmetic of `plain_augmentation`, on real images: equal to the bit."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_augmentation import plain_batch, plain_sample

from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.data.loader import TrainingBatches
from yolov9bench.data.training_set import training_set
from yolov9bench.zoo.recipe import Recipe
from yolov9bench.zoo.recipes import RECIPES

IMAGES, BATCH_SIZE, SEED = 24, 8, 3


@pytest.fixture(scope="module")
def real(shared: Path) -> CocoDataset:
    return read_coco(shared / "coco", "train2017", limit=IMAGES)


def digest(images: Any, targets: Any) -> str:
    return hashlib.sha256(images.tobytes() + targets.tobytes()).hexdigest()


def hashes(dataset: CocoDataset, recipe: Recipe, epoch: int) -> list[str]:
    """Of the library's batches."""
    batches = TrainingBatches(dataset, recipe, BATCH_SIZE, SEED, epoch)
    return [digest(images.numpy(), targets.numpy()) for images, targets in batches]


def plain_hashes(dataset: CocoDataset, recipe: Recipe, epoch: int) -> list[str]:
    """Of the batches of plain samples, in the order that the seed gives."""
    images = training_set(dataset, recipe.augmentation.mask_refine)
    generator = np.random.default_rng(np.random.SeedSequence(SEED, spawn_key=(epoch,)))
    order = generator.permutation(len(images)).tolist()
    samples = [plain_sample(images, index, recipe, SEED, epoch) for index in order]
    parts = [samples[first : first + BATCH_SIZE] for first in range(0, len(samples), BATCH_SIZE)]
    return [digest(*plain_batch(part)) for part in parts]


@pytest.mark.slow(10)
@pytest.mark.parametrize(
    ("name", "size"),
    [("yolov8-n", 640), ("yolov9", 640), ("yolov8-n", 320), ("yolov9", 320), ("yolov8-l-mask-refine", 320)],
)
def test_batches_are_those_of_the_plain_arithmetic(real: CocoDataset, name: str, size: int) -> None:
    """In a first and in a closing epoch; mixup, copy-paste and rare filters more often than by the recipe."""
    changed: dict[str, Any] = {"image_size": size, "rare_filter_prob": 0.1}
    if name != "yolov8-n":
        changed |= {"mixup_prob": 0.4}
    recipe = RECIPES[name].varied(augmentation=changed)
    for epoch in (0, recipe.run.epochs - 1):
        assert hashes(real, recipe, epoch) == plain_hashes(real, recipe, epoch)
