"""Training samples by whole canvases, an image and an object at a time: the library's equal them to the bit.

What is drawn comes from the library, and so do the steps that are taken there as they stand here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from yolov9bench.data.mosaic import CopyPaste, Mosaic, apply_mixup, draw_mixup, draw_mosaic
from yolov9bench.data.outlines import extent_inside, filled
from yolov9bench.data.training_set import TrainingSet
from yolov9bench.data.transforms import (
    Affine,
    Sample,
    apply_rare_filters,
    draw_affine,
    draw_flip,
    draw_hsv,
    draw_rare_filters,
    letterboxed,
)
from yolov9bench.ops.images import resize_long_side
from yolov9bench.zoo.recipe import AugmentationSettings, Recipe


def plain_sample(dataset: TrainingSet, index: int, recipe: Recipe, seed: int, epoch: int) -> Sample:
    """As `loader.training_sample`."""
    settings = recipe.augmentation
    generator = default_rng(SeedSequence(seed, spawn_key=(epoch, index)))
    if epoch >= recipe.run.epochs - settings.close_mosaic or generator.random() >= settings.mosaic_prob:
        colour, shrinking = settings.closing_pad_bgr, settings.closing_shrinking
        sample = letterboxed(dataset.load(index), settings.image_size, colour, shrinking)
        sample = warped(sample, draw_affine(generator, sample.shape, settings, closing=True))
    else:
        sample = mosaic_sample(dataset, index, settings, generator)
        mixup = draw_mixup(generator, len(dataset), settings)
        if mixup is not None:
            sample = apply_mixup(sample, mosaic_sample(dataset, mixup.other, settings, generator), mixup)
    sample = apply_rare_filters(sample, draw_rare_filters(generator, settings))
    sample = recoloured(sample, draw_hsv(generator, settings))
    return flipped(sample) if draw_flip(generator, settings) else sample


def mosaic_sample(
    dataset: TrainingSet, index: int, settings: AugmentationSettings, generator: Generator
) -> Sample:
    """Four tiles, all of them decoded, on a whole canvas; copy-paste; warp."""
    drawn = draw_mosaic(generator, len(dataset), settings)
    tiles = [resized(dataset.load(number), settings.image_size) for number in (index, *drawn.others)]
    sample = canvas_of(tiles, drawn)
    sample = pasted(sample, chosen_objects(generator, sample, settings))
    return warped(sample, draw_affine(generator, sample.shape, settings, closing=False))


def resized(sample: Sample, size: int) -> Sample:
    """As `mosaic.tile`."""
    pixels = resize_long_side(sample.pixels, size, "truncate", "linear")
    height, width = sample.shape
    sides = np.array([pixels.shape[1] / width, pixels.shape[0] / height], np.float32)
    polygons = tuple(None if polygon is None else polygon * sides for polygon in sample.polygons)
    return Sample(pixels, sample.boxes * np.float32(size / max(height, width)), sample.labels, polygons)


def canvas_of(tiles: Sequence[Sample], mosaic: Mosaic) -> Sample:
    """As `mosaic.apply_mosaic`."""
    side = 2 * mosaic.size
    canvas = np.full((side, side, 3), 114, np.uint8)
    boxes, polygons = [], []
    for place, part in zip(mosaic.places, tiles, strict=True):
        height, width = part.shape
        left = mosaic.centre[0] - width * (place % 2 == 0)
        top = mosaic.centre[1] - height * (place < 2)
        for row in range(max(top, 0), min(top + height, side)):
            first, last = max(left, 0), min(left + width, side)
            canvas[row, first:last] = part.pixels[row - top, first - left : last - left]
        corner = np.array([left, top], np.float32)
        boxes.append((part.boxes + np.tile(corner, 2)).clip(0, side))
        for polygon in part.polygons:
            polygons.append(None if polygon is None else (polygon + corner).clip(0, side))
    labels = np.concatenate([part.labels for part in tiles])
    return Sample(canvas, np.concatenate(boxes), labels, tuple(polygons))


def flipped(sample: Sample) -> Sample:
    """As `transforms.apply_flip`."""
    width = np.float32(sample.shape[1])
    polygons = tuple(
        None if polygon is None else np.stack([width - polygon[:, 0], polygon[:, 1]], axis=1)
        for polygon in sample.polygons
    )
    x1, y1, x2, y2 = sample.boxes.T
    boxes = np.stack([width - x2, y1, width - x1, y2], axis=1)
    return Sample(sample.pixels[:, ::-1], boxes, sample.labels, polygons)


def chosen_objects(generator: Generator, sample: Sample, settings: AugmentationSettings) -> CopyPaste:
    """As `mosaic.draw_copy_paste`, the share that a mirrored box hides of each box one pair at a time."""
    admissible = []
    for number, (x1, y1, x2, y2) in enumerate(flipped(sample).boxes):
        hidden = []
        for left, top, right, bottom in sample.boxes:
            width = max(min(x2, right) - max(x1, left), np.float32(0))
            height = max(min(y2, bottom) - max(y1, top), np.float32(0))
            hidden.append(width * height / max((right - left) * (bottom - top), np.float32(1e-6)))
        if sample.polygons[number] is not None and max(hidden) < settings.copy_paste_overlap:
            admissible.append(number)
    count = round(settings.copy_paste * len(admissible))
    return CopyPaste(tuple(generator.choice(np.array(admissible, int), count, replace=False).tolist()))


def pasted(sample: Sample, copy_paste: CopyPaste) -> Sample:
    """As `mosaic.apply_copy_paste`."""
    chosen = list(copy_paste.chosen)
    outlines = [polygon for number in chosen if (polygon := sample.polygons[number]) is not None]
    if not outlines:
        return sample
    mirror = flipped(sample)
    is_pasted = filled(outlines, sample.shape)[:, ::-1, None] > 0
    return Sample(
        np.where(is_pasted, mirror.pixels, sample.pixels),
        np.concatenate([sample.boxes, mirror.boxes[chosen]]),
        np.concatenate([sample.labels, sample.labels[chosen]]),
        sample.polygons + tuple(mirror.polygons[number] for number in chosen),
    )


def warped(sample: Sample, affine: Affine) -> Sample:
    """As `transforms.apply_affine`, which knows the pixels that a warp gives no better than OpenCV."""
    height, width = affine.shape
    grey = (114, 114, 114)
    pixels = cv2.warpAffine(sample.pixels, affine.matrix, (width, height), flags=1, borderValue=grey)
    turn, shift = affine.matrix[:, :2].T, affine.matrix[:, 2]
    corners = sample.boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] @ turn + shift
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    boxes = boxes.clip(0, [width, height, width, height]).astype(np.float32)
    for number, polygon in enumerate(sample.polygons):
        if affine.mask_refine and polygon is not None:
            boxes[number] = extent_inside(polygon @ turn + shift, affine.shape)
    kept = worth_keeping(sample, boxes, affine)
    return Sample(np.asarray(pixels, np.uint8), boxes[kept], sample.labels[kept], (None,) * int(kept.sum()))


def worth_keeping(sample: Sample, after: NDArray[np.float32], affine: Affine) -> NDArray[np.bool_]:
    """Which boxes are within an Affine's limits."""
    with_polygons = any(polygon is not None for polygon in sample.polygons)
    least = affine.min_area_ratio if with_polygons else affine.min_area_ratio_of_boxes
    width, height = (after[:, 2:] - after[:, :2]).T
    area = (sample.boxes[:, 2:] - sample.boxes[:, :2]).prod(axis=1) * affine.scale**2
    aspect = np.maximum(width / (height + 1e-16), height / (width + 1e-16))
    is_large = np.minimum(width, height) > affine.min_box_side
    return np.asarray(is_large & (width * height / (area + 1e-16) > least) & (aspect < affine.max_aspect))


def recoloured(sample: Sample, factors: tuple[float, float, float]) -> Sample:
    """As `transforms.apply_hsv`, every pixel by arithmetic of its own."""
    hsv = cv2.cvtColor(sample.pixels, cv2.COLOR_BGR2HSV) * np.array(factors)
    hsv[..., 0] %= 180
    hsv = hsv.clip(0, 255).astype(np.uint8)
    return replace(sample, pixels=np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), np.uint8))


def plain_batch(samples: Sequence[Sample]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """As `loader` puts samples together: images [B, 3, S, S] in RGB, targets [n, 6]."""
    images = np.stack([sample.pixels[..., ::-1].transpose(2, 0, 1) for sample in samples])
    rows = [
        (float(number), float(label), *box.tolist())
        for number, sample in enumerate(samples)
        for label, box in zip(sample.labels.tolist(), sample.boxes, strict=True)
    ]
    return images, np.array(rows, np.float32).reshape(-1, 6)
