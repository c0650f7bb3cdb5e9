"""Intervals of AP: half-samples beside formulas, brute force, and sets whose answer is known."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from yolov9bench.evaluation.intervals import all_images, ap_interval, interval_of, paired_interval
from yolov9bench.evaluation.matching import Matches, match
from yolov9bench.evaluation.truth import read_truth, result_array
from yolov9bench.predict.predictions import predictions_from_rows

BOX = [10.0, 10.0, 50.0, 50.0]
Rows = list[dict[str, Any]]


def make_truth(objects: list[tuple[int, int]], images: int, classes: int = 1) -> dict[str, Any]:
    """(image, class) of each object, all at BOX."""
    return {
        "images": [{"id": number} for number in range(1, images + 1)],
        "categories": [{"id": number, "name": str(number)} for number in range(1, classes + 1)],
        "annotations": [
            {"id": place, "image_id": image, "category_id": category, "bbox": BOX, "area": 2500, "iscrowd": 0}
            for place, (image, category) in enumerate(objects, 1)
        ],
    }


def make_rows(*found: tuple[int, int, float], box: list[float] = BOX) -> Rows:
    """(image, class, score) of each detection."""
    return [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, score in found
    ]


def matched(truth: dict[str, Any], rows: Rows) -> Matches:
    read = read_truth(truth)
    return match(read, result_array(read, predictions_from_rows(rows)))


def halves(images: int) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """The weights of every half of the images."""
    chosen = combinations(range(1, images + 1), images // 2)
    return [np.bincount(each, minlength=images + 1) for each in chosen]


def areas_by_hand(truth: dict[str, Any], rows: Rows, weights: Any) -> dict[int, float]:
    """The trapezoids of each class, detection by detection, where every detection is right or nowhere."""
    categories = [each["id"] for each in truth["categories"]]
    objects = [(each["image_id"], each["category_id"]) for each in truth["annotations"]]
    kept = {c: [r for r in rows if r["category_id"] == c and weights[r["image_id"]]] for c in categories}
    right = {
        c: [r["bbox"] == BOX and (r["image_id"], c) in objects for r in sorted(of, key=lambda r: -r["score"])]
        for c, of in kept.items()
    }
    first = [of[0] for of in right.values() if of]
    result = {}
    for category, of in right.items():
        count = sum(weights[image] for image, each in objects if each == category)
        if count:
            area = 0.0
            for place, is_right in enumerate(of):
                before = sum(of[:place]) / place if place else sum(first) / len(first)
                area += is_right * (before + sum(of[: place + 1]) / (place + 1)) / 2
            result[category] = area / count
    return result


@pytest.mark.parametrize("seed", range(6))
def test_areas_are_trapezoids(seed: int) -> None:
    generator = np.random.default_rng(seed)
    objects = [(image, int(generator.integers(1, 4))) for image in range(1, 11)]
    truth = make_truth(objects, images=10, classes=4)  # the fourth has none
    scores = iter(generator.permutation(np.linspace(0.1, 0.9, 60)).tolist())
    rows: Rows = []
    for image, category in objects:
        if generator.random() < 0.7:
            rows += make_rows((image, category, next(scores)))
        for _ in range(generator.integers(0, 3)):
            wrong = (image, int(generator.integers(1, 5)), next(scores))
            rows += make_rows(wrong, box=[300.0, 300.0, 20.0, 20.0])
    matches = matched(truth, rows)
    for weights in (all_images(matches), *halves(10)[::40]):
        expected = areas_by_hand(truth, rows, weights)
        found = matches.class_precisions(weights)
        assert found == pytest.approx([expected.get(c, np.nan) for c in range(1, 5)], abs=1e-12, nan_ok=True)


def areas_by_detection(matches: Matches, weights: Any) -> list[float]:
    """The trapezoids at each IoU, one detection after another; what lies on a crowd counts as none."""
    bounds = list(zip(matches.starts[:-1], matches.starts[1:], strict=True))
    detected = sum(any(weights[matches.image_of[first:end]]) for first, end in bounds)
    areas = np.zeros(matches.classes)
    for found, ignored in zip(matches.found, matches.ignored, strict=True):
        objects, leading = [], 0.0  # class, weight, right and all before; first detections that are right
        for label, (first, end) in enumerate(bounds):
            right = counted = 0
            for detection in range(first, end):
                weight = weights[matches.image_of[detection]] * (detection not in ignored)
                if weight and detection in found:
                    objects.append((label, weight, right, counted))
                    leading += counted == 0
                    right += weight
                counted += weight
        for label, weight, right, counted in objects:
            earlier = right / counted if counted else leading / detected
            areas[label] += weight * (earlier + (right + weight) / (counted + weight)) / 2 / 10
    counts = np.zeros(matches.classes)
    for image, label in zip(matches.object_images, matches.object_classes, strict=True):
        counts[label - 1] += weights[image]
    return [area / count if count else np.nan for area, count in zip(areas, counts, strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_areas_at_every_iou_are_those_of_one_detection_after_another(seed: int) -> None:
    """Shifted boxes find their object at some IoUs alone; each class has a crowd, and images count often."""
    generator = np.random.default_rng(seed)
    objects = [(image, int(generator.integers(1, 4))) for image in range(1, 9) for _ in range(2)]
    truth = make_truth(objects, images=8, classes=4)
    for place, annotation in enumerate(truth["annotations"]):
        annotation["bbox"] = [100.0 * place, 0.0, 50.0, 50.0]
        annotation["iscrowd"] = int(place % 5 == 0)
    rows: Rows = []
    for annotation in truth["annotations"]:
        for _ in range(generator.integers(0, 4)):
            left, top, side, _ = annotation["bbox"]
            box = [left + generator.integers(0, 20), top, side, side]
            rows += make_rows(
                (annotation["image_id"], annotation["category_id"], generator.random()), box=box
            )
    matches = matched(truth, rows)
    assert any(map(len, matches.ignored)) and len({len(each) for each in matches.found}) > 3
    for weights in (all_images(matches), *generator.integers(0, 3, (20, 9))):
        expected = areas_by_detection(matches, weights)
        assert matches.class_precisions(weights) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_an_interval_of_shares_is_the_textbook_one() -> None:
    """Of 40 images with one object each 24 are solved: AP is a mean of zeros and ones, its variance known."""
    truth = make_truth([(image, 1) for image in range(1, 41)], images=40)
    rows = make_rows(*((image, 1, 0.9) for image in range(1, 25)))
    found = ap_interval(truth, predictions_from_rows(rows), draws=3000)
    assert found is not None
    spread = np.sqrt(0.6 * 0.4 / 39)
    assert found == pytest.approx((0.6 - 1.96 * spread, 0.6 + 1.96 * spread), abs=0.006)


def test_enough_draws_are_all_halves() -> None:
    """Beside the variance over every half of 11 images; five of them are 5 / 6 of the rest."""
    objects = [(image, 1 + image % 2) for image in range(1, 12)] + [(image, 1) for image in range(1, 12)]
    rows = make_rows(*((image, 1 + image % 2, 0.9 - image / 30) for image in (1, 2, 3, 5, 6, 7, 9, 11)))
    rows += make_rows((4, 1, 0.85), (9, 2, 0.8), box=[300.0, 9.0, 9.0, 9.0])
    matches = matched(make_truth(objects, images=11, classes=2), rows)
    exact = np.std([np.nanmean(matches.class_precisions(weights)) for weights in halves(11)])
    found = interval_of(matches, draws=3000)
    assert found is not None and found[0] > 0 and found[1] < 1
    assert found[1] - found[0] == pytest.approx(2 * 1.96 * exact * np.sqrt(5 / 6), rel=0.04)


def test_a_class_of_one_image_is_as_uncertain_as_an_image_of_the_others() -> None:
    """Class 2 is in one image alone, always found; half of the halves lack it, and AP is class 1's there."""
    both = make_truth([*((image, 1) for image in range(1, 41)), (40, 2)], images=40, classes=2)
    rows = make_rows(*((image, 1, 0.9) for image in range(1, 25)), (40, 2, 0.9))
    found = interval_of(matched(both, rows), draws=3000)
    assert found is not None
    mean, image = 0.6 * 0.4 / 39, 0.6 * 0.4 * 40 / 39  # the variance of class 1 and of one image of it
    drawn = (mean / 4 + mean) / 2 + 0.2**2 / 4  # of (x + 1) / 2 and x, whose means are .8 and .6
    spread = np.sqrt(drawn + image / 4)
    assert found == pytest.approx((0.8 - 1.96 * spread, 1.0), abs=0.01)


@pytest.mark.parametrize(
    "objects",
    [[(1, 1), (1, 1)], [(1, 1), (2, 2)], []],
    ids=["one image", "each class in one image", "no object"],
)
def test_where_nothing_tells_it_there_is_no_interval(objects: list[tuple[int, int]]) -> None:
    truth = make_truth(objects, images=max((image for image, _ in objects), default=2), classes=2)
    assert ap_interval(truth, predictions_from_rows(make_rows((1, 1, 0.9)))) is None


def test_an_interval_follows_its_seed_and_not_the_ids() -> None:
    objects = [(image, 1 + image % 3) for image in range(1, 21)]
    rows = make_rows(*((image, 1 + image % 3, 0.9 - image / 40) for image in range(1, 21, 2)))
    wrong = ((image, 1, 0.3 + image / 50) for image in range(1, 21, 3))
    rows += make_rows(*wrong, box=[300.0, 9.0, 9.0, 9.0])
    truth = make_truth(objects, images=20, classes=3)
    first = ap_interval(truth, predictions_from_rows(rows), draws=50)
    assert first == ap_interval(truth, predictions_from_rows(rows), draws=50)
    assert first != ap_interval(truth, predictions_from_rows(rows), draws=50, seed=1)
    renamed = {
        **truth,
        "images": [{"id": 1000 - 7 * each["id"]} for each in truth["images"]],
        "annotations": [each | {"image_id": 1000 - 7 * each["image_id"]} for each in truth["annotations"]],
    }
    other = predictions_from_rows([row | {"image_id": 1000 - 7 * row["image_id"]} for row in rows])
    assert ap_interval(renamed, other, draws=50) == pytest.approx(first, abs=1e-9)


def test_a_detector_differs_from_itself_by_nothing() -> None:
    truth = make_truth([(image, 1) for image in range(1, 21)], images=20)
    matches = matched(truth, make_rows(*((image, 1, 0.5) for image in range(1, 12))))
    assert paired_interval(matches, matches) == (0.0, 0.0)


def test_pairs_are_told_apart_where_each_alone_is_not() -> None:
    """Of 40 images the first solves 20, the second those and 10 more."""
    truth = make_truth([(image, 1) for image in range(1, 41)], images=40)
    first, second = (
        matched(truth, make_rows(*((image, 1, 0.9) for image in range(1, count + 1)))) for count in (20, 30)
    )
    alone = interval_of(first), interval_of(second)
    paired = paired_interval(first, second, draws=3000)
    assert alone[0] is not None and alone[1] is not None and paired is not None
    assert alone[0][1] > alone[1][0]
    spread = np.sqrt(0.25 * 0.75 / 39)  # of 10 ones and 30 zeros
    assert paired == pytest.approx((0.25 - 1.96 * spread, 0.25 + 1.96 * spread), abs=0.006)
    assert paired[0] > 0


def test_pairs_are_of_the_same_images() -> None:
    first = matched(make_truth([(1, 1), (2, 1)], images=2), make_rows((1, 1, 0.9)))
    second = matched(make_truth([(1, 1), (1, 1)], images=2), make_rows((1, 1, 0.9)))
    with pytest.raises(ValueError, match="the same images and objects"):
        paired_interval(first, second)


def test_the_interval_of_real_detections_holds_their_ap(shared: Any) -> None:
    from yolov9bench.data.coco import read_coco
    from yolov9bench.evaluation.coco_metrics import coco_metrics
    from yolov9bench.predict.result_files import read_predictions

    truth = read_coco(shared / "coco", "val2017").ground_truth()
    predictions = read_predictions(next((shared / "coco/reference").glob("ultralytics*square*.json")))
    found = ap_interval(truth, predictions, draws=100)
    assert found is not None
    assert 0.04 < found[1] - found[0] < 0.2
    assert found[0] < coco_metrics(truth, predictions)["AP"] < found[1]
