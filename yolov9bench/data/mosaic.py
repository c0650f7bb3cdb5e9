"""Augmentation that mixes images or objects: mosaic, copy-paste and mixup, drawn and applied apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from yolov9bench.data.polygons import Boxes, filled
from yolov9bench.data.transforms import Sample, mirrored
from yolov9bench.ops.images import GREY, resize_long_side
from yolov9bench.zoo.recipe import AugmentationSettings

CENTRE_RANGE = (0.5, 1.5)  # where the four tiles meet on either axis, in sides of a tile; both references


def tile(sample: Sample, size: int) -> Sample:
    """An image as part of a mosaic: the long side scaled to `size` pixels, bilinearly also downwards.

    Boxes are scaled by the ratio of the long side, polygons as the truncated sides are, as in mmyolo 0.6.0.
    """
    pixels = resize_long_side(sample.pixels, size, "truncate", "linear")
    height, width = sample.shape
    sides = np.array([pixels.shape[1] / width, pixels.shape[0] / height], np.float32)
    polygons = tuple(None if polygon is None else polygon * sides for polygon in sample.polygons)
    return Sample(pixels, sample.boxes * np.float32(size / max(height, width)), sample.labels, polygons)


@dataclass(frozen=True)
class Mosaic:
    """Four tiles of at most `size` pixels a side that meet at `centre` (x, y) of a canvas twice as large.

    `others` are the numbers of the images beside the first. `places` says where the first and the others
    go: 0 top left, 1 top right, 2 bottom left, 3 bottom right.
    """

    others: tuple[int, int, int]
    centre: tuple[int, int]
    size: int
    places: tuple[int, ...] = (0, 1, 2, 3)


def draw_mosaic(generator: Generator, count: int, settings: AugmentationSettings) -> Mosaic:
    """A centre, and three of `count` images, which may repeat one another and the first."""
    x, y = generator.uniform(*CENTRE_RANGE, 2) * settings.image_size
    second, third, fourth = generator.integers(count, size=3)
    mosaic = Mosaic((int(second), int(third), int(fourth)), (int(x), int(y)), settings.image_size)
    return (
        replace(mosaic, places=tuple(generator.permutation(4).tolist()))
        if settings.mosaic_shuffled
        else mosaic
    )


def apply_mosaic(tiles: Sequence[Sample], mosaic: Mosaic) -> Sample:
    """Four tiles at their places on grey 114; objects are clipped to the whole canvas."""
    side = 2 * mosaic.size
    canvas = np.full((side, side, 3), GREY, np.uint8)
    boxes, polygons = [], []
    for place, part in zip(mosaic.places, tiles, strict=True):
        height, width = part.shape
        left = mosaic.centre[0] - width * (place % 2 == 0)
        top = mosaic.centre[1] - height * (place < 2)
        # What of the tile is on the canvas: rows and columns of the canvas, then of the tile.
        rows, columns = (max(top, 0), min(top + height, side)), (max(left, 0), min(left + width, side))
        canvas[slice(*rows), slice(*columns)] = part.pixels[
            rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left
        ]
        corner = np.array([left, top], np.float32)
        boxes.append((part.boxes + np.tile(corner, 2)).clip(0, side))
        polygons += [
            None if polygon is None else (polygon + corner).clip(0, side) for polygon in part.polygons
        ]
    labels = np.concatenate([part.labels for part in tiles])
    return Sample(canvas, np.concatenate(boxes), labels, tuple(polygons))


@dataclass(frozen=True)
class CopyPaste:
    """The objects to paste again, mirrored left to right with the whole image."""

    chosen: tuple[int, ...]


def draw_copy_paste(generator: Generator, sample: Sample, settings: AugmentationSettings) -> CopyPaste:
    """A share of the objects that have a polygon and whose mirrored box hides little of every box."""
    hidden = covered_share(mirrored(sample).boxes, sample.boxes)
    has_polygon = np.array([polygon is not None for polygon in sample.polygons], bool)
    admissible = np.flatnonzero((hidden < settings.copy_paste_overlap).all(axis=1) & has_polygon)
    count = round(settings.copy_paste * len(admissible))
    return CopyPaste(tuple(generator.choice(admissible, count, replace=False).tolist()))


def covered_share(covering: Boxes, boxes: Boxes) -> NDArray[np.floating]:
    """Boxes [n, 4] and [m, 4] -> [n, m]: the share of each of the m that each of the n covers."""
    low = np.maximum(covering[:, None, :2], boxes[None, :, :2])
    high = np.minimum(covering[:, None, 2:], boxes[None, :, 2:])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return np.asarray((high - low).clip(0).prod(axis=2) / np.maximum(area, 1e-6))


def apply_copy_paste(sample: Sample, copy_paste: CopyPaste) -> Sample:
    """Paste what lies in the chosen objects' polygons at the mirrored place, and append these objects."""
    chosen = list(copy_paste.chosen)
    outlines = [polygon for number in chosen if (polygon := sample.polygons[number]) is not None]
    if not outlines:
        return sample
    mirror = mirrored(sample)
    mask = cv2.flip(filled(outlines, sample.shape), 1)
    pixels = cv2.copyTo(cv2.flip(sample.pixels, 1), mask, sample.pixels.copy())
    return Sample(
        pixels=np.asarray(pixels, np.uint8),
        boxes=np.concatenate([sample.boxes, mirror.boxes[chosen]]),
        labels=np.concatenate([sample.labels, sample.labels[chosen]]),
        polygons=sample.polygons + tuple(mirror.polygons[number] for number in chosen),
    )


@dataclass(frozen=True)
class MixUp:
    """The number of the image to blend in, and the share of the first one in the blend."""

    other: int
    share: float


def draw_mixup(generator: Generator, count: int, settings: AugmentationSettings) -> MixUp | None:
    """Now and then one of `count` images, blended about half and half."""
    if generator.random() >= settings.mixup_prob:
        return None
    share = float(generator.beta(settings.mixup_beta, settings.mixup_beta))
    return MixUp(int(generator.integers(count)), share)


def apply_mixup(sample: Sample, other: Sample, mixup: MixUp) -> Sample:
    """Blend two images of one shape, fractions cut off, and keep the objects of both with full weight."""
    blend = sample.pixels * mixup.share + other.pixels * (1 - mixup.share)
    return replace(
        sample,
        pixels=blend.astype(np.uint8),
        boxes=np.concatenate([sample.boxes, other.boxes]),
        labels=np.concatenate([sample.labels, other.labels]),
        polygons=sample.polygons + other.polygons,
    )
