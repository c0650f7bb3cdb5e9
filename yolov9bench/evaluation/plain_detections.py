"""Detections worked out plainly in numpy, from a network's raw maps: what a self-check holds others against.

Nothing of `predict` has a part in it, so that a fault there does not appear on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yolov9bench.zoo.protocols import Protocol

Array = npt.NDArray[Any]
Found = tuple[Array, Array, Array]  # boxes xyxy [n, 4] px, scores [n], labels [n]

BINS = 16
SAME_BOX = 0.05  # px
SAME_SCORE = 1e-4


@dataclass(frozen=True)
class Departure:
    """A way in which detections are known to go wrong, by the name that a message gives it; none by default.

    shared_classes: boxes of all classes suppress one another. half_shift: px by which classes are kept apart
    in float16, as in `half_extent` the boxes' own extent. mapped, clipped: whether boxes are brought back to
    the image, and cut at its edges. label_shift: what is added to each label.
    """

    name: str
    shared_classes: bool = False
    half_shift: float | None = None
    half_extent: bool = False
    mapped: bool = True
    clipped: bool = True
    label_shift: int = 0

    @property
    def is_half(self) -> bool:
        """Whether suppression is in float16."""
        return self.half_extent or self.half_shift is not None


@dataclass(frozen=True)
class Place:
    """Where an image lies in a network's input: its own size, the size it was given, and the paddings, px."""

    image: tuple[int, int]  # height, width
    resized: tuple[int, int]
    padding: tuple[float, float]  # top, left


def place_image(image: tuple[int, int], given: tuple[int, int], protocol: Protocol, size: int) -> Place:
    """Where an image of (height, width) lies in an input of (height, width) `given` by a protocol.

    size: pixels of its long side in the input.
    """
    ratio = size / max(image)
    if ratio == 1:
        sides = image
    elif protocol.rounding == "truncate":
        sides = max(int(image[0] * ratio), 1), max(int(image[1] * ratio), 1)
    else:
        sides = min(math.ceil(image[0] * ratio), size), min(math.ceil(image[1] * ratio), size)
    fit = min(1.0, given[0] / sides[0], given[1] / sides[1])
    resized = max(round(sides[0] * fit), 1), max(round(sides[1] * fit), 1)
    gaps = given[0] - resized[0], given[1] - resized[1]
    if protocol.scale_back == "height":
        return Place(image, resized, (gaps[0] / 2, gaps[1] / 2))
    return Place(image, resized, (gaps[0] // 2, gaps[1] // 2))


def decode_plainly(levels: Sequence[tuple[Array, Array]], strides: Sequence[int]) -> tuple[Array, Array]:
    """Maps of one image, (box logits [64, h, w], class logits [C, h, w]) by stride -> boxes, scores.

    Boxes [A, 4] are xyxy in input pixels and scores [A, C], both float32; the arithmetic is float64.
    """
    boxes, scores = [], []
    for (box_logits, class_logits), stride in zip(levels, strides, strict=True):
        height, width = box_logits.shape[1:]
        logits = box_logits.astype(np.float64).reshape(4, BINS, height * width)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        left, top, right, bottom = (weights * np.arange(BINS)[:, None]).sum(axis=1) / weights.sum(axis=1)
        x, y = np.tile(np.arange(width) + 0.5, height), np.repeat(np.arange(height) + 0.5, width)
        boxes.append(np.stack([x - left, y - top, x + right, y + bottom], axis=1) * stride)
        flat = class_logits.astype(np.float64).reshape(len(class_logits), -1).T
        scores.append(1 / (1 + np.exp(-flat)))
    return np.concatenate(boxes).astype(np.float32), np.concatenate(scores).astype(np.float32)


def detect_plainly(
    boxes: Array, scores: Array, place: Place, protocol: Protocol, departure: Departure
) -> Found:
    """Decoded boxes [A, 4] and scores [A, C] of one image -> what the protocol keeps, but for a departure."""
    if protocol.multi_label:
        anchors, labels = np.nonzero(scores > protocol.score_threshold)
        values = scores[anchors, labels]
    else:
        best = scores.argmax(axis=1)
        anchors = np.flatnonzero(scores.max(axis=1) > protocol.score_threshold)
        labels = best[anchors]
        values = scores[anchors, labels]
    order = np.argsort(-values, kind="stable")[: protocol.max_candidates]
    values, labels, candidates = values[order], labels[order], boxes[anchors[order]]
    if protocol.nms_coordinates == "original" and departure.mapped:
        candidates = bring_back(candidates, place, protocol)
    keep = suppress_plainly(candidates, labels, protocol, departure)
    kept = candidates[keep]
    if protocol.nms_coordinates == "input" and departure.mapped:
        kept = bring_back(kept, place, protocol)
    if departure.clipped:
        height, width = place.image
        kept = np.clip(kept, 0, np.array([width, height, width, height], np.float32))
    return kept, values[keep], labels[keep] + departure.label_shift


def bring_back(boxes: Array, place: Place, protocol: Protocol) -> Array:
    """Boxes [n, 4] in input pixels -> in pixels of the image."""
    gain_y, gain_x = (part / whole for part, whole in zip(place.resized, place.image, strict=True))
    gain_x = gain_y if protocol.scale_back == "height" else gain_x
    top, left = place.padding
    moved = boxes - np.array([left, top, left, top], np.float32)
    return np.asarray(moved / np.array([gain_x, gain_y, gain_x, gain_y], np.float32), np.float32)


def suppress_plainly(boxes: Array, labels: Array, protocol: Protocol, departure: Departure) -> Array:
    """Indices of the boxes [n, 4], best first, that no kept one of their class overlaps too much.

    Boxes of several classes are kept apart by shifting them, in the precision of the protocol or of the
    departure.
    """
    extent = boxes.max(initial=0) + 1
    shift: Any = extent if protocol.class_shift == "extent" else np.float32(protocol.class_shift)
    apart = labels.astype(np.float32)[:, None] * (0 if departure.shared_classes else shift)
    shifted = boxes + apart.astype(np.float32)
    if departure.is_half:
        with np.errstate(over="ignore", invalid="ignore"):
            width = np.float16(extent if departure.half_extent else departure.half_shift)
            shifted = boxes.astype(np.float16) + labels.astype(np.float16)[:, None] * width
    with np.errstate(invalid="ignore", over="ignore"):
        return _suppress_greedily(shifted.astype(np.float32), protocol.nms_iou, protocol.max_detections)


def _suppress_greedily(boxes: Array, iou: float, most: int) -> Array:
    """The first `most` indices that survive; a comparison with what is not a number suppresses nothing."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    gone = np.zeros(len(boxes), bool)
    kept: list[int] = []
    for index in range(len(boxes)):
        if gone[index]:
            continue
        kept.append(index)
        if len(kept) == most:
            break
        rest = boxes[index + 1 :]
        low, high = np.maximum(boxes[index, :2], rest[:, :2]), np.minimum(boxes[index, 2:], rest[:, 2:])
        sides = np.maximum(high - low, 0)
        shared = sides[:, 0] * sides[:, 1]
        gone[index + 1 :] |= shared / (areas[index] + areas[index + 1 :] - shared) > iou
    return np.array(kept, np.int64)


def count_common(found: Found, other: Found) -> int:
    """How many detections two lists share: label, score within 1e-4, and each side within .05 px."""
    if not len(found[1]) or not len(other[1]):
        return 0
    same = found[2][:, None] == other[2][None]
    same &= np.abs(found[1][:, None] - other[1][None]) <= SAME_SCORE
    same &= np.abs(found[0][:, None] - other[0][None]).max(axis=2) <= SAME_BOX
    return int(min(same.any(axis=1).sum(), same.any(axis=0).sum()))
