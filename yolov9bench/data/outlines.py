"""The outlines of objects: how far they reach, what they cover, where they are moved to."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from yolov9bench.ops.images import Pixels

Polygon = NDArray[np.float32]  # [k, 2], x y, pixels; closed by an edge from the last vertex to the first

RESAMPLED_POINTS = 1000


def extent(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """Points [k, 2] -> the box x1 y1 x2 y2 around them."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def extent_inside(polygon: NDArray[np.floating], shape: tuple[int, int]) -> NDArray[np.floating]:
    """The box around what of a polygon's outline lies in a frame (height, width), its border included.

    The outline is 1000 points, evenly by the index of the vertex and not by length. They are not clipped: of
    an object that reaches over the frame the part of its outline inside counts. None inside: a box of zeros.
    """
    points = resampled(polygon, RESAMPLED_POINTS)
    x, y = points.T
    inside = points[(x >= 0) & (x <= shape[1]) & (y >= 0) & (y <= shape[0])]
    return extent(inside) if len(inside) else np.zeros(4)


def extents_inside(
    points: NDArray[np.floating], lengths: Sequence[int], shape: tuple[int, int]
) -> NDArray[np.floating]:
    """The boxes [n, 4] that `extent_inside` gives for n polygons of so many of the points [total, 2] each.

    Along an edge the coordinates of an outline's points only grow or only fall, also as they are rounded. So
    the first and the last point on each edge say how far the outline reaches, and only those outlines that
    cross the frame's border are resampled in full.
    """
    counts = np.asarray(lengths)
    ends = counts.cumsum()
    low, high = _reach(points, counts, ends - counts)
    frame = np.array([shape[1], shape[0]])
    boxes = np.concatenate([low, high], axis=1)
    is_outside = ((high < 0) | (low > frame)).any(axis=1)
    boxes[is_outside] = 0
    crosses = ~is_outside & ((low < 0) | (high > frame)).any(axis=1)
    for number in np.flatnonzero(crosses).tolist():
        last = ends[number]
        boxes[number] = extent_inside(points[last - counts[number] : last], shape)
    return boxes


def _reach(
    points: NDArray[np.floating], counts: NDArray[np.int64], begins: NDArray[np.int64]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The least and the greatest x, y [n, 2] of the resampled outlines of n polygons."""
    edges = np.arange(len(points))  # of all polygons; each is named after the vertex it begins at
    polygon = np.repeat(np.arange(len(counts)), counts)
    vertex, following = edges - begins[polygon], edges + 1
    following[begins + counts - 1] = begins
    step = (counts / (RESAMPLED_POINTS - 1))[polygon]  # as np.linspace has it, vertices from point to point
    first = np.ceil(vertex / step)
    # A point lies where its number times the step is rounded to, which may be just short of a vertex.
    first += first * step < vertex
    first -= (first - 1) * step >= vertex
    past = first[following]
    past[begins + counts - 1] = RESAMPLED_POINTS - 1  # the last point of all is the first vertex again
    has_points = first < past
    start, rise = points, points[following] - points
    found = [
        np.where(
            has_points[:, None], (number * step - vertex)[:, None] * rise + start, start[begins[polygon]]
        )
        for number in (first, past - 1)
    ]
    low, high = np.minimum(*found), np.maximum(*found)
    return np.minimum.reduceat(low, begins), np.maximum.reduceat(high, begins)


def resampled(polygon: NDArray[np.floating], count: int) -> NDArray[np.floating]:
    """The outline [k, 2] as `count` points from the first vertex round to it, evenly by vertex index."""
    closed = np.concatenate([polygon, polygon[:1]])
    places, known = np.linspace(0, len(polygon), count), np.arange(len(closed))
    return np.stack([np.interp(places, known, closed[:, axis]) for axis in (0, 1)], axis=1)


def moved(polygons: Sequence[Polygon | None], shift: NDArray[np.float32], side: int) -> list[Polygon | None]:
    """Polygons [k, 2] shifted by (x, y) on a square canvas, and clipped to it; None stays None."""
    found = [polygon for polygon in polygons if polygon is not None]
    if not found:
        return list(polygons)
    points = (np.concatenate(found) + shift).clip(0, side)
    parts = iter(np.split(points, np.cumsum([len(polygon) for polygon in found[:-1]])))
    return [None if polygon is None else next(parts) for polygon in polygons]


def filled(polygons: Sequence[NDArray[np.number]], shape: tuple[int, int]) -> Pixels:
    """A mask [height, width], 1 in and on the outlines of the polygons; vertices are truncated to pixels."""
    mask = np.zeros(shape, np.uint8)
    for polygon in polygons:
        cv2.drawContours(mask, [polygon.astype(np.int32)], -1, 1, cv2.FILLED)
    return mask
