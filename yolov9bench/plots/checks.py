"""AP measured on part of the images beside the published figure: what a subset can and cannot tell."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from yolov9bench.io.progress import counted
from yolov9bench.plots.figure_data import FigureData
from yolov9bench.plots.style import BLUE, HEADING, SMALL, VERMILION, style_axes
from yolov9bench.records.comparison import ALIKE

LINE_HEIGHT = 0.32  # inches of a measurement
FRAME_HEIGHT = 1.6  # inches of title, axis and key
PUBLISHED: dict[str, Any] = {
    "marker": "D",
    "linestyle": "none",
    "color": VERMILION,
    "markerfacecolor": "white",
    "markersize": 7,
    "zorder": 3,
}


BESIDE_AXES: dict[str, Any] = {
    "xycoords": ("axes fraction", "data"),
    "textcoords": "offset points",
    "va": "center",
    "fontsize": HEADING,
}


def plot_checks(data: FigureData) -> Figure:
    """One line a measurement: AP with its 95 % interval, and the AP published for the row on all images.

    `data` is that of `gather_checks`; a figure that says so if there is none.
    """
    lines = data["measurements"]
    height = FRAME_HEIGHT + LINE_HEIGHT * max(len(lines), 1)
    figure = Figure(figsize=(7.5, height), layout="constrained")
    if not lines:
        figure.text(0.5, 0.5, "no measurement yet", ha="center", va="center")
        return figure
    axes = figure.subplots()
    for place, line in enumerate(lines):
        axes.plot([line["low"], line["high"]], [place, place], color=BLUE, linewidth=2.2)
        axes.plot(line["ap"], place, "o", color=BLUE, markersize=7)
        axes.annotate(
            f"{line['ap']:.1f}",
            (line["ap"], place),
            (0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL,
        )
        if line.get("alike"):
            axes.annotate(ALIKE, (1.0, place - 0.5), (6, 0), **BESIDE_AXES)
        if line["published"] is not None:
            axes.plot(line["published"], place, **PUBLISHED)
    axes.plot([], [], "o-", color=BLUE, label="measured here, with its 95 % interval over images")
    if any(line.get("alike") for line in lines):
        axes.plot([], [], " ", marker=r"$\approx$", color="black", label="cannot be told apart")
    axes.plot([], [], label="published, on all 5,000 images of val2017", **PUBLISHED)
    names = [f"{line['row']}, {line['protocol']}, {counted(line['images'], 'images')}" for line in lines]
    axes.set_yticks(range(len(lines)), names, fontsize=SMALL)
    axes.set_ylim(len(lines) - 0.5, -0.7)
    axes.set_xlabel("box AP (%)")
    axes.set_title("Measured on part of the images: an interval, not a verdict", fontsize=HEADING, loc="left")
    style_axes(axes, grid="x")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=SMALL)
    return figure
