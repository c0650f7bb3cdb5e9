"""Selection, ground truth and formula by hand: a toy image for each departure, with its AP counted."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from yolov9bench.evaluation.candidates import Candidates, keep_above
from yolov9bench.evaluation.departing import Outcome, measure
from yolov9bench.evaluation.departures import Procedure, list_departures
from yolov9bench.evaluation.truth import Truth
from yolov9bench.ops.images import LetterboxInfo
from yolov9bench.predict.detect import select_detections
from yolov9bench.zoo.protocols import ULTRALYTICS_SQUARE

AS_IT_IS = LetterboxInfo((640, 640), (640, 640), (640, 640), 0, 0)
USUAL = Procedure(ULTRALYTICS_SQUARE)
CHANGES = {each.name: each.changes[0] for each in list_departures(ULTRALYTICS_SQUARE)}
HALF = 51 / 101  # COCO's AP where one of two objects is found, and nothing else
THIRD = (51 + 50 * 2 / 3) / 101  # the same, a wrong detection, and the other object

Box = tuple[float, float, float, float]
Scored = tuple[Box, dict[int, float]]  # a box and its scores by label


def candidates(
    *found: Scored, classes: int = 2, letterbox: LetterboxInfo = AS_IT_IS, above: float = 0.001
) -> Candidates:
    scores = torch.zeros(len(found), classes)
    for row, (_, by_label) in enumerate(found):
        for label, score in by_label.items():
            scores[row, label] = score
    return keep_above(torch.tensor([box for box, _ in found]), scores, letterbox, above)


def truth_of(*objects: tuple[int, int, Box, int], images: int = 1, classes: int = 2) -> Truth:
    """Objects as image number, label, box x1 y1 x2 y2 and iscrowd; a category's id is its label + 1."""
    boxes = np.array([box for _, _, box, _ in objects], np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    return Truth(
        np.arange(1, images + 1),
        np.arange(1, classes + 1),
        tuple(str(label) for label in range(classes)),
        np.array([image for image, *_ in objects]),
        np.array([label + 1 for _, label, *_ in objects]),
        boxes,
        boxes[:, 2:].prod(axis=1),
        np.array([crowd for *_, crowd in objects]),
    )


def outcome(images: Sequence[Candidates], truth: Truth, name: str = "") -> Outcome:
    """What the images give by the baseline, or by a departure of this name."""
    procedure = USUAL.changed(CHANGES[name]) if name else USUAL
    categories = tuple(truth.category_ids.tolist())
    return measure(dict(enumerate(images, start=1)), procedure, truth, categories)


def aps(images: Sequence[Candidates], truth: Truth, name: str) -> tuple[float | None, float | None]:
    """AP by the baseline and by a departure."""
    return outcome(images, truth).metrics["AP"], outcome(images, truth, name).metrics["AP"]


A: Box = (100, 100, 200, 200)
B: Box = (300, 300, 400, 400)
BOTH = truth_of((1, 0, A, 0), (1, 1, B, 0))  # an object of each label
AT_ONE_PLACE = truth_of((1, 0, A, 0), (1, 1, A, 0))


@pytest.mark.parametrize(
    ("name", "found", "truth"),
    [
        ("single label", [(A, {0: 0.9, 1: 0.8})], AT_ONE_PLACE),
        ("conf .01", [(A, {0: 0.9}), (B, {1: 0.005})], BOTH),
        ("conf .25", [(A, {0: 0.9}), (B, {1: 0.2})], BOTH),
        ("class-agnostic NMS", [(A, {0: 0.9, 1: 0.8})], AT_ONE_PLACE),
    ],
)
def test_one_label_of_two_is_lost(name: str, found: list[Scored], truth: Truth) -> None:
    assert aps([candidates(*found)], truth, name) == pytest.approx((1.0, 0.5))


@pytest.mark.parametrize(("name", "moved"), [("NMS IoU .45", 30), ("NMS IoU .65", 19)])
def test_a_neighbour_of_the_same_label_is_lost(name: str, moved: int) -> None:
    """Boxes 100 px wide that are 30 and 19 px apart overlap by 70 / 130 and 81 / 119, both below 0.7."""
    neighbour = (A[0] + moved, A[1], A[2] + moved, A[3])
    truth = truth_of((1, 0, A, 0), (1, 0, neighbour, 0))
    found = candidates((A, {0: 0.9}), (neighbour, {0: 0.8}))
    assert aps([found], truth, name) == pytest.approx((1.0, HALF))


def test_the_limit_of_boxes_counts_all_labels() -> None:
    """100 detections of another label, which has no objects, leave no room for the one that is right."""
    wrong = [((6.0 * n, 500.0, 6.0 * n + 5, 505.0), {0: 0.9}) for n in range(100)]
    truth = truth_of((1, 1, A, 0))
    assert aps([candidates(*wrong, (A, {1: 0.5}))], truth, "100 boxes") == pytest.approx((1.0, 0.0))
    fewer = candidates(*wrong[1:], (A, {1: 0.5}))
    assert aps([fewer], truth, "100 boxes") == pytest.approx((1.0, 1.0))


CORNER: Scored = ((600, 600, 639, 639), {0: 0.002})  # so that the largest coordinate + 1 is 640
LEFT: Box = (96, 96, 128, 128)
RIGHT: Box = (108, 96, 140, 128)  # overlaps LEFT by 20 / 44


def test_float16_puts_far_boxes_on_a_grid() -> None:
    """Label 70 is shifted by 44,800 px, where a float16 is a multiple of 32: 44,908 becomes 44,896."""
    truth = truth_of((1, 70, LEFT, 0), (1, 70, RIGHT, 0), classes=71)
    found = candidates((LEFT, {70: 0.9}), (RIGHT, {70: 0.8}), CORNER, classes=71)
    assert aps([found], truth, "float16 NMS") == pytest.approx((1.0, HALF))
    near = truth_of((1, 1, LEFT, 0), (1, 1, RIGHT, 0), classes=71)  # by 640 px, where all is exact
    found = candidates((LEFT, {1: 0.9}), (RIGHT, {1: 0.8}), CORNER, classes=71)
    assert aps([found], near, "float16 NMS") == pytest.approx((1.0, 1.0))


def test_float16_overflows_with_a_second_image() -> None:
    """Label 70 is group 140 of two images, shifted by 89,600 px: infinite, so that nothing is suppressed."""
    twice = (LEFT[0] + 1, LEFT[1], LEFT[2] + 1, LEFT[3])  # overlaps LEFT by 31 / 33
    truth = truth_of((1, 70, LEFT, 0), (1, 70, B, 0), images=2, classes=71)
    found = candidates((LEFT, {70: 0.9}), (twice, {70: 0.85}), (B, {70: 0.8}), CORNER, classes=71)
    other = candidates(CORNER, classes=71)
    assert aps([found, other], truth, "float16 NMS") == pytest.approx((1.0, THIRD))
    assert len(outcome([found, other], truth, "float16 NMS").predictions) == 5
    assert len(outcome([found, other], truth).predictions) == 4


def test_float16_keeps_images_apart_in_batches_of_16() -> None:
    """17 images with the same object: one is suppressed by none of the others."""
    truth = truth_of(*((image, 0, A, 0) for image in range(1, 18)), images=17)
    images = [candidates((A, {0: 0.9}), ((A[0] + 1, *A[1:]), {0: 0.8})) for _ in range(17)]
    changed = outcome(images, truth, "float16 NMS")
    assert changed.predictions.image_ids.tolist() == list(range(1, 18))
    assert changed.metrics["AP"] == pytest.approx(1.0)


def test_a_detection_on_a_dropped_crowd_is_wrong() -> None:
    truth = truth_of((1, 0, A, 0), (1, 0, B, 1))
    found = candidates((B, {0: 0.9}), (A, {0: 0.8}))
    assert aps([found], truth, "crowds dropped") == pytest.approx((1.0, 0.5))


def test_letterboxed_boxes_give_the_same_ap_of_another_size() -> None:
    """An object of 30 x 30 px is small; twice as large in the input, with paddings, it is medium."""
    info = LetterboxInfo((100, 100), (200, 200), (232, 264), left=32, top=16)
    truth = truth_of((1, 0, (10, 20, 40, 50), 0))
    found = candidates(((52, 56, 112, 116), {0: 0.9}), letterbox=info)
    before, after = outcome([found], truth), outcome([found], truth, "letterboxed boxes")
    assert before.predictions.boxes_xyxy.tolist() == [[10, 20, 40, 50]]
    assert after.predictions.boxes_xyxy.tolist() == [[52, 56, 112, 116]]
    sizes = ("AP", "APs", "APm", "APl")
    assert [before.metrics[name] for name in sizes] == [pytest.approx(1), pytest.approx(1), -1, -1]
    assert [after.metrics[name] for name in sizes] == [pytest.approx(1), -1, pytest.approx(1), -1]


def test_letterboxed_boxes_follow_each_axis_of_their_own_image() -> None:
    """Half the width and all of the height: 20 px wide at 40 becomes 10 px wide at 20 + 5; area 10 x 30."""
    second = LetterboxInfo((100, 200), (100, 100), (100, 110), left=5, top=0)
    truth = truth_of((2, 0, (40, 50, 60, 80), 0), images=2)
    found = [candidates((A, {0: 0.002})), candidates(((25, 50, 35, 80), {0: 0.9}), letterbox=second)]
    assert outcome(found, truth, "letterboxed boxes").metrics["AP"] == pytest.approx(1.0)


def test_the_own_formula_by_hand() -> None:
    """One object, a detection that overlaps it by 0.62 and a later one by 1.

    COCO: at three of ten IoUs the first is right, AP 1; at seven the second, AP 1/2. The own curve ends at
    recall 1 with precision 0, so that a hundredth of it is a triangle: 0.995 and 0.4975.
    """
    truth = truth_of((1, 0, (100, 100, 200, 200), 0))
    found = candidates(((100, 100, 200, 162), {0: 0.9}), ((100, 100, 200, 200), {0: 0.8}))
    before, after = outcome([found], truth), outcome([found], truth, "own formula")
    assert before.metrics["AP"] == pytest.approx(0.3 + 0.7 / 2)
    assert after.metrics["AP"] == pytest.approx(0.3 * 0.995 + 0.7 * 0.4975)
    assert (after.metrics["AP50"], after.metrics["AP75"]) == pytest.approx((0.995, 0.4975))
    assert after.metrics["APs"] is None


def test_the_own_formula_knows_no_crowds() -> None:
    truth = truth_of((1, 0, A, 0), (1, 0, B, 1))
    found = candidates((B, {0: 0.9}), (A, {0: 0.8}))
    assert aps([found], truth, "own formula") == pytest.approx((1.0, 0.4975))


def test_selection_from_candidates_is_that_from_all_scores() -> None:
    """Against `nms` on every box and score, ties included: what lies below the threshold changes nothing."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(300, 2, generator=generator) * 500
    boxes = torch.cat([corners, corners + 20 + 100 * torch.rand(300, 2, generator=generator)], dim=1)
    scores = (torch.rand(300, 5, generator=generator) ** 30).round(decimals=3)
    kept = keep_above(boxes, scores, AS_IT_IS, 0.001)
    assert 0 < len(kept.scores) < scores.numel() / 2
    for changes in ({}, {"multi_label": False}, {"score_threshold": 0.25}, {"class_shift": 0.0}):
        protocol = replace(ULTRALYTICS_SQUARE, **changes)
        one = select_detections(kept.boxes, kept.all_scores(), AS_IT_IS, protocol)
        other = select_detections(boxes, scores, AS_IT_IS, protocol)
        for mine, theirs in zip(one, other, strict=True):
            assert torch.equal(mine, theirs) and len(mine)
