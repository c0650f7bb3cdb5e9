"""Plots of a training run: its log, and a sheet of the images that it sees."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from yolov9bench.data.transforms import Sample
from yolov9bench.plots.style import BLUE, GREEN, HEADING, SMALL, VERMILION, WIDTH, quieten

GIBIBYTE = 2**30
Entry = Mapping[str, Any]


def training_curves(log: Sequence[Entry]) -> Figure:
    """Losses, AP, rates and GPU memory over the epochs of a log, as log.jsonl has them."""
    figure = Figure(figsize=(WIDTH, 5.5), layout="constrained")
    losses, ap, rates, memory = figure.subplots(2, 2).flat
    for term, name, colour in (
        ("box", "box", BLUE),
        ("cls", "class", VERMILION),
        ("dfl", "distribution", GREEN),
    ):
        draw(losses, log, term, name, colour)
    name_axes(losses, "training loss", "loss per image")
    draw(ap, log, "AP", "averaged weights", BLUE, marker="o")
    name_axes(ap, "validation", "box AP (fraction)")
    draw(rates, log, "rate", "weights", BLUE)
    draw(rates, log, "bias_rate", "biases", VERMILION, linestyle="dashed")
    name_axes(rates, "learning rate at the end of an epoch", "rate")
    draw(memory, log, "bytes_allocated", "allocated", BLUE, GIBIBYTE)
    draw(memory, log, "bytes_reserved", "reserved", VERMILION, GIBIBYTE, linestyle="dashed")
    name_axes(memory, "peak memory of the GPU", "GiB")
    if not memory.lines:
        memory.text(0.5, 0.5, "not counted on a CPU", ha="center", va="center", transform=memory.transAxes)
    return figure


def draw(
    axes: Axes, log: Sequence[Entry], key: str, name: str, colour: str, unit: float = 1.0, **style: Any
) -> None:
    """One line over the epochs, counted from 1, that have a value; none if no epoch has one."""
    points = [(entry["epoch"] + 1, entry[key] / unit) for entry in log if entry[key] is not None]
    if points:
        epochs, values = zip(*points, strict=True)
        axes.plot(epochs, values, color=colour, label=name, **style)


def name_axes(axes: Axes, title: str, quantity: str) -> None:
    """Title, axes, a quiet grid, and a legend where there are several lines."""
    axes.set_title(title, fontsize=HEADING)
    axes.set_xlabel("epoch")
    axes.set_ylabel(quantity)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    quieten(axes)
    if len(axes.lines) > 1:
        axes.legend(frameon=False, fontsize=SMALL)


def augmented_images(samples: Sequence[Sample], columns: int = 4) -> Figure:
    """A sheet of training images with the boxes that are learnt on them."""
    rows = math.ceil(len(samples) / columns)
    figure = Figure(figsize=(WIDTH, 2 * rows), layout="constrained")
    for axes, sample in zip(figure.subplots(rows, columns, squeeze=False).flat, samples, strict=False):
        axes.imshow(sample.pixels[:, :, ::-1])
        for left, top, right, bottom in sample.boxes:
            for colour, width in (("white", 1.6), (VERMILION, 0.8)):  # a rim, to show on any ground
                corner, size = (left, top), (right - left, bottom - top)
                axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=width))
    for axes in figure.axes:
        axes.set_axis_off()
    return figure
