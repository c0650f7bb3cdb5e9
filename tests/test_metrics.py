"""COCO numbers against pycocotools, published reference AP, and cases counted by hand."""

import io
import json
from collections.abc import Sequence
from contextlib import redirect_stdout
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import Compare
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yolov9bench.errors import MetricsError
from yolov9bench.evaluation import coco_metrics as module
from yolov9bench.evaluation.coco_metrics import coco_metrics, coco_result
from yolov9bench.evaluation.diagnostics import TIDE_ERRORS, main_confusions, tide_shares, worst_images
from yolov9bench.predict.predictions import (
    Predictions,
    predictions_from_rows,
    predictions_of,
    result_json,
    result_rows,
    rounded,
)
from yolov9bench.records.contents import METRICS

REFERENCES = [
    "ultralytics_yolov8n_square",
    "ultralytics_yolov8n_rect",
    "mmyolo_yolov8n_plain",
    "mmyolo_yolov8n_tta",
]
BOX = [10.0, 10.0, 100.0, 100.0]  # large: 10,000 px are over 96 ** 2
FAR = [400.0, 300.0, 100.0, 100.0]
HALF = [60.0, 10.0, 100.0, 100.0]  # IoU 1/3 with BOX
EPSILON = 1e-12  # the evaluators add 2e-16 to a denominator


def truth(*objects: Sequence[Any], images: int = 3, classes: int = 3) -> dict[str, Any]:
    """A ground truth of (image, class, box) or (image, class, box, crowd); ids count from 1."""
    return {
        "images": [{"id": number, "width": 640, "height": 480} for number in range(1, images + 1)],
        "categories": [{"id": number, "name": f"class {number}"} for number in range(1, classes + 1)],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": label,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": crowd[0] if crowd else 0,
            }
            for number, (image, label, box, *crowd) in enumerate(objects, start=1)
        ],
    }


def entries(*rows: Sequence[Any]) -> list[dict[str, Any]]:
    """The rows of a result file of (image, class, box, score)."""
    return [dict(zip(("image_id", "category_id", "bbox", "score"), row, strict=True)) for row in rows]


def found(*rows: Sequence[Any]) -> Predictions:
    """Detections of (image, class, box, score)."""
    return predictions_from_rows(entries(*rows))


def detection_rows(image_id: int, boxes: Any, scores: Any, labels: Any, categories: Sequence[int]) -> Any:
    """One image's detections as the rows of a result file."""
    return list(result_rows(predictions_of({image_id: (boxes, scores, labels)}, categories)))


def judged(ground_truth: dict[str, Any], detections: list[dict[str, Any]]) -> COCOeval:
    """pycocotools, used as its own documentation does."""
    with redirect_stdout(io.StringIO()):
        dataset: Any = COCO()
        dataset.dataset = deepcopy(ground_truth)
        dataset.createIndex()
        evaluator = COCOeval(dataset, dataset.loadRes(deepcopy(detections)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def mean_of_defined(values: Any) -> float:
    return float(values[values > -1].mean()) if (values > -1).any() else -1.0


@pytest.fixture(scope="module")
def val2017(shared: Path) -> dict[str, Any]:
    annotations: dict[str, Any] = json.loads((shared / "coco/annotations/instances_val2017.json").read_text())
    return annotations


@pytest.fixture(
    scope="module",
    params=[*REFERENCES[::2], *(pytest.param(each, marks=pytest.mark.accuracy) for each in REFERENCES[1::2])],
)
def reference(request: pytest.FixtureRequest, shared: Path) -> tuple[str, list[dict[str, Any]]]:
    name = f"{request.param}.json"
    return name, json.loads((shared / "coco/reference" / name).read_text())


@pytest.fixture(scope="module")
def square(shared: Path) -> Predictions:
    rows = json.loads((shared / "coco/reference" / f"{REFERENCES[0]}.json").read_text())
    return predictions_from_rows(rows)


def test_a_row_is_rounded_like_the_golden_one() -> None:
    box = np.array([[10.12345, 20.98765, 30.5, 41.00049]], dtype=np.float32)
    rows = detection_rows(139, box, np.array([0.1234567], dtype=np.float32), np.array([2]), range(1, 81))
    expected = {"image_id": 139, "category_id": 3, "bbox": [10.123, 20.988, 20.377, 20.013], "score": 0.12346}
    assert rows == [expected]


def test_sizes_are_float32_and_rounding_is_exact() -> None:
    # 177.1455 is 177.14549255.. in float32: .145, where rounding in float32 gives .146.
    # 588.3617 - 0.3102 is 588.05151 in float32 and 588.05149 in double.
    boxes = np.array([[177.1455, 0.0, 200.0, 1.0], [0.3102, 0.0, 588.3617, 1.0]], dtype=np.float32)
    first, second = detection_rows(1, boxes, np.array([1.0, 1.0]), np.array([0, 0]), [7])
    assert (first["bbox"][0], second["bbox"][2]) == (177.145, 588.052)
    assert json.loads(json.dumps([first, second])) == [first, second]


def test_no_detections_give_no_rows() -> None:
    assert detection_rows(1, np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=int), [1]) == []


def test_reference_files_give_the_reference_metrics(
    val2017: dict[str, Any], reference: tuple[str, list[dict[str, Any]]], shared: Path, parity: Compare
) -> None:
    name, detections = reference
    held = parity(
        "mmyolo" if name.startswith("mmyolo") else "ultralytics", "TTA AP" if "tta" in name else "AP"
    )
    results = json.loads((shared / "coco/reference/reference_ap.json").read_text())["results"]
    published = next(result["metrics"] for result in results if result["file"] == name)
    computed = coco_metrics(val2017, predictions_from_rows(detections))
    ours, theirs = ([100 * metrics[each] for each in published] for metrics in (computed, published))
    held.require_close("metrics of its own detections", "points", ours, theirs, 1e-3)  # 5 decimals


def test_reference_files_give_what_pycocotools_gives(
    val2017: dict[str, Any], reference: tuple[str, list[dict[str, Any]]]
) -> None:
    _, detections = reference
    evaluator = judged(val2017, detections)
    result = coco_result(val2017, predictions_from_rows(detections), judge=True)
    assert list(result.metrics) == list(METRICS)
    assert list(result.metrics.values()) == pytest.approx(evaluator.stats.tolist(), abs=1e-12)

    precision = evaluator.eval["precision"][:, :, :, 0, 2]
    for index, category in enumerate(sorted(val2017["categories"], key=lambda category: category["id"])):
        own = result.classes[category["name"]]
        assert pytest.approx(mean_of_defined(precision[:, :, index]), abs=1e-12) == own.AP
        assert pytest.approx(mean_of_defined(precision[0, :, index]), abs=1e-12) == own.AP50
        assert own.objects == sum(
            annotation["category_id"] == category["id"] and not annotation["iscrowd"]
            for annotation in val2017["annotations"]
        )
        assert result.class_precision[category["name"]] == pytest.approx(precision[0, :, index], abs=1e-12)

    present = [index for index in range(80) if precision[0, 0, index] > -1]
    assert 0 < len(present) < 80
    assert result.recall == pytest.approx(np.arange(101) / 100, abs=1e-15)
    assert result.precision["0.50"] == pytest.approx(precision[0][:, present].mean(1), abs=1e-12)
    assert result.precision["0.75"] == pytest.approx(precision[5][:, present].mean(1), abs=1e-12)
    assert result.precision["0.50:0.95"] == pytest.approx(precision[:, :, present].mean((0, 2)), abs=1e-12)
    for curve, metric in {"0.50": "AP50", "0.75": "AP75", "0.50:0.95": "AP"}.items():
        assert result.precision[curve].mean() == pytest.approx(result.metrics[metric], abs=1e-12)


def test_one_object_found_is_all() -> None:
    values = coco_metrics(truth((1, 1, BOX)), found((1, 1, BOX, 0.9)), judge=True)
    defined = {"AP", "AP50", "AP75", "APl", "AR1", "AR10", "AR100", "ARl"}
    assert values == pytest.approx({name: 1.0 if name in defined else -1.0 for name in METRICS}, abs=EPSILON)


def test_one_of_two_objects_found() -> None:
    # Precision 1 up to recall 1/2: the grid points 0, .01 .. .50 are 51 of 101.
    values = coco_metrics(truth((1, 1, BOX), (2, 1, BOX)), found((1, 1, BOX, 0.9)), judge=True)
    assert values["AP"] == pytest.approx(51 / 101, abs=EPSILON)
    assert values["AR100"] == pytest.approx(1 / 2, abs=EPSILON)


def test_a_shifted_box_counts_up_to_its_overlap() -> None:
    # 100 x 100 against 100 x 90 inside it: IoU .9, so it counts at .50 .. .90, nine of ten thresholds.
    values = coco_metrics(truth((1, 1, BOX)), found((1, 1, [10, 10, 100, 90], 0.9)), judge=True)
    assert values["AP"] == pytest.approx(0.9, abs=EPSILON)


def test_a_confident_false_alarm_halves_precision() -> None:
    values = coco_metrics(truth((1, 1, BOX)), found((1, 1, FAR, 0.9), (1, 1, BOX, 0.8)), judge=True)
    assert values["AP"] == pytest.approx(1 / 2, abs=EPSILON)


def test_of_equal_scores_the_earlier_row_and_the_lower_image_come_first() -> None:
    objects = truth((1, 1, BOX))
    right, wrong = (1, 1, BOX, 0.5), (1, 1, FAR, 0.5)
    assert coco_metrics(objects, found(right, wrong), judge=True)["AP"] == pytest.approx(1, abs=EPSILON)
    assert coco_metrics(objects, found(wrong, right), judge=True)["AP"] == pytest.approx(1 / 2, abs=EPSILON)
    elsewhere = (2, 1, FAR, 0.5)
    assert coco_metrics(objects, found(elsewhere, right), judge=True)["AP"] == pytest.approx(1, abs=EPSILON)


def test_crowds_are_neither_objects_nor_false_alarms() -> None:
    crowded = truth((1, 1, BOX), (1, 1, FAR, 1))
    inside_crowd = (1, 1, [410.0, 310.0, 30.0, 30.0], 0.99)
    result = coco_result(crowded, found(inside_crowd, (1, 1, BOX, 0.5)), judge=True)
    assert result.metrics["AP"] == pytest.approx(1, abs=EPSILON)
    assert result.classes["class 1"].objects == 1


def test_an_empty_image_can_only_lose() -> None:
    objects = truth((1, 1, BOX), images=2)
    assert coco_metrics(objects, found((1, 1, BOX, 0.5)), judge=True)["AP"] == pytest.approx(1, abs=EPSILON)
    alarmed = found((2, 1, BOX, 0.9), (1, 1, BOX, 0.5))
    assert coco_metrics(objects, alarmed, judge=True)["AP"] == pytest.approx(1 / 2, abs=EPSILON)


def test_no_detections_at_all() -> None:
    values = coco_metrics(truth((1, 1, BOX)), found(), judge=True)
    assert {name for name, value in values.items() if value == 0} == set(METRICS) - {
        "APs",
        "APm",
        "ARs",
        "ARm",
    }
    assert {values[name] for name in ("APs", "APm", "ARs", "ARm")} == {-1.0}


def test_without_objects_everything_is_undefined() -> None:
    result = coco_result(truth(), found((1, 1, BOX, 0.9)), judge=True)
    assert set(result.metrics.values()) == {-1.0}
    assert {result.classes["class 1"].AP, result.classes["class 1"].AP50} == {-1.0}
    assert all(set(curve) == {-1.0} for curve in result.precision.values())


def test_ids_of_annotations_and_detections_play_no_part() -> None:
    ground_truth = truth((1, 1, BOX), (2, 1, BOX))
    for annotation in ground_truth["annotations"]:
        annotation["id"] = 0  # pycocotools itself would read a match with id 0 as none
    detections = predictions_from_rows(
        [row | {"id": 5} for row in entries((1, 1, BOX, 0.9), (2, 1, BOX, 0.8))]
    )
    assert coco_metrics(ground_truth, detections, judge=True)["AP"] == pytest.approx(1, abs=EPSILON)


def test_classes_keep_their_names_whatever_their_order() -> None:
    ground_truth = truth((1, 3, BOX), (1, 1, FAR))
    ground_truth["categories"].reverse()
    result = coco_result(ground_truth, found((1, 3, BOX, 0.9)), judge=True)
    ap = {name: own.AP for name, own in result.classes.items()}
    assert ap == pytest.approx({"class 1": 0, "class 2": -1, "class 3": 1}, abs=EPSILON)


def test_what_is_handed_in_stays_as_it_was_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    ground_truth, detections = truth((1, 1, BOX)), found((1, 1, BOX, 0.9))
    before, rows = deepcopy(ground_truth), result_json(detections)
    coco_metrics(ground_truth, detections, judge=True)
    tide_shares(ground_truth, detections)
    assert (ground_truth, result_json(detections)) == (before, rows)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((77, 1, BOX, 0.5), "image 77 "),
        ((2, 9, BOX, 0.5), "Category 9 of image 2 "),
        ((2, 1, [0, 0, float("inf"), 1], 0.5), "image 2 is not finite"),
        ((2, 1, BOX, float("nan")), "image 2 is not finite"),
    ],
)
def test_a_row_that_does_not_fit_is_named(row: tuple[Any, ...], message: str) -> None:
    with pytest.raises(MetricsError, match=message):
        coco_metrics(truth((1, 1, BOX)), found((1, 1, BOX, 0.9), row))


def test_an_annotation_without_an_area_is_named() -> None:
    ground_truth = truth((1, 1, BOX))
    del ground_truth["annotations"][0]["area"]
    with pytest.raises(MetricsError, match="Annotation 1 lacks 'area'"):
        coco_metrics(ground_truth, found())


@pytest.mark.parametrize("metric", METRICS)
def test_the_judge_refuses_a_metric_that_is_off(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ground_truth, detections = truth((1, 1, BOX)), found((1, 1, BOX, 0.9))
    honest = coco_metrics(ground_truth, detections)
    off = honest | {metric: honest[metric] + 2e-12}
    monkeypatch.setattr(module, "_judged", lambda truth, rows: off)
    assert coco_metrics(ground_truth, detections) == honest
    with pytest.raises(MetricsError, match=f"^{metric} is "):
        coco_metrics(ground_truth, detections, judge=True)


def test_the_judge_is_pycocotools(monkeypatch: pytest.MonkeyPatch) -> None:
    def lenient(self: COCOeval) -> None:
        self.stats = np.full(12, 0.99)

    monkeypatch.setattr(COCOeval, "summarize", lenient)
    with pytest.raises(MetricsError, match=r"0\.99 by pycocotools"):
        coco_metrics(truth((1, 1, BOX)), found((1, 1, BOX, 0.9)), judge=True)


@pytest.mark.parametrize(
    ("error", "rise", "objects", "detections"),
    [
        # The class-1 detection in image 2 lies on a class-2 object: class 2 is lost (AP50 1/2 to 1).
        ("Cls", 1 / 2, [(1, 1, BOX), (2, 2, BOX)], [(1, 1, BOX, 0.9), (2, 1, BOX, 0.8)]),
        # Two objects, one found: precision is 1 at 51 of the 101 recalls, the other 50 are to be won.
        ("Loc", 50 / 101, [(1, 1, BOX), (2, 1, BOX)], [(1, 1, BOX, 0.9), (2, 1, HALF, 0.8)]),
        ("Miss", 50 / 101, [(1, 1, BOX), (2, 1, BOX)], [(1, 1, BOX, 0.9)]),
        # A false alarm before the only hit: precision 1/2 at every recall.
        ("Bkg", 1 / 2, [(1, 1, BOX)], [(1, 1, FAR, 0.9), (1, 1, BOX, 0.8)]),
        # The copy pushes the second hit to rank 3: 2/3 at the 50 recalls over 1/2.
        (
            "Dupe",
            50 / 303,
            [(1, 1, BOX), (2, 1, BOX)],
            [(1, 1, BOX, 0.9), (1, 1, BOX, 0.85), (2, 1, BOX, 0.8)],
        ),
        # Half beside an object of another class and before the hits: class 1 falls to 1/2, the mean by 1/4.
        ("Both", 1 / 4, [(1, 1, BOX), (2, 2, BOX)], [(2, 1, HALF, 0.9), (1, 1, BOX, 0.8), (2, 2, BOX, 0.8)]),
    ],
)
def test_tide_names_the_error(error: str, rise: float, objects: list[Any], detections: list[Any]) -> None:
    shares = tide_shares(truth(*objects), found(*detections))
    assert tuple(shares) == TIDE_ERRORS
    assert shares == pytest.approx({name: rise if name == error else 0 for name in TIDE_ERRORS}, abs=EPSILON)


def test_confusions_count_wrong_names_alone() -> None:
    ground_truth = truth((1, 1, BOX), (2, 1, BOX), (3, 2, BOX), (3, 3, FAR))
    detections = found(
        (1, 2, BOX, 0.9),  # 1 taken for 2
        (2, 2, BOX, 0.9),  # again
        (2, 3, BOX, 0.8),  # the object is taken: a false alarm
        (3, 1, BOX, 0.9),  # 2 taken for 1
        (3, 3, FAR, 0.9),  # right
        (1, 3, BOX, 0.2),  # too unsure
        (1, 3, FAR, 0.9),  # a false alarm
    )
    expected = [("class 1", "class 2", 2), ("class 2", "class 1", 1)]
    assert main_confusions(ground_truth, detections) == expected
    assert main_confusions(ground_truth, detections, top=1) == expected[:1]
    assert main_confusions(ground_truth, detections, score=0.95) == []


def test_no_confusion_with_crowds_or_little_overlap() -> None:
    ground_truth = truth((1, 1, BOX, 1), (2, 1, BOX))
    detections = found((1, 2, BOX, 0.9), (2, 2, HALF, 0.9))
    assert main_confusions(ground_truth, detections) == []
    assert main_confusions(ground_truth, detections, iou=0.3) == [("class 1", "class 2", 1)]


def test_worst_images_first() -> None:
    ground_truth = truth(
        (1, 1, BOX), (2, 1, BOX), (2, 1, FAR), (3, 1, BOX), (4, 1, BOX), (4, 2, FAR), (5, 1, BOX, 1), images=7
    )
    detections = found(
        (1, 1, BOX, 0.9),  # all of image 1
        (2, 1, BOX, 0.9),  # half of image 2
        (3, 1, BOX, 0.2),  # too unsure: nothing of image 3
        (4, 2, BOX, 0.9),  # wrong class: nothing of image 4, which has two objects
        (5, 1, BOX, 0.9),  # a crowd: neither hit nor false alarm
        (6, 1, BOX, 0.9),  # nothing there
    )
    ranked = worst_images(ground_truth, detections)
    assert [(image, round(value, 12)) for image, value, _ in ranked if image != 5] == [
        (4, 0.0),
        (3, 0.0),
        (6, 0.0),
        (2, round(2 / 3, 12)),  # one found, one missed: 2 / (2 + 1)
        (1, 1.0),
    ]
    assert ranked[0][2] == "0 of 2 found, 1 false alarms"
    assert worst_images(ground_truth, detections, top=2) == ranked[:2]
    assert 7 not in [image for image, _, _ in ranked]


@pytest.mark.parametrize("metric", METRICS)
def test_nan_does_not_pass_the_judge(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN is no further than anything from anything: whichever of the two gives it, they do not agree."""
    ground_truth, detections = truth((1, 1, BOX)), found((1, 1, BOX, 0.9))
    honest = coco_metrics(ground_truth, detections)
    monkeypatch.setattr(module, "_judged", lambda truth, rows: honest | {metric: float("nan")})
    with pytest.raises(MetricsError, match=f"^{metric} is .* but nan by pycocotools"):
        coco_metrics(ground_truth, detections, judge=True)
    with pytest.raises(MetricsError, match=f"^{metric} is nan by hotcoco"):
        module._compare(honest | {metric: float("nan")}, honest)


@pytest.mark.parametrize(("off", "agrees"), [(0.9e-12, True), (-0.9e-12, True), (1.2e-12, False)])
def test_the_judge_allows_what_rounding_may_do(
    off: float, agrees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 1e-12 of a fraction, and no more."""
    ground_truth, detections = truth((1, 1, BOX), (2, 1, BOX)), found((1, 1, BOX, 0.9))
    honest = coco_metrics(ground_truth, detections)
    near = {name: value + off for name, value in honest.items()}
    monkeypatch.setattr(module, "_judged", lambda truth, rows: near)
    if agrees:
        assert coco_metrics(ground_truth, detections, judge=True) == honest
    else:
        with pytest.raises(MetricsError):
            coco_metrics(ground_truth, detections, judge=True)


def test_an_image_of_least_score_and_of_little_overlap() -> None:
    """A score of just 0.25 counts; an overlap of 1/3 finds nothing."""
    ground_truth = truth((1, 1, BOX), (2, 1, BOX), images=2)
    ranked = worst_images(ground_truth, found((1, 1, BOX, 0.25), (2, 1, HALF, 0.9)))
    assert [(image, round(value, 12)) for image, value, _ in ranked] == [(2, 0.0), (1, 1.0)]
    assert ranked[0][2] == "0 of 1 found, 1 false alarms"


def test_ties_among_the_worst_images_and_confusions() -> None:
    """Images of equal F1: more objects first, then the lower id. Mix-ups of equal count: by name."""
    ground_truth = truth((1, 1, BOX), (2, 1, BOX), (3, 1, BOX), (3, 1, FAR))
    assert [image for image, _, _ in worst_images(ground_truth, found())] == [3, 1, 2]
    objects = truth((1, 3, BOX), (2, 1, BOX), (3, 2, BOX), (3, 2, FAR))
    mixed = found((1, 2, BOX, 0.9), (2, 3, BOX, 0.9), (3, 3, BOX, 0.9), (3, 1, FAR, 0.9))
    assert main_confusions(objects, mixed) == [
        ("class 1", "class 3", 1),
        ("class 2", "class 1", 1),
        ("class 2", "class 3", 1),
        ("class 3", "class 2", 1),
    ]


@pytest.mark.parametrize(
    ("number", "rounded"), [(0.12344, 0.123), (0.12361, 0.124), (7.9996, 8.0), (0.0004, 0.0)]
)
def test_boxes_keep_three_decimals(number: float, rounded: float) -> None:
    (row,) = detection_rows(1, np.array([[number, 0, 50, 50]]), np.array([0.5]), np.array([0]), [1])
    assert row["bbox"][:2] == [rounded, 0.0]


@pytest.mark.parametrize(
    ("score", "rounded"), [(0.123454, 0.12345), (0.123456, 0.12346), (0.999996, 1.0), (0.001004, 0.001)]
)
def test_scores_keep_five_decimals(score: float, rounded: float) -> None:
    (row,) = detection_rows(1, np.array([[0, 0, 50, 50]]), np.array([score]), np.array([0]), [1])
    assert row["score"] == rounded


def test_the_judge_takes_no_detections_at_all() -> None:
    """Of each class, with objects and without."""
    values = coco_metrics(truth((1, 1, BOX), images=1, classes=1), found(), judge=True)
    assert (values["AP"], values["AR100"], values["APs"]) == (0.0, 0.0, -1.0)


def test_an_annotation_without_iscrowd_is_an_object() -> None:
    ground_truth = truth((1, 1, BOX))
    del ground_truth["annotations"][0]["iscrowd"]
    result = coco_result(ground_truth, found((1, 1, BOX, 0.5)), judge=True)
    assert result.classes["class 1"].objects == 1
    assert result.metrics["AP"] == pytest.approx(1, abs=EPSILON)


def test_curves_by_hand() -> None:
    """Class 1 is found with IoU .72, class 2 not at all, class 3 has no objects: .50 holds, .75 does not.

    Two objects of class 1 in one image, both found at .50: more than one detection an image counts.
    """
    first, second = [10, 10, 100, 72], [400, 300, 100, 72]
    ground_truth = truth((1, 1, BOX), (1, 1, FAR), (2, 2, BOX))
    result = coco_result(ground_truth, found((1, 1, first, 0.9), (1, 1, second, 0.8)), judge=True)
    assert result.precision["0.50"] == pytest.approx(np.full(101, 0.5), abs=EPSILON)
    assert result.precision["0.75"] == pytest.approx(np.zeros(101), abs=EPSILON)
    assert result.precision["0.50:0.95"] == pytest.approx(np.full(101, 0.25), abs=EPSILON)  # 5 of 10
    assert result.class_precision["class 1"] == pytest.approx(np.ones(101), abs=EPSILON)
    assert {name: own.AP for name, own in result.classes.items()} == pytest.approx(
        {"class 1": 0.5, "class 2": 0, "class 3": -1}, abs=EPSILON
    )


def test_confusions_of_equal_count_go_by_name_not_by_number() -> None:
    ground_truth = truth((1, 1, BOX), (2, 2, BOX))
    for category, name in zip(ground_truth["categories"], ("zebra", "ant", "bee"), strict=True):
        category["name"] = name
    mixed = found((1, 2, BOX, 0.9), (2, 3, BOX, 0.9))
    assert main_confusions(ground_truth, mixed) == [("ant", "bee", 1), ("zebra", "ant", 1)]


def test_half_of_an_object_is_found_and_no_more_is_needed() -> None:
    """IoU .6 in an image is a hit: F1 is 1."""
    ((image, value, _),) = worst_images(truth((1, 1, BOX), images=1), found((1, 1, [10, 10, 100, 60], 0.9)))
    assert (image, value) == (1, 1.0)


def test_labels_are_places_in_the_list_of_categories() -> None:
    """COCO's ids have gaps: label 2 of 7, 90, 13 is 13."""
    rows = detection_rows(1, np.zeros((3, 4)), np.ones(3), np.array([2, 0, 1]), [7, 90, 13])
    assert [row["category_id"] for row in rows] == [13, 7, 90]


def awkward(decimals: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Random values, exact ties, their neighbours in float32, signed zeros, the smallest and the largest."""
    generator = np.random.default_rng(decimals)
    spread = generator.uniform(-1, 1, (5, 10_000)) * np.array([[1e-6], [1.0], [640.0], [1e5], [1e9]])
    sixteenths = np.arange(-32_000, 32_000) / 16
    ties = (generator.integers(-10_000_000, 10_000_000, 40_000) + 0.5) / 10**decimals
    units = np.arange(10_000_001, step=71) / 10**decimals
    special = [0.0, -0.0, 1e15, 1e17, -1e22, 1e30, 3.4028234e38, 1e-45, 1.1754944e-38]
    parts = [spread.ravel(), sixteenths, sixteenths / 1024, sixteenths / 2**20, ties, units, special]
    values = np.concatenate(parts).astype(np.float32)
    sides = [np.float32(side) for side in (-3.4028234e38, 3.4028234e38)]
    return np.concatenate([values, *(np.nextafter(values, side) for side in sides)])


@pytest.mark.parametrize("decimals", [3, 5])
def test_rounding_arrays_is_rounding_numbers(decimals: int) -> None:
    """To the last bit, the sign of zero included; thousands of values lie in the very middle."""
    values = awkward(decimals)
    expected = np.array([round(number, decimals) for number in values.tolist()])
    assert np.array_equal(rounded(values, decimals).view(np.int64), expected.view(np.int64))
    assert ((np.abs(values[values < 1e9].astype(np.float64)) * 10**decimals) % 1 == 0.5).sum() > 1000
    assert len(values) > 900_000


def test_a_result_file_has_the_bytes_that_rows_of_rounded_numbers_have() -> None:
    """The file written detection by detection with Python's own round, and read again."""
    generator = np.random.default_rng(3)
    low = generator.uniform(0, 600, (5000, 2)).astype(np.float32)
    boxes = np.concatenate([low, low + generator.uniform(0, 300, (5000, 2)).astype(np.float32)], axis=1)
    boxes[::5] = np.round(boxes[::5] * 16) / 16  # sixteenths: ties
    scores, labels = generator.random(5000, np.float32), generator.integers(0, 3, 5000)
    expected = []
    for number in (2, 9):
        for box, score, label in zip(boxes, scores, labels, strict=True):
            sides = [*box[:2].tolist(), float(box[2] - box[0]), float(box[3] - box[1])]
            row = {"image_id": number, "category_id": (7, 90, 13)[label]}
            expected.append(
                row | {"bbox": [round(side, 3) for side in sides], "score": round(float(score), 5)}
            )
    predictions = predictions_of({9: (boxes, scores, labels), 2: (boxes, scores, labels)}, (7, 90, 13))
    text = result_json(predictions)
    assert text == json.dumps(expected, separators=(",", ":"))
    assert result_json(predictions_from_rows(json.loads(text))) == text


def test_predictions_keep_their_shapes_and_their_order() -> None:
    predictions = found((3, 1, BOX, 0.5), (1, 2, FAR, 0.4), (3, 2, HALF, 0.9))
    assert predictions.image_ids.tolist() == [1, 3, 3]
    assert predictions.scores.tolist() == [0.4, 0.5, 0.9]
    assert predictions.boxes_xyxy[0].tolist() == [400, 300, 500, 400]
    assert predictions.of_images([3, 5]).category_ids.tolist() == [1, 2]
    with pytest.raises(ValueError, match="ascend"):
        predictions.select(np.array([1, 0]))
    with pytest.raises(ValueError, match="not those of 3 detections"):
        Predictions(predictions.image_ids, predictions.boxes_xyxy, np.zeros(2), predictions.category_ids)


def test_ids_beyond_the_whole_numbers_of_a_double() -> None:
    """2**53 and 2**53 + 1 are one double: the object of the one is not found in the other."""
    ground_truth = truth((1, 1, BOX), images=2, classes=2)
    first, second = 2**53, 2**53 + 1
    for image, number in zip(ground_truth["images"], (first, second), strict=True):
        image["id"] = number
    ground_truth["annotations"][0]["image_id"] = first
    assert coco_metrics(ground_truth, found((first, 1, BOX, 0.9)), judge=True)["AP"] == pytest.approx(1)
    assert coco_metrics(ground_truth, found((second, 1, BOX, 0.9)), judge=True)["AP"] == 0
    ((worst, _, _),) = worst_images(ground_truth, found((first, 1, BOX, 0.9), (second, 1, BOX, 0.1)))
    assert worst == first
