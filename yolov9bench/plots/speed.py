"""Seconds of whole programs beside one another, each bar with its spread and its accuracy."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from yolov9bench.plots.style import BLUE, HEADING, ORANGE, SMALL, WIDTH, style_axes

THICKNESS = 0.36  # of a bar, of two a row
KINDS = (("by the clock", BLUE), ("of processors", ORANGE))


@dataclass(frozen=True)
class Timed:
    """One way: its seconds by the clock and of processors, run by run, and how accurate it was, in words."""

    name: str
    wall: Sequence[float]
    cpu: Sequence[float]
    accuracy: str


def plot_speed(panels: Mapping[str, Sequence[Timed]]) -> Figure:
    """A panel for each title: of each way a bar to the median, and a line from the least to the greatest."""
    panels = {title: ways for title, ways in panels.items() if ways}
    rows = [len(ways) for ways in panels.values()]
    figure = Figure(figsize=(WIDTH, 1.0 + 0.62 * sum(rows) + 0.5 * len(rows)), layout="constrained")
    grid = figure.subplots(max(len(rows), 1), 1, squeeze=False, gridspec_kw={"height_ratios": rows or [1]})
    for axes, (title, ways) in zip(grid[:, 0], panels.items(), strict=False):
        _draw(axes, ways)
        axes.set_title(title, fontsize=HEADING, loc="left")
    if rows:
        figure.legend(
            *grid[0, 0].get_legend_handles_labels(),
            loc="outside lower center",
            ncols=2,
            frameon=False,
            fontsize=SMALL,
        )
    return figure


def _draw(axes: Axes, ways: Sequence[Timed]) -> None:
    for offset, (kind, colour), side in zip((-0.5, 0.5), KINDS, ("wall", "cpu"), strict=True):
        for place, way in enumerate(ways):
            seconds: Sequence[float] = getattr(way, side)
            middle, height = statistics.median(seconds), place + offset * THICKNESS
            axes.barh(height, middle, THICKNESS, color=colour, label=kind if place == 0 else None)
            axes.plot([min(seconds), max(seconds)], [height, height], color="0.15", linewidth=1)
    longest = max(max(*way.wall, *way.cpu) for way in ways)
    for place, way in enumerate(ways):
        end = max(*way.wall, *way.cpu) + 0.01 * longest
        axes.text(end, place, way.accuracy, va="center", fontsize=SMALL, parse_math=False)
    axes.set_yticks(range(len(ways)), [way.name for way in ways], fontsize=SMALL, parse_math=False)
    axes.set_ylim(len(ways) - 0.4, -0.6)
    axes.set_xlim(0, 1.2 * longest)
    axes.set_xlabel("seconds", fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    style_axes(axes, grid="x")
