"""The performance plot, with names at the ends of its lines, and the memory chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MultipleLocator, NullLocator

from yolov9bench.plots.figure_data import FigureData
from yolov9bench.plots.labels import Label, place_labels
from yolov9bench.plots.style import (
    BLUE,
    GREEN,
    HEADING,
    ORANGE,
    PURPLE,
    SKY,
    SMALL,
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
# The paper's series lie behind them, thin: three quiet tones in four styles of line, and a marker for each.
TONES = ("0.45", "#8a7a55", "#5f7f93")
STYLES: tuple[Any, ...] = ("solid", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
PAPER_MARKERS = "osD^v<>pPX*h"
OWN_COLOUR = "black"
OWN_LOOK: dict[str, Any] = {"color": OWN_COLOUR, "marker": "*", "linestyle": "none", "markersize": 9}
LETTERED = ("YOLOv8 (mmyolo)", "YOLOv9 (official)")  # the other rows have the same sizes above or below
AXES = {"parameters_m": "parameters (millions)", "gflops": "operations at 640 x 640 (GFLOPs)"}
LOWEST_AP = 36.0  # percent; as in the paper's figure, which leaves out YOLOv5-N below
MEMORY_LOOKS: dict[str, dict[str, Any]] = {
    "published": {"marker": "o", "color": "0.35", "markerfacecolor": "none", "markersize": 11},
    "predicted": {"marker": "D", "color": VERMILION, "markerfacecolor": "none", "markersize": 8},
    "predicted, published set-up": {"marker": "x", "color": VERMILION, "markersize": 6},
    "measured": {"marker": "o", "color": BLUE, "markersize": 5},
}


def plot_performance(data: FigureData) -> Figure:
    """AP over parameters and over GFLOPs: the paper's series in quiet tones, the table's rows on top.

    `data` is that of `gather_performance`.
    """
    figure = Figure(figsize=(7.3, 5.4), layout="constrained")
    figure.suptitle("Accuracy over cost: the rows of the table among published detectors", fontsize=HEADING)
    panels = figure.subplots(1, 2, sharey=True)
    own = data.get("own", ())
    handles = _legend_handles(bool(own))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=SMALL)
    for axes, (cost, quantity) in zip(panels, AXES.items(), strict=True):
        _draw_paper(axes, data["paper"], cost)
        _draw_table(axes, data["table"], cost)
        _draw_own(axes, own, cost)
        _scale(axes, quantity)
    panels[0].set_ylabel("box AP on COCO val2017 (%)", fontsize=SMALL)
    for axes, cost in zip(panels, AXES, strict=True):
        place_labels(axes, [*_letters(data["table"], cost), *_names(data, cost), *_own_names(own, cost)])
    return figure


def _scale(axes: Axes, quantity: str) -> None:
    """A logarithmic axis of costs, on which the sizes of a detector lie about equally far apart."""
    axes.set_xscale("log")
    axes.set_xlim(axes.dataLim.x0 * 0.75, axes.dataLim.x1 * 2.4)  # room for the names
    axes.set_ylim(LOWEST_AP, 57.4)
    axes.yaxis.set_major_locator(MultipleLocator(2))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(quantity, fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    style_axes(axes)


def plot_memory(data: FigureData) -> Figure:
    """Training memory by row: published, predicted and measured; `data` is that of `gather_memory`."""
    rows, notes = data["rows"], _memory_notes(data)
    figure = Figure(figsize=(7, 1.7 + 0.26 * max(len(rows), 4) + 0.18 * len(notes)), layout="constrained")
    axes = figure.subplots()
    for kind, look in MEMORY_LOOKS.items():
        known = [(row[kind], place) for place, row in enumerate(rows.values()) if row[kind] is not None]
        if known:
            axes.plot(*zip(*known, strict=True), linestyle="none", label=kind, **look)
    axes.set_yticks(range(len(rows)), list(rows), fontsize=SMALL)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.06 * axes.dataLim.x1)
    axes.set_xlabel(
        "\n".join(["training memory of one GPU (GiB; published: the authors' GB)", *notes]), fontsize=SMALL
    )
    axes.set_ylabel("row", fontsize=SMALL)
    axes.set_title("Training memory: 16 images of 640 x 640 on a GPU, mixed precision", fontsize=HEADING)
    style_axes(axes)
    figure.legend(loc="outside lower center", ncols=len(MEMORY_LOOKS), frameon=False, fontsize=SMALL)
    return figure


def _memory_notes(data: FigureData) -> list[str]:
    """Why rows have no prediction, a sentence for each reason; rows without a recipe end the table."""
    unknown, waiting = data["no recipe"], data["no record"]
    notes = []
    if unknown:
        span = f"{unknown[0]} to {unknown[-1]} ({len(unknown)} rows)"
        notes.append(f"not predicted, since no recipe is known: {span}")
    if waiting:
        notes.append(f"not predicted, since no record has it: {len(waiting)} rows")
    return notes


def _draw_paper(axes: Axes, paper: Sequence[Mapping[str, Any]], cost: str) -> None:
    for place, series in enumerate(paper):
        tone, style = TONES[place % len(TONES)], STYLES[place // len(TONES)]
        for line in series["lines"]:
            costs, values = [point[cost] for point in line], [point["ap"] for point in line]
            (drawn,) = axes.plot(costs, values, color=tone, linestyle=style, linewidth=0.8)
            drawn.set(marker=PAPER_MARKERS[place], markersize=2.6)


def _names(data: FigureData, cost: str) -> list[Label]:
    """The names of all series: the table's at their last points and first, the paper's at any point."""
    labels = []
    for name, points in data["table"].items():
        end = (points[-1][cost], _shown_ap(points[-1]))
        labels.append(Label(name.replace(" (", "\n("), [end], LOOKS[name][0], bold=True))
    for place, series in enumerate(data["paper"]):
        points = [(point[cost], point["ap"]) for line in series["lines"] for point in line[::-1]]
        visible = [point for point in points if point[1] > LOWEST_AP]
        labels.append(Label(series["name"], visible, TONES[place % len(TONES)]))
    return labels


def _letters(table: Mapping[str, Sequence[Mapping[str, Any]]], cost: str) -> list[Label]:
    """The size of each point of two series."""
    return [
        Label(point["row"].partition("-")[2], [(point[cost], _shown_ap(point))], LOOKS[name][0], bold=True)
        for name in LETTERED
        for point in table.get(name, ())
    ]


def _shown_ap(point: Mapping[str, Any]) -> float:
    """The AP at which a point of the table has its name: the published one if there is one."""
    return float(point["measured"] if point["published"] is None else point["published"])


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
                linewidth=1.4 if kind == "published" else 0.8,
                marker=marker,
                markersize=size,
                markerfacecolor=fill,
            )


def _draw_own(axes: Axes, own: Sequence[Mapping[str, Any]], cost: str) -> None:
    """Detectors of one's own: a star each, no line, since nothing says that they are sizes of one."""
    known = [point for point in own if point[cost] is not None]
    costs, values = [point[cost] for point in known], [point["measured"] for point in known]
    if known:
        axes.plot(costs, values, **OWN_LOOK)


def _own_names(own: Sequence[Mapping[str, Any]], cost: str) -> list[Label]:
    """Their names, in which a dollar sign begins no formula."""
    return [
        Label(point["name"].replace("$", r"\$"), [(point[cost], point["measured"])], OWN_COLOUR, bold=True)
        for point in own
        if point[cost] is not None and point["measured"] > LOWEST_AP
    ]


def _legend_handles(has_own: bool) -> list[Line2D]:
    """Samples of the lines by source, and of the markers by kind of value."""
    handles = [Line2D([], [], color=TONES[0], linewidth=0.8, label="thin: published in arXiv:2402.13616")]
    for kind, fill in (("hollow: published", "white"), ("full: measured here", "0.3")):
        look: dict[str, Any] = {"color": "0.3", "marker": "o", "markerfacecolor": fill, "linestyle": "none"}
        handles.append(Line2D([], [], label=kind, **look))
    if has_own:
        handles.append(Line2D([], [], label="star: own detectors, measured here", **OWN_LOOK))
    return handles
