"""The performance plot and the memory chart, drawn from their plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from yolov9bench.plots.labels import Label, place_labels
from yolov9bench.plots.plotted import Plotted
from yolov9bench.plots.style import BLUE, GREEN, HEADING, ORANGE, PURPLE, SKY, SMALL, TINY, VERMILION, quieten

# A colour and a marker for each line, so that none is told by its colour alone.
LOOKS = {
    "YOLOv8 (mmyolo)": (BLUE, "o"),
    "YOLOv8, mask refine (mmyolo)": (PURPLE, "s"),
    "YOLOv9 (official)": (VERMILION, "^"),
    "GELAN (official)": (GREEN, "D"),
    "YOLOv8 (Ultralytics)": (SKY, "v"),
    "YOLOv9 (Ultralytics)": (ORANGE, "P"),
}
QUIET = ("#9aa5ab", "#b0a596", "#a8a0b4", "#9fae9f")  # lines of the paper's series, labelled, not in the key
QUIET_TEXT = "#5f666a"
QUIET_STYLES = ("solid", "dashed", "dashdot")
AXES = {"parameters_m": "parameters (millions)", "gflops": "operations at 640 x 640 (GFLOPs)"}
LOWEST_AP = 36.0  # percent; as in the paper's figure, which leaves out YOLOv5-N below
MEMORY_LOOKS: dict[str, dict[str, Any]] = {
    "published": {"marker": "o", "color": "0.35", "markerfacecolor": "none", "markersize": 11},
    "predicted": {"marker": "D", "color": VERMILION, "markerfacecolor": "none", "markersize": 8},
    "measured": {"marker": "o", "color": BLUE, "markersize": 5},
}


def performance(plotted: Plotted) -> Figure:
    """AP over parameters and over GFLOPs: the paper's series in quiet colours, the table's rows on top."""
    figure = Figure(figsize=(8.5, 10.5), layout="constrained")
    figure.suptitle("Accuracy over cost: the rows of the table among published detectors", fontsize=HEADING)
    for axes, (cost, quantity) in zip(figure.subplots(2, 1), AXES.items(), strict=True):
        _draw_paper(axes, plotted["paper"], cost)
        _draw_table(axes, plotted["table"], cost)
        axes.set_ylim(LOWEST_AP, 56.6)
        axes.set_xlim(0, 1.06 * axes.dataLim.x1)  # room for the labels of the last points
        axes.yaxis.set_major_locator(MultipleLocator(2))
        axes.set_xlabel(quantity)
        axes.set_ylabel("box AP on COCO val2017 (%)")
        quieten(axes)
    key = _key(plotted["table"])
    figure.legend(handles=key, loc="outside lower center", ncols=3, frameon=False, fontsize=SMALL)
    for axes, cost in zip(figure.axes, AXES, strict=True):
        place_labels(axes, _labels(plotted["paper"], cost), TINY)
    return figure


def memory(plotted: Plotted) -> Figure:
    """Training memory by row: published, predicted and measured, each with its own mark."""
    figure = Figure(figsize=(7, 1.7 + 0.26 * len(plotted)), layout="constrained")
    axes = figure.subplots()
    for kind, look in MEMORY_LOOKS.items():
        known = [(row[kind], place) for place, row in enumerate(plotted.values()) if row[kind] is not None]
        values, places = zip(*known, strict=True) if known else ((), ())
        axes.plot(values, places, linestyle="none", label=kind, **look)
    axes.set_yticks(range(len(plotted)), list(plotted), fontsize=SMALL)
    axes.set_ylim(len(plotted) - 0.4, -0.6)
    axes.set_xlim(0, 1.06 * axes.dataLim.x1)
    axes.set_xlabel("training memory of one GPU (GiB; published: the authors' GB)")
    axes.set_ylabel("row")
    axes.set_title("Training memory: 16 images of 640 x 640 on a GPU, mixed precision", fontsize=HEADING)
    quieten(axes)
    figure.legend(loc="outside lower center", ncols=len(MEMORY_LOOKS), frameon=False, fontsize=SMALL)
    return figure


def _draw_paper(axes: Axes, paper: Sequence[Mapping[str, Any]], cost: str) -> None:
    for series, colour, style in zip(paper, cycle(QUIET), cycle(QUIET_STYLES), strict=False):
        for line in series["lines"]:
            costs, values = [point[cost] for point in line], [point["ap"] for point in line]
            axes.plot(costs, values, color=colour, linestyle=style, linewidth=1.1, marker=".", markersize=5)


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


def _labels(paper: Sequence[Mapping[str, Any]], cost: str) -> list[Label]:
    """A label per published series, beside its costliest points first; the longest lines choose first."""
    labels = []
    for series in paper:
        points = [point for line in series["lines"] for point in line if point["ap"] > LOWEST_AP]
        points.sort(key=lambda point: -point[cost])
        anchors = [(point[cost], point["ap"]) for point in points]
        labels.append(Label(series["name"], anchors, QUIET_TEXT))
    return sorted(labels, key=lambda label: (-label.anchors[0][0], label.anchors[0][1]))


def _key(names: Mapping[str, object]) -> list[Line2D]:
    """What the colours and the fillings mean."""
    key = []
    for name in names:
        colour, marker = LOOKS[name]
        key.append(Line2D([], [], color=colour, marker=marker, markerfacecolor="white", label=name))
    key.append(Line2D([], [], color=QUIET[0], marker=".", label="published in arXiv:2402.13616"))
    for kind, fill in (("hollow: published", "white"), ("full: measured here", "0.3")):
        look: dict[str, Any] = {"color": "0.3", "marker": "o", "markerfacecolor": fill, "linestyle": "none"}
        key.append(Line2D([], [], label=kind, **look))
    return key
