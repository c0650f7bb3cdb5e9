"""Values of an annotation file: what cannot be read or scored is refused by file, id, field and value."""

import json
import logging
import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from yolov9bench.data.annotation_values import crowd_flag
from yolov9bench.data.coco import read_coco
from yolov9bench.errors import DatasetError, MetricsError
from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.evaluation.diagnostics import tide_shares
from yolov9bench.evaluation.evaluate import evaluate
from yolov9bench.evaluation.intervals import ap_interval
from yolov9bench.predict.predictions import predictions_from_rows

NAN = math.nan


def changed(root: Path, kind: str, values: dict[str, Any], position: int = 2) -> Path:
    """The annotation file with other values in one entry of a list."""
    path = root / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    content[kind][position] |= values
    path.write_text(json.dumps(content))
    return path


def refusal(root: Path) -> str:
    with pytest.raises(DatasetError) as refused:
        read_coco(root, "val")
    return str(refused.value)


@pytest.mark.parametrize(
    "box",
    [
        None,
        "0 1 2 3",
        {},
        [],
        [1, 2, 3],
        [1, 2, 3, 4, 5],
        [NAN, 2, 3, 4],
        [1, 2, math.inf, 4],
        [1, 2, 3, -math.inf],
        [1, 2, 3, None],
        ["1", "2", "3", "4"],
        [1, 2, 3, True],
        [1, 2, [3], 4],
        [1, 2, 3, 10**400],
    ],
)
def test_a_box_that_is_not_four_finite_numbers_is_refused(tiny: Path, box: Any) -> None:
    said = refusal(changed(tiny, "annotations", {"bbox": box}).parents[1])
    assert "instances_val.json has annotation 3 with bbox " in said
    assert repr(box)[:40] in said and "make it four finite numbers" in said


@pytest.mark.parametrize("area", [None, "400", NAN, math.inf, True, [400], 10**400])
def test_an_area_that_is_not_a_finite_number_is_refused(tiny: Path, area: Any) -> None:
    changed(tiny, "annotations", {"area": area})
    assert f"annotation 3 with area {repr(area)[:40]}" in refusal(tiny)


@pytest.mark.parametrize("key", ["width", "height"])
@pytest.mark.parametrize("side", [None, "64", 0, -64, 64.0, NAN, True, [64]])
def test_a_side_of_an_image_that_is_not_a_count_of_pixels_is_refused(tiny: Path, key: str, side: Any) -> None:
    changed(tiny, "images", {key: side})
    assert f"image 3 with {key} {side!r}" in refusal(tiny)


@pytest.mark.parametrize("name", [None, "", 3, ["a.jpg"], {}])
def test_a_file_name_that_is_no_text_is_refused(tiny: Path, name: Any) -> None:
    changed(tiny, "images", {"file_name": name})
    assert f"image 3 with file_name {name!r}" in refusal(tiny)


@pytest.mark.parametrize("number", [None, "3", 3.0, True, NAN, [3]])
@pytest.mark.parametrize(
    ("kind", "key"),
    [("images", "id"), ("annotations", "id"), ("annotations", "image_id"), ("annotations", "category_id")],
)
def test_an_id_that_is_no_whole_number_is_refused(tiny: Path, kind: str, key: str, number: Any) -> None:
    """3.0 and True are equal to ids that exist."""
    changed(tiny, kind, {key: number})
    assert f"{key} {number!r}" in refusal(tiny)


@pytest.mark.parametrize("number", [-1, 2**63])
def test_an_id_that_the_evaluators_do_not_take_is_refused(tiny: Path, number: int) -> None:
    changed(tiny, "images", {"id": number})
    changed(tiny, "annotations", {"image_id": number})
    assert f"image {number} with id {number}" in refusal(tiny)


def test_what_is_unusual_and_means_something_is_read(tiny: Path) -> None:
    changed(tiny, "annotations", {"bbox": [-3.5, 1e6, 0, -2], "area": -1, "id": 2**70}, position=0)
    changed(tiny, "images", {"id": 2**62, "file_name": "../val/000006.png"}, position=5)
    changed(tiny, "annotations", {"image_id": 2**62}, position=5)
    assert len(read_coco(tiny, "val").annotations) == 6


@pytest.mark.parametrize(
    ("value", "flag"),
    [
        *[(0, 0), (1, 1), ("0", 0), ("1", 1), (False, 0), (True, 1), (2, None), (-1, None), (0.5, None)],
        *[(NAN, None), (None, None), ("", None), ("no", None), ("true", None), ([1], None), ({}, None)],
    ],
)
def test_the_spellings_of_iscrowd(value: Any, flag: int | None) -> None:
    assert crowd_flag(value) == flag and type(crowd_flag(value)) is type(flag)


@pytest.mark.parametrize("value", [None, 2, -1, 0.5, NAN, "no", "", [1]])
def test_another_iscrowd_is_refused(tiny: Path, value: Any) -> None:
    changed(tiny, "annotations", {"iscrowd": value})
    assert f"annotation 3 with iscrowd {value!r}: make it 0 or 1" in refusal(tiny)


@pytest.mark.parametrize(("none", "one"), [("0", "1"), (False, True)])
def test_iscrowd_as_text_or_truth_value_scores_as_its_number(
    tiny: Path, tiny_weights: Path, none: Any, one: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The witness is the same file with the numbers."""
    changed(tiny, "annotations", {"iscrowd": 1})
    expected = evaluate(tiny_weights, tiny, split="val", image_size=64).values
    for position in range(6):
        changed(tiny, "annotations", {"iscrowd": one if position == 2 else none}, position)
    with caplog.at_level(logging.WARNING):
        found = evaluate(tiny_weights, tiny, split="val", image_size=64, judge=True).values
    assert found == expected
    (notice,) = [each.getMessage() for each in caplog.records if "iscrowd" in each.getMessage()]
    assert f"iscrowd of 6 annotations as {none!r}" in notice
    assert [entry["iscrowd"] for entry in read_coco(tiny, "val").annotations] == [0, 0, 1, 0, 0, 0]


def test_iscrowd_as_numbers_goes_without_a_notice(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_coco(tiny, "val")
    assert not caplog.records


TRUTH: dict[str, Any] = {
    "images": [{"id": 1, "width": 640, "height": 480}],
    "categories": [{"id": 1, "name": "one"}],
    "annotations": [
        {"id": 11, "image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 50], "area": 2500, "iscrowd": 0},
        {"id": 12, "image_id": 1, "category_id": 1, "bbox": [200, 10, 50, 50], "area": 2500, "iscrowd": 0},
    ],
}
FOUND = predictions_from_rows([{"image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 50], "score": 0.9}])
SCORES: list[Callable[..., Any]] = [coco_metrics, tide_shares, ap_interval]


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bbox", [NAN, 10, 50, 50]),
        ("bbox", [10, 10, math.inf, 50]),
        ("bbox", ["10", "10", "50", "50"]),
        ("bbox", [10, 10, 50]),
        ("bbox", [10, 10, 50, 50, 50]),
        ("bbox", None),
        ("area", NAN),
        ("area", None),
    ],
)
def test_a_ground_truth_that_is_not_finite_is_not_scored(
    score: Callable[..., Any], key: str, value: Any
) -> None:
    truth = deepcopy(TRUTH)
    truth["annotations"][1][key] = value
    with pytest.raises(MetricsError, match=r"Annotation 12 has bbox .* make all five finite numbers"):
        score(truth, FOUND)


@pytest.mark.parametrize("value", [None, 2, "no", NAN])
def test_a_ground_truth_with_another_iscrowd_is_not_scored(value: Any) -> None:
    truth = deepcopy(TRUTH)
    truth["annotations"][1]["iscrowd"] = value
    with pytest.raises(MetricsError, match=f"Annotation 12 has iscrowd {value!r}: make it 0 or 1"):
        coco_metrics(truth, FOUND)


def test_a_ground_truth_without_annotations_is_scored_as_before() -> None:
    assert coco_metrics(TRUTH | {"annotations": []}, FOUND)["AP"] == -1
