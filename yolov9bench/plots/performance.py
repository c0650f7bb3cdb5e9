"""The performance plot, with names at the ends of its lines, and the memory chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator
from matplotlib.typing import ColorType

from yolov9bench.plots.figure_data import FigureData
from yolov9bench.plots.style import (
    BLUE,
    GREEN,
    HEADING,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
    TINY,
    VERMILION,
    style_axes,
)

# A colour and a marker for each line, so that none is told by its colour alone.
LOOKS = {
    "YOLOv8 (mmyolo)": (BLUE, "o"),
    "YOLOv8, mask refine (mmyolo)": (PURPLE, "s"),
    "YOLOv9 (official)": (VERMILION, "^"),
    "GELAN (official)": (GREEN, "D"),
    "YOLOv8 (Ultralytics)": (SKY, "v"),
    "YOLOv9 (Ultralytics)": (ORANGE, "P"),
}
QUIET = "0.55"  # of the paper's series in the key
Horizontal = Literal["left", "center", "right"]
Vertical = Literal["top", "center", "bottom"]
SIDES: dict[str, tuple[tuple[int, int], Horizontal, Vertical]] = {  # offset in points, alignments of the text
    "right": ((5, 0), "left", "center"),
    "left": ((-4, 0), "right", "center"),
    "below": ((0, -6), "center", "top"),
    "above right": ((4, 1), "left", "bottom"),
    "above left": ((-4, 3), "right", "bottom"),
    "below left": ((-4, 1), "right", "top"),
    "below right": ((4, -3), "left", "top"),
}
# The side of each marker on which its size letter stands; the other lines have the same sizes above or below.
LETTER_SIDES = {
    "YOLOv8 (mmyolo)": ("left", *["below right"] * 4),
    "YOLOv9 (official)": ("above left",) * 5,
}
# Where a published series has its name: the index of a point among those of all its lines, and a side.
AT_THE_END = (-1, "right")
NAME_PLACES: dict[str, dict[str, tuple[int, str]]] = {
    "parameters_m": {
        "YOLOv9": (-1, "above right"),
        "YOLOv6 v3.0": (-1, "below"),
        "YOLOv8": (-1, "below right"),
        "Gold YOLO": (-1, "below"),
        "RT DETR": (4, "right"),
        "DAMO YOLO": (-1, "below"),
        "YOLO MS": (0, "left"),
    },
    "gflops": {
        "YOLOv9": (-1, "above right"),
        "PPYOLOE": (0, "below left"),
        "YOLOv6 v3.0": (1, "right"),
        "YOLOv8": (-1, "below right"),
        "Gold YOLO": (-1, "below"),
        "RT DETR": (4, "right"),
        "DAMO YOLO": (-1, "below"),
        "YOLO MS": (0, "left"),
    },
}
AXES = {"parameters_m": "parameters (millions)", "gflops": "operations at 640 x 640 (GFLOPs)"}
LOWEST_AP = 36.0  # percent; as in the paper's figure, which leaves out YOLOv5-N below
MEMORY_LOOKS: dict[str, dict[str, Any]] = {
    "published": {"marker": "o", "color": "0.35", "markerfacecolor": "none", "markersize": 11},
    "predicted": {"marker": "D", "color": VERMILION, "markerfacecolor": "none", "markersize": 8},
    "predicted, published set-up": {"marker": "x", "color": VERMILION, "markersize": 6},
    "measured": {"marker": "o", "color": BLUE, "markersize": 5},
}


def plot_performance(data: FigureData) -> Figure:
    """AP over parameters and over GFLOPs: the paper's series in quiet colours, the table's rows on top.

    `data` is that of `gather_performance`.
    """
    figure = Figure(figsize=(8.5, 10.5), layout="constrained")
    figure.suptitle("Accuracy over cost: the rows of the table among published detectors", fontsize=HEADING)
    for axes, (cost, quantity) in zip(figure.subplots(2, 1), AXES.items(), strict=True):
        _draw_paper(axes, data["paper"], cost)
        _draw_table(axes, data["table"], cost)
        axes.set_ylim(LOWEST_AP, 56.6)
        axes.set_xlim(-0.045 * axes.dataLim.x1, 1.1 * axes.dataLim.x1)  # room for the names
        axes.yaxis.set_major_locator(MultipleLocator(2))
        axes.set_xlabel(quantity)
        axes.set_ylabel("box AP on COCO val2017 (%)")
        style_axes(axes)
    handles = _legend_handles(data["table"])
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=SMALL)
    return figure


def plot_memory(data: FigureData) -> Figure:
    """Training memory by row: published, predicted and measured; `data` is that of `gather_memory`."""
    figure = Figure(figsize=(7, 1.7 + 0.26 * len(data)), layout="constrained")
    axes = figure.subplots()
    for kind, look in MEMORY_LOOKS.items():
        known = [(row[kind], place) for place, row in enumerate(data.values()) if row[kind] is not None]
        values, places = zip(*known, strict=True) if known else ((), ())
        axes.plot(values, places, linestyle="none", label=kind, **look)
    axes.set_yticks(range(len(data)), list(data), fontsize=SMALL)
    axes.set_ylim(len(data) - 0.4, -0.6)
    axes.set_xlim(0, 1.06 * axes.dataLim.x1)
    axes.set_xlabel("training memory of one GPU (GiB; published: the authors' GB)")
    axes.set_ylabel("row")
    axes.set_title("Training memory: 16 images of 640 x 640 on a GPU, mixed precision", fontsize=HEADING)
    style_axes(axes)
    figure.legend(loc="outside lower center", ncols=len(MEMORY_LOOKS), frameon=False, fontsize=SMALL)
    return figure


def _draw_paper(axes: Axes, paper: Sequence[Mapping[str, Any]], cost: str) -> None:
    for place, series in enumerate(paper):
        colour = tuple(hsv_to_rgb((place / len(paper), 0.45, 0.6)))  # a quiet hue of its own
        for line in series["lines"]:
            costs, values = [point[cost] for point in line], [point["ap"] for point in line]
            axes.plot(costs, values, color=colour, linewidth=0.9, marker=".", markersize=4)
        index, side = NAME_PLACES[cost].get(series["name"], AT_THE_END)
        point = [point for line in series["lines"] for point in line][index]
        _annotate(axes, series["name"], (point[cost], point["ap"]), side, colour)


def _annotate(axes: Axes, text: str, point: tuple[float, float], side: str, colour: ColorType) -> None:
    """A small text on one side of a point, on a white ground that keeps it legible across lines."""
    offset, ha, va = SIDES[side]
    annotation = axes.annotate(text, point, offset, textcoords="offset points", ha=ha, va=va)
    annotation.set(fontsize=TINY, color=colour)
    annotation.set_bbox({"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 0.4})  # points


def _draw_table(axes: Axes, table: Mapping[str, Sequence[Mapping[str, Any]]], cost: str) -> None:
    """Hollow markers are published, smaller full ones measured; where they agree, one lies in the other."""
    for name, points in table.items():
        colour, marker = LOOKS[name]
        for kind, fill, size in (("published", "white", 6.5), ("measured", colour, 4)):
            known = [point for point in points if point[kind] is not None and point[cost] is not None]
            axes.plot(
                [point[cost] for point in known],
                [point[kind] for point in known],
                color=colour,
                linestyle="solid" if kind == "published" else "dashed",
                linewidth=1.4,
                marker=marker,
                markersize=size,
                markerfacecolor=fill,
            )
        for point, side in zip(points, LETTER_SIDES.get(name, ()), strict=False):
            letter = point["row"].partition("-")[2]
            _annotate(axes, letter, (point[cost], point["published"]), side, colour)


def _legend_handles(names: Mapping[str, object]) -> list[Line2D]:
    """Samples of the lines by source, and of the markers by kind of value."""
    handles = []
    for name in names:
        colour, marker = LOOKS[name]
        handles.append(Line2D([], [], color=colour, marker=marker, markerfacecolor="white", label=name))
    handles.append(Line2D([], [], color=QUIET, marker=".", label="published in arXiv:2402.13616"))
    for kind, fill in (("hollow: published", "white"), ("full: measured here", "0.3")):
        look: dict[str, Any] = {"color": "0.3", "marker": "o", "markerfacecolor": fill, "linestyle": "none"}
        handles.append(Line2D([], [], label=kind, **look))
    return handles
