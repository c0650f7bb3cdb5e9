"""From raw maps to detections: by hand, by brute force, and against the references' own suppression."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparisons import Compare, Comparisons
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_convert

from yolov9bench.nn import Level, Levels
from yolov9bench.predict.postprocess import CLASS_BY_CLASS_FROM, Detections, decode, decode_likely, nms
from yolov9bench.zoo.protocols import PROTOCOLS, Protocol

Array = NDArray[Any]
YOLOV9, MMYOLO = PROTOCOLS["yolov9"], PROTOCOLS["mmyolo"]


def empty_levels(height: int, width: int, classes: int, dtype: torch.dtype = torch.float64) -> Levels:
    """Maps of zeros for an input of these sides: equal bins, scores of a half."""
    first, second, third = (
        Level(
            torch.zeros(1, 64, height // stride, width // stride, dtype=dtype),
            torch.zeros(1, classes, height // stride, width // stride, dtype=dtype),
        )
        for stride in (8, 16, 32)
    )
    return first, second, third


def test_equal_bins_reach_seven_and_a_half_cells() -> None:
    """The mean of 0..15, times the stride, around the middle of each cell."""
    boxes, scores = decode(empty_levels(32, 64, classes=3))
    assert boxes.shape == (1, 4 * 8 + 2 * 4 + 1 * 2, 4)
    assert scores.shape == (1, 42, 3)
    assert bool((scores == 0.5).all())
    expected = [
        [
            stride * (x + 0.5 - 7.5),
            stride * (y + 0.5 - 7.5),
            stride * (x + 0.5 + 7.5),
            stride * (y + 0.5 + 7.5),
        ]
        for stride in (8, 16, 32)
        for y in range(32 // stride)
        for x in range(64 // stride)
    ]
    assert torch.allclose(boxes[0], torch.tensor(expected, dtype=torch.float64))


def test_one_cell_by_hand() -> None:
    """Sides come left, top, right, bottom, 16 channels each; other cells and classes stay as they are."""
    levels = empty_levels(64, 64, classes=2)
    row, column, bins = 1, 2, (3, 0, 15, 7)  # in the map of stride 16
    for side, position in enumerate(bins):
        levels[1].box_logits[0, 16 * side + position, row, column] = 1000.0
    levels[1].class_logits[0, 1, row, column] = math.log(3)  # a probability of 3/4
    boxes, scores = decode(levels)
    place = 64 + row * 4 + column
    expected = [16 * (2.5 - 3), 16 * (1.5 - 0), 16 * (2.5 + 15), 16 * (1.5 + 7)]
    assert boxes[0, place].tolist() == pytest.approx(expected)
    assert scores[0, place].tolist() == pytest.approx([0.5, 0.75])
    assert int((scores != 0.5).sum()) == 1


def test_bins_are_weighed_by_their_softmax() -> None:
    levels = empty_levels(32, 32, classes=1)
    levels[2].box_logits[0, 0:16, 0, 0] = torch.linspace(-2, 1, 16, dtype=torch.float64)
    weights = [math.exp(-2 + 0.2 * position) for position in range(16)]
    mean = sum(position * weight for position, weight in enumerate(weights)) / sum(weights)
    boxes, _ = decode(levels)
    assert float(boxes[0, -1, 0]) == pytest.approx(32 * (0.5 - mean), rel=1e-12)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float64)],
)
def test_decoding_is_at_least_in_float32(dtype: torch.dtype, expected: torch.dtype) -> None:
    levels = empty_levels(1280, 1280, classes=1, dtype=dtype)
    boxes, scores = decode(levels)
    assert boxes.dtype == scores.dtype == expected
    last = boxes[0, 160 * 160 - 1]  # 1276 + 60 px; float16 would give 1336 as one of 1336, 1337
    assert last.tolist() == [1216.0, 1216.0, 1336.0, 1336.0]


def overlap(first: list[float], second: list[float]) -> float:
    across = max(min(first[2], second[2]) - max(first[0], second[0]), 0.0)
    down = max(min(first[3], second[3]) - max(first[1], second[1]), 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return across * down / (sum(areas) - across * down)


def brute_force(boxes: Tensor, scores: Tensor, settings: Protocol) -> list[tuple[int, int]]:
    """(row, class) of every detection, best first: each candidate against all kept ones of its class."""
    candidates = [
        (score, row, label)
        for row, line in enumerate(scores.tolist())
        for label, score in enumerate(line)
        if score > settings.score_threshold and (settings.multi_label or score == max(line))
    ]
    candidates.sort(key=lambda candidate: -candidate[0])
    kept: list[tuple[int, int]] = []
    for _, row, label in candidates[: settings.max_candidates]:
        rivals = [other for other, rival in kept if rival == label]
        if all(overlap(boxes[row].tolist(), boxes[other].tolist()) <= settings.nms_iou for other in rivals):
            kept.append((row, label))
    return kept[: settings.max_detections]


def clustered(number: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Boxes around few places, so that many overlap, and scores that are all different."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(4, 2, dtype=torch.float64, generator=generator) * 200 + 50
    centres = places[torch.randint(4, (number,), generator=generator)]
    centres = centres + torch.randn(number, 2, dtype=torch.float64, generator=generator) * 6
    sizes = 30 + torch.rand(number, 2, dtype=torch.float64, generator=generator) * 30
    scores = torch.randperm(number * classes, generator=generator).double().add(0.5) / (number * classes)
    return box_convert(torch.cat([centres, sizes], dim=1), "cxcywh", "xyxy"), scores.reshape(number, classes)


def found_pairs(detections: Detections, boxes: Tensor, scores: Tensor) -> list[tuple[int, int]]:
    """(row, class) of detections whose scores are all different, checking boxes and labels on the way."""
    pairs = []
    for box, score, label in zip(*detections, strict=True):
        ((row, column),) = (scores == score).nonzero().tolist()
        assert torch.equal(box, boxes[row])
        assert int(label) == column
        pairs.append((row, column))
    return pairs


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"nms_iou": 0.3, "score_threshold": 0.4},
        {"multi_label": False},
        {"max_candidates": 40},
        {"max_detections": 7},
        {"score_threshold": 1.0},
    ],
    ids=lambda changes: ",".join(changes) or "as it is",
)
def test_against_brute_force(name: str, seed: int, changes: dict[str, Any]) -> None:
    settings = replace(PROTOCOLS[name], **changes)
    boxes, scores = clustered(60, 3, seed)
    detections = nms(boxes, scores, settings)
    assert found_pairs(detections, boxes, scores) == brute_force(boxes, scores, settings)


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize(("cells", "classes"), [(0, 3), (5, 3), (5, 1)])
def test_nothing_found(name: str, cells: int, classes: int) -> None:
    for multi_label in (True, False):
        settings = replace(PROTOCOLS[name], multi_label=multi_label)
        detections = nms(torch.zeros(cells, 4), torch.zeros(cells, classes), settings)
        assert [tuple(part.shape) for part in detections] == [(0, 4), (0,), (0,)]


def test_the_limits_are_strict() -> None:
    """A score must exceed the threshold; two boxes whose IoU is just the limit, here 1/2, both stay."""
    settings = replace(YOLOV9, score_threshold=0.25, nms_iou=0.5)
    boxes = torch.tensor([[0.0, 0.0, 30.0, 10.0], [10.0, 0.0, 40.0, 10.0], [10.5, 0.0, 39.5, 10.0]])
    scores = torch.tensor([[0.9], [0.8], [0.7]])
    assert overlap(boxes[0].tolist(), boxes[1].tolist()) == 0.5
    assert nms(boxes, scores, settings).scores.tolist() == pytest.approx([0.9, 0.8])
    nearer = boxes + torch.tensor([[0.0], [-0.01], [0.0]]) * torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert nms(nearer, scores, settings).scores.tolist() == pytest.approx([0.9, 0.7])
    edge = torch.tensor([[0.25], [0.2500001], [0.2]])
    assert len(nms(boxes, edge, settings).scores) == 1


def test_equal_scores_keep_the_order_of_boxes_and_then_of_classes() -> None:
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [50.0, 0.0, 59.0, 9.0]])
    detections = nms(boxes, torch.full((2, 3), 0.5), YOLOV9)
    assert detections.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert detections.boxes_xyxy[:, 0].tolist() == [0.0] * 3 + [50.0] * 3


def test_without_a_shift_classes_suppress_one_another() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]])
    scores = torch.tensor([[0.9, 0.1], [0.1, 0.8]])
    assert len(nms(boxes, scores, YOLOV9).scores) == 2
    assert nms(boxes, scores, replace(YOLOV9, class_shift=0.0)).scores.tolist() == pytest.approx([0.9])


@pytest.mark.parametrize("name", PROTOCOLS)
def test_half_precision_loses_no_detection(name: str) -> None:
    """They are widened first: shifted by a class in float16, boxes would fall onto a coarse grid."""
    boxes, scores = clustered(200, 5, seed=9)
    boxes, scores = boxes.half(), scores.half()
    halves = nms(boxes, scores, PROTOCOLS[name])
    singles = nms(boxes.float(), scores.float(), PROTOCOLS[name])
    assert halves.boxes_xyxy.dtype == halves.scores.dtype == torch.float32
    assert all(torch.equal(half, single) for half, single in zip(halves, singles, strict=True))


def many(number: int) -> tuple[Tensor, Tensor]:
    """So many candidates, (box, class) pairs, over four classes; a third of the boxes reach below zero."""
    generator = torch.Generator().manual_seed(4)
    low = torch.rand(number // 4, 2, generator=generator) * 150 - 50
    boxes = torch.cat([low, low + 5 + torch.rand(number // 4, 2, generator=generator) * 40], dim=1)
    scores = (torch.randperm(number, generator=generator).float() + 1) / (number + 1)
    return boxes, scores.reshape(-1, 4) * 0.99 + 0.005


@pytest.mark.parametrize("excess", [0, 4])
def test_mmyolo_goes_class_by_class_from_ten_thousand(excess: int) -> None:
    """There classes cannot touch; below, a box that begins left of zero meets those of the class before."""
    boxes, scores = many(CLASS_BY_CLASS_FROM - 4 + excess)
    settings = replace(MMYOLO, max_detections=scores.numel())
    found = nms(boxes, scores, settings)
    extent = float(boxes.max()) + 1 if excess == 0 else 1e4
    shifted = nms(boxes, scores, replace(settings, class_shift=extent))
    apart = nms(boxes, scores, replace(settings, class_shift=1e4))
    assert torch.equal(found.scores, shifted.scores)
    assert torch.equal(found.boxes_xyxy, shifted.boxes_xyxy)
    assert (len(found.scores) == len(apart.scores)) == bool(excess), "this case shows no difference"
    assert bool((found.scores.diff() <= 0).all())


def test_neighbouring_classes_meet_below_ten_thousand() -> None:
    """By hand: the extent is 10 + 1, so the second class's box from -11 falls onto the first one's at 0."""
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [-11.0, -11.0, -1.0, -1.0]])
    scores = torch.tensor([[0.9, 0.0], [0.0, 0.8]])
    assert nms(boxes, scores, MMYOLO).labels.tolist() == [0]
    assert nms(boxes, scores, YOLOV9).labels.tolist() == [0, 1]


def recorded(path: Path) -> dict[str, Array]:
    with np.load(path) as arrays:
        return dict(arrays)


def settings_of(arguments: dict[str, Any], base: Protocol) -> Protocol:
    """A protocol with a reference's arguments, which has its own default for what they leave out."""
    return replace(
        base,
        score_threshold=arguments["conf_thres"],
        nms_iou=arguments["iou_thres"],
        multi_label=arguments.get("multi_label", False),
        max_detections=arguments.get("max_det", 300),
        max_candidates=arguments.get("max_nms", 30_000),
        class_shift=0.0 if arguments.get("agnostic") else 7680.0,
    )


def suppressed(predictions: Array, arguments: dict[str, Any], base: Protocol) -> Array:
    """Rows x1, y1, x2, y2, score, class for predictions [4 + C, A] (cx, cy, w, h, scores)."""
    table = torch.from_numpy(predictions).T
    scores = table[:, 4:].clone()
    if "classes" in arguments:
        # Not a feature here. A box counts with its best class, and only if that is among the chosen ones.
        assert not arguments.get("multi_label")
        chosen = torch.isin(scores.argmax(dim=1), torch.tensor(arguments["classes"]))
        scores[~chosen] = 0
    detections = nms(box_convert(table[:, :4], "cxcywh", "xyxy"), scores, settings_of(arguments, base))
    return np.column_stack([part.numpy() for part in detections])


def require_rows(held: Comparisons, found: Array, expected: Array) -> None:
    held.require_close("scores and classes kept", "score", found[:, 4:], expected[:, 4:])
    held.require_close("boxes kept", "px", found[:, :4], expected[:, :4], 1e-4)


@pytest.mark.parametrize("run", range(7))
def test_official_suppression(shared: Path, run: int, parity: Compare) -> None:
    held = parity("yolov9", "post-processing")
    golden = recorded(shared / "facts/yolov9/goldens/nms.npz")
    arguments = json.loads(str(golden["runs_json"]))[run]
    for image, predictions in enumerate(golden[f"pred_{arguments['pred']}"]):
        require_rows(held, suppressed(predictions, arguments, YOLOV9), golden[f"run{run}_img{image}"])


@pytest.mark.parametrize("case", ["val", "predict", "agnostic", "classes", "nc1_multi", "maxdet", "maxnms"])
def test_ultralytics_suppression(shared: Path, case: str, parity: Compare) -> None:
    held = parity("ultralytics", "post-processing")
    golden = recorded(shared / "facts/more_formats/goldens/nms_ultra.npz")
    cases = json.loads(str(golden["cases_json"]))
    assert cases.keys() == {"val", "predict", "agnostic", "classes", "nc1_multi", "maxdet", "maxnms"}
    for image, predictions in enumerate(golden[f"{case}_in"]):
        found = suppressed(predictions, cases[case], PROTOCOLS["ultralytics"])
        require_rows(held, found, golden[f"{case}_out{image}"])


def random_levels(dtype: torch.dtype, channels_last: bool, seed: int = 0) -> Levels:
    """Two images of 96 x 64 px with five classes, scores from far below .001 to near 1."""
    generator = torch.Generator().manual_seed(seed)

    def maps(channels: int, stride: int, mean: float) -> Tensor:
        drawn = torch.randn(2, channels, 96 // stride, 64 // stride, generator=generator) * 3 + mean
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return drawn.to(dtype).contiguous(memory_format=layout)

    first, second, third = (Level(maps(64, stride, 0), maps(5, stride, -8)) for stride in (8, 16, 32))
    return first, second, third


@pytest.mark.parametrize("threshold", [0.0, 0.001, 0.25, 0.9, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_likely_cells_give_what_all_give(threshold: float, dtype: torch.dtype, channels_last: bool) -> None:
    """In the same order, and to the rounding of a sigmoid, which depends on where in an array it is."""
    levels = random_levels(dtype, channels_last)
    protocol = replace(YOLOV9, score_threshold=threshold)
    boxes, scores = decode(levels)
    likely = decode_likely(levels, threshold)
    for image in range(2):
        needed = int((scores[image] > threshold).any(dim=1).sum())
        assert needed <= len(likely[image][0]) <= needed + 2
        found = nms(*likely[image], protocol)
        expected = nms(boxes[image], scores[image], protocol)
        assert found.boxes_xyxy.dtype == boxes.dtype
        assert torch.equal(found.labels, expected.labels)
        assert torch.allclose(found.scores, expected.scores, rtol=1e-6, atol=0)
        assert torch.allclose(found.boxes_xyxy, expected.boxes_xyxy, rtol=0, atol=1e-4)


def test_a_logit_that_is_no_number_hides_no_other_class() -> None:
    levels = random_levels(torch.float32, False)
    cell = (levels[0].class_logits[0] > 0).any(dim=0).nonzero()[0].tolist()
    levels[0].class_logits[0, 4 - int(levels[0].class_logits[0, :, cell[0], cell[1]].argmax())].fill_(
        math.nan
    )
    boxes, scores = decode(levels)
    found = nms(*decode_likely(levels, 0.25)[0], replace(YOLOV9, score_threshold=0.25))
    expected = nms(boxes[0], scores[0], replace(YOLOV9, score_threshold=0.25))
    assert len(expected.scores) > 3
    assert torch.allclose(found.scores, expected.scores, rtol=1e-6, atol=0)
