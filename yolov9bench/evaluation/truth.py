"""Ground truth and detections as arrays, and hotcoco's evaluator on them; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import hotcoco
import numpy as np
import numpy.typing as npt

from yolov9bench.data.annotation_values import crowd_flag
from yolov9bench.errors import MetricsError, shown_value
from yolov9bench.predict.predictions import Predictions

Array = npt.NDArray[np.float64]
GroundTruth = Mapping[str, Any]  # a COCO annotation file: images, categories, annotations


@dataclass(frozen=True, eq=False)
class Truth:
    """A ground truth as the evaluators get it, its images and categories numbered from 1 by ascending id.

    Numbers from 1 are exact in an array of doubles, which ids beyond 2**53 are not. `image_ids` and
    `category_ids` are the data set's own, ascending. Per annotation [M]: image and category number, box
    [M, 4] as x y width height in pixels, area in square pixels, and iscrowd 0 or 1.
    """

    image_ids: npt.NDArray[np.int64]
    category_ids: npt.NDArray[np.int64]
    names: tuple[str, ...]
    images: npt.NDArray[np.int64]
    categories: npt.NDArray[np.int64]
    boxes_xywh: Array
    areas: Array
    crowds: npt.NDArray[np.int64]


def read_truth(ground_truth: GroundTruth) -> Truth:
    """What the evaluators need of a ground truth, as arrays; annotations of no image or class are left out.

    MetricsError: an annotation without a key, with a number that is not finite, or with an iscrowd that is
    neither 0 nor 1.
    """
    annotations = ground_truth["annotations"]
    crowds = [_crowd_of(annotation) for annotation in annotations]
    numbers = _numbers_of(annotations)
    image_ids = np.sort(np.array([image["id"] for image in ground_truth["images"]], np.int64))
    categories = sorted(ground_truth["categories"], key=itemgetter("id"))
    category_ids = np.array([category["id"] for category in categories], np.int64)
    columns = {
        key: np.array([annotation[key] for annotation in annotations], np.int64)
        for key in ("image_id", "category_id")
    }
    known = np.isin(columns["image_id"], image_ids) & np.isin(columns["category_id"], category_ids)
    return Truth(
        image_ids,
        category_ids,
        tuple(category["name"] for category in categories),
        np.searchsorted(image_ids, columns["image_id"])[known] + 1,
        np.searchsorted(category_ids, columns["category_id"])[known] + 1,
        numbers[known, :4],
        numbers[known, 4],
        np.array(crowds, np.int64)[known],
    )


def _crowd_of(annotation: Mapping[str, Any]) -> int:
    flag = crowd_flag(annotation.get("iscrowd", 0))
    if flag is None:
        raise MetricsError(
            f"Annotation {annotation.get('id')} has iscrowd {annotation['iscrowd']!r}: make it 0 or 1."
        )
    for key in ("image_id", "category_id", "bbox", "area"):
        if key not in annotation:
            raise MetricsError(f"Annotation {annotation.get('id')} lacks {key!r}: add it to the file.")
    for key in ("image_id", "category_id"):
        if not isinstance(annotation[key], int | np.integer):
            given = f"{key} {shown_value(annotation[key])}"
            raise MetricsError(f"Annotation {annotation.get('id')} has {given}: make it a whole number.")
    return flag


def _numbers_of(annotations: Sequence[Mapping[str, Any]]) -> Array:
    """Boxes and areas [M, 5]; MetricsError names an annotation whose five are not all finite numbers."""
    numbers = _finite_numbers(annotations)
    if numbers is None:
        culprit = next(each for each in annotations if _finite_numbers([each]) is None)
        raise MetricsError(
            f"Annotation {culprit.get('id')} has bbox {culprit['bbox']!r} and area {culprit['area']!r}: "
            "make all five finite numbers."
        )
    return numbers


def _finite_numbers(annotations: Sequence[Mapping[str, Any]]) -> Array | None:
    try:
        # As one array, because that is fast; it has a number's kind only if every value is a number.
        values = np.array([[*entry["bbox"], entry["area"]] for entry in annotations])
        values = values.reshape(len(annotations), 5)
    except (TypeError, ValueError):  # no list, or lists of several lengths
        return None
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        return None
    return values.astype(np.float64)


def result_array(truth: Truth, predictions: Predictions) -> Array:
    """The detections as the evaluators take them, [N, 7]: image number, x y width height, score, category.

    MetricsError names the first one whose image or category is unknown or that is not finite.
    """
    image, category = predictions.image_ids, predictions.category_ids
    boxes, scores = predictions.boxes_xywh(), predictions.scores
    image_numbers = _places(truth.image_ids, image)
    category_numbers = _places(truth.category_ids, category)
    stray, unknown = image_numbers == 0, category_numbers == 0
    broken = ~(np.isfinite(boxes).all(axis=1) & np.isfinite(scores))
    faulty = np.flatnonzero(stray | unknown | broken)
    if len(faulty):
        first = int(faulty[0])
        number = int(image[first])
        if stray[first]:
            raise MetricsError(
                f"Detections of image {number} have no ground truth: evaluate against their own."
            )
        if unknown[first]:
            raise MetricsError(
                f"Category {int(category[first])} of image {number} is unknown: "
                "use the detector's own classes."
            )
        raise MetricsError(
            f"A detection in image {number} is not finite: check the weights and the precision."
        )
    results = np.empty((len(predictions), 7))
    results[:, 0], results[:, 6] = image_numbers, category_numbers
    results[:, 1:5], results[:, 5] = boxes, scores
    return results


def _places(known: npt.NDArray[np.int64], ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The place of each id [N] among ascending ones, from 1 up; 0 for one that is not among them."""
    if not len(known):
        return np.zeros(len(ids), np.int64)
    places = np.searchsorted(known, ids)
    found = known.take(places, mode="clip") == ids
    return np.where(found, places + 1, 0)


def run_evaluator(truth: Truth, results: Array) -> hotcoco.COCOeval:
    """hotcoco's evaluator after its evaluation; results as in `result_array`."""
    dataset = hotcoco.COCO.from_arrays(
        *coco_lists(truth),
        truth.images,
        truth.categories,
        truth.boxes_xywh,
        area=truth.areas,
        iscrowd=truth.crowds,
    )
    evaluator = hotcoco.COCOeval(dataset, dataset.load_res(results), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summary_lines()  # what `summarize` does, less its printing
    return evaluator


def coco_lists(truth: Truth) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The images and the categories of a COCO dictionary."""
    images = [{"id": number} for number in range(1, len(truth.image_ids) + 1)]
    return images, [{"id": number, "name": name} for number, name in enumerate(truth.names, start=1)]
