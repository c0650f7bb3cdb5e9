"""Augmentation that mixes images or objects: mosaic, copy-paste and mixup, drawn and applied apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from yolov9bench.data.outlines import Polygon, filled, moved
from yolov9bench.data.polygons import Boxes
from yolov9bench.data.transforms import Part, Sample, blank, mirrored_boxes, mirrored_polygon
from yolov9bench.ops.images import GREY, Pixels, resize_long_side, resized_sides
from yolov9bench.zoo.recipe import AugmentationSettings

CENTRE_RANGE = (0.5, 1.5)  # where the four tiles meet on either axis, in sides of a tile; both references


def tile_pixels(pixels: Pixels, size: int) -> Pixels:
    """An image as part of a mosaic: the long side scaled to `size` pixels, bilinearly also downwards."""
    return resize_long_side(pixels, size, "truncate", "linear")


def tile(sample: Sample, size: int) -> Sample:
    """The objects of an image as part of a mosaic, and blank pixels in place of `tile_pixels`.

    Boxes are scaled by the ratio of the long side, polygons as the truncated sides are, as in mmyolo 0.6.0.
    """
    height, width = sample.shape
    if max(height, width) == size:
        return sample
    shape = resized_sides(sample.shape, size, "truncate")
    sides = np.array([shape[1] / width, shape[0] / height], np.float32)
    polygons = tuple(None if polygon is None else polygon * sides for polygon in sample.polygons)
    return Sample(blank(shape), sample.boxes * np.float32(size / max(height, width)), sample.labels, polygons)


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

    def corner(self, place: int, shape: tuple[int, int]) -> tuple[int, int]:
        """Where on the canvas the top left corner (x, y) of a tile (height, width) lies, or beside it."""
        return self.centre[0] - shape[1] * (place % 2 == 0), self.centre[1] - shape[0] * (place < 2)


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


def lay_out(tiles: Sequence[Sample], mosaic: Mosaic) -> Sample:
    """The objects of four tiles on the canvas, clipped to it; its pixels are blank, see `paint`."""
    side = 2 * mosaic.size
    boxes, polygons = [], []
    for place, part in zip(mosaic.places, tiles, strict=True):
        corner = np.array(mosaic.corner(place, part.shape), np.float32)
        boxes.append((part.boxes + np.tile(corner, 2)).clip(0, side))
        polygons += moved(part.polygons, corner, side)
    labels = np.concatenate([part.labels for part in tiles])
    return Sample(blank((side, side)), np.concatenate(boxes), labels, tuple(polygons))


def find_seen(shapes: Sequence[tuple[int, int]], mosaic: Mosaic, seen: Part) -> list[bool]:
    """Which of four tiles (height, width) reach into a part of the canvas."""
    found = []
    for place, (height, width) in zip(mosaic.places, shapes, strict=True):
        left, top = mosaic.corner(place, (height, width))
        across, down = left < seen.right and left + width > seen.left, top < seen.bottom
        found.append(across and down and top + height > seen.top)
    return found


def paint(tiles: Sequence[Pixels | None], mosaic: Mosaic, seen: Part) -> Pixels:
    """A part of the canvas: the tiles that reach into it at their places on grey 114.

    Beside the part the canvas [2 size, 2 size, 3] is not painted at all, since nothing looks at it.
    """
    side = 2 * mosaic.size
    canvas = np.empty((side, side, 3), np.uint8)
    canvas[seen.top : seen.bottom, seen.left : seen.right] = GREY
    for place, pixels in zip(mosaic.places, tiles, strict=True):
        if pixels is None:
            continue
        height, width = pixels.shape[:2]
        left, top = mosaic.corner(place, (height, width))
        rows = max(top, seen.top), max(min(top + height, seen.bottom), seen.top)
        columns = max(left, seen.left), max(min(left + width, seen.right), seen.left)
        canvas[slice(*rows), slice(*columns)] = pixels[
            rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left
        ]
    return canvas


@dataclass(frozen=True)
class CopyPaste:
    """The objects to paste again, mirrored left to right with the whole image."""

    chosen: tuple[int, ...]


def draw_copy_paste(generator: Generator, sample: Sample, settings: AugmentationSettings) -> CopyPaste:
    """A share of the objects that have a polygon and whose mirrored box hides little of every box."""
    if not settings.copy_paste:
        return CopyPaste(())
    hidden = covered_share(mirrored_boxes(sample.boxes, sample.shape[1]), sample.boxes)
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


def paste_objects(sample: Sample, copy_paste: CopyPaste) -> Sample:
    """Append the chosen objects, mirrored; the pixels stay, see `paste_pixels`."""
    chosen, width = list(copy_paste.chosen), sample.shape[1]
    if not chosen:
        return sample
    return replace(
        sample,
        boxes=np.concatenate([sample.boxes, mirrored_boxes(sample.boxes[chosen], width)]),
        labels=np.concatenate([sample.labels, sample.labels[chosen]]),
        polygons=sample.polygons + tuple(mirrored_polygon(sample.polygons[each], width) for each in chosen),
    )


def paste_pixels(canvas: Pixels, outlines: Sequence[Polygon]) -> None:
    """Paste what lies in these polygons at the mirrored place, into the canvas itself.

    The polygons must lie on the canvas, as `lay_out` clips them.
    """
    if not outlines:
        return
    vertices = [outline.astype(np.int32) for outline in outlines]  # as `filled` has them
    points, (height, width) = np.concatenate(vertices), canvas.shape[:2]
    corner = points.min(axis=0)
    left, top = corner.tolist()
    right, bottom = np.minimum(points.max(axis=0) + 1, (width, height)).tolist()
    if left >= right or top >= bottom:
        return  # clipped to the right or lower border, which is no pixel any more
    mask = filled([each - corner for each in vertices], (bottom - top, right - left))
    source = cv2.flip(canvas[top:bottom, left:right], 1)  # a copy: it may overlap with where it goes
    cv2.copyTo(source, cv2.flip(mask, 1), canvas[top:bottom, width - right : width - left])


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
