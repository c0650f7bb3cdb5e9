"""Plots of the metrics and the diagnoses of an evaluation, for the result notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from yolov9bench.evaluation.coco_metrics import CocoResult
from yolov9bench.plots.style import BLUE, GREEN, HEADING, SMALL, VERMILION, WIDTH, style_axes

CURVES = {"0.50": (BLUE, "solid"), "0.75": (VERMILION, "dashed"), "0.50:0.95": (GREEN, "dashdot")}
FEW_TICKS = 4  # intervals, on axes of half a figure's width
ERROR_NAMES = {
    "Cls": "wrong class",
    "Loc": "poor localisation",
    "Both": "wrong class and poor localisation",
    "Dupe": "duplicate detection",
    "Bkg": "background detected",
    "Miss": "missed object",
}


def plot_precision_recall(result: CocoResult) -> Figure:
    """Precision over recall at IoU .50, .75 and .50:.95, each with its AP, the area beneath it; fractions.

    A curve that is undefined, since there are no objects, is named but not drawn.
    """
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for iou, (colour, style) in CURVES.items():
        precision = result.precision[iou]
        defined = precision >= 0
        area = f"AP {precision.mean():.3f}" if defined.all() else "undefined"
        (line,) = axes.plot(result.recall[defined], precision[defined], color=colour, linestyle=style)
        line.set(linewidth=2, label=f"IoU {iou}: {area}")
    axes.set_title("Precision over recall, mean over the classes with objects", fontsize=HEADING)
    axes.set(xlabel="recall (fraction of objects)", ylabel="precision (fraction of detections)")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    style_axes(axes)
    figure.legend(loc="outside lower center", ncols=len(CURVES), frameon=False, fontsize=SMALL)
    return figure


def plot_class_ap(result: CocoResult, limit: int | None = None) -> Figure:
    """A bar for each class that has objects: AP over IoU .50:.95, a fraction, the highest on top.

    With `limit` only the classes with the most objects are shown, whose AP is the most reliable.
    """
    present = [(name, own) for name, own in result.classes.items() if own.objects]
    shown = sorted(present, key=lambda pair: -pair[1].objects)[:limit]
    shown.sort(key=lambda pair: -pair[1].AP)
    figure = Figure(figsize=(6, 1.3 + 0.17 * max(len(shown), 6)), layout="constrained")
    axes = figure.subplots()
    names = [f"{name} ({own.objects})" for name, own in shown]
    _draw_bars(axes, names, [own.AP for _, own in shown], ".2f")
    total = len(result.classes)
    title = f"AP of {len(shown)} of {total} classes ({total - len(present)} have no objects)"
    axes.set_title(title, fontsize=HEADING)
    axes.set(xlim=(0, 1.08), xlabel="AP over IoU 0.50:0.95 (fraction)", ylabel="class (number of objects)")
    if not shown:
        axes.set_axis_off()
    return figure


def plot_error_shares(tide: Mapping[str, float], confusions: Sequence[tuple[str, str, int]]) -> Figure:
    """What each kind of error costs, beside the most frequent confusions of classes.

    `tide` is that of `diagnostics.tide_shares`, in fractions of AP50; `confusions` are the (true class,
    predicted class, count) of `diagnostics.main_confusions`.
    """
    figure = Figure(figsize=(WIDTH, 1.3 + 0.2 * max(len(tide), len(confusions))), layout="constrained")
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.06})
    _draw_bars(left, [ERROR_NAMES[kind] for kind in tide], list(tide.values()), ".3f")
    left.set_title("Cost of each kind of error", fontsize=HEADING)
    left.set(xlabel="AP50 gained by fixing it (fraction)", ylabel="kind of error")
    left.xaxis.set_major_locator(MaxNLocator(FEW_TICKS))
    names = [f"{true} → {predicted}" for true, predicted, _ in confusions]
    _draw_bars(right, names, [count for *_, count in confusions], "d")
    right.xaxis.set_major_locator(MaxNLocator(FEW_TICKS, integer=True))
    title = "Most frequent confusions" if confusions else "No class was taken for another"
    right.set_title(title, fontsize=HEADING)
    right.set(xlabel="detections (number)", ylabel="true class → predicted class")
    if not confusions:
        right.set_axis_off()
    return figure


def _draw_bars(axes: Axes, names: Sequence[str], values: Sequence[float], form: str) -> None:
    """Horizontal bars from the top down, each with its value at its end."""
    bars = axes.barh(np.arange(len(names)), values, height=0.7, color=BLUE)
    axes.bar_label(bars, fmt=f"{{:{form}}}", padding=3, fontsize=SMALL)
    axes.set_yticks(np.arange(len(names)), names, fontsize=SMALL, parse_math=False)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.tick_params(axis="y", length=0)
    style_axes(axes, "x")
