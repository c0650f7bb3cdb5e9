"""Detections to the twelve COCO metrics: hotcoco computes them, pycocotools can judge them; curves too."""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import hotcoco
import numpy as np
import numpy.typing as npt

from yolov9bench.data.coco import crowd_flag
from yolov9bench.errors import MetricsError
from yolov9bench.evaluation.predictions import Predictions

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
JUDGE_TOLERANCE = 1e-12

Array = npt.NDArray[np.float64]
Truth = Mapping[str, Any]  # a COCO annotation file: images, categories, annotations
Plain = dict[str, Any]


@dataclass(frozen=True)
class ClassResult:
    """One class: AP over IoU .50:.95, AP50 (fractions, -1 without objects) and its objects, crowds apart."""

    AP: float
    AP50: float
    objects: int


@dataclass(frozen=True, eq=False)  # == of two numpy arrays is no truth value
class CocoResult:
    """Everything that one evaluation tells: the metrics, each class by name, and precision over recall.

    `recall` is COCO's grid 0, .01 .. 1 [101]. `precision` holds under "0.50", "0.75" and "0.50:0.95" (IoU)
    the mean over the classes that have objects [101]; `class_precision` holds [101] at IoU .50 per class
    name. The mean of a curve is the AP at its IoU. All are fractions; -1 where undefined.
    """

    metrics: dict[str, float]
    classes: dict[str, ClassResult]
    recall: Array
    precision: dict[str, Array]
    class_precision: dict[str, Array]


def coco_metrics(ground_truth: Truth, predictions: Predictions, judge: bool = False) -> dict[str, float]:
    """The twelve COCO box metrics by name, as fractions, -1 where undefined; see `coco_result`."""
    return coco_result(ground_truth, predictions, judge).metrics


def coco_result(ground_truth: Truth, predictions: Predictions, judge: bool = False) -> CocoResult:
    """Evaluate detections against their ground truth; crowds are ignored as COCO does.

    With `judge`, pycocotools computes the metrics too. MetricsError: a detection that does not fit the ground
    truth or is not finite, or, with `judge`, a metric on which the two differ by more than 1e-12.
    """
    truth = plain_truth(ground_truth)
    require_fit(truth, predictions)
    evaluator = run_evaluator(truth, predictions)
    results = evaluator.get_results()
    metrics = {name: results[name] for name in METRICS}
    if judge:
        _compare(metrics, _judged(truth, predictions))
    accumulated: dict[str, Any] = evaluator.eval or {}
    # [IoU 10, recall 101, class], over all areas and up to 100 detections per image.
    precision = accumulated["precision"][:, :, :, 0, -1]
    return CocoResult(
        metrics=metrics,
        classes=_class_results(truth, precision),
        recall=np.array(evaluator.params.rec_thrs),
        precision={
            "0.50": _curve(precision[:1]),
            "0.75": _curve(precision[5:6]),
            "0.50:0.95": _curve(precision),
        },
        class_precision={
            row["name"]: precision[0, :, place] for place, row in enumerate(truth["categories"])
        },
    )


def plain_truth(ground_truth: Truth) -> Plain:
    """What the evaluators read of a ground truth, as a copy, for pycocotools would change the caller's own.

    Annotations are numbered anew from 1: no metric depends on their ids, but pycocotools takes 0 for "no
    match". MetricsError: an annotation without a key, with a number that is not finite, or with an iscrowd
    that is neither 0 nor 1.
    """
    annotations = []
    for number, annotation in enumerate(ground_truth["annotations"], start=1):
        flag = crowd_flag(annotation.get("iscrowd", 0))
        if flag is None:
            raise MetricsError(
                f"Annotation {annotation.get('id')} has iscrowd {annotation['iscrowd']!r}: make it 0 or 1."
            )
        try:
            kept = {key: annotation[key] for key in ("image_id", "category_id", "bbox", "area")}
        except KeyError as error:
            raise MetricsError(
                f"Annotation {annotation.get('id')} lacks {error}: add it to the file."
            ) from error
        annotations.append(kept | {"id": number, "iscrowd": flag})
    if not _are_finite(annotations):
        culprit = next(each for each in annotations if not _are_finite([each]))
        number = ground_truth["annotations"][culprit["id"] - 1].get("id")
        raise MetricsError(
            f"Annotation {number} has bbox {culprit['bbox']!r} and area {culprit['area']!r}: "
            "make all five finite numbers."
        )
    categories = [{"id": row["id"], "name": row["name"]} for row in ground_truth["categories"]]
    return {
        "images": [{"id": image["id"]} for image in ground_truth["images"]],
        "categories": sorted(categories, key=itemgetter("id")),  # the order of the evaluators' arrays
        "annotations": annotations,
    }


def _are_finite(annotations: Sequence[Plain]) -> bool:
    """Whether every box is four finite numbers, and every area one."""
    try:
        # As one array, because that is fast; it has a number's kind only if every value is a number.
        values = np.array([[*entry["bbox"], entry["area"]] for entry in annotations])
        values = values.reshape(len(annotations), 5)
    except (TypeError, ValueError):  # no list, or lists of several lengths
        return False
    return values.dtype.kind in "iuf" and bool(np.isfinite(values).all())


def require_fit(truth: Plain, predictions: Predictions) -> None:
    """MetricsError for predictions on other images, of other categories, or that are not finite."""
    numbers = np.column_stack([predictions.boxes_xyxy, predictions.scores])
    known = {key: [entry["id"] for entry in truth[key]] for key in ("images", "categories")}
    for fits, complaint in (
        (
            np.isin(predictions.image_ids, known["images"]),
            "Detections of image {image} have no ground truth: evaluate against their own.",
        ),
        (
            np.isin(predictions.category_ids, known["categories"]),
            "Category {category} of image {image} is unknown: use the detector's own classes.",
        ),
        (
            np.isfinite(numbers).all(axis=1),
            "A detection in image {image} is not finite: check the weights and the precision.",
        ),
    ):
        if not fits.all():
            first = int(np.argmin(fits))
            image, category = predictions.image_ids[first], predictions.category_ids[first]
            raise MetricsError(complaint.format(image=image, category=category))


def run_evaluator(truth: Plain, predictions: Predictions) -> hotcoco.COCOeval:
    """hotcoco's evaluator, run and summed up, for what `plain_truth` made and `require_fit` let pass."""
    dataset = hotcoco.COCO(truth)
    evaluator = hotcoco.COCOeval(dataset, dataset.load_res(predictions.to_coco_array()), "bbox")
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summary_lines()  # what `summarize` does, less its printing
    return evaluator


def _judged(truth: Plain, predictions: Predictions) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(io.StringIO()):
        dataset = _indexed(COCO(), truth)
        if len(predictions):
            found = dataset.loadRes(predictions.to_coco_array())
        else:  # loadRes looks at the first one
            found = _indexed(COCO(), truth | {"annotations": []})
        evaluator = COCOeval(dataset, found, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return dict(zip(METRICS, evaluator.stats.tolist(), strict=True))


def _indexed(dataset: Any, content: Plain) -> Any:
    dataset.dataset = content
    dataset.createIndex()
    return dataset


def _compare(metrics: dict[str, float], judged: dict[str, float]) -> None:
    for name in METRICS:
        if not abs(metrics[name] - judged[name]) <= JUDGE_TOLERANCE:
            raise MetricsError(
                f"{name} is {metrics[name]!r} by hotcoco but {judged[name]!r} by pycocotools: "
                "trust neither, and install the versions in requirements.lock."
            )


def _class_results(truth: Plain, precision: Array) -> dict[str, ClassResult]:
    objects = Counter(row["category_id"] for row in truth["annotations"] if not row["iscrowd"])
    ap, ap50 = precision.mean(axis=(0, 1)).tolist(), precision[0].mean(axis=0).tolist()
    return {
        row["name"]: ClassResult(ap[place], ap50[place], objects[row["id"]])
        for place, row in enumerate(truth["categories"])
    }


def _curve(precision: Array) -> Array:
    """[IoU, recall, class] to [recall]: the mean over the thresholds and the classes that have objects."""
    present = precision[0, 0] >= 0
    return precision[:, :, present].mean(axis=(0, 2)) if present.any() else np.full(precision.shape[1], -1.0)
