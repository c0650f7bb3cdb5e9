"""Names at the points of a plot, each where it hides no marker, no other name and little of the lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.typing import ColorType
from numpy.typing import NDArray

from yolov9bench.plots.style import TINY

Floats = NDArray[np.float64]
DIRECTIONS = 24  # in which a name may lie from its point
DISTANCES = (4.0, 6, 9, 13, 18, 24, 32, 42, 54, 68, 84)  # points from the point to the name's border
LEADER = 7.0  # points: a name further off is tied to its point by a thin line
MARGIN = 1.2  # points around a name that stay free
TRIED = 150  # of the cheapest places, how many are compared by the lines beneath them
# What a name's place costs, in points of distance.
HIDDEN = 1000.0  # a marker, a name, or a part of its own beyond the axes
CROSSED = 0.8  # a point of a line beneath it
LATER = 3.0  # for each of its points that was preferred


@dataclass(frozen=True)
class Label:
    """A name, the points (x, y) that it may stand at, the best first, and its look."""

    text: str
    points: Sequence[tuple[float, float]]
    colour: ColorType
    bold: bool = False


def place_labels(axes: Axes, labels: Iterable[Label]) -> None:
    """Write the names, the first ones with the first choice; the axes' limits and lines must be final."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # lays the axes out: only then does a point have a place
    point = figure.dpi / 72  # pixels
    taken, lines = list(_marker_boxes(axes, point)), _line_points(axes)
    for label in labels:
        annotation = axes.annotate(label.text, label.points[0], (0, 0), textcoords="offset points")
        annotation.set(color=label.colour, weight="bold" if label.bold else "normal", fontsize=TINY)
        annotation.set(ha="center", va="center", linespacing=1.0, in_layout=False)
        extent = annotation.get_window_extent()
        half = np.array([extent.width, extent.height]) / 2 + MARGIN * point
        ends = axes.transData.transform(label.points)
        costs, centres, owners = _candidates(ends, half, point)
        distances = np.tile(np.repeat(DISTANCES, DIRECTIONS), len(ends))
        boxes = np.concatenate([centres - half, centres + half], axis=1)
        costs += HIDDEN * _hidden(boxes, np.array(taken).reshape(-1, 4), axes)
        cheap = costs.argsort(kind="stable")[:TRIED]
        best = int(cheap[(costs[cheap] + CROSSED * _covered(boxes[cheap], lines) / point).argmin()])
        end, centre = ends[owners[best]], centres[best]
        taken.append(boxes[best])
        lines = np.concatenate([lines, np.linspace(end, centre, 30)])
        _write(annotation, label.points[owners[best]], (centre - end) / point, distances[best])


def _write(annotation: Annotation, end: tuple[float, float], offset: Floats, distance: float) -> None:
    """Move a name to its place, `offset` points from its end, on a white ground, with a leader if far."""
    annotation.xy, annotation.xyann = end, (float(offset[0]), float(offset[1]))
    ground: dict[str, Any] = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.4}  # points
    annotation.set_bbox(ground)
    if distance > LEADER:
        (axes,) = [annotation.axes]
        assert axes is not None
        leader: dict[str, Any] = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        leader |= {"color": annotation.get_color(), "relpos": (0.5, 0.5)}
        axes.annotate("", end, annotation.xyann, textcoords="offset points", arrowprops=leader, zorder=2.5)


def _candidates(ends: Floats, half: Floats, point: float) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Every place at every end: its cost in points, its centre in pixels, and the index of its end."""
    angles = np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False)
    ways = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # The border of a box lies so far from its centre in each direction.
    reach = (half / np.maximum(np.abs(ways), 1e-9)).min(axis=1)
    steps = np.array(DISTANCES)[:, None] * point + reach
    offsets = (steps[..., None] * ways).reshape(-1, 2)
    costs = np.repeat(DISTANCES, DIRECTIONS) + np.tile(2 * np.abs(ways[:, 1]), len(DISTANCES))
    centres = (ends[:, None] + offsets).reshape(-1, 2)
    owners = np.repeat(np.arange(len(ends)), len(offsets))
    return np.tile(costs, len(ends)) + LATER * owners, centres, owners


def _hidden(boxes: Floats, taken: Floats, axes: Axes) -> Floats:
    """How many taken boxes each box [n, x0 y0 x1 y1] lies on, and one more if it leaves the axes."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    overlaps = ((low < taken[:, 2:]) & (high > taken[:, :2])).all(axis=2).sum(axis=1)
    beyond = (boxes[:, :2] < axes.bbox.min) | (boxes[:, 2:] > axes.bbox.max)
    return np.asarray(overlaps + beyond.any(axis=1), np.float64)


def _covered(boxes: Floats, places: Floats) -> Floats:
    """How many places [n, x y] each box covers."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    return np.asarray(((places > low) & (places < high)).all(axis=2).sum(axis=1), np.float64)


def _marker_boxes(axes: Axes, point: float) -> Iterable[Floats]:
    """The square of each marker in pixels, x0 y0 x1 y1."""
    for line in axes.lines:
        half = line.get_markersize() * point / 2
        for place in axes.transData.transform(line.get_xydata()):
            yield np.concatenate([place - half, place + half])


def _line_points(axes: Axes) -> Floats:
    """Places in pixels along every line, about 1 pixel apart."""
    found = [np.empty((0, 2))]
    for line in axes.lines:
        for start, end in pairwise(axes.transData.transform(line.get_xydata())):
            found.append(np.linspace(start, end, 2 + int(np.abs(end - start).max())))
    return np.concatenate(found)
