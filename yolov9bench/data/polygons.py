"""Objects of a training image from COCO's annotations, and the geometry of their polygons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from yolov9bench.data.outlines import Polygon, extent
from yolov9bench.errors import DatasetError

Boxes = NDArray[np.float32]  # [n, 4], x1 y1 x2 y2, pixels
Labels = NDArray[np.int64]  # [n]

Reason = Literal["crowd", "empty", "outside", "without polygon"]  # why an annotation is not learned

MOST_PAIRS = 2**30  # of vertices of two parts of an object, among which the nearest are looked for
PAIRS_AT_ONCE = 2**20


@dataclass(frozen=True, eq=False)
class Objects:
    """What is to be found on an image: boxes [n, 4], labels [n] and for each object its polygon or None.

    `left_out` has the reason for each annotation that is not among them.
    """

    boxes: Boxes
    labels: Labels
    polygons: tuple[Polygon | None, ...]
    left_out: tuple[Reason, ...] = ()


def objects_of(
    annotations: Iterable[Mapping[str, Any]],
    label_of: Mapping[int, int],
    width: int,
    height: int,
    mask_refine: bool,
) -> Objects:
    """The objects to train on among COCO's annotations of one image of `width` x `height` pixels.

    Left out are crowds, boxes narrower or lower than a pixel, without area, or outside the image. With
    `mask_refine` boxes are the extents of the polygons, and an object without polygon is left out too, as
    mmyolo 0.6.0 does; but an image on which no object has one keeps the annotated boxes, so that a data set
    of boxes alone can be trained on, as WongKinYiu/yolov9 does. Annotated boxes are not clipped.
    DatasetError: a polygon or a box that is not finite in float32, or polygons with too many vertices.
    """
    usable: list[Mapping[str, Any]] = []
    left_out: list[Reason] = []
    for entry in annotations:
        reason = _reason_against(entry, width, height)
        if reason is None:
            usable.append(entry)
        else:
            left_out.append(reason)
    polygons = [_polygon_of(entry) if mask_refine else None for entry in usable]
    if any(polygon is not None for polygon in polygons):
        left_out += ["without polygon" for polygon in polygons if polygon is None]
        usable = [entry for entry, polygon in zip(usable, polygons, strict=True) if polygon is not None]
        polygons = [polygon for polygon in polygons if polygon is not None]
    return Objects(
        boxes=_boxes_of(usable, polygons),
        labels=np.array([label_of[entry["category_id"]] for entry in usable], np.int64),
        polygons=tuple(polygons),
        left_out=tuple(left_out),
    )


def _boxes_of(usable: Sequence[Mapping[str, Any]], polygons: Sequence[Polygon | None]) -> Boxes:
    corners = [
        xywh_to_xyxy(entry["bbox"]) if polygon is None else extent(polygon)
        for entry, polygon in zip(usable, polygons, strict=True)
    ]
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and is refused here
        boxes = np.array(corners, np.float32).reshape(-1, 4)
    if not np.isfinite(boxes).all():
        culprit = usable[int(np.argmin(np.isfinite(boxes).all(axis=1)))]
        raise DatasetError(
            f"annotation {culprit.get('id')} has a box or a polygon that is not finite in float32: "
            "correct or remove it"
        )
    return boxes


def xywh_to_xyxy(box: Sequence[float]) -> tuple[float, float, float, float]:
    """COCO's corner and size -> corners."""
    left, top, width, height = box
    return left, top, left + width, top + height


def _reason_against(annotation: Mapping[str, Any], width: int, height: int) -> Reason | None:
    left, top, right, bottom = xywh_to_xyxy(annotation["bbox"])
    if annotation["iscrowd"]:
        return "crowd"
    if right - left < 1 or bottom - top < 1 or annotation["area"] <= 0:
        return "empty"
    if min(right, width) <= max(left, 0) or min(bottom, height) <= max(top, 0):
        return "outside"
    return None


def polygon_parts(annotation: Mapping[str, Any]) -> list[Polygon]:
    """The polygons with an even count of at least 6 numbers; a run-length mask or no mask has none.

    DatasetError: parts that are not lists of numbers.
    """
    segmentation = annotation.get("segmentation")
    if not isinstance(segmentation, list):
        return []
    try:
        with np.errstate(over="ignore"):  # see _boxes_of
            return [
                np.array(numbers, np.float32).reshape(-1, 2)
                for numbers in segmentation
                if len(numbers) >= 6 and len(numbers) % 2 == 0
            ]
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(
            f"annotation {annotation.get('id')} has a segmentation that is not lists of numbers "
            f"({error}): correct or remove it"
        ) from error


def _polygon_of(annotation: Mapping[str, Any]) -> Polygon | None:
    parts = polygon_parts(annotation)
    if any(len(one) * len(other) > MOST_PAIRS for one, other in pairwise(parts)):
        raise DatasetError(
            f"annotation {annotation.get('id')} has polygons of {max(map(len, parts)):,} vertices, "
            "too many to be joined: simplify them"
        )
    return joined(parts)


def joined(parts: Sequence[Polygon]) -> Polygon | None:
    """One polygon through all parts of an object, or None without parts.

    Consecutive parts are bridged between their nearest vertices. The path goes out over the bridges, round
    the last part, and back: a part between two bridges is run through in two pieces, one on either way.
    """
    if len(parts) <= 1:
        return parts[0] if parts else None
    bridges = [_nearest(one, other) for one, other in pairwise(parts)]
    out = [_closed_from(parts[0], bridges[0][0])]
    back = [_closed_from(parts[-1], bridges[-1][1])]
    for part, ((_, entry), (leaving, _)) in zip(parts[1:-1], pairwise(bridges), strict=True):
        ring = _closed_from(part, entry)
        turn = (leaving - entry) % len(part)
        out.append(ring[: turn + 1])
        back.append(ring[turn:])
    return np.concatenate(out + back[:1] + back[:0:-1])


def _nearest(one: Polygon, other: Polygon) -> tuple[int, int]:
    """The first of the nearest pairs of vertices, some rows of their distances at a time."""
    rows, nearest, found = max(PAIRS_AT_ONCE // len(other), 1), np.inf, (0, 0)
    for start in range(0, len(one), rows):
        distances = ((one[start : start + rows, None] - other[None]) ** 2).sum(axis=2)
        first, second = np.unravel_index(distances.argmin(), distances.shape)
        if distances[first, second] < nearest:
            nearest, found = distances[first, second], (start + int(first), int(second))
    return found


def _closed_from(polygon: Polygon, start: int) -> Polygon:
    """The vertices from `start` round to `start` again."""
    return np.concatenate([polygon[start:], polygon[: start + 1]])
