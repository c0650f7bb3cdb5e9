"""The structure figure: a few networks as boxes and arrows, one panel each."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from yolov9bench.plots.diagrams import STRIDES
from yolov9bench.plots.figure_data import FigureData
from yolov9bench.plots.style import BLUE, GREEN, HEADING, SMALL, TINY, VERMILION

BOX_WIDTH, BOX_HEIGHT = 0.82, 0.64  # of a box, where columns and levels are 1 apart
BUS_WIDTH = 0.4  # between two backbones, of which one feeds the other
COLUMNS = 7 + BUS_WIDTH  # of the widest network; all panels have this scale
LOOKS: dict[str, dict[str, Any]] = {
    "main": {"facecolor": "#dcebf5", "edgecolor": BLUE},
    "head": {"facecolor": "#d9f0e8", "edgecolor": GREEN},
    "auxiliary": {"facecolor": "#fbe6d8", "edgecolor": VERMILION, "linestyle": "dashed"},
}
MEANINGS = {
    "main": "backbone and pyramid",
    "head": "head: hidden channels of its branches",
    "auxiliary": "auxiliary branch, in training only",
}
ACROSS = "#9b5f85"
Point = tuple[float, float]


def plot_structures(data: FigureData) -> Figure:
    """Every diagram on a panel of its own, two panels to a row; `data` is that of `gather_structures`."""
    rows = (len(data) + 1) // 2
    figure = Figure(figsize=(10, 0.7 + 3.4 * rows), layout="constrained")
    for axes, diagram in zip(figure.subplots(rows, 2, squeeze=False).flat, data.values(), strict=True):
        _draw_diagram(axes, diagram)
    handles: list[Any] = [Patch(**LOOKS[part], label=meaning) for part, meaning in MEANINGS.items()]
    handles.append(
        Line2D(
            [],
            [],
            color=ACROSS,
            linewidth=0.8,
            label="1x1 projections of a level and of all coarser ones, added (reversible)",
        )
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)
    figure.suptitle(
        "Structures: the kind of each block, its output channels and, in brackets, its depth",
        fontsize=HEADING,
    )
    return figure


def _draw_diagram(axes: Axes, diagram: FigureData) -> None:
    boxes, headings = diagram["boxes"], diagram["headings"]
    places = _column_places(diagram)
    for box in boxes.values():
        x, y = places[box["column"]], box["level"]
        corner = (x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2)
        axes.add_patch(Rectangle(corner, BOX_WIDTH, BOX_HEIGHT, linewidth=1, zorder=2, **LOOKS[box["part"]]))
        axes.text(x, y, box["text"], ha="center", va="center", fontsize=TINY, zorder=3)
    for start, end in diagram["arrows"]:
        one, other = ((places[boxes[name]["column"]], boxes[name]["level"]) for name in (start, end))
        _draw_arrow(axes, *_border_points(one, other), "0.35", 0.9)
    _draw_bus(axes, diagram, places)
    for x, heading in zip(places, headings, strict=True):
        axes.text(x, -0.55, heading.replace(" ", "\n"), ha="center", va="bottom", fontsize=TINY)
    margin = (COLUMNS - 1 - places[-1]) / 2
    axes.set_xlim(-0.6 - margin, places[-1] + 0.6 + margin)
    axes.set_ylim(4.4, -1.0)
    axes.set_yticks(range(len(STRIDES)), [str(stride) for stride in STRIDES], fontsize=SMALL)
    axes.set_ylabel("stride (pixels)", fontsize=SMALL)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(diagram["title"], fontsize=SMALL + 1)


def _column_places(diagram: FigureData) -> list[float]:
    """The middle of every column: 1 apart, and further where features go across to another backbone."""
    columns = {diagram["boxes"][name]["column"] for pair in diagram["across"] for name in pair}
    return [
        column + (BUS_WIDTH if columns and column >= max(columns) else 0.0)
        for column in range(len(diagram["headings"]))
    ]


def _border_points(one: Point, other: Point) -> tuple[Point, Point]:
    """Where an arrow leaves a box and enters another: vertical within a column, else the facing sides."""
    (x0, y0), (x1, y1) = one, other
    side = (x1 > x0) - (x1 < x0)
    down = 0 if side else (y1 > y0) - (y1 < y0)
    half_width, half_height = side * BOX_WIDTH / 2, down * BOX_HEIGHT / 2
    return (x0 + half_width, y0 + half_height), (x1 - half_width, y1 - half_height)


def _draw_bus(axes: Axes, diagram: FigureData, places: Sequence[float]) -> None:
    """What goes across, as one line that leads from coarse levels to fine ones.

    Each level of one backbone joins the line, and each level of the other gets what has joined it so far:
    its own level and every coarser one.
    """
    boxes, across = diagram["boxes"], diagram["across"]
    levels = sorted({boxes[end]["level"] for _, end in across}, reverse=True)
    if not levels:
        return
    source, target = (places[boxes[name]["column"]] for name in across[0])
    middle = (source + target) / 2
    for level in levels:
        leave, enter = _border_points((source, level), (target, level))
        axes.plot([leave[0], middle], [level, level], color=ACROSS, linewidth=0.9, zorder=1)
        axes.plot(middle, level, marker="o", markersize=3, color=ACROSS, zorder=1)
        _draw_arrow(axes, (middle, level), enter, ACROSS, 0.9)
    for coarse, fine in pairwise(levels):
        _draw_arrow(axes, (middle, coarse), (middle, fine), ACROSS, 0.9)


def _draw_arrow(axes: Axes, start: Point, end: Point, colour: str, width: float) -> None:
    look = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=start, arrowprops=look | {"mutation_scale": 7}, zorder=1)
