"""Figures by their content: the boxes, bars, curves and words they hold, and that no word lies on another."""

import json
import subprocess
import sys
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.errors import DatasetError
from yolov9bench.evaluation.coco_metrics import (
    ClassResult,
    CocoResult,
    coco_result,
)
from yolov9bench.evaluation.diagnostics import TIDE_ERRORS, main_confusions, tide_shares, worst_images
from yolov9bench.plots import detections
from yolov9bench.plots.detections import plot_predictions
from yolov9bench.plots.metrics import plot_class_ap, plot_error_shares, plot_precision_recall
from yolov9bench.predict.predictions import Predictions, predictions_from_rows

ODD = r"odd_name $\nonsense{$"  # read as a formula, it would raise
NAMES = ["cat", "dog", ODD, "bird"]
Box = list[float]
HERE, THERE, BELOW = [10.0, 10.0, 40.0, 40.0], [80.0, 10.0, 30.0, 60.0], [60.0, 85.0, 50.0, 30.0]
HALF = [30.0, 10.0, 40.0, 40.0]  # IoU 1/3 with HERE


def annotation(image: int, category: int, box: Box, crowd: int = 0) -> dict[str, Any]:
    area = box[2] * box[3]
    return {"image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": crowd}


def detection(image: int, category: int, box: Box, score: float) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


# Image 1 has a cat, an odd one and a crowd of dogs, image 2 a bird and a cat, image 3 nothing.
CROWD = [75.0, 5.0, 70.0, 75.0]
ANNOTATIONS = [
    annotation(1, 1, HERE),
    annotation(1, 3, BELOW),
    annotation(1, 2, CROWD, crowd=1),
    annotation(2, 4, HERE),
    annotation(2, 1, THERE),
]
# The cat found, and found again; the odd one found with too little score; a dog of the crowd; a wrong bird.
FOUND = predictions_from_rows(
    [
        detection(1, 1, HERE, 0.9),
        detection(1, 1, HALF, 0.6),
        detection(1, 3, BELOW, 0.2),
        detection(1, 2, THERE, 0.8),
        detection(1, 4, BELOW, 0.25),
        detection(2, 1, HERE, 0.7),
    ]
)
NOTHING = predictions_from_rows([])


def painted(root: Path, annotations: list[dict[str, Any]]) -> CocoDataset:
    """Three images of 160 x 120, 120 x 160 and 160 x 120 pixels, all red but for a blue first pixel."""
    sizes = {1: (160, 120), 2: (120, 160), 3: (160, 120)}
    (root / "val2017").mkdir()
    for number, (width, height) in sizes.items():
        image = np.full((height, width, 3), (0, 0, 200), np.uint8)  # cv2 writes blue, green, red
        image[0, 0] = (200, 0, 0)
        cv2.imwrite(str(root / "val2017" / f"{number}.png"), image)
    content = {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
            for number, (width, height) in sizes.items()
        ],
        "annotations": [{"id": number, **row} for number, row in enumerate(annotations, start=1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES, start=1)],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_val2017.json").write_text(json.dumps(content), encoding="utf-8")
    return read_coco(root)


@pytest.fixture
def dataset(tmp_path: Path) -> CocoDataset:
    return painted(tmp_path, ANNOTATIONS)


def outlines(axes: Axes) -> list[tuple[Box, Rectangle]]:
    """The rectangles of a photo, each with its [x, y, width, height]."""
    found = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [([*patch.get_xy(), patch.get_width(), patch.get_height()], patch) for patch in found]


def boxes(axes: Axes) -> list[Box]:
    return sorted(box for box, _ in outlines(axes))


def colour(axes: Axes, box: Box) -> str:
    (found,) = {to_hex(patch.get_edgecolor()) for place, patch in outlines(axes) if place == box}
    return found


def words(axes: Axes) -> list[str]:
    return sorted(text.get_text() for text in axes.texts)


def drawn_ticks(axis: Axis) -> list[Text]:
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def drawn_texts(figure: Figure) -> list[Text]:
    """Every text that is drawn, after drawing it as a notebook does."""
    figure.savefig(BytesIO(), format="png", bbox_inches="tight")
    figure.draw_without_rendering()  # the names of the axes still stand where the cropped image had them
    texts = list(figure.texts)
    for legend in figure.legends:
        texts += legend.get_texts()
    for axes in figure.axes:
        texts += [axes.title, *axes.texts]
        if axes.axison:
            texts += [axes.xaxis.label, axes.yaxis.label]
            texts += drawn_ticks(axes.xaxis) + drawn_ticks(axes.yaxis)
    return [text for text in texts if text.get_text()]


def assert_legible(figure: Figure) -> None:
    """No text on another or off the figure, and each axis named."""
    extents = [(text.get_text(), text.get_window_extent()) for text in drawn_texts(figure)]
    assert [(one, other) for (one, a), (other, b) in combinations(extents, 2) if a.overlaps(b)] == []
    page = figure.bbox.padded(1)
    assert [text for text, box in extents if not (page.contains(*box.min) and page.contains(*box.max))] == []
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes if axes.axison)


def legend_of(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    assert isinstance(legend, Legend)
    return [text.get_text() for text in legend.get_texts()]


def widths(axes: Axes) -> list[float]:
    return [patch.get_width() for patch in axes.patches if isinstance(patch, Rectangle)]


def result_of(classes: dict[str, ClassResult], level: float = 0.5) -> CocoResult:
    recall = np.linspace(0, 1, 101)
    falling = np.full(101, level) if level < 0 else level * (1 - recall)
    curves = {"0.50": falling, "0.75": falling / 2 if level > 0 else falling, "0.50:0.95": falling}
    return CocoResult({"AP": level}, classes, recall, curves, {})


# ---- photos


def test_truth_stands_left_and_sure_detections_right(dataset: CocoDataset) -> None:
    figure = plot_predictions(dataset, FOUND, [2, 1])
    right_of_2, left, right = figure.axes[1], figure.axes[2], figure.axes[3]
    assert len(figure.axes) == 4
    assert boxes(left) == sorted([HERE, BELOW, CROWD])
    assert boxes(right) == sorted([HERE, HALF, THERE, BELOW])
    assert words(left) == ["cat", "dog, crowd", ODD]
    assert words(right) == ["bird 0.25", "cat 0.60", "cat 0.90", "dog 0.80"]
    assert words(right_of_2) == ["cat 0.70"]
    assert left.get_title() == "image 1, objects: 2, crowds: 1"
    assert right.get_title() == "detections of score 0.25 and more: 4"
    assert_legible(figure)


def test_only_crowds_are_dashed(dataset: CocoDataset) -> None:
    left, right = plot_predictions(dataset, FOUND, [1]).axes
    assert [box for box, patch in outlines(left) if patch.get_linestyle() == "dashed"] == [CROWD]
    assert [box for box, patch in outlines(left) if patch.get_linestyle() == "solid"] == [HERE, BELOW]
    assert {patch.get_linestyle() for _, patch in outlines(right)} == {"solid"}


def test_a_class_keeps_its_colour(dataset: CocoDataset) -> None:
    left, right, other_left, other_right = plot_predictions(dataset, FOUND, [1, 2]).axes
    cats = {colour(left, HERE), colour(right, HERE), colour(right, HALF), colour(other_left, THERE)}
    assert cats == {colour(other_right, HERE)}
    assert colour(left, CROWD) == colour(right, THERE)
    assert colour(other_left, HERE) == colour(right, BELOW)
    assert len({colour(left, HERE), colour(left, CROWD), colour(left, BELOW), colour(right, BELOW)}) == 4


def test_photo_lies_under_its_boxes_in_true_colours(dataset: CocoDataset) -> None:
    for axes, size in zip(plot_predictions(dataset, NOTHING, [2]).axes, ["left", "right"], strict=True):
        (photo,) = axes.images
        pixels = np.asarray(photo.get_array())
        assert pixels[1, 1].tolist() == [200, 0, 0], size
        assert pixels[0, 0].tolist() == [0, 0, 200], size
        assert list(photo.get_extent()) == [0, 120, 160, 0], (
            size
        )  # left, right, bottom, top: corner to corner


def test_labels_of_a_heap_do_not_pile_up(tmp_path: Path) -> None:
    heap = [annotation(1, 1 + n % 4, [5 + 3 * n, 5 + 2 * n, 30, 20 + n]) for n in range(40)]
    found = [detection(1, row["category_id"], row["bbox"], 0.5) for row in heap]
    dataset = painted(tmp_path, heap)
    figure = plot_predictions(dataset, predictions_from_rows(found), [1])
    assert_legible(figure)
    for axes in figure.axes:
        assert len(outlines(axes)) == 40
        assert 5 < len(axes.texts) < 40
        photo = axes.bbox.padded(1)
        assert all(photo.contains(*text.get_window_extent().min) for text in axes.texts)
        assert all(photo.contains(*text.get_window_extent().max) for text in axes.texts)


def test_a_label_stands_in_the_corner_of_its_box(dataset: CocoDataset) -> None:
    figure = plot_predictions(dataset, NOTHING, [2, 1])
    drawn_texts(figure)
    axes = figure.axes[2]
    (text,) = [text for text in axes.texts if text.get_text() == "cat"]
    (outline,) = [patch for box, patch in outlines(axes) if box == HERE]
    label, box = text.get_window_extent(), outline.get_window_extent()
    assert label.x0 == pytest.approx(box.x0, abs=4)  # dots
    assert label.y1 == pytest.approx(box.y1, abs=4)


def test_a_label_does_not_hide_a_small_object(tmp_path: Path) -> None:
    axes = plot_predictions(painted(tmp_path, [annotation(1, 1, [70, 50, 8, 6])]), NOTHING, [1]).axes[0]
    (text,), (outline,) = axes.texts, axes.patches
    assert not text.get_window_extent().overlaps(outline.get_window_extent())


def test_photos_without_boxes_and_no_photos(dataset: CocoDataset) -> None:
    figure = plot_predictions(dataset, NOTHING, [3])
    assert [len(axes.patches) for axes in figure.axes] == [0, 0]
    assert figure.axes[0].get_title() == "image 3, objects: 0, crowds: 0"
    assert_legible(figure)
    for nothing in (
        plot_predictions(dataset, FOUND, []),
        detections.plot_worst_images(dataset, FOUND, []),
    ):
        assert [text.get_text() for text in drawn_texts(nothing)] == ["There is no image to show."]


def test_an_unknown_image_is_named(dataset: CocoDataset) -> None:
    with pytest.raises(DatasetError, match="Image 7 is not among the 3"):
        plot_predictions(dataset, FOUND, [1, 7])
    with pytest.raises(DatasetError, match="Image 7 is not among the 3"):
        detections.plot_worst_images(dataset, FOUND, [(7, 0.0, "")])


def test_rows_may_be_read_once(dataset: CocoDataset) -> None:
    assert len(plot_predictions(dataset, FOUND, iter([1])).axes[1].patches) == 4


def verdicts(figure: Figure, axes: Axes) -> dict[str, list[Box]]:
    """The boxes of a photo by what the key says of their looks."""
    key = zip(figure.legends[0].get_patches(), legend_of(figure), strict=True)
    meanings = {to_hex(patch.get_edgecolor()): meaning for patch, meaning in key}
    found: dict[str, list[Box]] = {meaning: [] for meaning in meanings.values()}
    for box, patch in outlines(axes):
        found[meanings[to_hex(patch.get_edgecolor())]].append(box)
    return found


def test_worst_tells_found_missed_and_false_alarms(dataset: CocoDataset) -> None:
    ranked = worst_images(dataset.ground_truth(), FOUND)
    figure = detections.plot_worst_images(dataset, FOUND, ranked)
    assert [(image, round(value, 2)) for image, value, _ in ranked] == [(2, 0.0), (1, 0.4)]
    assert figure.axes[0].get_title() == "image 2: F1 0.00\n0 of 2 found, 1 false alarms"
    assert figure.axes[1].get_title() == "image 1: F1 0.40\n1 of 2 found, 2 false alarms"
    assert verdicts(figure, figure.axes[1]) == {
        "found": [HERE],
        "missed": [BELOW],
        "false alarm": [HALF, BELOW],
        "crowd, not counted": [CROWD],
    }
    assert_legible(figure)


def test_worst_takes_the_score_it_was_ranked_by(dataset: CocoDataset) -> None:
    ranked = [(1, 0.5, "")]
    figure = detections.plot_worst_images(dataset, FOUND, ranked, score=0.1)
    assert verdicts(figure, figure.axes[0])["found"] == [HERE, BELOW]


def test_the_surer_detection_takes_the_object(tmp_path: Path) -> None:
    near = [12.0, 10.0, 40.0, 40.0]
    dataset = painted(tmp_path, [annotation(1, 1, HERE)])
    twice = predictions_from_rows([detection(1, 1, HERE, 0.5), detection(1, 1, near, 0.9)])
    figure = detections.plot_worst_images(dataset, twice, [(1, 0.7, ODD)])
    assert verdicts(figure, figure.axes[0])["false alarm"] == [HERE]
    assert_legible(figure)


# ---- plots


def test_curves_are_those_of_the_result() -> None:
    result = result_of({}, level=0.8)
    figure = plot_precision_recall(result)
    (axes,) = figure.axes
    for line, iou in zip(axes.lines, ["0.50", "0.75", "0.50:0.95"], strict=True):
        np.testing.assert_array_equal(line.get_xdata(), result.recall)
        np.testing.assert_array_equal(line.get_ydata(), result.precision[iou])
    # The mean of 0.8 (1 - recall) over the grid is 0.4.
    assert legend_of(figure) == ["IoU 0.50: AP 0.400", "IoU 0.75: AP 0.200", "IoU 0.50:0.95: AP 0.400"]
    looks = {(line.get_color(), line.get_linestyle()) for line in axes.lines}
    assert len({look[0] for look in looks}) == len({look[1] for look in looks}) == 3
    assert_legible(figure)


def test_an_undefined_curve_is_named_but_not_drawn() -> None:
    figure = plot_precision_recall(result_of({}, level=-1.0))
    assert legend_of(figure)[0] == "IoU 0.50: undefined"
    assert all(np.size(line.get_xdata()) == 0 for line in figure.axes[0].lines)
    assert_legible(figure)


def test_class_bars_are_sorted_and_leave_out_the_absent() -> None:
    classes = {
        "cat": ClassResult(0.25, 0.5, 30),
        "dog": ClassResult(-1.0, -1.0, 0),
        ODD: ClassResult(1.0, 1.0, 2),
        "bird": ClassResult(0.0, 0.1, 4),
    }
    figure = plot_class_ap(result_of(classes))
    (axes,) = figure.axes
    assert widths(axes) == [1.0, 0.25, 0.0]
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"{ODD} (2)", "cat (30)", "bird (4)"]
    assert [text.get_text() for text in axes.texts] == ["1.00", "0.25", "0.00"]
    assert axes.get_title() == "AP of 3 of 4 classes (1 have no objects)"
    bottom, top = axes.get_ylim()
    assert bottom > top  # the first bar, at 0, is on top
    assert_legible(figure)
    assert widths(plot_class_ap(result_of(classes), limit=2).axes[0]) == [0.25, 0.0]  # of most objects


def test_eighty_classes_stay_legible() -> None:
    classes = {f"class of number {n}": ClassResult(n / 80, 1.0, n + 1) for n in range(80)}
    figure = plot_class_ap(result_of(classes))
    assert figure.get_figheight() > plot_class_ap(result_of(classes), limit=10).get_figheight()
    assert len(figure.axes[0].patches) == 80
    assert_legible(figure)


def test_no_class_at_all() -> None:
    figure = plot_class_ap(result_of({"cat": ClassResult(-1.0, -1.0, 0)}))
    assert widths(figure.axes[0]) == [] and not figure.axes[0].axison
    assert_legible(figure)


def test_error_bars_and_mix_ups() -> None:
    tide = {name: 0.01 * place for place, name in enumerate(TIDE_ERRORS)}
    figure = plot_error_shares(tide, [("cat", ODD, 12), ("dog", "cat", 1)])
    left, right = figure.axes
    assert widths(left) == list(tide.values())
    kinds = [text.get_text() for text in left.get_yticklabels()]
    assert kinds[0] == "wrong class"
    assert len(set(kinds)) == 6
    assert widths(right) == [12, 1]
    assert [text.get_text() for text in right.get_yticklabels()] == [f"cat → {ODD}", "dog → cat"]
    assert [text.get_text() for text in right.texts] == ["12", "1"]
    assert_legible(figure)


def test_no_mix_up_is_said() -> None:
    figure = plot_error_shares(dict.fromkeys(TIDE_ERRORS, 0.0), [])
    assert figure.axes[1].get_title() == "No class was taken for another"
    assert not figure.axes[1].axison  # no empty axes
    assert_legible(figure)


@pytest.mark.parametrize("gain", [0.0004, 0.0123, 0.04, 0.3, 1.0])
def test_the_ticks_of_small_gains_lie_apart(gain: float) -> None:
    figure = plot_error_shares(dict.fromkeys(TIDE_ERRORS, gain), [("cat", "dog", 123456)] * 8)
    assert_legible(figure)
    for axes in figure.axes:
        boxes = [text.get_window_extent().padded(3) for text in drawn_ticks(axes.xaxis)]
        assert len(boxes) >= 2
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


# ---- all of it


@pytest.fixture(scope="module")
def real(shared: Path) -> tuple[CocoDataset, Predictions]:
    text = (shared / "coco" / "reference" / "ultralytics_yolov8n_square.json").read_text(encoding="utf-8")
    return read_coco(shared / "coco"), predictions_from_rows(json.loads(text))


def test_worst_counts_as_hotcoco_does(real: tuple[CocoDataset, Predictions]) -> None:
    dataset, rows = real
    ranked = worst_images(dataset.ground_truth(), rows, top=len(dataset.images))[::4]
    figure = detections.plot_worst_images(dataset, rows, ranked)
    assert len(ranked) == 25
    for (image, _, note), axes in zip(ranked, figure.axes, strict=False):
        seen = {verdict: len(boxes) for verdict, boxes in verdicts(figure, axes).items()}
        objects, alarms = seen["found"] + seen["missed"], seen["false alarm"]
        assert f"{seen['found']} of {objects} found, {alarms} false alarms" == note, image


@pytest.mark.accuracy
def test_real_results_are_legible(real: tuple[CocoDataset, Predictions]) -> None:
    dataset, rows = real
    truth = dataset.ground_truth()
    result = coco_result(truth, rows)
    images = plot_predictions(dataset, rows, [226111, 47112, 376322])  # empty, full, with a crowd
    counts = {
        image: sum(row["image_id"] == image for row in dataset.annotations) for image in (47112, 376322)
    }
    assert [len(axes.patches) for axes in images.axes[::2]] == [0, *counts.values()]
    curves = plot_precision_recall(result)
    assert legend_of(curves)[0] == f"IoU 0.50: AP {result.metrics['AP50']:.3f}"
    for figure in (
        images,
        detections.plot_worst_images(dataset, rows, worst_images(truth, rows)),
        curves,
        plot_class_ap(result),
        plot_error_shares(tide_shares(truth, rows), main_confusions(truth, rows)),
    ):
        assert_legible(figure)


def test_figures_leave_pyplot_alone() -> None:
    """A library that loads pyplot chooses a backend for its caller."""
    heavy = "{'matplotlib.pyplot', 'torch', 'pandas'}"
    code = "import sys, yolov9bench.plots.detections, yolov9bench.plots.metrics, yolov9bench.plots.training\n"
    code += f"print({heavy} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"
