"""What went wrong: kinds of error, mix-ups of classes, images of lowest F1, calibration; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from yolov9bench.evaluation.truth import GroundTruth, read_truth, result_array, run_evaluator
from yolov9bench.predict.predictions import Predictions

TIDE_ERRORS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")


@dataclass(frozen=True)
class ScoreBin:
    """Detections with scores from `low` up to `high`: how many, their mean score, the share that is right."""

    low: float
    high: float
    count: int
    score: float
    right: float


@dataclass(frozen=True)
class Calibration:
    """How far scores are from the share of detections that are right, as fractions; 0 is best.

    `error` is the mean gap of the bins, weighted by their detections (ECE), `largest` that of the worst bin
    (MCE), `classes` the error of each class by name. `bins` are those that have detections.
    """

    error: float
    largest: float
    detections: int
    bins: tuple[ScoreBin, ...]
    classes: dict[str, float]


def tide_shares(ground_truth: GroundTruth, predictions: Predictions) -> dict[str, float]:
    """How much AP50 would rise if one kind of error alone were corrected, as fractions (hotcoco's TIDE).

    Cls: right place, wrong class. Loc: right class, IoU .1 to .5. Both: wrong class, IoU .1 to .5. Dupe: an
    object found again. Bkg: IoU under .1 with every object. Miss: an object that no other error explains. The
    effects overlap, so they do not add up to 1 - AP50. Definitions: TIDE, arXiv:2008.08115.
    """
    truth = read_truth(ground_truth)
    evaluator = run_evaluator(truth, result_array(truth, predictions))
    rises = evaluator.tide_errors(pos_thr=0.5, bg_thr=0.1)["delta_ap"]
    return {name: rises[name] for name in TIDE_ERRORS}


def main_confusions(
    ground_truth: GroundTruth, predictions: Predictions, score: float = 0.25, iou: float = 0.5, top: int = 10
) -> list[tuple[str, str, int]]:
    """The most frequent mix-ups as (true class, predicted class, count), by hotcoco's confusion matrix.

    Detections of at least `score` take, best score first, the free object of highest IoU, at least `iou`, of
    any class; crowds are not offered. Detections without a partner are left out. Ties go by name.
    """
    truth = read_truth(ground_truth)
    evaluator = run_evaluator(truth, result_array(truth, predictions))
    table = evaluator.confusion_matrix(iou_thr=iou, min_score=score)
    names = table["cat_names"]
    matrix = table["matrix"][:-1, :-1]  # without the background, its last row and column
    pairs = [
        (names[true], names[predicted], int(matrix[true, predicted]))
        for true, predicted in np.argwhere(matrix)
        if true != predicted
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:top]


def worst_images(
    ground_truth: GroundTruth, predictions: Predictions, top: int = 9, score: float = 0.25
) -> list[tuple[int, float, str]]:
    """The images of lowest F1 as (image id, F1, note), by hotcoco's image diagnostics.

    F1 = 2 found / (2 found + missed + false alarms) of the detections of at least `score`, matched within a
    class at IoU .5, crowds ignored. Among equals more objects come first, then the lower id. Images with
    neither objects nor detections are left out.
    """
    truth = read_truth(ground_truth)
    results = result_array(truth, predictions)
    evaluator = run_evaluator(truth, results[results[:, 5] >= score])
    images = evaluator.image_diagnostics(iou_thr=0.5)["img_summary"]
    ranked = sorted(images.items(), key=lambda item: (item[1]["f1"], -item[1]["tp"] - item[1]["fn"], item[0]))
    return [
        (
            int(truth.image_ids[number - 1]),
            seen["f1"],
            f"{seen['tp']} of {seen['tp'] + seen['fn']} found, {seen['fp']} false alarms",
        )
        for number, seen in ranked[:top]
    ]


def calibration(
    ground_truth: GroundTruth, predictions: Predictions, bins: int = 10, iou: float = 0.5
) -> Calibration:
    """Scores beside the share that is right, in bins of equal width, by hotcoco.

    Right is a detection that COCO's matching gives an object at `iou`, one of COCO's ten thresholds; at most
    100 of an image and class count, those on crowds do not. Definitions: Guo et al., arXiv:1706.04599.
    """
    truth = read_truth(ground_truth)
    evaluator = run_evaluator(truth, result_array(truth, predictions))
    found = evaluator.calibration(n_bins=bins, iou_threshold=iou)
    return Calibration(
        error=found["ece"],
        largest=found["mce"],
        detections=found["num_detections"],
        bins=tuple(_score_bin(each) for each in found["bins"] if each["count"]),
        classes=dict(found["per_category"]),
    )


def _score_bin(found: dict[str, Any]) -> ScoreBin:
    keys = ("bin_lower", "bin_upper", "count", "avg_confidence", "avg_accuracy")
    return ScoreBin(*(found[key] for key in keys))
