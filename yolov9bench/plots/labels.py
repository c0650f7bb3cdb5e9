"""Labels beside their lines: each finds the place where it hides least, and none lies on another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Bbox

DISTANCES = (5.0, 9.0, 16.0, 24.0, 34.0, 46.0, 60.0)  # points between a label and what it names
LONG = 9.0  # points; from there a thin line leads from the label to its point
DIRECTIONS = 16
# What a place costs: per marker that it hides, per marker by which it could be read as another line's, per
# point of line that it hides or that a thin line crosses, per point of distance to what it names, and per
# step along the preferred points.
MARKER, MISREAD, STROKE, AWAY, STEP = 25.0, 30.0, 1.5, 0.4, 6.0

Points = npt.NDArray[np.float64]  # [n, 2], pixels


@dataclass(frozen=True)
class Label:
    """A text and the points, in data coordinates, that it may stand beside, the preferred ones first."""

    text: str
    anchors: Sequence[tuple[float, float]]
    colour: str


@dataclass(frozen=True)
class Choice:
    """A place for a label, the point beside it (both in pixels), and what is against it before all else."""

    place: Bbox
    anchor: tuple[float, float]
    distance: float
    cost: float

    def lead(self) -> Points:
        """The thin line from the label's nearest edge to its point, as 30 points on it."""
        anchor = np.array(self.anchor)
        start = anchor.clip(self.place.min, self.place.max)
        line: Points = start + np.linspace(0, 1, 30)[:, None] * (anchor - start)
        return line


def place_labels(axes: Axes, labels: Iterable[Label], fontsize: float) -> list[Text]:
    """Write the labels on axes whose limits and lines are final, and return the texts.

    A label avoids markers and lines, and never lies on another label or beyond the axes. ValueError: no place
    is left for one.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()  # only now do data have places in pixels
    point = figure.dpi / 72
    markers, strokes = _obstacles(axes, point)
    taken: list[Bbox] = []
    texts = []
    for label in labels:
        text = axes.text(0, 0, label.text, fontsize=fontsize, color=label.colour)
        text.set(ha="center", va="center", parse_math=False)
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
        size = text.get_window_extent()
        choices = [choice for choice in _choices(axes, label, size, point) if _is_free(axes, choice, taken)]
        if not choices:
            raise ValueError(f"no place is left for the label {label.text!r}: enlarge the figure")
        best = _best(choices, markers, strokes, point)
        taken.append(best.place.padded(2 * point))
        x0, y0, x1, y1 = best.place.extents
        text.set_position(tuple(axes.transData.inverted().transform(((x0 + x1) / 2, (y0 + y1) / 2))))
        if best.distance >= LONG:
            strokes = np.concatenate([strokes, best.lead()])
            _draw_lead(axes, best, label.colour)
        texts.append(text)
    return texts


def _obstacles(axes: Axes, point: float) -> tuple[Points, Points]:
    """The markers on the axes and the strokes between them, a sample every point of length; in pixels."""
    markers, strokes = [np.empty((0, 2))], [np.empty((0, 2))]
    for line in axes.lines:
        corners = axes.transData.transform(np.column_stack(line.get_data()))
        markers.append(corners)
        for start, end in pairwise(corners):
            steps = max(int(math.dist(start, end) / point), 1)
            strokes.append(start + np.linspace(0, 1, steps)[:, None] * (end - start))
    return np.concatenate(markers), np.concatenate(strokes)


def _choices(axes: Axes, label: Label, size: Bbox, point: float) -> Iterator[Choice]:
    """Places all around each of a label's points; straight right, left, above and below come first."""
    for step, anchor in enumerate(label.anchors):
        x, y = axes.transData.transform(anchor)
        for distance in DISTANCES:
            for turn in range(DIRECTIONS):
                angle = 2 * math.pi * turn / DIRECTIONS
                # The label's edge, not its middle, keeps the distance.
                dx = math.cos(angle) * (distance * point + size.width / 2)
                dy = math.sin(angle) * (distance * point + size.height / 2)
                corner = (x + dx - size.width / 2, y + dy - size.height / 2)
                place = Bbox.from_bounds(*corner, size.width, size.height)
                yield Choice(place, (x, y), distance, STEP * step + AWAY * distance)


def _is_free(axes: Axes, choice: Choice, taken: Iterable[Bbox]) -> bool:
    """Whether the label stays on the axes, and neither it nor its thin line lies on another label."""
    if not all(axes.bbox.contains(*corner) for corner in (choice.place.min, choice.place.max)):
        return False
    return not any(choice.place.overlaps(other) or _inside(other, choice.lead()) for other in taken)


def _best(choices: Iterable[Choice], markers: Points, strokes: Points, point: float) -> Choice:
    """The choice that costs least with the harm it does, of equals the first."""
    best, lowest = None, math.inf
    for choice in sorted(choices, key=lambda choice: choice.cost):
        if choice.cost >= lowest:
            break  # nor can any later one be better
        total = choice.cost + _harm(choice, markers, strokes, point)
        if total < lowest:
            best, lowest = choice, total
    assert best is not None
    return best


def _harm(choice: Choice, markers: Points, strokes: Points, point: float) -> float:
    """What a label in this place would cover, and how easily it would be read as another line's."""
    hidden = _inside(choice.place.padded(4 * point), markers)
    covered = _inside(choice.place.padded(point), strokes)
    if choice.distance < LONG:
        own = _gaps(choice.place, np.array([choice.anchor]))
        misread = int((_gaps(choice.place, markers) < own - point).sum())
    else:
        misread = _along(choice, markers, 4 * point)
        covered += _along(choice, strokes, point)
    return MARKER * hidden + MISREAD * misread + STROKE * covered


def _along(choice: Choice, points: Points, width: float) -> int:
    """How many points lie within `width` of the thin line of a choice, but not at the very point it names."""
    lead = choice.lead()
    whole = Bbox([lead.min(axis=0), lead.max(axis=0)]).padded(width)
    near = points[((points > whole.min) & (points < whole.max)).all(axis=1)]
    near = near[np.linalg.norm(near - choice.anchor, axis=1) > width]
    return int((np.linalg.norm(near[:, None] - lead, axis=2).min(axis=1) < width).sum())


def _gaps(place: Bbox, points: Points) -> npt.NDArray[np.float64]:
    """How far points are from a place; in pixels."""
    gaps: npt.NDArray[np.float64] = np.linalg.norm(points - points.clip(place.min, place.max), axis=1)
    return gaps


def _inside(place: Bbox, points: Points) -> int:
    return int(((points > place.min) & (points < place.max)).all(axis=1).sum())


def _draw_lead(axes: Axes, choice: Choice, colour: str) -> None:
    ends = axes.transData.inverted().transform(choice.lead()[[0, -1]])
    look = {"arrowstyle": "-", "color": colour, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 3}
    axes.annotate("", xytext=tuple(ends[0]), xy=tuple(ends[1]), arrowprops=look)
