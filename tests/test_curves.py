"""The plots of a training run by what they draw: numbers of a log by hand, boxes on painted images."""

from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from yolov9bench.data.transforms import Sample
from yolov9bench.plots.style import BLUE
from yolov9bench.plots.training import plot_augmented_images, plot_training_curves

MEMORY = ("bytes_allocated", "bytes_reserved")


def entry(epoch: int, ap: float | None, memory: int | None, **terms: float) -> dict[str, Any]:
    """A line of a log; terms not given follow the epoch."""
    values = {"box": 3.0 - epoch, "cls": 6.0 - epoch, "dfl": 1.5, "total": 40.0, "rate": 0.01 * (3 - epoch)}
    values |= {"bias_rate": 0.1 * (3 - epoch), "momentum": 0.9} | terms
    twice = None if memory is None else 2 * memory
    return {"epoch": epoch, "AP": ap, **values, MEMORY[0]: memory, MEMORY[1]: twice}


LOG = [entry(0, None, 2**30), entry(1, 0.0, 3 * 2**29), entry(2, 0.25, 2**31)]


def drawn(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """The points of each line by its name."""
    return {
        str(line.get_label()): [(float(x), float(y)) for x, y in np.asarray(line.get_data()).T]
        for line in axes.lines
    }


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title(): axes for axes in figure.axes}


def test_every_panel_has_the_numbers_of_the_log() -> None:
    shown = panels(plot_training_curves(LOG))
    assert [drawn(axes) for axes in shown.values()] == [
        {
            "box": [(1, 3), (2, 2), (3, 1)],
            "class": [(1, 6), (2, 5), (3, 4)],
            "distribution": [(1, 1.5), (2, 1.5), (3, 1.5)],
        },
        {"averaged weights": [(2, 0), (3, 0.25)]},  # none after the first epoch; 0 is one
        {
            "weights": [(1, 0.03), (2, 0.02), (3, 0.01)],
            "biases": [(1, 0.1 * 3), (2, 0.2), (3, 0.1)],
        },
        {"allocated": [(1, 1), (2, 1.5), (3, 2)], "reserved": [(1, 2), (2, 3), (3, 4)]},
    ]
    names = ["training loss", "validation", "learning rate at the end of an epoch", "peak memory of the GPU"]
    assert list(shown) == names
    assert [axes.get_ylabel() for axes in shown.values()] == [
        "loss per image",
        "box AP (fraction)",
        "rate",
        "GiB",
    ]
    for axes in shown.values():
        assert axes.get_xlabel() == "epoch"
        assert axes.get_ylim()[0] == 0
        assert (axes.get_legend() is None) == (len(axes.lines) == 1)
        colours = [to_hex(line.get_color()) for line in axes.lines]
        assert len(set(colours)) == len(colours)


def test_memory_that_nobody_counted_is_said() -> None:
    memory = panels(plot_training_curves([entry(0, 0.1, None)]))["peak memory of the GPU"]
    assert drawn(memory) == {}
    assert [text.get_text() for text in memory.texts] == ["not counted on a CPU"]
    counted = panels(plot_training_curves(LOG))["peak memory of the GPU"]
    assert [text.get_text() for text in counted.texts] == []


def ticks(axes: Axes) -> list[float]:
    low, high = axes.get_xlim()
    return [float(place) for place in axes.get_xticks() if low <= place <= high]


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 3, 4, 5, 6, 7, 8])]
)
def test_a_few_epochs_have_markers_and_whole_ticks(epochs: int, expected: list[float]) -> None:
    figure = plot_training_curves([entry(epoch, 0.1, 2**30) for epoch in range(epochs)])
    figure.draw_without_rendering()
    for axes in figure.axes:
        assert ticks(axes) == expected
        assert {str(number) for number in expected} <= {text.get_text() for text in axes.get_xticklabels()}
        for line in axes.lines:
            assert line.get_marker() == "o" and line.get_markersize() >= 3
            x, y = axes.transData.transform(line.get_xydata())[0]
            assert axes.bbox.padded(1).contains(x, y)


def test_a_single_epoch_is_painted() -> None:
    """Blue pixels, of the box loss and of the weights' rate, at the only point."""
    figure = plot_training_curves([entry(0, None, None)])
    drawn_png = BytesIO()
    figure.savefig(drawn_png, format="png", dpi=figure.dpi)
    image = cv2.imdecode(np.frombuffer(drawn_png.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    for axes in (figure.axes[0], figure.axes[2]):
        (x, y), *_ = axes.transData.transform(axes.lines[0].get_xydata())
        blue, green, red = image[round(len(image) - y), round(x)]
        assert to_hex((red / 255, green / 255, blue / 255)) == BLUE.lower()


def test_long_trainings_have_lines_without_markers_and_whole_ticks() -> None:
    figure = plot_training_curves([entry(epoch, None, None) for epoch in range(500)])
    losses = figure.axes[0]
    assert {line.get_marker() for line in losses.lines} == {"None"}
    assert all(place == round(place) for place in ticks(losses)) and 3 <= len(ticks(losses)) <= 12


def test_a_training_without_validation_says_so() -> None:
    validation = panels(plot_training_curves([entry(0, None, None)]))["validation"]
    assert [text.get_text() for text in validation.texts] == ["not validated yet"]


def sample(boxes: list[list[float]]) -> Sample:
    pixels = np.full((40, 60, 3), (0, 0, 200), np.uint8)  # red, in the order of OpenCV
    return Sample(pixels, np.array(boxes, np.float32).reshape(-1, 4), np.zeros(len(boxes), np.int64), ())


@pytest.mark.parametrize(("count", "shape"), [(1, 4), (4, 4), (5, 8)])
def test_each_image_is_shown_once_in_its_colours(count: int, shape: int) -> None:
    figure = plot_augmented_images([sample([]) for _ in range(count)])
    assert len(figure.axes) == shape
    images = [axes.images for axes in figure.axes]
    assert [len(each) for each in images] == [1] * count + [0] * (shape - count)
    assert not any(axes.axison for axes in figure.axes)
    array = images[0][0].get_array()
    assert array is not None and array[20, 30].tolist() == [200, 0, 0]


def test_boxes_lie_where_they_are_learnt() -> None:
    figure = plot_augmented_images([sample([[5, 10, 25, 16], [30, 2, 58, 38]]), sample([[1, 1, 3, 3]])])
    outlines = [
        [
            (*patch.get_xy(), patch.get_width(), patch.get_height())
            for patch in axes.patches
            if isinstance(patch, Rectangle)
        ]
        for axes in figure.axes
    ]
    assert [sorted(set(each)) for each in outlines] == [
        [(5, 10, 20, 6), (30, 2, 28, 36)],
        [(1, 1, 2, 2)],
        [],
        [],
    ]
