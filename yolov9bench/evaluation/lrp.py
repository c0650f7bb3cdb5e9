"""Localisation recall precision error (LRP): places, false alarms and misses in one number; no torch.

Oksuz et al., "Localization Recall Precision (LRP): A New Performance Metric for Object Detection", ECCV 2018
(arXiv:1807.01696), and "One Metric to Measure them All", TPAMI 2021 (arXiv:2011.10772).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from yolov9bench.evaluation.matching import IOUS, Matches, match
from yolov9bench.evaluation.truth import Array, GroundTruth, read_truth, result_array
from yolov9bench.predict.predictions import Predictions

LOWEST_IOU = float(IOUS[0])  # of a detection that found its object


@dataclass(frozen=True)
class ClassLrp:
    """The optimal LRP error of a class, 0 (all right) to 1, its parts, and the score threshold that gives it.

    `localisation` is the mean of 1 - IoU over the objects found, `false_positives` the share of the kept
    detections that found none, `false_negatives` the share of the objects that were missed. Where it is best
    to keep no detection, threshold, localisation and false_positives are None.
    """

    error: float
    localisation: float | None
    false_positives: float | None
    false_negatives: float
    threshold: float | None


@dataclass(frozen=True)
class Lrp:
    """The means over the classes that have objects, and each such class by name.

    A part's mean is over the classes that have it. All are None without objects.
    """

    error: float | None
    localisation: float | None
    false_positives: float | None
    false_negatives: float | None
    classes: Mapping[str, ClassLrp]


def lrp_error(ground_truth: GroundTruth, predictions: Predictions) -> Lrp:
    """The optimal LRP error at IoU .50 of every class with objects, and its mean.

    Detections are matched as COCO's AP matches them: at most 100 of an image and class, crowds ignored. Every
    score is tried as the threshold, equal scores together; of equal errors the one with fewest detections is
    taken. Errors as `coco_metrics`.
    """
    truth = read_truth(ground_truth)
    matches = match(truth, result_array(truth, predictions))
    counts = np.bincount(matches.object_classes, minlength=matches.classes + 1)[1:]
    classes = {
        name: _class_lrp(matches, number, int(count))
        for number, (name, count) in enumerate(zip(truth.names, counts, strict=True))
        if count
    }
    found = list(classes.values())
    return Lrp(
        _mean([each.error for each in found]),
        _mean([each.localisation for each in found]),
        _mean([each.false_positives for each in found]),
        _mean([each.false_negatives for each in found]),
        classes,
    )


def _class_lrp(matches: Matches, number: int, objects: int) -> ClassLrp:
    """Of the class with this number, from 0, which has so many objects."""
    first, end = matches.starts[number : number + 2]
    own = slice(*np.searchsorted(matches.found[0], [first, end]))
    right, shift, counted = np.zeros(end - first), np.zeros(end - first), np.ones(end - first)
    right[matches.found[0][own] - first] = 1
    shift[matches.found[0][own] - first] = 1 - matches.overlaps[own]
    ignored = matches.ignored[0]
    counted[ignored[(ignored >= first) & (ignored < end)] - first] = 0
    # By the number of best detections that are kept, from none on.
    tp, shifts, kept = (np.concatenate([[0], np.cumsum(each)]) for each in (right, shift, counted))
    errors = (shifts / (1 - LOWEST_IOU) + (kept - tp) + (objects - tp)) / (kept + objects - tp)
    best = int(np.argmin(np.where(_is_cut(matches.scores[first:end]), errors, np.inf)))
    return ClassLrp(
        error=float(errors[best]),
        localisation=float(shifts[best] / tp[best]) if tp[best] else None,
        false_positives=float(1 - tp[best] / kept[best]) if kept[best] else None,
        false_negatives=float(1 - tp[best] / objects),
        threshold=float(matches.scores[first + best - 1]) if best else None,
    )


def _is_cut(scores: Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether a threshold can keep just so many of these descending scores: [count + 1], none first."""
    return np.concatenate([[True], scores[1:] < scores[:-1], [True]])[: len(scores) + 1]


def _mean(values: list[float | None] | list[float]) -> float | None:
    known = [each for each in values if each is not None]
    return float(np.mean(known)) if known else None
