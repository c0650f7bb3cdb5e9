"""Matching once and weighting images, beside hotcoco on sets with so many copies of each image."""

from typing import Any

import numpy as np
import pytest
from interval_methods import METHODS, draw_aps, intervals

from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.evaluation.matching import Matches, match
from yolov9bench.evaluation.truth import read_truth, result_array
from yolov9bench.predict.predictions import Predictions, predictions_from_rows

Rows = list[dict[str, Any]]


def make_set(seed: int, images: int = 12) -> tuple[dict[str, Any], Rows]:
    """Objects of three classes, some of them crowds, with detections near them, some of another class."""
    generator = np.random.default_rng(seed)
    annotations, rows = [], []
    scores = iter(generator.permutation(np.linspace(0.01, 0.99, 100 * images)).tolist())  # no two are equal
    for image in range(1, images + 1):
        for _ in range(generator.integers(0, 6)):
            box = np.concatenate([generator.uniform(0, 60, 2), generator.uniform(10, 40, 2)])
            category, crowd = int(generator.integers(1, 4)), int(generator.random() < 0.2)
            area = {"area": float(box[2] * box[3]), "iscrowd": crowd}
            annotations.append({"image_id": image, "category_id": category, "bbox": box.tolist(), **area})
            for _ in range(generator.integers(0, 4)):
                moved = box + generator.normal(0, 3, 4)
                other = category if generator.random() < 0.8 else int(generator.integers(1, 4))
                row = {"image_id": image, "category_id": other, "bbox": np.abs(moved).tolist()}
                rows.append(row | {"score": next(scores)})
    ground_truth = {
        "images": [{"id": image} for image in range(1, images + 1)],
        "categories": [{"id": number, "name": str(number)} for number in range(1, 4)],
        "annotations": annotations,
    }
    return ground_truth, rows


def matched(ground_truth: dict[str, Any], rows: Rows) -> Matches:
    truth = read_truth(ground_truth)
    return match(truth, result_array(truth, predictions_from_rows(rows)))


def copied(ground_truth: dict[str, Any], rows: Rows, weights: np.ndarray[Any, Any]) -> float:
    """hotcoco's AP of a set with weights[i] copies of image i."""
    content: dict[str, Any] = {"images": [], "categories": ground_truth["categories"], "annotations": []}
    found: Rows = []
    for image, count in enumerate(weights):
        for _ in range(count):
            number = len(content["images"]) + 1
            content["images"].append({"id": number})
            for source, target in ((ground_truth["annotations"], content["annotations"]), (rows, found)):
                target += [each | {"image_id": number} for each in source if each["image_id"] == image]
    return coco_metrics(content, predictions_from_rows(found))["AP"]


@pytest.mark.parametrize("seed", range(8))
def test_weighted_images_are_copies(seed: int) -> None:
    ground_truth, rows = make_set(seed)
    matches, generator = matched(ground_truth, rows), np.random.default_rng(seed)
    weights = np.ones(13, np.int64)
    weights[0] = 0
    assert matches.average_precision(weights) == pytest.approx(copied(ground_truth, rows, weights), abs=1e-12)
    for _ in range(4):
        weights[1:] = generator.integers(0, 4, 12)
        assert matches.average_precision(weights) == pytest.approx(
            copied(ground_truth, rows, weights), abs=1e-12
        )


def test_more_than_a_hundred_detections_of_a_class_are_cut_as_coco_does() -> None:
    box = [0.0, 0.0, 10.0, 10.0]
    ground_truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "one"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": box, "area": 100.0, "iscrowd": 0}],
    }
    rows = [
        {"image_id": 1, "category_id": 1, "bbox": [50.0, 50.0, 5.0, 5.0], "score": 0.9 - place / 1000}
        for place in range(100)
    ]
    late = {"image_id": 1, "category_id": 1, "bbox": box, "score": 0.01}
    weights = np.array([0, 1])
    assert matched(ground_truth, [*rows, late]).average_precision(weights) == 0.0
    assert matched(ground_truth, [*rows[1:], late]).average_precision(weights) == pytest.approx(0.01)


def test_no_detection_and_no_object() -> None:
    ground_truth, _ = make_set(0)
    weights = np.ones(13, np.int64)
    assert matched(ground_truth, []).average_precision(weights) == 0.0
    assert matched(ground_truth | {"annotations": []}, []).average_precision(weights) == -1.0


def test_real_detections(val2017_matches: tuple[Matches, float]) -> None:
    matches, ap = val2017_matches
    weights = np.ones(matches.images + 1, np.int64)
    assert matches.average_precision(weights) == pytest.approx(ap, abs=1e-12)


@pytest.fixture
def val2017_matches(shared: Any) -> tuple[Matches, float]:
    from yolov9bench.data.coco import read_coco
    from yolov9bench.predict.result_files import read_predictions

    ground_truth = read_coco(shared / "coco", "val2017").ground_truth()
    predictions: Predictions = read_predictions(
        next((shared / "coco/reference").glob("ultralytics*square*.json"))
    )
    truth = read_truth(ground_truth)
    return match(truth, result_array(truth, predictions)), coco_metrics(ground_truth, predictions)["AP"]


def test_each_method_by_hand() -> None:
    """Draws 0, .01 .. 1 of an AP of .6: quantiles, their mirror at .6, and 1.96 standard deviations."""
    ground_truth, rows = make_set(1)
    matches = matched(ground_truth, rows)
    draws = draw_aps(matches, 1, np.random.default_rng(0))
    draws = type(draws)(0.6, np.linspace(0, 1, 101))
    found = intervals(matches, draws)
    assert list(found) == list(METHODS)
    assert found["percentile"] == pytest.approx((0.025, 0.975))
    assert found["basic"] == pytest.approx((0.225, 1.0))  # 1.2 - .975, and 1.175 cut at 1
    spread = 1.959964 * np.sqrt((101**2 - 1) / 12) / 100
    assert found["normal"] == pytest.approx((max(0.6 - spread, 0), min(0.6 + spread, 1)), abs=1e-6)
    assert found["bias-corrected"][0] > 0.025 and found["bias-corrected"][1] > 0.975  # .6 is above the median
