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
CROSSED = 1.0  # a point of a line beneath it
NEARER = 8.0  # a marker of another line that lies as near to the name as its own point
STEEP = 2.0  # above or below its point instead of beside it
LATER = 3.0  # for each of its points that was preferred


@dataclass(frozen=True)
class Label:
    """A name, the points (x, y) that it may stand at, the best first, and its look."""

    text: str
    points: Sequence[tuple[float, float]]
    colour: ColorType
    bold: bool = False


@dataclass(frozen=True)
class Places:
    """Where a name may lie: costs and distances [n] in points, ends and centres [n, x y] in pixels.

    `owners` [n] are the indices of the ends among the name's points.
    """

    costs: Floats
    distances: Floats
    owners: NDArray[np.int64]
    ends: Floats
    centres: Floats


def place_labels(axes: Axes, labels: Iterable[Label]) -> None:
    """Write the names, the first ones with the first choice; the axes' limits and lines must be final."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # lays the axes out: only then does a point have a place
    point = figure.dpi / 72  # pixels
    taken, lines = list(_marker_boxes(axes, point)), _line_points(axes)
    markers = len(taken)
    for label in labels:
        text = _write(axes, label)
        extent = text.get_window_extent()
        half = np.array([extent.width, extent.height]) / 2 + MARGIN * point
        places = _list_places(axes.transData.transform(label.points), half, point)
        boxes = np.concatenate([places.centres - half, places.centres + half], axis=1)
        costs = places.costs + HIDDEN * _count_hidden(boxes, np.array(taken).reshape(-1, 4), axes)
        cheap = costs.argsort(kind="stable")[:TRIED]
        costs = costs[cheap] + CROSSED * _count_covered(boxes[cheap], lines) / point
        others = _other_markers(taken[:markers], axes.transData.transform(label.points))
        costs += NEARER * _count_near(boxes[cheap], others, (places.distances[cheap] + 1) * point)
        best = cheap[costs.argmin()]
        end, centre = places.ends[best], places.centres[best]
        text.xy, text.xyann = label.points[places.owners[best]], tuple((centre - end) / point)
        if places.distances[best] > LEADER:
            _draw_leader(axes, text)
        taken.append(boxes[best])
        lines = np.concatenate([lines, np.linspace(end, centre, 30)])


def _write(axes: Axes, label: Label) -> Annotation:
    """The name on a white ground, centred on its first point for now."""
    text = axes.annotate(label.text, label.points[0], (0, 0), textcoords="offset points", fontsize=TINY)
    text.set(color=label.colour, weight="bold" if label.bold else "normal", linespacing=1.0)
    text.set(ha="center", va="center", in_layout=False)
    text.set_bbox({"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.4})  # points
    return text


def _draw_leader(axes: Axes, text: Annotation) -> None:
    """A thin line from a point to its name, beneath all names."""
    look: dict[str, Any] = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
    look |= {"color": text.get_color(), "relpos": (0.5, 0.5)}
    axes.annotate("", text.xy, text.xyann, textcoords="offset points", arrowprops=look, zorder=2.5)


def _list_places(ends: Floats, half: Floats, point: float) -> Places:
    """Every place of a box, half as large as `half`, around each of its ends; all in pixels."""
    angles = np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False)
    ways = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # So far is the border of the box from its centre in each direction.
    reach = (half / np.maximum(np.abs(ways), 1e-9)).min(axis=1)
    steps = np.array(DISTANCES)[:, None] * point + reach
    offsets = (steps[..., None] * ways).reshape(-1, 2)
    owners = np.repeat(np.arange(len(ends)), len(offsets))
    distances = np.tile(np.repeat(DISTANCES, DIRECTIONS), len(ends))
    steepness = np.tile(np.abs(ways[:, 1]), len(DISTANCES) * len(ends))
    costs = distances + STEEP * steepness + LATER * owners
    centres = (ends[:, None] + offsets).reshape(-1, 2)
    return Places(costs, distances, owners, ends[owners], centres)


def _count_hidden(boxes: Floats, taken: Floats, axes: Axes) -> Floats:
    """How many taken boxes each box [n, x0 y0 x1 y1] lies on, and one more if it leaves the axes."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    overlaps = ((low < taken[:, 2:]) & (high > taken[:, :2])).all(axis=2).sum(axis=1)
    beyond = (boxes[:, :2] < axes.bbox.min) | (boxes[:, 2:] > axes.bbox.max)
    return np.asarray(overlaps + beyond.any(axis=1), np.float64)


def _count_covered(boxes: Floats, places: Floats) -> Floats:
    """How many places [n, x y] each box covers."""
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    return np.asarray(((places > low) & (places < high)).all(axis=2).sum(axis=1), np.float64)


def _count_near(boxes: Floats, places: Floats, distances: Floats) -> Floats:
    """How many places [n, x y] each box has within its distance from its border; in pixels."""
    outside = np.maximum(boxes[:, None, :2] - places, places - boxes[:, None, 2:]).clip(min=0)
    return np.asarray((np.hypot(*outside.transpose(2, 0, 1)) < distances[:, None]).sum(axis=1), np.float64)


def _other_markers(boxes: Sequence[Floats], own: Floats) -> Floats:
    """The centres [n, x y] of the markers that stand at none of a name's own points."""
    centres = np.array(boxes).reshape(-1, 2, 2).mean(axis=1)
    apart = np.abs(centres[:, None] - own).max(axis=2).min(axis=1, initial=np.inf) > 0.5
    return np.asarray(centres[apart], np.float64)


def _marker_boxes(axes: Axes, point: float) -> Iterable[Floats]:
    """The square of each marker in pixels, x0 y0 x1 y1."""
    for line in axes.lines:
        half = line.get_markersize() * point / 2
        for place in axes.transData.transform(line.get_xydata()):
            yield np.concatenate([place - half, place + half])


def _line_points(axes: Axes) -> Floats:
    """Places in pixels along every line, some 1 pixel apart; closer on a thick one, which counts for more."""
    found = [np.empty((0, 2))]
    for line in axes.lines:
        density = line.get_linewidth() ** 2
        for start, end in pairwise(axes.transData.transform(line.get_xydata())):
            found.append(np.linspace(start, end, 2 + int(density * np.abs(end - start).max())))
    return np.concatenate(found)
