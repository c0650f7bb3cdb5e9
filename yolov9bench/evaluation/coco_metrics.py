"""The twelve COCO box metrics: hotcoco computes them, pycocotools can judge them; needs no torch."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolov9bench.errors import MetricsError
from yolov9bench.evaluation.truth import (
    Array,
    GroundTruth,
    Truth,
    coco_lists,
    read_truth,
    result_array,
    run_evaluator,
)
from yolov9bench.predict.predictions import Predictions
from yolov9bench.records.contents import METRICS, EvaluatorSettings

JUDGE_TOLERANCE = 1e-12


@dataclass(frozen=True)
class ClassResult:
    """One class: AP over IoU .50:.95, AP50 (fractions, -1 without objects) and its objects, crowds apart."""

    AP: float
    AP50: float
    objects: int


@dataclass(frozen=True, eq=False)  # == of two numpy arrays has no truth value
class CocoResult:
    """Everything that one evaluation tells: the metrics, each class by name, and precision over recall.

    `recall` is COCO's grid 0, .01 .. 1 [101]. `precision` holds under "0.50", "0.75" and "0.50:0.95" (IoU)
    the mean over the classes that have objects [101]; `class_precision` holds [101] at IoU .50 per class
    name. The mean of a curve is the AP at its IoU. All are fractions; -1 where undefined. `judged`:
    whether pycocotools agreed. `evaluator` is what hotcoco says of its own run.
    """

    metrics: dict[str, float]
    classes: dict[str, ClassResult]
    recall: Array
    precision: dict[str, Array]
    class_precision: dict[str, Array]
    judged: bool = False
    evaluator: EvaluatorSettings | None = None


def coco_metrics(
    ground_truth: GroundTruth, predictions: Predictions, judge: bool = False
) -> dict[str, float]:
    """The twelve COCO box metrics by name, as fractions, -1 where undefined; see `coco_result`."""
    return coco_result(ground_truth, predictions, judge).metrics


def coco_result(ground_truth: GroundTruth, predictions: Predictions, judge: bool = False) -> CocoResult:
    """Evaluate detections against their ground truth; crowds are ignored as COCO does.

    With `judge`, pycocotools computes the metrics too. MetricsError: a detection that does not fit the ground
    truth or is not finite, or, with `judge`, a metric on which the two differ by more than 1e-12.
    """
    truth = read_truth(ground_truth)
    results = result_array(truth, predictions)
    evaluator = run_evaluator(truth, results)
    values = evaluator.get_results()
    metrics = {name: values[name] for name in METRICS}
    judged = _judged(truth, results) if judge else None
    if judged is not None:
        _compare(metrics, judged)
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
        class_precision={name: precision[0, :, index] for index, name in enumerate(truth.names)},
        judged=judged is not None,
        evaluator=EvaluatorSettings(evaluator.provenance(), evaluator.reference_deviations()),
    )


def _judged(truth: Truth, results: Array) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images, categories = coco_lists(truth)
    columns = zip(
        truth.images.tolist(),
        truth.categories.tolist(),
        truth.boxes_xywh.tolist(),
        truth.areas.tolist(),
        truth.crowds.tolist(),
        strict=True,
    )
    keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    # Numbered from 1: no metric depends on these ids, but pycocotools takes 0 for "no match".
    annotations = [
        dict(zip(keys, (number, *values), strict=True)) for number, values in enumerate(columns, start=1)
    ]
    content = {"images": images, "categories": categories, "annotations": annotations}
    with redirect_stdout(io.StringIO()):
        dataset = _indexed(COCO(), content)
        # loadRes looks at the first detection, so it cannot load none.
        loaded = dataset.loadRes(results) if len(results) else _indexed(COCO(), content | {"annotations": []})
        evaluator = COCOeval(dataset, loaded, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return dict(zip(METRICS, evaluator.stats.tolist(), strict=True))


def _indexed(dataset: Any, content: dict[str, Any]) -> Any:
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


def _class_results(truth: Truth, precision: Array) -> dict[str, ClassResult]:
    objects = np.bincount(truth.categories[truth.crowds == 0], minlength=len(truth.names) + 1)[1:].tolist()
    ap, ap50 = precision.mean(axis=(0, 1)).tolist(), precision[0].mean(axis=0).tolist()
    columns = zip(truth.names, ap, ap50, objects, strict=True)
    return {name: ClassResult(*values) for name, *values in columns}


def _curve(precision: Array) -> Array:
    """[IoU, recall, class] to [recall]: the mean over the thresholds and the classes that have objects."""
    present = precision[0, 0] >= 0
    return precision[:, :, present].mean(axis=(0, 2)) if present.any() else np.full(precision.shape[1], -1.0)
