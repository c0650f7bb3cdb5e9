"""The training loss: recorded losses, gradients and assignments of two references, and plain loops."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparisons import Compare
from numpy.typing import NDArray
from test_assign import plain_ciou, plain_parts, plain_weight
from torch import Tensor
from torchvision.ops import box_convert

from yolov9bench.errors import DatasetError
from yolov9bench.nn import Level, Levels, Outputs
from yolov9bench.ops.boxes import boxes_to_distances, ciou
from yolov9bench.predict.postprocess import decode, distances_to_boxes
from yolov9bench.records.parity import Reference
from yolov9bench.train.assigner import Positives
from yolov9bench.train.loss import by_image, detection_loss, find_positives, terms
from yolov9bench.zoo.recipes import RECIPES

Array = NDArray[Any]
RECIPE = RECIPES["yolov9"]
TERMS = ("box", "cls", "dfl")

LOSS_CLOSE = 1e-5
LEAST_LOSS = 1e-7  # below it differences are absolute: a term without objects is 0
LEAST_SCORE = 0.1  # a score of 1e-9 is the sixth power of an overlap of few significant digits
GRADIENT_CLOSE = 1e-5
LEAST_NORM = 1e-8

YOLOV9_CASES = [
    f"{heads}_{case}"
    for heads in ("dual", "single")
    for case in (
        "small",
        "no_targets",
        "one_empty_image",
        "many_in_one",
        "tiny",
        "degenerate",
        "huge",
        "init_like",
        "random_far",
    )
]
MMYOLO_CASES = ["basic", "basic_sharp", "with_empty_image", "all_empty", "tiny_boxes", "crowded"]


@dataclass(frozen=True)
class Head:
    """One head of a golden: its leaves with the gradients recorded for them, and the assignment."""

    levels: Levels
    leaves: list[Tensor]
    gradients: list[Array | None]  # None where only the norm is recorded
    norms: list[float]
    assigned: tuple[Array, Array, Array]  # image, anchor, label
    boxes: Array  # px, of every positive
    scores: Array
    score_sum: float


@dataclass(frozen=True)
class Golden:
    reference: Reference
    recipe: str
    heads: dict[str, Head]
    targets: Tensor
    images: int
    classes: int
    total: float
    parts: dict[str, float]  # not times the images


def yolov9_head(golden: dict[str, Array], name: str) -> Head:
    leaves = [torch.tensor(golden[f"{name}_p{level}"], requires_grad=True) for level in (3, 4, 5)]
    first, second, third = (Level(leaf[:, :64], leaf[:, 64:]) for leaf in leaves)
    image, anchor, label = (golden[f"{name}_fg_{part}"] for part in ("image", "anchor", "label"))
    return Head(
        levels=(first, second, third),
        leaves=leaves,
        gradients=[golden.get(f"{name}_grad_p{level}") for level in (3, 4, 5)],
        norms=[float(golden[f"{name}_grad_norm_p{level}"]) for level in (3, 4, 5)],
        assigned=(image, anchor, label),
        boxes=golden[f"{name}_fg_box_xyxy_px"].reshape(-1, 4),
        scores=golden[f"{name}_fg_score"],
        score_sum=float(golden[f"{name}_target_scores_sum"]),
    )


def yolov9_golden(shared: Path, case: str) -> Golden:
    """Its targets are centre and size in parts of the input; its terms are not times the images."""
    with np.load(shared / f"facts/yolov9/goldens/loss_{case}.npz") as arrays:
        golden = dict(arrays)
    height, width = golden["imgsz_hw"].tolist()
    rows = torch.tensor(golden["targets"]).reshape(-1, 6)
    boxes = box_convert(rows[:, 2:] * torch.tensor([width, height, width, height]), "cxcywh", "xyxy")
    return Golden(
        reference="yolov9",
        recipe="yolov9" if case.startswith("dual") else "gelan",
        heads={name: yolov9_head(golden, name) for name in ("main", "aux") if f"{name}_p3" in golden},
        targets=torch.cat([rows[:, :2], boxes], dim=1),
        images=int(golden["batch"]),
        classes=int(golden["nc"]),
        total=float(golden["loss"]),
        parts=dict(zip(TERMS, golden["items_box_cls_dfl"].tolist(), strict=True)),
    )


def mmyolo_golden(shared: Path, case: str) -> Golden:
    """Its terms are times the images; its box logits are [B, cells, side, bin]."""
    with np.load(shared / f"facts/mmyolo/goldens/loss_{case}.npz") as arrays:
        golden = dict(arrays)
    images = int(golden["batch"])
    scores = [torch.tensor(golden[f"cls_logit{level}"], requires_grad=True) for level in range(3)]
    sides = [torch.tensor(golden[f"dist_logit{level}"], requires_grad=True) for level in range(3)]
    first, second, third = (
        Level(side.permute(0, 2, 3, 1).reshape(images, 64, *score.shape[2:]), score)
        for side, score in zip(sides, scores, strict=True)
    )
    gradients = [golden[f"g_{kind}{level}"] for kind in ("cls", "dist") for level in range(3)]
    image, anchor = golden["fg_mask"].nonzero()
    head = Head(
        levels=(first, second, third),
        leaves=scores + sides,
        gradients=list(gradients),
        norms=[float(np.linalg.norm(gradient.astype(np.float64))) for gradient in gradients],
        assigned=(image, anchor, golden["assigned_labels"][image, anchor]),
        boxes=golden["assigned_bboxes"][image, anchor],
        scores=golden["assigned_score_max"][image, anchor],
        score_sum=float(golden["assigned_scores_sum"]),
    )
    names = dict(zip(TERMS, ("bbox", "cls", "dfl"), strict=True))
    return Golden(
        reference="mmyolo",
        recipe="yolov8-n",
        heads={"main": head},
        targets=torch.tensor(golden["gt_rows"]).reshape(-1, 6),
        images=images,
        classes=scores[0].shape[1],
        total=float(golden["loss"]),
        parts={ours: float(golden[f"loss_{theirs}"]) / images for ours, theirs in names.items()},
    )


@pytest.fixture(
    params=[f"yolov9:{case}" for case in YOLOV9_CASES] + [f"mmyolo:{case}" for case in MMYOLO_CASES]
)
def golden(request: pytest.FixtureRequest, shared: Path) -> Golden:
    family, case = request.param.split(":")
    return (yolov9_golden if family == "yolov9" else mmyolo_golden)(shared, case)


def test_recorded_losses_and_gradients(golden: Golden, parity: Compare) -> None:
    heads, held = golden.heads, parity(golden.reference, "losses")
    outputs = Outputs(heads["main"].levels, heads["aux"].levels if "aux" in heads else None)
    losses = detection_loss(outputs, golden.targets, RECIPES[golden.recipe])
    for name, value in {"total": golden.total, **golden.parts}.items():
        held.require_relative(f"{name} loss", losses[name].item(), value, LOSS_CLOSE, LEAST_LOSS)
    losses["total"].backward()  # type: ignore[no-untyped-call]
    for head in heads.values():
        for leaf, gradient, norm in zip(head.leaves, head.gradients, head.norms, strict=True):
            assert leaf.grad is not None
            found = leaf.grad.double()
            held.require_relative("norms of gradients", found.norm().item(), norm, GRADIENT_CLOSE, LEAST_NORM)
            if gradient is not None:
                largest = max(float(np.abs(gradient).max()), LEAST_NORM)
                held.require_relative("gradients", found, gradient, GRADIENT_CLOSE, largest)


def test_recorded_assignments(golden: Golden, parity: Compare) -> None:
    held = parity(golden.reference, "assignments")
    objects = by_image(golden.targets, golden.images, golden.classes)
    for head in golden.heads.values():
        positives = find_positives(head.levels, objects, RECIPES[golden.recipe].assigner)
        ours, theirs = (
            list(zip(*(part.tolist() for part in parts), strict=True))
            for parts in (positives[:3], head.assigned)
        )
        differing = sum(own != expected for own, expected in zip(ours, theirs, strict=True))
        held.require("anchors assigned otherwise", "anchors", differing, 0, len(theirs))
        held.require_close("objects' boxes", "px", positives.box, head.boxes)
        held.require_relative("target scores", positives.score, head.scores, LOSS_CLOSE, LEAST_SCORE)
        held.require_relative(
            "sums of scores", positives.score.sum().item(), head.score_sum, LOSS_CLOSE, LEAST_LOSS
        )


def random_levels(
    seed: int, images: int = 2, classes: int = 3, size: int = 64, dtype: torch.dtype = torch.float64
) -> Levels:
    """Maps of a square image: unsure boxes, scores about a tenth."""
    generator = torch.Generator().manual_seed(seed)
    first, second, third = (
        Level(
            torch.randn(images, 64, size // stride, size // stride, generator=generator, dtype=dtype),
            torch.randn(images, classes, size // stride, size // stride, generator=generator, dtype=dtype)
            - 2,
        )
        for stride in (8, 16, 32)
    )
    return first, second, third


def with_gradients(levels: Levels) -> tuple[Levels, list[Tensor]]:
    leaves = [part.detach().clone().requires_grad_() for level in levels for part in level]
    return as_levels(leaves), leaves


def as_levels(maps: Sequence[Tensor]) -> Levels:
    first, second, third = (Level(*maps[start : start + 2]) for start in (0, 2, 4))
    return first, second, third


TARGETS = torch.tensor(
    [[0, 1, 8, 4, 50, 44], [1, 0, 20, 10, 60, 60], [0, 2, 30, 30, 62, 50], [1, 2, 2, 2, 30, 40]],
    dtype=torch.float64,
)


def values(losses: dict[str, Tensor]) -> list[float]:
    return [losses[name].item() for name in (*TERMS, "total")]


def plain_terms(levels: Levels, positives: Positives) -> list[float]:
    """The three terms, anchor by anchor and class by class."""
    anchors = [
        (
            level.box_logits[image, :, y, x].reshape(4, 16).tolist(),
            level.class_logits[image, :, y, x].tolist(),
            x,
            y,
            stride,
        )
        for image in range(len(levels[0].box_logits))
        for level, stride in zip(levels, (8, 16, 32), strict=True)
        for y in range(level.box_logits.shape[2])
        for x in range(level.box_logits.shape[3])
    ]
    count = sum(level.box_logits[0, 0].numel() for level in levels)
    wanted = {
        image * count + anchor: (label, box, score)
        for image, anchor, label, box, score in zip(*(part.tolist() for part in positives), strict=True)
    }
    sums = [0.0, 0.0, 0.0]
    for number, (sides, class_logits, x, y, stride) in enumerate(anchors):
        label, box, weight = wanted.get(number, (-1, [], 0.0))
        for index, logit in enumerate(class_logits):
            probability, target = 1 / (1 + math.exp(-logit)), weight if index == label else 0.0
            sums[1] -= target * math.log(probability) + (1 - target) * math.log(1 - probability)
        if label < 0:
            continue
        shares = [[math.exp(logit) / sum(map(math.exp, side)) for logit in side] for side in sides]
        left, top, right, bottom = (sum(bin * share for bin, share in enumerate(side)) for side in shares)
        truth = [side / stride for side in box]
        predicted = [x + 0.5 - left, y + 0.5 - top, x + 0.5 + right, y + 0.5 + bottom]
        sums[0] += weight * (1 - plain_ciou(predicted, truth))
        reached = [x + 0.5 - truth[0], y + 0.5 - truth[1], truth[2] - x - 0.5, truth[3] - y - 0.5]
        for side, distance in zip(shares, reached, strict=True):
            below = int(min(max(distance, 0.0), 14.99))
            above = min(max(distance, 0.0), 14.99) - below
            sums[2] -= weight / 4 * ((1 - above) * math.log(side[below]) + above * math.log(side[below + 1]))
    total = max(sum(weight for _, _, weight in wanted.values()), 1.0)
    return [value / total for value in sums]


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_plain_loops_agree(scale: float) -> None:
    """Also with boxes whose sides lie behind the anchor and beyond the last bin, and with little weight."""
    levels = random_levels(0)
    objects = by_image(TARGETS * torch.tensor([1, 1, scale, scale, scale, scale]), 2, 3)
    positives = find_positives(levels, objects, RECIPE.assigner)
    moved = positives._replace(box=positives.box + torch.tensor([30.0, 0, 30, 200]))
    light = positives._replace(score=positives.score / 100)
    for chosen in (positives, moved, light):
        assert terms(levels, chosen).tolist() == pytest.approx(plain_terms(levels, chosen), rel=1e-12)


def test_gains_and_images_make_the_total() -> None:
    levels = random_levels(1)
    box, cls, dfl = terms(levels, find_positives(levels, by_image(TARGETS, 2, 3), RECIPE.assigner)).tolist()
    losses = detection_loss(
        Outputs(levels, None), TARGETS, RECIPE.varied(loss={"box_gain": 2, "class_gain": 3, "dfl_gain": 5})
    )
    assert values(losses) == pytest.approx([2 * box, 3 * cls, 5 * dfl, 2 * (2 * box + 3 * cls + 5 * dfl)])


def test_the_auxiliary_head_counts_for_itself() -> None:
    main, aux = random_levels(2), random_levels(3)
    together = values(detection_loss(Outputs(main, aux), TARGETS, RECIPE.varied(loss={"aux_weight": 0.4})))
    alone = [values(detection_loss(Outputs(levels, None), TARGETS, RECIPE)) for levels in (main, aux)]
    assert together == pytest.approx([first + 0.4 * second for first, second in zip(*alone, strict=True)])


def test_without_targets_everything_is_background() -> None:
    levels, leaves = with_gradients(random_levels(4))
    losses = detection_loss(Outputs(levels, None), TARGETS[:0], RECIPE)
    background = sum(level.class_logits.detach().exp().log1p().sum().item() for level in levels)
    assert values(losses) == pytest.approx([0, 0.5 * background, 0, 2 * 0.5 * background])
    losses["total"].backward()  # type: ignore[no-untyped-call]
    for leaf in leaves:
        assert leaf.grad is not None and leaf.grad.isfinite().all()
    assert all(leaf.grad.abs().max() == 0 for leaf in leaves[::2] if leaf.grad is not None)


def test_an_image_without_objects_is_background() -> None:
    levels = random_levels(5)
    here = TARGETS[TARGETS[:, 0] == 0]
    alone = as_levels([part[:1] for level in levels for part in level])
    weight = max(find_positives(alone, by_image(here, 1, 3), RECIPE.assigner).score.sum().item(), 1.0)
    background = sum(level.class_logits[1].exp().log1p().sum().item() for level in levels)
    box, cls, dfl, _ = values(detection_loss(Outputs(alone, None), here, RECIPE))
    both = values(detection_loss(Outputs(levels, None), here, RECIPE))
    assert both[:3] == pytest.approx([box, cls + 0.5 * background / weight, dfl])


@pytest.mark.parametrize("shift", [(70, 0), (0, 70), (-200, 0), (-70, -70)])
def test_boxes_outside_the_image_teach_nothing(shift: tuple[int, int]) -> None:
    levels = random_levels(6)
    outside = TARGETS + torch.tensor([0, 0, *shift, *shift])
    assert values(detection_loss(Outputs(levels, None), outside, RECIPE)) == values(
        detection_loss(Outputs(levels, None), TARGETS[:0], RECIPE)
    )


def test_rows_of_other_images_may_stand_between() -> None:
    levels = random_levels(7)
    sorted_rows = TARGETS[TARGETS[:, 0].argsort(stable=True)]
    one, other = (detection_loss(Outputs(levels, None), rows, RECIPE) for rows in (TARGETS, sorted_rows))
    assert values(one) == values(other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(dtype: torch.dtype) -> None:
    half = as_levels([part.to(dtype) for level in random_levels(8) for part in level])
    exact = as_levels([part.float() for level in half for part in level])
    levels, leaves = with_gradients(half)
    expected = detection_loss(Outputs(exact, None), TARGETS, RECIPE)
    with torch.autocast("cpu", dtype):
        losses = detection_loss(Outputs(levels, None), TARGETS, RECIPE)
        autocast_alone = detection_loss(Outputs(exact, None), TARGETS, RECIPE)
    for name, value in expected.items():
        assert losses[name].dtype == torch.float32
        assert torch.equal(losses[name], value) and torch.equal(autocast_alone[name], value)
    losses["total"].backward()  # type: ignore[no-untyped-call]
    for leaf in leaves:
        assert leaf.grad is not None and leaf.grad.dtype == dtype and leaf.grad.isfinite().all()


@pytest.mark.parametrize("row", [[2, 0], [-1, 0], [0, 3], [0, -1]])
def test_a_target_of_no_image_or_class_is_named(row: list[int]) -> None:
    targets = torch.cat([TARGETS, torch.tensor([[*row, 1, 1, 9, 9]])])
    with pytest.raises(DatasetError, match=f"image {row[0]} and class {row[1]}, but the batch has 2 images"):
        detection_loss(Outputs(random_levels(9), None), targets, RECIPE)


def test_gradients_are_those_of_the_terms() -> None:
    """Squares that should become squares: there the weight of the aspect term, a constant, is zero indeed."""
    levels = random_levels(10, images=1, classes=2, size=32)
    squares = as_levels(
        [torch.zeros_like(part) if part.shape[1] == 64 else part for level in levels for part in level]
    )
    targets = torch.tensor([[0, 1, 2, 3, 26, 27], [0, 0, 10, 8, 24, 22]], dtype=torch.float64)
    positives = find_positives(squares, by_image(targets, 1, 2), RECIPE.assigner)
    assert len(positives.score) > 5
    _, leaves = with_gradients(squares)
    assert torch.autograd.gradcheck(lambda *maps: terms(as_levels(maps), positives), leaves)


def test_no_gradient_flows_through_the_assignment() -> None:
    levels, leaves = with_gradients(random_levels(11))
    positives = find_positives(levels, by_image(TARGETS, 2, 3), RECIPE.assigner)
    assert not positives.score.requires_grad
    gains = torch.tensor([RECIPE.loss.box_gain, RECIPE.loss.class_gain, RECIPE.loss.dfl_gain])
    frozen = torch.autograd.grad(2 * (gains * terms(levels, positives)).sum(), leaves)
    whole = torch.autograd.grad(detection_loss(Outputs(levels, None), TARGETS, RECIPE)["total"], leaves)
    for one, other in zip(frozen, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 1),
        ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7 - 2 / 18),
        ([0, 0, 1, 1], [3, 0, 4, 1], -9 / 17),
        ([0, 0, 4, 2], [0, 0, 2, 4], 0.2370818),  # 1/3 - 2/32 - 0.2011110 * 0.1678256
        ([1, 1, 1, 1], [1, 1, 1, 1], 0),  # without area there is nothing to share
    ],
)
def test_ciou_by_hand(first: list[float], second: list[float], expected: float) -> None:
    one, other = (torch.tensor(box, dtype=torch.float64) for box in (first, second))
    assert ciou(one, other).item() == pytest.approx(expected, abs=3e-7)
    assert ciou(other, one).item() == ciou(one, other).item()


def test_ciou_of_every_pair_and_its_gradient() -> None:
    """Against differences of the formula written out, whose aspect weight is held where it was."""
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(2, 12, 2, generator=generator, dtype=torch.float64) * 4
    sides = torch.rand(2, 12, 2, generator=generator, dtype=torch.float64) * 4 + 0.1
    first, second = torch.cat([low, low + sides], dim=-1)
    first.requires_grad_()
    table = ciou(first[:, None], second)
    gradient = torch.autograd.grad(table.diagonal().sum(), first)[0]
    for row, box in enumerate(first.tolist()):
        for column, other in enumerate(second.tolist()):
            assert table[row, column].item() == pytest.approx(plain_ciou(box, other), abs=1e-12)
        iou, _, aspect = plain_parts(box, second[row].tolist())
        for side in range(4):
            ahead, behind = (
                [value + step * (at == side) for at, value in enumerate(box)] for step in (1e-6, -1e-6)
            )
            change = [
                part - distance - plain_weight(iou, aspect) * angle
                for part, distance, angle in (
                    plain_parts(moved, second[row].tolist()) for moved in (ahead, behind)
                )
            ]
            assert gradient[row, side].item() == pytest.approx((change[0] - change[1]) / 2e-6, abs=1e-7)


def test_distances_and_boxes_are_inverse() -> None:
    points = torch.tensor([[4.0, 6.0], [10.0, 2.0]])
    boxes = torch.tensor([[1.0, 2.0, 9.0, 7.0], [11.0, 1.0, 12.0, 8.0]])
    distances = boxes_to_distances(points, boxes)
    assert distances.tolist() == [[3, 4, 5, 1], [-1, 1, 2, 6]]
    assert torch.equal(distances_to_boxes(points, distances), boxes)
    assert boxes_to_distances(points, boxes[:, None]).shape == (2, 2, 4)


def test_boxes_in_cells_are_those_that_are_predicted() -> None:
    """The box term vanishes where the objects are what the network finds."""
    levels = random_levels(12)
    boxes, scores = decode(levels)
    image, anchor = torch.tensor([0, 0, 1]), torch.tensor([3, 70, 83])
    positives = Positives(image, anchor, scores[image, anchor].argmax(1), boxes[image, anchor], torch.ones(3))
    assert terms(levels, positives)[0].item() == pytest.approx(0, abs=1e-6)
