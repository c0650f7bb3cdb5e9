"""The assignment of anchors to objects: against plain loops, and in any grouping of images."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from dense_assigner import assign_densely
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from yolov9bench.predict.postprocess import make_anchor_points
from yolov9bench.train import assigner as module
from yolov9bench.train.assigner import Positives, assign, largest, metric_of
from yolov9bench.zoo.recipe import AssignerSettings
from yolov9bench.zoo.recipes import RECIPES

SETTINGS = RECIPES["yolov9"].assigner
SIZE = 64
Box = Sequence[float]
Positive = tuple[int, int, int, tuple[float, ...]]  # image, anchor, label, box


def anchor_centres(size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Centres [A, 2] px of the cells at strides 8, 16 and 32 of a square image."""
    strides = (8, 16, 32)
    shapes = [(size // stride, size // stride) for stride in strides]
    points, scales = make_anchor_points(shapes, strides, torch.zeros((), dtype=dtype))
    return points * scales


def plain_parts(first: Box, second: Box) -> tuple[float, float, float]:
    """Of two boxes the IoU, the centres' distance and the difference in aspect, as CIoU has them."""
    small = 1e-7
    widths = [box[2] - box[0] for box in (first, second)]
    heights = [box[3] - box[1] + small for box in (first, second)]
    low = [max(a, b) for a, b in zip(first[:2], second[:2], strict=True)]
    high = [min(a, b) for a, b in zip(first[2:], second[2:], strict=True)]
    shared = max(high[0] - low[0], 0.0) * max(high[1] - low[1], 0.0)
    iou = shared / (widths[0] * heights[0] + widths[1] * heights[1] - shared + small)
    hull_x = max(first[2], second[2]) - min(first[0], second[0])
    hull_y = max(first[3], second[3]) - min(first[1], second[1])
    apart_x = (first[0] + first[2] - second[0] - second[2]) / 2
    apart_y = (first[1] + first[3] - second[1] - second[3]) / 2
    distance = (apart_x**2 + apart_y**2) / (hull_x**2 + hull_y**2 + small)
    angles = [math.atan(width / height) for width, height in zip(widths, heights, strict=True)]
    return iou, distance, 4 / math.pi**2 * (angles[0] - angles[1]) ** 2


def plain_weight(iou: float, aspect: float) -> float:
    return aspect / (aspect - iou + 1 + 1e-7)


def plain_ciou(first: Box, second: Box) -> float:
    iou, distance, aspect = plain_parts(first, second)
    return iou - distance - plain_weight(iou, aspect) * aspect


def plain_image(
    boxes: list[Box],
    scores: list[list[float]],
    centres: list[Box],
    objects: list[list[float]],
    settings: AssignerSettings,
) -> dict[int, tuple[int, float]]:
    """Anchor -> (object, target score) of one image."""
    everyone, everything = range(len(boxes)), range(len(objects))
    overlap = [[max(plain_ciou(thing[1:], box), 0.0) for box in boxes] for thing in objects]

    def metric(number: int, anchor: int) -> float:
        score = scores[anchor][int(objects[number][0])]
        return math.pow(score, settings.alpha) * math.pow(overlap[number][anchor], settings.beta)

    claims: dict[int, list[int]] = {}
    for number, (_, left, top, right, bottom) in enumerate(objects):
        within = [min(x - left, y - top, right - x, bottom - y) > 1e-9 for x, y in centres]
        rank = [(-metric(number, anchor) * within[anchor], anchor) for anchor in everyone]
        for _, anchor in sorted(rank)[: settings.topk]:
            if within[anchor] and left + top + right + bottom > 0:
                claims.setdefault(anchor, []).append(number)
    owner = {}
    for anchor, claiming in claims.items():
        rivals = claiming if len(claiming) == 1 else everything
        owner[anchor] = max(rivals, key=lambda number: overlap[number][anchor])  # the first of equal ones
    found = {}
    for anchor, number in owner.items():
        own = [other for other, holder in owner.items() if holder == number]
        best_overlap = max(overlap[number][other] for other in own)
        best_metric = max(metric(number, other) for other in own)
        found[anchor] = (number, metric(number, anchor) * best_overlap / (best_metric + 1e-9))
    return found


def plain_assign(
    boxes: Tensor, scores: Tensor, centres: Tensor, objects: list[Tensor], settings: AssignerSettings
) -> tuple[list[Positive], list[float]]:
    """Positives and their target scores, by image and anchor."""
    positives, values = [], []
    for image, things in enumerate(objects):
        rows = things.tolist()
        found = plain_image(boxes[image].tolist(), scores[image].tolist(), centres.tolist(), rows, settings)
        for anchor, (number, value) in sorted(found.items()):
            positives.append((image, anchor, int(rows[number][0]), tuple(rows[number][1:])))
            values.append(value)
    return positives, values


def listed(positives: Positives) -> list[Positive]:
    columns = (part.tolist() for part in positives[:4])
    return [(image, anchor, label, tuple(box)) for image, anchor, label, box in zip(*columns, strict=True)]


def some_objects(
    generator: torch.Generator, count: int, sides: tuple[float, float], beyond: float = 0.0, size: int = SIZE
) -> Tensor:
    """Objects [count, 5] of 4 classes with sides between two lengths, centred at most `beyond` px outside."""
    low, high = sides
    centre = torch.rand(count, 2, generator=generator, dtype=torch.float64) * (size + 2 * beyond) - beyond
    half = (low + (high - low) * torch.rand(count, 2, generator=generator, dtype=torch.float64)) / 2
    label = torch.randint(4, (count, 1), generator=generator)
    return torch.cat([label, centre - half, centre + half], dim=1)


def predictions(generator: torch.Generator, objects: list[Tensor], centres: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes [B, A, 4], most of them near an object of the image, and scores [B, A, 4]."""
    shape = (len(objects), len(centres), 4)
    reach = torch.rand(shape, generator=generator, dtype=torch.float64) * 40
    boxes = torch.cat([centres - reach[..., :2], centres + reach[..., 2:]], dim=-1)
    for image, things in enumerate(objects):
        if len(things):
            chosen = torch.randint(len(things), (len(centres),), generator=generator)
            noise = torch.randn(len(centres), 4, generator=generator, dtype=torch.float64) * 2
            near = torch.rand(len(centres), 1, generator=generator) < 0.7
            boxes[image] = torch.where(near, things[chosen, 1:] + noise, boxes[image])
    return boxes, torch.rand(shape, generator=generator, dtype=torch.float64)


# Of every image: how many objects, between which lengths, and how far outside.
CASES: dict[str, list[tuple[int, tuple[float, float], float]]] = {
    "few": [(3, (10, 40), 0), (5, (10, 40), 0)],
    "crowd": [(30, (15, 50), 0)],
    "smaller than a cell": [(20, (0, 9), 0)],
    "images without": [(0, (1, 2), 0), (6, (8, 60), 0), (0, (1, 2), 0)],
    "across the rim": [(30, (20, 90), 40)],
    "none at all": [(0, (1, 2), 0), (0, (1, 2), 0)],
}
SETTINGS_TO_TRY = {
    "the references'": SETTINGS,
    "one anchor each": replace(SETTINGS, topk=1),
    "more anchors than there are": replace(SETTINGS, topk=100),
    "other exponents": replace(SETTINGS, alpha=1.0, beta=2.5),
}


@pytest.mark.parametrize("settings", SETTINGS_TO_TRY.values(), ids=SETTINGS_TO_TRY)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_plain_loops_agree(
    case: list[tuple[int, tuple[float, float], float]], settings: AssignerSettings
) -> None:
    centres = anchor_centres(SIZE)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        objects = [some_objects(generator, *image) for image in case]
        boxes, scores = predictions(generator, objects, centres)
        positives = assign(boxes, scores, centres, objects, settings)
        expected, values = plain_assign(boxes, scores, centres, objects, settings)
        assert listed(positives) == expected
        assert positives.score.tolist() == pytest.approx(values, rel=1e-9, abs=1e-15)


def test_an_anchor_claimed_twice_goes_to_the_object_it_overlaps_most_even_one_that_did_not_claim_it() -> None:
    """Anchor 0 alone lies in both wide objects, which claim it; its box is that of the object far off."""
    centres = torch.tensor([[4.0, 4.0], [60.0, 60.0]])
    wide = [0.0, 0.0, 0.0, 40.0, 40.0]
    objects = torch.tensor([wide, [1.0, 0.0, 0.0, 44.0, 36.0], [2.0, 20.0, 20.0, 62.0, 62.0]])
    boxes = torch.tensor([[[21.0, 21.0, 60.0, 60.0], [20.0, 20.0, 62.0, 62.0]]])
    positives = assign(boxes, torch.full((1, 2, 3), 0.5), centres, [objects], SETTINGS)
    assert positives.anchor.tolist() == [0, 1]
    assert positives.label.tolist() == [2, 2]
    iou = 39**2 / 42**2  # of two squares; their centres are half a pixel apart each way
    overlap = iou - 2 * 0.5**2 / (2 * 42**2)
    assert positives.score.tolist() == pytest.approx([overlap**6, 1.0], rel=1e-4)


def test_an_object_without_area_or_off_the_top_left_claims_nothing() -> None:
    centres = anchor_centres(SIZE)
    rows = [[0.0, 4, 4, 4, 4], [0.0, 12, 0, 12, 60], [0.0, -60, -60, 40, 40], [0.0, 70, 70, 90, 90]]
    objects = torch.tensor(rows, dtype=torch.float64)
    boxes = objects[2, 1:].expand(1, len(centres), 4)
    scores = torch.full((1, len(centres), 1), 0.5, dtype=torch.float64)
    assert len(assign(boxes, scores, centres, [objects], SETTINGS).score) == 0
    moved = objects + torch.tensor([0.0, 30, 30, 30, 30])  # the third now starts at -30 and ends at 70
    assert len(assign(boxes, scores, centres, [moved[2:3]], SETTINGS).score) == 10


def test_of_equal_values_the_first_are_taken() -> None:
    """Some places of a table are told; the others hold 0, which may be among the largest too."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randint(5, (120, 50), generator=generator).float() / 4
    told = torch.rand(120, 50, generator=generator) < torch.linspace(0, 1, 120).unsqueeze(1)
    table = table * told
    row, column = told.nonzero(as_tuple=True)
    for count in (1, 10, 49, 50, 60):
        marks = largest(table[told], row, column, (120, 50), count)
        found = torch.zeros_like(told)
        found[told] = marks
        for number, values in enumerate(table.tolist()):
            best = sorted(range(50), key=lambda place: (-values[place], place))[:count]
            expected = [place for place in sorted(best) if told[number, place]]
            assert found[number].nonzero().flatten().tolist() == expected


def test_what_is_not_a_number_is_among_the_largest() -> None:
    """So that the loss is no number either, and the step is refused."""
    row, column = torch.zeros(20, dtype=torch.int64), torch.arange(20)
    values = torch.linspace(1, 2, 20)
    values[3] = math.nan
    assert largest(values, row, column, (1, 20), 2).nonzero().flatten().tolist() == [3, 19]
    assert largest(torch.full((20,), math.nan), row, column, (1, 20), 2).all()


def test_the_metric_of_a_pair_does_not_depend_on_its_place() -> None:
    """A vector instruction and the scalar one for what is left over may differ in the last bit."""
    generator = torch.Generator().manual_seed(0)
    scores, overlaps = torch.rand(2, 3001, generator=generator)
    whole = metric_of(scores, overlaps, SETTINGS)
    for start in range(0, 3001, 7):
        places = slice(start, start + 7)
        assert torch.equal(
            metric_of(scores[places].clone(), overlaps[places].clone(), SETTINGS), whole[places]
        )


def crowd(
    counts: Sequence[int], size: int, sides: tuple[float, float] = (4, 60), seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """What `assign` takes, in float32, of images with so many objects each, some beyond the rim."""
    generator = torch.Generator().manual_seed(seed)
    centres = anchor_centres(size)
    objects = [some_objects(generator, count, sides, beyond=20, size=size) for count in counts]
    boxes, scores = predictions(generator, objects, centres)
    return boxes.float(), scores.float(), centres.float(), [things.float() for things in objects]


def equal(one: Positives, other: Positives) -> bool:
    return all(torch.equal(*columns) for columns in zip(one, other, strict=True))


@pytest.mark.parametrize("settings", SETTINGS_TO_TRY.values(), ids=SETTINGS_TO_TRY)
@pytest.mark.parametrize("sides", [(0.0, 9.0), (4.0, 60.0), (30.0, 224.0)])
def test_pairs_that_are_left_out_change_no_bit(
    sides: tuple[float, float], settings: AssignerSettings
) -> None:
    """Beside all pairs, on 1029 anchors, so that vector instructions end at another pair."""
    for counts in ([1, 1, 1], [50, 0, 7], [200, 61, 500]):
        found = crowd(counts, 224, sides, seed=sum(counts))
        scores = found[1] * (torch.rand(found[1].shape, generator=torch.Generator().manual_seed(1)) < 0.7)
        positives = assign(found[0], scores, *found[2:], settings)
        expected = assign_densely(found[0], scores, *found[2:], settings)
        if settings is SETTINGS_TO_TRY["other exponents"]:  # a power's last bit depends on the place
            assert all(
                torch.equal(one, other) for one, other in zip(positives[:4], expected[:4], strict=True)
            )
            torch.testing.assert_close(positives.score, expected.score, rtol=1e-6, atol=0)
        else:
            assert equal(positives, expected)
        assert len(positives.score) >= sides[0] / 10


class LargestTensor(TorchDispatchMode):
    """The most bytes that any operation's result holds."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.untyped_storage().nbytes() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.bytes = max([self.bytes, *sizes])
        return result


def test_two_thousand_objects_and_any_grouping_give_the_same_bits_within_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No tensor has more than four float32 a pair, though some objects fill the image."""
    found = crowd((2000, 0, 61, 7), 224)
    found[3][2][:, 1:] = torch.tensor([0.0, 0.0, 224.0, 224.0])
    results = []
    for limit in (10**9, 2**18, 2**13):
        monkeypatch.setattr(module, "PAIRS_AT_ONCE", limit)
        with LargestTensor() as largest_tensor:
            results.append(assign(*found, SETTINGS))
        assert largest_tensor.bytes <= max(16 * limit, 20 * 2068, 16 * found[1][..., 0].numel())
    assert len(results[0].score) > 400
    assert equal(results[1], results[0]) and equal(results[2], results[0])
