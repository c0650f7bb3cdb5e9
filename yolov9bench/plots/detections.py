"""Images with their annotations and detections, for the result notebooks; the functions return Figures.

A notebook shows them after `%matplotlib inline`; `%config InlineBackend.figure_formats = ["jpeg"]` keeps it
small.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from pycocotools import mask

from yolov9bench.data.coco import CocoDataset, CocoImage
from yolov9bench.errors import DatasetError
from yolov9bench.plots.annotated_images import AnnotatedImage, Look, Mark, draw_annotated_images
from yolov9bench.plots.style import PALETTE, PURPLE, SKY, VERMILION, YELLOW
from yolov9bench.predict.predictions import Predictions, result_rows

LOOKS = {
    "found": Look(SKY, "solid"),
    "missed": Look(VERMILION, "solid"),
    "false alarm": Look(YELLOW, "dotted"),
    "crowd, not counted": Look(PURPLE, "dashed"),
}
MATCH_IOU = 0.5  # that of diagnostics.worst_images

Entry = Mapping[str, Any]  # of a COCO file: an annotation, or a detection


def plot_predictions(
    dataset: CocoDataset, predictions: Predictions, image_ids: Iterable[int], score: float = 0.25
) -> Figure:
    """Each image twice: its annotations on the left, its detections of at least `score` on the right.

    A class has one colour on all images, and the seven most frequent differ; crowds are dashed. A label that
    finds no free place is left out, but never its box. DatasetError: an image that is not in use.
    """
    images = _select_images(dataset, image_ids)
    truth = _group_by_image(dataset.annotations)
    detections = _group_by_image(result_rows(predictions.of_images(image.id for image in images)), score)
    shown = [entry for image in images for entry in truth[image.id] + detections[image.id]]
    frequent = Counter(entry["category_id"] for entry in shown).most_common()
    colours = dict(zip([category for category, _ in frequent], cycle(PALETTE), strict=False))
    panels = []
    for image in images:
        crowds = sum(entry["iscrowd"] for entry in truth[image.id])
        title = f"image {image.id}, objects: {len(truth[image.id]) - crowds}, crowds: {crowds}"
        panels.append(AnnotatedImage(image, title, _class_marks(dataset, truth[image.id], colours)))
        title = f"detections of score {score:g} and more: {len(detections[image.id])}"
        panels.append(AnnotatedImage(image, title, _class_marks(dataset, detections[image.id], colours)))
    return draw_annotated_images(dataset, panels, columns=2, key={})


def plot_worst_images(
    dataset: CocoDataset,
    predictions: Predictions,
    ranked: Sequence[tuple[int, float, str]],
    score: float = 0.25,
) -> Figure:
    """Objects found and missed, and false alarms, in the images that `diagnostics.worst_images` ranks.

    `ranked` holds (image id, F1, note), and `score` is the one it was ranked at. Detections are matched as
    there: within a class at IoU .5, best score first, crowds ignored. DatasetError: an image that is not in
    use.
    """
    truth = _group_by_image(dataset.annotations)
    image_ids = [number for number, _, _ in ranked]
    detections = _group_by_image(result_rows(predictions.of_images(image_ids)), score)
    panels = []
    for image, (_, f1, note) in zip(_select_images(dataset, image_ids), ranked, strict=True):
        marks = _verdict_marks(dataset, truth[image.id], detections[image.id])
        panels.append(AnnotatedImage(image, f"image {image.id}: F1 {f1:.2f}\n{note}", marks))
    return draw_annotated_images(dataset, panels, columns=3, key=LOOKS)


def _select_images(dataset: CocoDataset, image_ids: Iterable[int]) -> list[CocoImage]:
    images, selected = {image.id: image for image in dataset.images}, list(image_ids)
    for number in selected:
        if number not in images:
            raise DatasetError(f"Image {number} is not among the {len(images)} in use: choose one of these.")
    return [images[number] for number in selected]


def _group_by_image(entries: Iterable[Entry], score: float = 0.0) -> Mapping[int, list[Entry]]:
    """Annotations, or the detections of at least `score`, by image id, the largest box first."""
    groups = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: -entry["bbox"][2] * entry["bbox"][3]):
        if entry.get("score", 1.0) >= score:
            groups[entry["image_id"]].append(entry)
    return groups


def _class_marks(
    dataset: CocoDataset, entries: Iterable[Entry], colours: Mapping[int, str]
) -> tuple[Mark, ...]:
    """Annotations or detections in the colours of their categories."""
    names = dict(dataset.categories)
    marks = []
    for entry in entries:
        crowd = bool(entry.get("iscrowd"))
        ending = f" {entry['score']:.2f}" if "score" in entry else ", crowd" if crowd else ""
        look = Look(colours[entry["category_id"]], "dashed" if crowd else "solid")
        marks.append(Mark(entry["bbox"], names[entry["category_id"]] + ending, look))
    return tuple(marks)


def _verdict_marks(
    dataset: CocoDataset, truth: Iterable[Entry], detections: Iterable[Entry]
) -> tuple[Mark, ...]:
    """One image's objects, missed and found, its crowds, and the detections that fit neither."""
    names = dict(dataset.categories)
    crowds = [entry for entry in truth if entry["iscrowd"]]
    missed = [entry for entry in truth if not entry["iscrowd"]]
    others = [("crowd, not counted", entry) for entry in crowds]
    for detection in sorted(detections, key=itemgetter("score"), reverse=True):
        overlaps = _overlaps(detection, missed)
        if overlaps.max(initial=0) >= MATCH_IOU:
            others.append(("found", missed.pop(int(overlaps.argmax()))))
        elif _overlaps(detection, crowds).max(initial=0) < MATCH_IOU:
            others.append(("false alarm", detection))
    return tuple(
        Mark(entry["bbox"], "" if verdict == "found" else names[entry["category_id"]], LOOKS[verdict])
        for verdict, entry in [("missed", entry) for entry in missed] + others
    )


def _overlaps(detection: Entry, truth: Sequence[Entry]) -> npt.NDArray[np.float64]:
    """IoU with each object of the same class; with a crowd, as COCO has it, the detection's share inside."""
    if not truth:
        return np.zeros(0)
    crowds = [entry["iscrowd"] for entry in truth]
    overlaps = mask.iou([detection["bbox"]], [entry["bbox"] for entry in truth], crowds)[0]
    return np.where([entry["category_id"] == detection["category_id"] for entry in truth], overlaps, 0.0)
