"""LRP errors counted by hand, and by trying every threshold in plain Python."""

from collections.abc import Sequence
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest

from yolov9bench.evaluation.lrp import lrp_error
from yolov9bench.predict.predictions import predictions_from_rows

Row = dict[str, Any]
BOX = [0.0, 0.0, 100.0, 100.0]
FAR = [400.0, 400.0, 20.0, 20.0]


def wide(share: float) -> list[float]:
    """A part of BOX whose IoU with it is the share."""
    return [0.0, 0.0, 100.0 * share, 100.0]


def truth(*objects: Sequence[Any]) -> dict[str, Any]:
    """Objects as (image, class), or with a box and iscrowd too; three images and three classes."""
    whole = [(*each, *(BOX, 0)[len(each) - 2 :]) for each in objects]
    return {
        "images": [{"id": number} for number in (1, 2, 3)],
        "categories": [{"id": number, "name": f"class {number}"} for number in (1, 2, 3)],
        "annotations": [
            {"image_id": image, "category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": crowd}
            for image, label, box, crowd in whole
        ],
    }


def rows(*found: Sequence[Any]) -> list[Row]:
    """Detections as (image, class, box, score)."""
    return [dict(zip(("image_id", "category_id", "bbox", "score"), each, strict=True)) for each in found]


def test_five_detections_by_hand() -> None:
    """Class 1 keeps k detections, best first, at (shifts / .5 + false alarms + misses) / (3 + false alarms):
    1, 2/3, (.8 + 1) / 3, (.8 + 1 + 1) / 4 and, best, (.8 + .4 + 1) / 4. Class 2 is missed, 3 has no object.
    """
    found = rows(
        (1, 1, BOX, 0.9), (2, 1, wide(0.6), 0.8), (1, 1, FAR, 0.7), (3, 1, wide(0.8), 0.6), (1, 3, BOX, 0.5)
    )
    lrp = lrp_error(truth((1, 1), (2, 1), (3, 1), (2, 2)), predictions_from_rows(found))
    assert list(lrp.classes) == ["class 1", "class 2"]
    best, missed = lrp.classes.values()
    assert astuple(best) == pytest.approx((0.55, 0.2, 0.25, 0, 0.6))
    assert astuple(missed) == (1, None, None, 1, None)
    assert astuple(lrp)[:4] == pytest.approx((0.775, 0.2, 0.25, 0.5))


def test_a_threshold_cannot_part_equal_scores() -> None:
    found = rows((1, 1, BOX, 0.5), (2, 1, FAR, 0.5))
    (only,) = lrp_error(truth((1, 1)), predictions_from_rows(found)).classes.values()
    assert (only.error, only.false_positives) == (0.5, 0.5)  # parted, the first alone would have error 0


def test_a_crowd_is_neither_missed_nor_found() -> None:
    ground_truth = truth((1, 1), (2, 1, BOX, 1))
    found = rows((1, 1, BOX, 0.5), (2, 1, BOX, 0.9))
    (only,) = lrp_error(ground_truth, predictions_from_rows(found)).classes.values()
    assert (only.error, only.threshold) == (0, 0.5)


def test_without_objects_nothing_is_defined() -> None:
    lrp = lrp_error(truth(), predictions_from_rows(rows((1, 1, BOX, 0.5))))
    assert (lrp.error, lrp.localisation, lrp.false_positives, lrp.false_negatives) == (None,) * 4
    assert lrp.classes == {}


def overlap(one: Sequence[float], other: Sequence[float], crowd: bool) -> float:
    """Intersection over union; over the first box's area if the other is a crowd."""
    sides = [min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    shared = max(sides[0], 0.0) * max(sides[1], 0.0)
    return shared / (one[2] * one[3] + (0.0 if crowd else other[2] * other[3] - shared))


def error_at(objects: list[Row], found: list[Row], threshold: float) -> float:
    """The LRP error of one class: a detection takes the free object that it overlaps most, at least half."""
    free = [each for each in objects if not each["iscrowd"]]
    crowds = [each for each in objects if each["iscrowd"]]
    shifts, wrong = 0.0, 0
    for row in sorted(
        (each for each in found if each["score"] >= threshold), key=lambda each: -each["score"]
    ):
        near = [each for each in free if each["image_id"] == row["image_id"]]
        best = max(near, key=lambda each: overlap(row["bbox"], each["bbox"], False), default=None)
        if best is not None and overlap(row["bbox"], best["bbox"], False) >= 0.5:
            free.remove(best)
            shifts += 1 - overlap(row["bbox"], best["bbox"], False)
        elif not any(
            each["image_id"] == row["image_id"] and overlap(row["bbox"], each["bbox"], True) >= 0.5
            for each in crowds
        ):
            wrong += 1
    count = len(objects) - len(crowds)
    return (shifts / 0.5 + wrong + len(free)) / (wrong + count)


@pytest.mark.parametrize("seed", range(6))
def test_every_threshold_in_plain_python(seed: int) -> None:
    """Random sets with crowds, false classes and, in every second one, equal scores."""
    generator = np.random.default_rng(seed)
    objects, found = [], []
    for image in (1, 2, 3):
        for _ in range(6):
            box = [*generator.uniform(0, 80, 2).tolist(), *generator.uniform(20, 60, 2).tolist()]
            objects.append((image, int(generator.integers(1, 4)), box, int(generator.random() < 0.2)))
            for _ in range(generator.integers(0, 4)):
                label = objects[-1][1] if generator.random() < 0.8 else int(generator.integers(1, 4))
                score = round(float(generator.random()), 1 if seed % 2 else 5)
                found.append((image, label, np.abs(np.add(box, generator.normal(0, 5, 4))).tolist(), score))
    ground_truth, results = truth(*objects), rows(*found)
    lrp = lrp_error(ground_truth, predictions_from_rows(results))
    assert len(lrp.classes) == 3
    for number, name in enumerate(("class 1", "class 2", "class 3"), start=1):
        own = [each for each in ground_truth["annotations"] if each["category_id"] == number]
        kept = [each for each in results if each["category_id"] == number]
        thresholds = [2.0, *(each["score"] for each in kept)]
        errors = {each: error_at(own, kept, each) for each in thresholds}
        best = lrp.classes[name]
        assert best.error == pytest.approx(min(errors.values()), abs=1e-12)
        assert errors[2.0 if best.threshold is None else best.threshold] == pytest.approx(
            best.error, abs=1e-12
        )
