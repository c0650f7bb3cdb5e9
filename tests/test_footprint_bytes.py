"""Predicted training memory against bytes worked out by hand, from above and from below."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from yolov9bench.nn.detector import Detector, build
from yolov9bench.profiling import training_memory
from yolov9bench.profiling.box_counts import COCO_BOXES, COCO_IMAGES, fullest
from yolov9bench.profiling.memory_tracker import LiveBytes, counted
from yolov9bench.profiling.training_memory import Workload
from yolov9bench.train.state import make_state
from yolov9bench.zoo import RECIPES
from yolov9bench.zoo.recipe import Recipe
from yolov9bench.zoo.specs import Head, yolov8

SMALL = yolov8("small", (8, 8, 16, 16, 16), (1, 1), Head("dense", 16, 16))
HEAVY = yolov8("heavy", (32, 64, 128, 256, 512), (1, 1), Head("dense", 64, 80))
RECIPE: Recipe = RECIPES["yolov8-n"].varied(run={"amp": False})


@pytest.mark.accuracy
def test_a_heavy_network_on_a_small_image_takes_five_copies_of_its_weights() -> None:
    """In float32: weights, average, gradients, momentum, SGD's copy of decayed gradients; 20 bytes each.

    The feature maps of one image of 64 px are small beside them. Without momentum, or without the average,
    16 bytes a parameter would be left.
    """
    weights = sum(parameter.numel() for parameter in Detector(HEAVY, 80).parameters())
    assert weights > 5_000_000
    bytes_ = training_memory.predict_training_step(Workload(HEAVY, RECIPE, 64, 1, 1))
    assert 20 * weights < bytes_ < 20 * weights * 1.05


def in_blocks(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of tensors that each begin a block of 512 bytes."""
    return sum(512 * math.ceil(tensor.numel() * tensor.element_size() / 512) for tensor in tensors)


def test_before_the_first_step_there_are_the_detector_its_average_and_the_targets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not the batch of images, which the loader keeps in the host's memory: 98,304 bytes."""
    seen: list[int] = []
    batches = []

    @contextmanager
    def watched(marked: Any) -> Iterator[LiveBytes]:
        with counted(marked) as memory:

            def step(work: Workload, state: Any, batch: Any) -> None:
                seen.append(memory.live)
                batches.append([(part.dtype, tuple(part.shape)) for part in batch])

            monkeypatch.setattr(training_memory, "train_step", step)
            monkeypatch.setattr(training_memory, "warm_up", step)
            yield memory

    monkeypatch.setattr(training_memory, "counted", watched)
    training_memory.predict_training_step(Workload(SMALL, RECIPE, 64, 8, 10))
    detector = Detector(SMALL, 80)
    state = in_blocks([*detector.parameters(), *detector.buffers()])
    targets = 2048  # 80 boxes of six float32 numbers are 1,920 bytes
    assert seen == [2 * state + targets] * 2
    assert batches == [[(torch.uint8, (8, 3, 64, 64)), (torch.float32, (80, 6))]] * 2


def test_steps_are_taken_until_the_optimiser_has_its_momentum(monkeypatch: pytest.MonkeyPatch) -> None:
    """float16 overflows at first, and then no step is taken: here three times."""
    work = Workload(SMALL, RECIPE, 64, 1, 1)
    state = make_state(build(SMALL, 80), RECIPE, 16, "float32")
    calls: list[int] = []

    def step(work: Workload, state: Any, batch: Any) -> None:
        calls.append(len(calls))
        state.skipped_in_a_row = len(calls) if len(calls) <= 3 else 0

    monkeypatch.setattr(training_memory, "train_step", step)
    training_memory.warm_up(work, state, (torch.empty(0), torch.empty(0)))
    assert len(calls) == 4


@pytest.mark.parametrize(
    ("batch_size", "gpus", "batches", "accumulation"),
    [
        (16, 8, 925, 1),  # 118,287 images in batches of 128 are 924.1 of them
        (16, 1, 7393, 4),  # 7,392.9; 64 images a step
        (1, 1, 118_287, 64),
        (4, 8, 3697, 2),  # 3,696.5
    ],
)
def test_an_epoch_is_all_of_cocos_images(batch_size: int, gpus: int, batches: int, accumulation: int) -> None:
    """The last batch of an epoch may be smaller; what waits for a step is that after the warm-up."""
    work = Workload(SMALL, RECIPE.varied(run={"gpus": gpus}), 640, batch_size, 1)
    assert work.schedule.batches_per_epoch == batches
    assert work.schedule.images_per_iteration == batch_size * gpus
    assert work.accumulation == accumulation


def test_anchors_of_an_image_bound_those_of_an_image_not_of_the_batch() -> None:
    """640 px have 8,400 anchors; 1,000 boxes of 10 anchors claim all of them, in each of 4 images."""
    work = Workload(SMALL, RECIPE.varied(assigner={"topk": 10}), 640, 2, 1000)
    assert work.positives(4) == 4 * 8400
    assert work.marked(torch.Size([4, 8400])) == 4 * 8400
    assert work.marked(torch.Size([1, 8400])) == 8400


@pytest.mark.parametrize(("amp", "precision"), [(True, "float16"), (False, "float32")])
def test_precision_is_the_recipes(amp: bool, precision: str) -> None:
    assert Workload(SMALL, RECIPE.varied(run={"amp": amp}), 64, 1, 1).precision == precision


def test_the_fullest_mosaic_by_the_sum_of_four_geometric_laws() -> None:
    """Convolved number by number, without the binomial's formula."""
    end = COCO_IMAGES / (COCO_IMAGES + COCO_BOXES)
    one = [end * (1 - end) ** count for count in range(400)]
    two = [sum(one[a] * one[count - a] for a in range(count + 1)) for count in range(400)]
    four = [sum(two[a] * two[count - a] for a in range(count + 1)) for count in range(400)]
    for images in (1, 8, 16):
        shares = [math.fsum(four[: count + 1]) ** images for count in range(400)]
        assert fullest(images) == next(count for count, share in enumerate(shares) if share >= 0.5)


def test_cocos_counts_of_boxes_and_images() -> None:
    """860,001 boxes of train2017 less its 10,052 crowds, as its annotation file has them."""
    assert (COCO_BOXES, COCO_IMAGES) == (860_001 - 10_052, 118_287)


@pytest.mark.parametrize(("numbers", "blocks"), [(0, 0), (1, 1), (128, 1), (129, 2), (1280, 10), (1281, 11)])
def test_a_request_is_rounded_up_to_whole_blocks(numbers: int, blocks: int) -> None:
    """float32 numbers in blocks of 512 bytes."""
    with counted() as memory:
        tensor = torch.empty(numbers)
        assert memory.live == 512 * blocks
        del tensor
    assert (memory.live, memory.peak) == (0, 512 * blocks)


def test_the_peak_stays_when_memory_is_given_back() -> None:
    """4 KiB and 2 KiB at once, then 4 and 1: the peak is 6 KiB."""
    with counted() as memory:
        long = torch.empty(1024)
        short = torch.empty(512)
        del short
        shorter = torch.empty(256)
        assert (memory.live, memory.peak) == (5120, 6144)
        del long, shorter
    assert (memory.live, memory.peak) == (0, 6144)


def test_what_is_left_out_is_left_out_once() -> None:
    with counted() as memory:
        batch, other = torch.empty(1024), torch.empty(1024)
        memory.leave_out(batch)
        memory.leave_out(batch)
        assert memory.live == 4096
        del batch
        assert memory.live == 4096
        del other
    assert memory.live == 0


def test_places_and_chosen_indices_are_eight_bytes_each() -> None:
    """nonzero gives int64: 100 marked of a mask in two dimensions are 1,600 bytes, four blocks."""
    with counted(lambda shape: 100) as memory:
        mask = torch.empty(16, 32, dtype=torch.bool)  # one block
        places = mask.nonzero()
        assert (places.dtype, places.shape, memory.live) == (torch.int64, (100, 2), 512 + 2048)
        del mask, places
