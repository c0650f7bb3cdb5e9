"""Plots of a training run: the curves of its log, and the augmented images that it sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from yolov9bench.data.transforms import Sample
from yolov9bench.plots.style import BLUE, GREEN, HEADING, SMALL, VERMILION, WIDTH, style_axes

GIBIBYTE = 2**30
MARKED_EPOCHS = 20  # epochs up to which each one has a marker; a line of a single point would not be seen
Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Curve:
    """A value of the log, by its key, and how it is drawn."""

    key: str
    label: str
    colour: str
    linestyle: str = "solid"


@dataclass(frozen=True)
class Panel:
    """Curves of one quantity, divided by `unit`, and what is written if the log has none of them."""

    title: str
    quantity: str
    curves: tuple[Curve, ...]
    empty: str
    unit: float = 1.0


PANELS = (
    Panel(
        "training loss",
        "loss per image",
        (Curve("box", "box", BLUE), Curve("cls", "class", VERMILION), Curve("dfl", "distribution", GREEN)),
        "no epoch yet",
    ),
    Panel("validation", "box AP (fraction)", (Curve("AP", "averaged weights", BLUE),), "not validated yet"),
    Panel(
        "learning rate at the end of an epoch",
        "rate",
        (Curve("rate", "weights", BLUE), Curve("bias_rate", "biases", VERMILION, "dashed")),
        "no epoch yet",
    ),
    Panel(
        "peak memory of the GPU",
        "GiB",
        (
            Curve("bytes_allocated", "allocated", BLUE),
            Curve("bytes_reserved", "reserved", VERMILION, "dashed"),
        ),
        "not counted on a CPU",
        GIBIBYTE,
    ),
)


def plot_training_curves(log: Sequence[Entry]) -> Figure:
    """Losses, AP, rates and GPU memory over the epochs, counted from 1, of a log as log.jsonl has it."""
    figure = Figure(figsize=(WIDTH, 5.5), layout="constrained")
    for axes, panel in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        for curve in panel.curves:
            _draw_curve(axes, log, curve, panel.unit)
        _finish(axes, panel, epochs=max((entry["epoch"] + 1 for entry in log), default=1))
    return figure


def _draw_curve(axes: Axes, log: Sequence[Entry], curve: Curve, unit: float) -> None:
    """One line over the epochs that have the value; none if no epoch has it."""
    points = [(entry["epoch"] + 1, entry[curve.key] / unit) for entry in log if entry[curve.key] is not None]
    if points:
        epochs, values = zip(*points, strict=True)
        (line,) = axes.plot(epochs, values, color=curve.colour, linestyle=curve.linestyle, label=curve.label)
        if len(points) <= MARKED_EPOCHS:
            line.set(marker="o", markersize=4)


def _finish(axes: Axes, panel: Panel, epochs: int) -> None:
    """Title, axes, grid, ticks at whole epochs, and a legend where there are several lines."""
    axes.set_title(panel.title, fontsize=HEADING)
    axes.set_xlabel("epoch")
    axes.set_ylabel(panel.quantity)
    axes.set_xlim(0.5, epochs + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylim(bottom=0)
    style_axes(axes)
    if len(axes.lines) > 1:
        axes.legend(frameon=False, fontsize=SMALL)
    if not axes.lines:
        axes.text(0.5, 0.5, panel.empty, ha="center", va="center", transform=axes.transAxes)


def plot_augmented_images(samples: Sequence[Sample], columns: int = 4) -> Figure:
    """Augmented training images in a grid, with their boxes."""
    rows = math.ceil(len(samples) / columns)
    figure = Figure(figsize=(WIDTH, 2 * rows), layout="constrained")
    for axes, sample in zip(figure.subplots(rows, columns, squeeze=False).flat, samples, strict=False):
        axes.imshow(sample.pixels[:, :, ::-1])
        for left, top, right, bottom in sample.boxes:
            for colour, width in (("white", 1.6), (VERMILION, 0.8)):  # a rim, to be seen on any image
                corner, size = (left, top), (right - left, bottom - top)
                axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=width))
    for axes in figure.axes:
        axes.set_axis_off()
    return figure
