"""The references' own AP: recorded matches and curves, and one image by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolov9bench.evaluation.intervals import all_images
from yolov9bench.evaluation.own_formula import OwnMatches, areas_under, match_own
from yolov9bench.evaluation.truth import Truth

IMAGES = 8
CLASSES = 5  # of the detections; the objects have four of them


@pytest.fixture(scope="module")
def recorded(shared: Path) -> dict[str, Any]:
    with np.load(shared / "facts/yolov9/goldens/ap.npz") as arrays:
        return dict(arrays)


def matched(recorded: dict[str, Any]) -> tuple[OwnMatches, list[Any]]:
    """The recorded detections and labels as one data set, and for each detection what the reference said."""
    objects, results, said = [], [], []
    for image in range(IMAGES):
        for label, *box in recorded[f"lab{image}"].astype(np.float64):
            objects.append([image + 1, label + 1, *box])
        for row, correct in zip(recorded[f"det{image}"], recorded[f"correct{image}"], strict=True):
            x1, y1, x2, y2, score, label = row.astype(np.float64)
            results.append([image + 1, x1, y1, x2 - x1, y2 - y1, score, label + 1])
            said.append((-score, label, correct))
    columns = np.array(objects)
    sides = columns[:, 4:] - columns[:, 2:4]
    truth = Truth(
        np.arange(1, IMAGES + 1),
        np.arange(1, CLASSES + 1),
        tuple("abcde"),
        columns[:, 0].astype(np.int64),
        columns[:, 1].astype(np.int64),
        np.concatenate([columns[:, 2:4], sides], axis=1),
        sides.prod(axis=1),
        np.zeros(len(columns), np.int64),
    )
    said.sort(key=lambda each: (each[1], each[0]))
    return match_own(truth, np.array(results)), said


def test_matches_are_the_references(recorded: dict[str, Any]) -> None:
    matches, said = matched(recorded)
    expected = np.array([correct for *_, correct in said])
    assert expected.any() and not expected.all()
    assert np.array_equal(matches.found, expected)


def test_ap_is_the_references(recorded: dict[str, Any]) -> None:
    matches, _ = matched(recorded)
    found = matches.average_precisions(all_images(matches))
    assert recorded["classes"].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(found[:4], recorded["ap"], rtol=0, atol=1e-12)
    assert np.isnan(found[4:]).all() and np.nanmean(found) == pytest.approx(float(recorded["map"]), abs=1e-12)


def test_weights_are_copies_of_images(recorded: dict[str, Any]) -> None:
    """An image that counts twice gives what its detections and objects give when they are there twice."""
    matches, _ = matched(recorded)
    weights = np.array([0, 2, 1, 1, 1, 0, 1, 1, 3])
    rows = np.concatenate([np.full(weights[image], place) for place, image in enumerate(matches.image_of)])
    objects = np.concatenate(
        [np.full(weights[image], place) for place, image in enumerate(matches.object_images)]
    )
    rows, objects = rows.astype(np.int64), objects.astype(np.int64)
    classes = np.repeat(np.arange(CLASSES), np.diff(matches.starts))[rows]
    copied = OwnMatches(
        matches.images,
        matches.classes,
        matches.image_of[rows],
        np.searchsorted(classes, np.arange(CLASSES + 1)),
        matches.found[rows],
        matches.object_images[objects],
        matches.object_classes[objects],
    )
    once = np.ones(matches.images + 1, np.int64)
    np.testing.assert_array_equal(matches.class_precisions(weights), copied.class_precisions(once))


def objects_at(*boxes: list[float]) -> Truth:
    """Objects of one class in one image, as x y width height."""
    columns, ones = np.array(boxes), np.ones(len(boxes), np.int64)
    return Truth(
        np.array([1]), np.array([1]), ("a",), ones, ones, columns, columns[:, 2:].prod(axis=1), 0 * ones
    )


def test_a_detection_whose_object_is_gone_finds_no_second() -> None:
    """Two objects; the later detection overlaps the first object more, whose own detection was earlier.

    COCO would give it the second object, which it overlaps by 60 / 90 as well.
    """
    truth = objects_at([0.0, 0, 100, 100], [0.0, 0, 100, 60])
    results = np.array([[1, 0, 0, 100, 100, 0.9, 1], [1, 0, 0, 100, 90, 0.8, 1]])
    found = match_own(truth, results).found
    assert found[0].all() and not found[1].any()


def test_a_detection_takes_what_it_overlaps_most() -> None:
    """Three objects one beside the other, and the middle one of them twice: by 1 and by 80 / 120."""
    truth = objects_at([0.0, 0, 100, 10], [100.0, 0, 100, 10], [200.0, 0, 100, 10])
    exact = [[1, 100, 0, 100, 10, 0.8, 1], [1, 0, 0, 100, 10, 0.7, 1], [1, 200, 0, 100, 10, 0.6, 1]]
    rows = [[1, 120, 0, 100, 10, 0.9, 1], *exact]
    found = match_own(truth, np.array(rows)).found
    assert found[0].tolist() == [True] * 4 + [False] * 6  # 80 / 120 is above .50, .55, .60 and .65
    assert found[1].tolist() == [False] * 4 + [True] * 6  # then it is free for the exact one
    assert found[2:].all()


def test_nothing_detected_and_nothing_to_detect() -> None:
    assert areas_under(np.zeros((0, 10), bool), 3).tolist() == [0.0] * 10
    truth = Truth(
        np.array([1]),
        np.array([1, 2]),
        ("a", "b"),
        np.array([1]),
        np.array([2]),
        np.array([[0.0, 0, 10, 10]]),
        np.array([100.0]),
        np.array([0]),
    )
    matches = match_own(truth, np.array([[1, 0, 0, 10, 10, 0.5, 1]]))
    precisions = matches.class_precisions(all_images(matches))
    assert np.isnan(precisions[0]) and precisions[1] == 0
