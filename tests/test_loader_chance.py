"""On what the chance of a training batch depends, and on what it does not."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.data.loader import TrainingBatches
from yolov9bench.data.training_sample import training_sample
from yolov9bench.data.training_set import pack_training_set, training_set
from yolov9bench.zoo.recipes import YOLOV8_N, YOLOV9

# Leaves nothing to chance but the order.
STILL = YOLOV8_N.varied(
    augmentation={
        "image_size": 64,
        "mosaic_prob": 0.0,
        "rare_filter_prob": 0.0,
        "scale_range": (1.0, 1.0),
        "translate": 0.0,
        "hsv_gains": (0.0, 0.0, 0.0),
        "hflip_prob": 0.0,
    }
)


@pytest.fixture
def dataset(tiny: Path) -> CocoDataset:
    return read_coco(tiny, "val")


def order(dataset: CocoDataset, seed: int, epoch: int) -> list[bytes]:
    batches = TrainingBatches(dataset, STILL, 1, seed=seed, epoch=epoch)
    return [images.numpy().tobytes() for images, _ in batches]


def test_the_order_depends_on_the_seed(dataset: CocoDataset) -> None:
    """Each image comes first about equally often: 10 of 60 times, to 3 standard deviations of 2.9."""
    firsts = Counter(order(dataset, seed, epoch=2)[0] for seed in range(60))
    assert len(firsts) == 6
    assert all(1 <= count <= 19 for count in firsts.values())
    assert order(dataset, 5, epoch=2) == order(dataset, 5, epoch=2)


@pytest.mark.parametrize("epoch", [0, YOLOV9.run.epochs - 1])
def test_two_equal_images_have_chances_of_their_own(dataset: CocoDataset, epoch: int) -> None:
    """All six images are made the first one: what differs then is what was drawn for each."""
    images = training_set(dataset, YOLOV9.augmentation.mask_refine)
    shape = images.load(0).shape
    six = pack_training_set([images.paths[0]] * 6, [shape] * 6, [images.objects[0]] * 6)
    recipe = YOLOV9.varied(augmentation={"image_size": 64, "mixup_prob": 0.0})
    seen = {training_sample(six, index, recipe, 0, epoch).pixels.tobytes() for index in range(6)}
    assert len(seen) == 6


def test_batches_leave_the_global_generators_alone(dataset: CocoDataset) -> None:
    torch.manual_seed(3)
    before, numbers = torch.random.get_rng_state(), np.random.get_state()[1]  # type: ignore[index]
    first = list(TrainingBatches(dataset, YOLOV9.varied(augmentation={"image_size": 64}), 2, seed=0))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numbers)  # type: ignore[index]
    torch.manual_seed(4)
    again = list(TrainingBatches(dataset, YOLOV9.varied(augmentation={"image_size": 64}), 2, seed=0))
    assert len(first) == 3
    for (images, targets), (others, other_targets) in zip(first, again, strict=True):
        assert torch.equal(images, others) and torch.equal(targets, other_targets)
