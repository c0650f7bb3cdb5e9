"""The structure figure: a few networks as boxes and arrows, one panel each."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from yolov9bench.plots.diagrams import STRIDES
from yolov9bench.plots.figure_data import FigureData
from yolov9bench.plots.style import BLUE, GREEN, HEADING, SMALL, TINY, VERMILION

BOX_WIDTH, BOX_HEIGHT = 0.82, 0.64  # of a box, where columns and levels are 1 apart
COLUMNS = 7  # of the widest network; all panels have this scale
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


def plot_structures(data: FigureData) -> Figure:
    """Every diagram on a panel of its own, two panels to a row; `data` is that of `gather_structures`."""
    rows = (len(data) + 1) // 2
    figure = Figure(figsize=(10, 0.7 + 3.4 * rows), layout="constrained")
    for axes, diagram in zip(figure.subplots(rows, 2, squeeze=False).flat, data.values(), strict=True):
        _draw_diagram(axes, diagram)
    handles: list[Any] = [Patch(**LOOKS[part], label=meaning) for part, meaning in MEANINGS.items()]
    handles.append(Line2D([], [], color=ACROSS, linewidth=0.8, label="1x1 projections, added (reversible)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)
    figure.suptitle(
        "Structures: the kind of each block, its output channels and, in brackets, its depth",
        fontsize=HEADING,
    )
    return figure


def _draw_diagram(axes: Axes, diagram: FigureData) -> None:
    boxes, headings = diagram["boxes"], diagram["headings"]
    for box in boxes.values():
        x, y = box["column"], box["level"]
        corner = (x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2)
        axes.add_patch(Rectangle(corner, BOX_WIDTH, BOX_HEIGHT, linewidth=1, zorder=2, **LOOKS[box["part"]]))
        axes.text(x, y, box["text"], ha="center", va="center", fontsize=TINY, zorder=3)
    for start, end in diagram["arrows"]:
        _draw_arrow(axes, boxes[start], boxes[end], "0.35", 0.9)
    for start, end in diagram["across"]:
        _draw_arrow(axes, boxes[start], boxes[end], ACROSS, 0.7)
    for column, heading in enumerate(headings):
        axes.text(column, -0.55, heading.replace(" ", "\n"), ha="center", va="bottom", fontsize=TINY)
    margin = (COLUMNS - len(headings)) / 2
    axes.set_xlim(-0.6 - margin, len(headings) - 0.4 + margin)
    axes.set_ylim(4.4, -1.0)
    axes.set_yticks(range(len(STRIDES)), [str(stride) for stride in STRIDES], fontsize=SMALL)
    axes.set_ylabel("stride (pixels)", fontsize=SMALL)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(diagram["title"], fontsize=SMALL + 1)


def _draw_arrow(axes: Axes, start: FigureData, end: FigureData, colour: str, width: float) -> None:
    """From border to border: vertical within a column, otherwise between the facing sides."""
    across = end["column"] - start["column"]
    side = (across > 0) - (across < 0)
    x0, x1 = start["column"] + side * BOX_WIDTH / 2, end["column"] - side * BOX_WIDTH / 2
    y0, y1 = start["level"], end["level"]
    if side == 0:
        down = 1 if y1 > y0 else -1
        y0, y1 = y0 + down * BOX_HEIGHT / 2, y1 - down * BOX_HEIGHT / 2
    look = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=(x1, y1), xytext=(x0, y0), arrowprops=look | {"mutation_scale": 7}, zorder=1)
