"""The waterfall by its drawn parts: a bar a departure, to scale and enlarged; no text on another."""

from dataclasses import asdict, replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from record_parts import EMPTY

from yolov9bench.plots.waterfall import plot_waterfall
from yolov9bench.records import Record
from yolov9bench.records.study import StudyLine, StudyValues


def line(name: str, change: float, interval: list[float] | None = None, *runs: float) -> StudyLine:
    """A line with changes of AP as fractions."""
    return StudyLine(name, "", [], [], {"AP": 0.4 + change}, change, list(runs) or [change], interval, [])


LINES = [
    line("square inputs", -0.0025, [-0.02, 0.015]),
    line("order of ties", -0.001, [-0.007, 0.005], -0.0045, 0.0025),
    line("area resize", 0.0),
    line("padding 0", 0.0017, [-0.01, 0.01]),
    line("conf .25", -0.0786, [-0.086, -0.03]),
    *(line(f"$another {number}$", -0.001 * number, [-0.004, 0.004]) for number in range(13)),
]


def study_of(lines: list[StudyLine]) -> Record:
    values = StudyValues({"AP": 0.4}, "", lines, None)
    settings, inputs = {"protocol": {"name": "ultralytics"}}, {"images": 100}
    return replace(EMPTY, kind="study", values=asdict(values), settings=settings, inputs=inputs)


def bars(axes: Any) -> list[float]:
    return [patch.get_width() for patch in axes.patches if isinstance(patch, Rectangle)]


def test_both_panels_have_every_change_in_points() -> None:
    whole, enlarged = plot_waterfall(study_of(LINES)).axes
    expected = [100 * float(each.AP_change or 0) for each in LINES]
    assert bars(whole) == bars(enlarged) == pytest.approx(expected)
    low, high = whole.get_xlim()
    assert low < -7.86 and high > 0.17
    left, right = enlarged.get_xlim()
    assert -7.86 < left == -right and right > 0.25


def test_intervals_runs_and_values_are_beside_their_bars() -> None:
    _, enlarged = plot_waterfall(study_of(LINES)).axes
    drawn = [(*np.array(each.get_data()).tolist(), each.get_marker()) for each in enlarged.lines]
    ranges = {ys[0]: xs for xs, ys, marker in drawn if marker == "None" and ys != [0, 1]}
    assert ranges[0] == pytest.approx([-2.0, 1.5]) and ranges[4] == pytest.approx([-8.6, -3.0])
    assert 2 not in ranges and len(ranges) == len(LINES) - 1
    (runs,) = [(xs, ys) for xs, ys, marker in drawn if marker == "o"]
    assert runs[0] == pytest.approx([-0.45, 0.25]) and runs[1] == [1, 1]
    values = [text.get_text() for text in enlarged.texts]
    assert values[:5] == ["-0.25", "-0.10", "0.00", "+0.17", "-7.86"] and values[5] == "0.00"


@pytest.mark.parametrize("lines", [LINES, LINES[:1]], ids=["many", "one"])
def test_no_text_lies_on_another_or_leaves_the_figure(lines: list[StudyLine]) -> None:
    figure = plot_waterfall(study_of(lines))
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [*figure.axes[0].get_yticklabels(), *figure.legends[0].get_texts(), *figure.texts]
    for axes in figure.axes:
        low, high = axes.get_xlim()
        ticks = [label for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
        texts += [*axes.texts, axes.xaxis.label, *ticks]
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in texts if text.get_text()]
    assert len(boxes) >= 2 * len(lines) + 3
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
