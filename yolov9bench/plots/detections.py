"""Images and plots for the result notebooks: each function returns a Figure and shows or saves nothing.

A notebook shows them after `%matplotlib inline`; `%config InlineBackend.figure_formats = ["jpeg"]` keeps one
with photos small.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from operator import attrgetter, itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from pycocotools import mask

from yolov9bench.data.coco import CocoDataset, CocoImage
from yolov9bench.errors import DatasetError
from yolov9bench.evaluation.coco_metrics import CocoResult
from yolov9bench.ops.images import Pixels, read_image
from yolov9bench.plots.style import (
    BLUE,
    GREEN,
    HEADING,
    PALETTE,
    PURPLE,
    SKY,
    SMALL,
    TINY,
    VERMILION,
    WIDTH,
    YELLOW,
    quieten,
)
from yolov9bench.predict.predictions import Predictions, result_rows

CURVES = {"0.50": (BLUE, "solid"), "0.75": (VERMILION, "dashed"), "0.50:0.95": (GREEN, "dashdot")}
VERDICTS = {
    "found": (SKY, "solid"),
    "missed": (VERMILION, "solid"),
    "false alarm": (YELLOW, "dotted"),
    "crowd, not counted": (PURPLE, "dashed"),
}
ERROR_NAMES = {
    "Cls": "wrong class",
    "Loc": "poor location",
    "Both": "wrong class and poor location",
    "Dupe": "object found again",
    "Bkg": "no object there",
    "Miss": "object missed",
}
MATCH_IOU = 0.5  # that of diagnostics.worst_images

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Mark:
    """A box to draw, [x, y, width, height] in pixels; its label may be empty."""

    box: Sequence[float]
    label: str
    colour: str
    style: str


Panel = tuple[CocoImage, str, list[Mark]]  # a photo, its title and what is drawn on it


def predictions_beside_truth(
    dataset: CocoDataset, predictions: Predictions, image_ids: Iterable[int], score: float = 0.25
) -> Figure:
    """Each image twice: its annotations on the left, its detections of at least `score` on the right.

    A class has one colour on all photos, and the seven most frequent differ; crowds are dashed. A label that
    finds no free place is left out, but never its box. DatasetError: an image that is not in use.
    """
    images = _chosen(dataset, image_ids)
    truth = _by_image(dataset.annotations)
    found = _by_image(result_rows(predictions.of_images(image.id for image in images)), score)
    shown = Counter(row["category_id"] for image in images for row in truth[image.id] + found[image.id])
    colours = dict(zip([category for category, _ in shown.most_common()], cycle(PALETTE), strict=False))
    panels = []
    for image in images:
        crowds = sum(row["iscrowd"] for row in truth[image.id])
        title = f"image {image.id}, objects: {len(truth[image.id]) - crowds}, crowds: {crowds}"
        panels.append((image, title, _class_marks(dataset, truth[image.id], colours)))
        title = f"detections of score {score:g} and more: {len(found[image.id])}"
        panels.append((image, title, _class_marks(dataset, found[image.id], colours)))
    return _photos(dataset, panels, columns=2, key={})


def worst(
    dataset: CocoDataset,
    predictions: Predictions,
    worst: Sequence[tuple[int, float, str]],
    score: float = 0.25,
) -> Figure:
    """What was found, missed and invented in the images that `diagnostics.worst_images` ranks at `score`.

    `worst` holds (image id, F1, note). Detections are matched as there: within a class at IoU .5, best score
    first, and crowds ignored. DatasetError: an image that is not in use.
    """
    truth = _by_image(dataset.annotations)
    found = _by_image(result_rows(predictions.of_images(number for number, _, _ in worst)), score)
    panels = []
    for image, (_, value, note) in zip(_chosen(dataset, map(itemgetter(0), worst)), worst, strict=True):
        marks = _verdict_marks(dataset, truth[image.id], found[image.id])
        panels.append((image, f"image {image.id}: F1 {value:.2f}\n{note}", marks))
    return _photos(dataset, panels, columns=3, key=VERDICTS)


def precision_recall(result: CocoResult) -> Figure:
    """Precision over recall at IoU .50, .75 and .50:.95, each with its AP, the area beneath it; fractions.

    A curve that is undefined, for want of objects, is named but not drawn.
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
    quieten(axes)
    figure.legend(loc="outside lower center", ncols=len(CURVES), frameon=False, fontsize=SMALL)
    return figure


def class_ap(result: CocoResult, limit: int | None = None) -> Figure:
    """A bar for each class that has objects: AP over IoU .50:.95, a fraction, the highest on top.

    With `limit` only the classes with the most objects are shown, whose AP is the surest.
    """
    present = [(name, found) for name, found in result.classes.items() if found.objects]
    shown = sorted(present, key=lambda pair: -pair[1].objects)[:limit]
    shown.sort(key=lambda pair: -pair[1].AP)
    figure = Figure(figsize=(6, 1.3 + 0.17 * max(len(shown), 6)), layout="constrained")
    axes = figure.subplots()
    names = [f"{name} ({found.objects})" for name, found in shown]
    _bars(axes, names, [found.AP for _, found in shown], ".2f")
    total = len(result.classes)
    title = f"AP of {len(shown)} of {total} classes ({total - len(present)} have no objects)"
    axes.set_title(title, fontsize=HEADING)
    axes.set(xlim=(0, 1.08), xlabel="AP over IoU 0.50:0.95 (fraction)", ylabel="class (number of objects)")
    return figure


def error_shares(tide: Mapping[str, float], confusions: Sequence[tuple[str, str, int]]) -> Figure:
    """What each kind of error costs, beside the most frequent mix-ups of classes.

    `tide` is that of `diagnostics.tide_shares`, in fractions of AP50; `confusions` are the (true class,
    predicted class, count) of `diagnostics.main_confusions`.
    """
    figure = Figure(figsize=(WIDTH, 1.3 + 0.2 * max(len(tide), len(confusions))), layout="constrained")
    left, right = figure.subplots(1, 2, gridspec_kw={"wspace": 0.06})
    _bars(left, [ERROR_NAMES[kind] for kind in tide], list(tide.values()), ".3f")
    left.set_title("Cost of each kind of error", fontsize=HEADING)
    left.set(xlabel="rise of AP50 if it were mended (fraction)", ylabel="kind of error")
    names = [f"{true} → {predicted}" for true, predicted, _ in confusions]
    _bars(right, names, [count for *_, count in confusions], "d")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    title = "Most frequent mix-ups" if confusions else "No class was taken for another"
    right.set_title(title, fontsize=HEADING)
    right.set(xlabel="detections (number)", ylabel="true class → predicted class")
    if not confusions:
        right.set_xticks([])
    return figure


def _chosen(dataset: CocoDataset, image_ids: Iterable[int]) -> list[CocoImage]:
    images, chosen = {image.id: image for image in dataset.images}, list(image_ids)
    for number in chosen:
        if number not in images:
            raise DatasetError(f"Image {number} is not among the {len(images)} in use: choose one of these.")
    return [images[number] for number in chosen]


def _by_image(rows: Iterable[Row], score: float = 0.0) -> Mapping[int, list[Row]]:
    """Annotations, or the detections of at least `score`, by image id, the largest box first."""
    groups = defaultdict(list)
    for row in sorted(rows, key=lambda row: -row["bbox"][2] * row["bbox"][3]):
        if row.get("score", 1.0) >= score:
            groups[row["image_id"]].append(row)
    return groups


def _class_marks(dataset: CocoDataset, rows: Iterable[Row], colours: Mapping[int, str]) -> list[Mark]:
    """Annotations or detections in the colours of their categories."""
    names = dict(dataset.categories)
    marks = []
    for row in rows:
        crowd = bool(row.get("iscrowd"))
        ending = f" {row['score']:.2f}" if "score" in row else ", crowd" if crowd else ""
        label = names[row["category_id"]] + ending
        marks.append(Mark(row["bbox"], label, colours[row["category_id"]], "dashed" if crowd else "solid"))
    return marks


def _verdict_marks(dataset: CocoDataset, truth: Iterable[Row], found: Iterable[Row]) -> list[Mark]:
    """One image's objects, missed and found, its crowds, and the detections that fit neither."""
    names = dict(dataset.categories)
    crowds = [row for row in truth if row["iscrowd"]]
    missed = [row for row in truth if not row["iscrowd"]]
    others = [("crowd, not counted", row) for row in crowds]
    for row in sorted(found, key=itemgetter("score"), reverse=True):
        overlaps = _overlaps(row, missed)
        if overlaps.max(initial=0) >= MATCH_IOU:
            others.append(("found", missed.pop(int(overlaps.argmax()))))
        elif _overlaps(row, crowds).max(initial=0) < MATCH_IOU:
            others.append(("false alarm", row))
    return [
        Mark(row["bbox"], "" if verdict == "found" else names[row["category_id"]], *VERDICTS[verdict])
        for verdict, row in [("missed", row) for row in missed] + others
    ]


def _overlaps(detection: Row, truth: list[Row]) -> npt.NDArray[np.float64]:
    """IoU with each object of the same class; with a crowd, as COCO has it, the detection's share inside."""
    if not truth:
        return np.zeros(0)
    crowds = [row["iscrowd"] for row in truth]
    overlaps = mask.iou([detection["bbox"]], [row["bbox"] for row in truth], crowds)[0]
    return np.where([row["category_id"] == detection["category_id"] for row in truth], overlaps, 0.0)


def _photos(
    dataset: CocoDataset, panels: Sequence[Panel], columns: int, key: Mapping[str, tuple[str, str]]
) -> Figure:
    """The panels line by line, each line as high as its highest photo, at most a square; then the key."""
    if not panels:
        figure = Figure(figsize=(WIDTH, 0.5))
        figure.text(0.5, 0.5, "There is no image to show.", ha="center", va="center")
        return figure
    lines = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    heights = [max(min(image.height / image.width, 1.0) for image, _, _ in line) for line in lines]
    titles = 0.3 * (len(lines) + bool(key))
    figure = Figure(figsize=(WIDTH, sum(heights) * WIDTH / columns + titles), layout="constrained")
    grid = figure.subplots(len(lines), columns, squeeze=False, height_ratios=heights).flatten().tolist()
    for axes in grid:
        axes.set_axis_off()  # the last line may have places left
    for axes, (image, title, marks) in zip(grid, panels, strict=False):
        _draw(axes, read_image(dataset.image_path(image)), title, marks)
    boxes = [_outline((0, 0, 1, 1), *look, label=meaning) for meaning, look in key.items()]
    if key:
        figure.legend(
            handles=boxes, loc="outside lower center", ncols=len(key), frameon=False, fontsize=SMALL
        )
    figure.draw_without_rendering()  # lays the axes out: only then does a label have a size on its photo
    for axes, (_, _, marks) in zip(grid, panels, strict=False):
        _write_labels(axes, marks)
    return figure


def _draw(axes: Axes, photo: Pixels, title: str, marks: Iterable[Mark]) -> None:
    height, width = photo.shape[:2]
    # COCO counts from the first pixel's corner, imshow from its middle; the photo is BGR.
    axes.imshow(photo[..., ::-1], extent=(0, width, height, 0))
    axes.set_anchor("N")
    axes.set_title(title, fontsize=SMALL, parse_math=False)
    for mark in marks:
        axes.add_patch(_outline(mark.box, mark.colour, mark.style))


def _outline(box: Sequence[float], colour: str, style: str, label: str = "") -> Rectangle:
    """A box with a dark rim, to be seen on bright photos and dark ones."""
    x, y, width, height = box
    outline = Rectangle((x, y), width, height, fill=False, edgecolor=colour, linestyle=style, label=label)
    outline.set(linewidth=1.4, path_effects=[withStroke(linewidth=2.4, foreground="black", alpha=0.6)])
    return outline


def _write_labels(axes: Axes, marks: Iterable[Mark]) -> None:
    """Write each label at a corner of its box where it lies on the photo and not on an earlier label."""
    taken: list[Bbox] = []
    for mark in filter(attrgetter("label"), marks):
        ink = "white" if mark.colour == BLUE else "black"  # the other colours are bright
        text = axes.text(0, 0, mark.label, fontsize=TINY, color=ink, va="bottom", parse_math=False)
        text.set_bbox({"facecolor": mark.colour, "alpha": 0.85, "linewidth": 0, "pad": 1})
        text.set_in_layout(False)
        size = text.get_window_extent().padded(2)
        box = Bbox.from_bounds(*mark.box).transformed(axes.transData)
        for place in _corners(box, size.width, size.height):
            whole = all(map(axes.bbox.contains, place.intervalx, place.intervaly))
            if whole and not any(map(place.overlaps, taken)):
                x, y = axes.transData.inverted().transform(place.padded(-2).min)
                text.set_position((x, y))
                taken.append(place)
                break
        else:
            text.remove()


def _corners(box: Bbox, width: float, height: float) -> Iterator[Bbox]:
    """The places of a label at a box, best first: inside, but outside a small box, which it would hide."""
    small = box.ymax - box.ymin < 3 * height
    for y in (box.ymax, box.ymin - height) if small else (box.ymax - height, box.ymin):
        for x in (box.xmin, box.xmax - width):
            yield Bbox.from_bounds(x, y, width, height)


def _bars(axes: Axes, names: Sequence[str], values: Sequence[float], form: str) -> None:
    """Horizontal bars from the top down, each with its value at its end."""
    bars = axes.barh(np.arange(len(names)), values, height=0.7, color=BLUE)
    axes.bar_label(bars, fmt=f"{{:{form}}}", padding=3, fontsize=SMALL)
    axes.set_yticks(np.arange(len(names)), names, fontsize=SMALL, parse_math=False)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.tick_params(axis="y", length=0)
    quieten(axes, "x")
