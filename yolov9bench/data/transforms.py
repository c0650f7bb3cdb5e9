"""Augmentation of one image: each step is `draw_...(generator, ...)` -> parameters and `apply_...` them.

What is drawn is apart from what is done, so that a step can be repeated, inspected and tested without chance.
The steps that mix several images are in `mosaic`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from yolov9bench.data.outlines import Polygon, extents_inside
from yolov9bench.data.polygons import Boxes, Labels
from yolov9bench.ops.images import GREY, Pixels, Shrinking, letterbox, resize_long_side
from yolov9bench.zoo.recipe import AugmentationSettings

# The defaults of albumentations 1.3.1, which the references leave as they are.
BLUR_KERNELS = (3, 5, 7)  # pixels, of blur and median blur
CLAHE_LIMITS = (1.0, 4.0)  # contrast limit of the local histogram equalisation
CLAHE_TILES = (8, 8)


@dataclass(frozen=True, eq=False)
class Sample:
    """An image to train on: pixels [H, W, 3] in BGR, boxes [n, 4], labels [n], polygons or None for each."""

    pixels: Pixels
    boxes: Boxes
    labels: Labels
    polygons: tuple[Polygon | None, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


def blank(shape: tuple[int, int]) -> Pixels:
    """Grey pixels of an image (height, width) that is not looked at; they take no memory."""
    return np.broadcast_to(np.uint8(GREY), (*shape, 3))


def letterboxed(sample: Sample, size: int, pad_bgr: tuple[int, int, int], shrinking: Shrinking) -> Sample:
    """The whole image in a square of `size` pixels, centred on a colour; for the closing epochs."""
    resized = resize_long_side(sample.pixels, size, "truncate", shrinking)
    inner, placement = letterbox(resized, (size, size), scale_up=True, original=sample.shape)
    (height, width), left, top = placement.resized, placement.left, placement.top
    pixels = np.full((size, size, 3), pad_bgr, np.uint8)
    pixels[top : top + height, left : left + width] = inner[top : top + height, left : left + width]
    ratio = np.array([width / sample.shape[1], height / sample.shape[0]], np.float32)
    corner = np.array([left, top], np.float32)
    polygons = tuple(None if polygon is None else polygon * ratio + corner for polygon in sample.polygons)
    return Sample(pixels, sample.boxes * np.tile(ratio, 2) + np.tile(corner, 2), sample.labels, polygons)


@dataclass(frozen=True, eq=False)
class Affine:
    """A warp [2, 3] into a frame (height, width), and which boxes are worth keeping after it.

    `scale` is the factor within the warp. With `mask_refine` boxes are taken from the polygons, where there
    are some. The limits are those of Recipe.
    """

    matrix: NDArray[np.float64]
    scale: float
    shape: tuple[int, int]
    mask_refine: bool
    min_area_ratio: float
    min_area_ratio_of_boxes: float
    min_box_side: float
    max_aspect: float


def draw_affine(
    generator: Generator, shape: tuple[int, int], settings: AugmentationSettings, closing: bool
) -> Affine:
    """A scale, and where the centre of an image (height, width) comes to lie in the square frame."""
    size = settings.image_size
    scale = generator.uniform(*settings.scale_range)
    x, y = generator.uniform(0.5 - settings.translate, 0.5 + settings.translate, 2) * size
    matrix = [[scale, 0, x - scale * shape[1] / 2], [0, scale, y - scale * shape[0] / 2]]
    return Affine(
        matrix=np.array(matrix),
        scale=scale,
        shape=(size, size),
        mask_refine=settings.closing_mask_refine if closing else settings.mask_refine,
        min_area_ratio=settings.closing_min_area_ratio if closing else settings.min_area_ratio,
        min_area_ratio_of_boxes=settings.closing_min_area_ratio
        if closing
        else settings.min_area_ratio_of_boxes,
        min_box_side=settings.min_box_side,
        max_aspect=settings.max_aspect,
    )


class Part(NamedTuple):
    """A rectangle of an image: from these columns and rows up to, and without, those."""

    left: int
    top: int
    right: int
    bottom: int

    def with_mirror(self, width: int) -> Part:
        """The same rows, and columns as far to either side of the middle of an image of so many pixels."""
        margin = min(self.left, width - self.right)
        return self._replace(left=margin, right=width - margin)


def part_seen(affine: Affine, shape: tuple[int, int]) -> Part:
    """What of an image (height, width) a warp looks at, and two pixels more on each side."""
    (height, width), inverse = affine.shape, cv2.invertAffineTransform(affine.matrix)
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]) @ inverse.T
    low, high = np.floor(corners.min(axis=0)) - 2, np.ceil(corners.max(axis=0)) + 2
    limits = shape[::-1]
    return Part(*(int(each) for bound in (low, high) for each in bound.clip(0, limits)))


def apply_affine(sample: Sample, affine: Affine) -> Sample:
    """Warp bilinearly onto grey 114 and keep the boxes within the limits; polygons end here.

    A box is the extent of its warped corners, clipped to the frame, or of its polygon's points in the frame.
    """
    pixels = cv2.warpAffine(
        sample.pixels, affine.matrix, affine.shape[::-1], flags=cv2.INTER_LINEAR, borderValue=(GREY,) * 3
    )
    boxes = _warped_boxes(sample, affine)
    with_polygons = any(polygon is not None for polygon in sample.polygons)
    least = affine.min_area_ratio if with_polygons else affine.min_area_ratio_of_boxes
    kept = _worth_keeping(sample.boxes, boxes, affine, least)
    return Sample(np.asarray(pixels, np.uint8), boxes[kept], sample.labels[kept], (None,) * int(kept.sum()))


def _warped_boxes(sample: Sample, affine: Affine) -> Boxes:
    height, width = affine.shape
    turn, shift = affine.matrix[:, :2].T, affine.matrix[:, 2]
    corners = sample.boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] @ turn + shift  # [n, 4, 2]
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    boxes = boxes.clip(0, [width, height, width, height]).astype(np.float32)
    refined = [number for number, polygon in enumerate(sample.polygons) if polygon is not None]
    if affine.mask_refine and refined:
        polygons = [polygon for polygon in sample.polygons if polygon is not None]
        points = np.concatenate(polygons) @ turn + shift
        boxes[refined] = extents_inside(points, [len(polygon) for polygon in polygons], affine.shape)
    return boxes


def _worth_keeping(before: Boxes, after: Boxes, affine: Affine, least_share: float) -> NDArray[np.bool_]:
    width, height = (after[:, 2:] - after[:, :2]).T
    area_before = (before[:, 2:] - before[:, :2]).prod(axis=1) * affine.scale**2
    # The small numbers, the references' own, let a box without area fail instead of dividing by zero.
    kept_share = width * height / (area_before + 1e-16)
    aspect = np.maximum(width / (height + 1e-16), height / (width + 1e-16))
    is_large = np.minimum(width, height) > affine.min_box_side
    return np.asarray(is_large & (kept_share > least_share) & (aspect < affine.max_aspect))


@dataclass(frozen=True)
class RareFilters:
    """Filters that few images pass through, in this order; None or False leaves one out."""

    blur: int | None  # side of the kernel, pixels
    median: int | None  # side of the kernel, pixels
    grey: bool
    contrast: float | None  # limit of the local histogram equalisation


def draw_rare_filters(generator: Generator, settings: AugmentationSettings) -> RareFilters:
    """Each filter with the same small probability, its strength from the limits above."""
    blur, median, grey, contrast = generator.random(4) < settings.rare_filter_prob
    return RareFilters(
        blur=int(generator.choice(BLUR_KERNELS)) if blur else None,
        median=int(generator.choice(BLUR_KERNELS)) if median else None,
        grey=bool(grey),
        contrast=generator.uniform(*CLAHE_LIMITS) if contrast else None,
    )


def apply_rare_filters(sample: Sample, filters: RareFilters) -> Sample:
    """Blur, median blur, grey, local histogram equalisation of the lightness (CLAHE).

    The references hand BGR to a library that takes it for RGB: red and blue change places in the weights of
    grey and of lightness, and so they do here.
    """
    pixels: cv2.typing.MatLike = sample.pixels
    if filters.blur is not None:
        pixels = cv2.blur(pixels, (filters.blur, filters.blur))
    if filters.median is not None:
        pixels = cv2.medianBlur(pixels, filters.median)
    if filters.grey:
        pixels = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if filters.contrast is not None:
        lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
        lab[..., 0] = cv2.createCLAHE(filters.contrast, CLAHE_TILES).apply(lab[..., 0])
        pixels = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return replace(sample, pixels=np.asarray(pixels, np.uint8))


def draw_hsv(generator: Generator, settings: AugmentationSettings) -> tuple[float, float, float]:
    """The factors of hue, saturation and value."""
    hue, saturation, value = 1 + generator.uniform(-1, 1, 3) * settings.hsv_gains
    return float(hue), float(saturation), float(value)


def apply_hsv(sample: Sample, factors: tuple[float, float, float]) -> Sample:
    """Scale hue, saturation and value in OpenCV's 8-bit units, hue modulo 180, fractions cut off."""
    levels = np.arange(256)[:, None] * factors  # [256, 3]
    table = np.concatenate([levels[:, :1] % 180, levels[:, 1:].clip(0, 255)], axis=1).astype(np.uint8)
    # OpenCV looks values of one channel up several times as fast as those of three in turn.
    planes = cv2.split(cv2.cvtColor(sample.pixels, cv2.COLOR_BGR2HSV))
    hsv = cv2.merge([cv2.LUT(plane, column) for plane, column in zip(planes, table.T, strict=True)])
    return replace(sample, pixels=np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), np.uint8))


def draw_flip(generator: Generator, settings: AugmentationSettings) -> bool:
    """Whether to mirror left to right."""
    return bool(generator.random() < settings.hflip_prob)


def apply_flip(sample: Sample, flip: bool) -> Sample:
    """Mirror left to right, or not."""
    if not flip:
        return sample
    width = sample.shape[1]
    polygons = tuple(mirrored_polygon(polygon, width) for polygon in sample.polygons)
    pixels = np.asarray(cv2.flip(sample.pixels, 1), np.uint8)
    return Sample(pixels, mirrored_boxes(sample.boxes, width), sample.labels, polygons)


def mirrored_boxes(boxes: Boxes, width: int) -> Boxes:
    """Boxes [n, 4] left to right on an image of so many pixels."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([np.float32(width) - x2, y1, np.float32(width) - x1, y2], axis=1)


def mirrored_polygon(polygon: Polygon | None, width: int) -> Polygon | None:
    """A polygon [k, 2] left to right on an image of so many pixels; None stays None."""
    return None if polygon is None else np.stack([np.float32(width) - polygon[:, 0], polygon[:, 1]], axis=1)
