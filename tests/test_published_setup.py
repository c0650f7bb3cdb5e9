"""The set-up behind the published memory: bytes by hand, the law of shown boxes by drawing mosaics."""

import json
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yolov9bench.data.polygons import objects_of
from yolov9bench.data.training_sample import training_sample
from yolov9bench.data.training_set import TrainingSet, pack_training_set
from yolov9bench.nn.detector import Detector
from yolov9bench.nn.head import Level, Levels
from yolov9bench.ops.images import Pixels
from yolov9bench.profiling import published_setup
from yolov9bench.profiling.box_counts import COCO_BOXES, COCO_IMAGES, fullest, fullest_shown, shown_boxes
from yolov9bench.profiling.memory_tracker import counted
from yolov9bench.profiling.training_memory import Workload, predict_training_step
from yolov9bench.zoo import RECIPES, ROWS
from yolov9bench.zoo.recipe import AugmentationSettings
from yolov9bench.zoo.specs import Head, yolov8

SMALL = yolov8("small", (8, 8, 16, 16, 16), (1, 1), Head("dense", 16, 16))
RECIPE = RECIPES["yolov8-n"]
MEAN = COCO_BOXES / COCO_IMAGES
ALONE = replace(RECIPE.augmentation, mosaic_prob=0.0)  # every image by itself, none of its boxes cropped


def test_buckets_and_gradients_are_four_bytes_a_parameter() -> None:
    """yolov8-n has 3,157,184 parameters: 12,628,736 bytes."""
    assert published_setup.gradient_bytes(Detector(ROWS["yolov8-n"].spec, 80)) == 12_628_736
    work = Workload(ROWS["yolov8-n"].spec, RECIPE, 640, 16, 65, 800, "published")
    assert work.settings().gradient_bytes == 12_628_736


def test_the_assigners_tensors_by_hand() -> None:
    """2 images, 3 boxes, 5 anchors, 4 chosen: 30 pairs, 24 choices, 120 one-hot numbers.

    Overlaps, metrics, those inside: 3 * 30 * 4 = 360; inside: 30; choices: 24 * 8 = 192; one-hot: 120 * 8 =
    960; their sum: 30 * 8 = 240.
    """
    assert published_setup.assigner_bytes(2, 3, 5, 4) == 360 + 30 + 192 + 960 + 240
    forms = published_setup.assigner_tensors(2, 3, 5, 4)
    assert sorted(shape for shape, _ in forms) == [
        *[(2, 3, 4)],
        *[(2, 3, 4, 5)],
        *[(2, 3, 5)] * 5,
    ]


def test_one_hot_vectors_are_what_torch_makes_of_them() -> None:
    """The type and shape that are counted, by torch's own functions on tensors with data."""
    metrics = torch.rand(2, 3, 5)
    chosen = metrics.topk(4).indices
    one_hot = torch.nn.functional.one_hot(chosen, 5)
    forms = published_setup.assigner_tensors(2, 3, 5, 4)
    made = [chosen, one_hot, one_hot.sum(dim=-2)]
    assert [(tuple(each.shape), each.dtype) for each in made] == forms[-3:]


def test_an_assignment_takes_its_tensors_and_its_input() -> None:
    """All alive at once, and none after it: 64 px have 84 anchors, and blocks are of 512 bytes."""
    with counted() as memory:
        levels: Any = tuple(
            Level(torch.empty(2, 64, side, side), torch.empty(2, 80, side, side, dtype=torch.float16))
            for side in (8, 4, 2)
        )
        before = memory.live
        published_setup.allocate_assignment(levels, 7, 10)
        assert memory.live == before
        taken = memory.peak - before
        del levels
    boxes_and_scores = 2 * 84 * (4 * 4 + 80 * 2)
    tensors = published_setup.assigner_bytes(2, 7, 84, 10) + boxes_and_scores
    assert tensors <= taken < tensors + 9 * 512


def test_buckets_gradients_and_assigner_are_added_to_a_step() -> None:
    """In float32 without mixed precision; the hook runs once a forward pass."""
    detector = Detector(SMALL, 80)
    buckets = published_setup.add_to_step(detector, 3, 10)
    parameters = list(detector.parameters())
    assert buckets.numel() * buckets.element_size() == published_setup.gradient_bytes(detector)
    assert all(each.grad is not None and not each.grad.any() for each in parameters)
    seen: list[tuple[int, int]] = []

    def allocate(levels: Levels, boxes: int, topk: int) -> None:
        seen.append((boxes, topk))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published_setup, "allocate_assignment", allocate)
        detector(torch.zeros(2, 3, 64, 64))
    assert seen == [(3, 10)]


@pytest.mark.accuracy
def test_the_published_set_up_takes_more_than_ours_and_more_with_more_boxes() -> None:
    """At least the buckets more; with 200 boxes more than with 30."""
    own = predict_training_step(Workload(SMALL, RECIPE, 64, 4, 30))
    published = [
        predict_training_step(Workload(SMALL, RECIPE, 64, 4, boxes, None, "published")) for boxes in (30, 200)
    ]
    buckets = published_setup.gradient_bytes(Detector(SMALL, 80))
    assert published[0] >= own + buckets
    assert published[1] > published[0]


@pytest.mark.accuracy
def test_the_assigner_decides_the_peak_at_full_size() -> None:
    """yolov8-n at 640 px, 4 images: 20 boxes more take 20 times 4 * (8400 * 101 + 80) bytes more."""
    spec = ROWS["yolov8-n"].spec
    fewer, more = (
        predict_training_step(Workload(spec, RECIPE, 640, 4, boxes, None, "published")) for boxes in (60, 80)
    )
    assert more - fewer == pytest.approx(20 * 4 * (8400 * 101 + 80), abs=64 * 512)


def test_a_single_image_shows_all_its_boxes() -> None:
    """Without a mosaic: COCO's mean, and the geometric law's probabilities by hand."""
    law = shown_boxes(ALONE)
    end = 1 / (1 + MEAN)
    assert law.sum() == pytest.approx(1)
    assert law[:3] == pytest.approx([end, end * (1 - end), end * (1 - end) ** 2])
    assert law @ np.arange(len(law)) == pytest.approx(MEAN)


def test_mixup_adds_a_second_image_and_copy_paste_repeats_a_share() -> None:
    """Means by hand; and mixup's law by the sum over all pairs of numbers."""
    alone = shown_boxes(ALONE)
    numbers = np.arange(len(alone))
    mixed = shown_boxes(replace(ALONE, mixup_prob=0.15))
    pairs = np.convolve(alone, alone)[: len(alone)]
    assert mixed == pytest.approx(0.85 * alone + 0.15 * pairs, abs=1e-12)
    assert mixed @ numbers == pytest.approx(1.15 * MEAN)
    pasted = shown_boxes(replace(ALONE, copy_paste=0.3))
    assert pasted @ numbers == pytest.approx(1.3 * MEAN)


def drawn_counts(settings: AugmentationSettings, count: int) -> np.ndarray[Any, Any]:
    """Boxes shown by so many mosaics: every box a point in pixels, each image 640 x 480, all by chance."""
    generator, size = np.random.default_rng(0), 640
    centres = generator.uniform(0.5 * size, 1.5 * size, (2, count))
    scale = generator.uniform(*settings.scale_range, count)
    moved = generator.uniform(0.5 - settings.translate, 0.5 + settings.translate, (2, count)) * size
    shown = np.zeros(count, int)
    for right in (False, True):
        for below in (False, True):
            boxes = generator.geometric(1 / (1 + MEAN), count) - 1
            mosaic = np.repeat(np.arange(count), boxes)
            inside = np.ones(len(mosaic), bool)
            for axis, (length, behind) in enumerate(((640, right), (480, below))):
                point = generator.uniform(0, length, len(mosaic)) + centres[axis][mosaic]
                point -= 0 if behind else length
                warped = scale[mosaic] * (point - size) + moved[axis][mosaic]
                inside &= (point > 0) & (point < 2 * size) & (warped > 0) & (warped < size)
            shown += np.bincount(mosaic[inside], minlength=count)
    return shown


@pytest.mark.parametrize("name", ["yolov8-n", "yolov8-l"])
def test_shown_boxes_agree_with_drawn_mosaics(name: str) -> None:
    """Points drawn in pixels: the mean within 2 %, the fullest of 16 and of 800 images within two boxes."""
    settings = RECIPES[name].augmentation
    counts = drawn_counts(settings, 200_000)
    generator = np.random.default_rng(1)
    second = np.where(generator.random(len(counts)) < settings.mixup_prob, generator.permutation(counts), 0)
    law = shown_boxes(settings)
    assert law @ np.arange(len(law)) == pytest.approx((counts + second).mean(), rel=0.02)
    for images in (16, 800):
        batches = (counts + second)[: len(counts) // images * images].reshape(-1, images)
        assert fullest_shown(settings, images) == pytest.approx(np.median(batches.max(axis=1)), abs=2)


def test_the_fullest_grows_with_images_mixup_and_copy_paste_and_not_beyond_all_boxes() -> None:
    rows = [RECIPES[name].augmentation for name in ("yolov8-n", "yolov8-m", "yolov8-l-mask-refine")]
    numbers = [fullest_shown(settings, 800) for settings in rows]
    assert numbers == sorted(set(numbers))
    of_images = [fullest_shown(rows[0], images) for images in (1, 16, 800)]
    assert all(one < other for one, other in pairwise(of_images))
    assert fullest_shown(rows[0], 16) < fullest(16)


class Blank(TrainingSet):
    """The images of a data set without their content."""

    def pixels(self, index: int) -> Pixels:
        return np.zeros((*self.sizes[index].tolist(), 3), np.uint8)


@pytest.mark.accuracy
@pytest.mark.parametrize("name", ["yolov8-n", "yolov8-l"])
def test_the_law_of_shown_boxes_fits_the_training_samples(shared: Path, name: str) -> None:
    """2,400 samples of 300 of COCO's images, which have more boxes than all: the mean within a quarter.

    The law takes boxes for points; a sample keeps those of which a tenth is inside.
    """
    objects, sizes = [], []
    for split in ("train2017", "val2017"):
        content = json.loads((shared / f"coco/annotations/instances_{split}.json").read_text())
        labels = {each["id"]: label for label, each in enumerate(content["categories"])}
        entries = defaultdict(list)
        for entry in content["annotations"]:
            entries[entry["image_id"]].append(entry)
        for image in content["images"]:
            sizes.append((image["height"], image["width"]))
            objects.append(objects_of(entries[image["id"]], labels, *sizes[-1][::-1], False))
    packed = pack_training_set([Path()] * len(sizes), sizes, objects)
    blank = Blank(packed.paths, packed.sizes, packed.objects)
    recipe = RECIPES[name]
    counts = [
        len(training_sample(blank, index, recipe, 0, epoch).labels)
        for epoch in range(8)
        for index in range(len(blank))
    ]
    mean = sum(len(each.labels) for each in objects) / len(blank)
    law = shown_boxes(recipe.augmentation)
    assert law @ np.arange(len(law)) / MEAN == pytest.approx(np.mean(counts) / mean, rel=0.25)
