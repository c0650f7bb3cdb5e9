"""The waterfall of a study: how far each departure takes AP from the baseline, small changes enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from yolov9bench.io.progress import counted
from yolov9bench.plots.style import BLUE, HEADING, SMALL, VERMILION, WIDTH, style_axes
from yolov9bench.records import Record
from yolov9bench.records.study import StudyLine, read_study

LEAST_WINDOW = 0.5  # points on each side of the enlarged panel
ROOM = 1.1  # times what fits into it
FITTING = 75  # per cent of the departures, which fit into the enlarged panel with their intervals
RUN: dict[str, Any] = {"color": "black", "marker": "o", "markersize": 2.5, "linestyle": "none"}

Points = npt.NDArray[np.float64]


def plot_waterfall(record: Record) -> Figure:
    """Two panels of the same bars, of a record of a study: all changes to scale, and the small ones enlarged.

    In the enlarged panel a line is the paired 95 % interval of the change and a dot one of several runs; a
    bar that is longer than the panel is cut. Values are written beside it. All are points of AP.
    """
    stated = read_study(record)
    lines = stated.values.lines or []
    changes = 100 * np.array([line.AP_change or 0.0 for line in lines])
    figure = Figure(figsize=(WIDTH, 1.6 + 0.25 * max(len(lines), 4)), layout="constrained")
    whole, enlarged = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": (2, 3)})
    for axes, title in ((whole, "all changes to scale"), (enlarged, "enlarged, with 95 % intervals")):
        _draw_bars(axes, changes)
        axes.set_title(title, fontsize=SMALL, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(5))
    whole.set_yticks(range(len(lines)), [str(line.name) for line in lines], fontsize=SMALL, parse_math=False)
    whole.set_ylim(len(lines) - 0.4, -0.6)
    _enlarge(enlarged, lines)
    _draw_intervals(enlarged, lines)
    _write_values(enlarged, changes)
    images, protocol = stated.inputs.images or 0, (stated.settings.protocol or {}).get("name")
    ap = 100 * ((stated.values.baseline or {}).get("AP") or 0.0)
    title = (
        f"{record.row or 'custom'}, {protocol}, {counted(images, 'images')}: AP {ap:.2f} % in the baseline"
    )
    figure.suptitle(title, fontsize=HEADING)
    figure.legend(handles=_legend(lines), loc="outside lower center", ncols=3, frameon=False, fontsize=SMALL)
    return figure


def _draw_bars(axes: Axes, changes: Points) -> None:
    colours = [VERMILION if change < 0 else BLUE for change in changes]
    axes.barh(range(len(changes)), changes.tolist(), height=0.62, color=colours)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_xlabel("change of AP (points)", fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    style_axes(axes, grid="x")


def _enlarge(axes: Axes, lines: Sequence[StudyLine]) -> None:
    """Limit the panel to the changes of most departures, the same on both sides."""
    reach = [max(map(abs, (line.AP_change or 0.0, *(line.AP_interval or ())))) for line in lines]
    window = max(ROOM * 100 * float(np.percentile([*reach, 0.0], FITTING)), LEAST_WINDOW)
    axes.set_xlim(-window, window)
    axes.tick_params(axis="y", length=0)


def _draw_intervals(axes: Axes, lines: Sequence[StudyLine]) -> None:
    for place, line in enumerate(lines):
        if line.AP_interval is not None:
            axes.plot(100 * np.array(line.AP_interval), [place, place], color="0.15", linewidth=1)
        runs = line.AP_changes or []
        if len(runs) > 1:
            axes.plot(100 * np.array(runs), [place] * len(runs), **RUN)


def _write_values(axes: Axes, changes: Points) -> None:
    """Each change in a column at the right, where no bar is."""
    for place, change in enumerate(changes):
        text = f"{change:+.2f}" if round(float(change), 2) else "0.00"
        axes.annotate(
            text, (1, place), (4, 0), ("axes fraction", "data"), "offset points", va="center", fontsize=SMALL
        )


def _legend(lines: Sequence[StudyLine]) -> list[Line2D]:
    handles = [Line2D([], [], color="0.15", linewidth=1, label="paired 95 % interval over images")]
    if any(len(line.AP_changes or []) > 1 for line in lines):
        handles.append(Line2D([], [], label="one of several runs", **RUN))
    return handles
