"""Boxes that are well formed and probably not what was meant: a counted warning with the likely cause."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARE = 0.05  # of the boxes; COCO's own have far fewer such
MOST = 0.95  # of the boxes, whose form tells how all were written
SLACK = 1.0  # px by which a box may reach over its image

Mask = NDArray[np.bool_]  # [M], of the boxes


def find_suspect_boxes(
    annotations: Sequence[Mapping[str, Any]], sizes: Mapping[int, tuple[int, int]]
) -> list[str]:
    """Warnings on boxes that reach over their image, are under a pixel or have no area, if they are many.

    `sizes` are width and height by image id; boxes of other images are left aside.
    """
    known = [entry for entry in annotations if entry["image_id"] in sizes and not entry["iscrowd"]]
    if not known:
        return []
    with np.errstate(over="ignore", invalid="ignore"):
        boxes = _table([entry["bbox"] for entry in known])
        limits = _table([sizes[entry["image_id"]] for entry in known])
        over = (boxes[:, :2] < -SLACK) | (boxes[:, :2] + boxes[:, 2:] > limits + SLACK)
        outside: Mask = np.any(over, axis=1)
    areas = np.array([entry["area"] for entry in known], np.float64)
    small: Mask = np.any(boxes[:, 2:] < 1, axis=1)
    kinds: tuple[tuple[Mask, str, str], ...] = (
        (outside, "reach over their image", find_cause_outside(boxes, limits)),
        (small, "are smaller than a pixel", find_cause_small(boxes)),
        (
            (areas <= 0) & ~small,
            "have the area 0 or less",
            "scores by size count them as small, and training leaves them out",
        ),
    )
    return list(_described(known, kinds))


def _table(rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Rows of one length as an array, in half the time that numpy takes for lists of lists."""
    return np.fromiter(chain.from_iterable(rows), np.float64).reshape(len(rows), -1)


def find_cause_outside(boxes: NDArray[np.float64], limits: NDArray[np.float64]) -> str:
    """Why boxes may reach over their images: [M, 4] as COCO writes them, and [M, 2] width and height."""
    corners = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (boxes[:, 2:] <= limits + SLACK).all(axis=1)
    if corners.mean() >= MOST:
        return "they may be x1, y1, x2, y2 instead of x, y, width, height"
    return "they may be of images of another size"


def find_cause_small(boxes: NDArray[np.float64]) -> str:
    """Why boxes [M, 4] may be smaller than a pixel."""
    if (boxes[:, 2:] < 0).any(axis=1).mean() > SHARE:
        return "a width or height is negative, as if corners were subtracted the wrong way round"
    if (boxes <= 1).all(axis=1).mean() >= MOST:
        return "they may be fractions of the image's sides instead of pixels"
    return "they may be of images of another size"


def _described(known: Sequence[Mapping[str, Any]], kinds: Sequence[tuple[Mask, str, str]]) -> Iterator[str]:
    for found, said, cause in kinds:
        count = int(found.sum())
        if count > SHARE * len(known):
            first = known[int(found.argmax())]["id"]
            yield f"{count:,} of {len(known):,} boxes {said}, first that of annotation {first}; {cause}"
