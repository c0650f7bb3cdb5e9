"""Which anchor learns which object: task-aligned assignment, by what the detector itself finds now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from yolov9bench.ops.boxes import ciou
from yolov9bench.zoo.recipe import AssignerSettings

EPSILON = 1e-9  # pixels between a centre and the sides it lies within; also added to a divisor
# Of an object and an anchor, or of an anchor and an object: what bounds the tensors of one go.
PAIRS_AT_ONCE = 2**20


class Positives(NamedTuple):
    """The P anchors that learn an object, by image, then anchor; all other anchors learn background."""

    image: Tensor  # [P]
    anchor: Tensor  # [P]
    label: Tensor  # [P]
    box: Tensor  # [P, 4] px
    score: Tensor  # [P] that the anchor should give the label, 0..1; also its weight in the box terms


class _Found(NamedTuple):
    """What the detector finds: `sides` [4, B * A], x1, y1, x2, y2 px of all anchors, and scores [B, A, C]."""

    sides: Tensor
    scores: Tensor


class _Objects(NamedTuple):
    """All N objects of a batch, image after image."""

    image: Tensor  # [N]
    label: Tensor  # [N]
    sides: Tensor  # [4, N]: x1, y1, x2, y2 px
    is_real: Tensor  # [N]: whether it may claim anchors

    def part(self, begin: int, end: int) -> _Objects:
        return _Objects(*(column[..., begin:end] for column in self))


def assign(
    boxes: Tensor, scores: Tensor, centres: Tensor, objects: Sequence[Tensor], settings: AssignerSettings
) -> Positives:
    """Predicted boxes [B, A, 4] px and scores [B, A, C], anchor centres [A, 2] px, objects -> Positives.

    `objects` holds for every image [m, 5]: class, x1, y1, x2, y2 in px. arXiv:2108.07755 with the numbers of
    the recipe, in detail as the repository WongKinYiu/yolov9 and mmyolo 0.6.0 do it.

    An overlap is computed where it can decide: of an object and the anchors inside it, and of an anchor that
    is claimed twice and the objects that its box touches. Objects go in groups of at most PAIRS_AT_ONCE pairs
    with an anchor, at least one; no tensor of a group has more than four numbers a pair, however many objects
    there are. With the references' exponents no bit depends on the groups.
    """
    anchors = len(centres)
    everything = _joined(objects)
    found = _Found(boxes.reshape(-1, 4).T.contiguous(), scores)
    claiming, place = _claims(
        found, centres, everything, settings
    )  # [K], [K]: object, and place of an anchor

    times = torch.zeros(scores.shape[:2], dtype=torch.int32, device=place.device)  # that each is claimed
    times.view(-1).index_add_(0, place, torch.ones_like(place, dtype=torch.int32))
    owner = torch.zeros(times.numel(), dtype=torch.int64, device=place.device)
    owner[place] = claiming
    _settle_contested(owner, times, found, everything, [len(rows) for rows in objects])

    image, anchor = times.nonzero(as_tuple=True)
    row = owner[image * anchors + anchor]
    truths, label = everything.sides[:, row], everything.label[row]
    overlap, metric = _measure(found, image, anchor, truths, label, settings)
    # An object's best anchor should score its best overlap, the others in proportion to their metric.
    best_overlap, best_metric = (
        values.new_zeros(len(everything.label)).scatter_reduce(0, row, values, "amax")[row]
        for values in (overlap, metric)
    )
    score = metric * best_overlap / (best_metric + EPSILON)
    return Positives(image, anchor, label, truths.T, score)


def _joined(objects: Sequence[Tensor]) -> _Objects:
    rows = torch.cat(list(objects))
    counts = torch.tensor([len(each) for each in objects], device=rows.device)
    image = torch.arange(len(objects), device=rows.device).repeat_interleave(counts, output_size=len(rows))
    truths = rows[:, 1:]
    # The references know padding by this sum, and so also drop boxes far off the top left.
    return _Objects(image, rows[:, 0].long(), truths.T.contiguous(), truths.sum(dim=-1) > 0)


def _claims(
    found: _Found, centres: Tensor, objects: _Objects, settings: AssignerSettings
) -> tuple[Tensor, Tensor]:
    """The K claims of all objects: which object [K], and which place [K] of B * A it claims."""
    count, anchors = len(objects.label), len(centres)
    step = max(1, PAIRS_AT_ONCE // anchors)
    rows, places = [], []
    for begin in range(0, max(count, 1), step):  # one group at least, so that there is something to join
        group = objects.part(begin, begin + step)
        inside = _inside(centres, group)
        row, anchor = inside.nonzero(as_tuple=True)
        image, label = group.image[row], group.label[row]
        _, metric = _measure(found, image, anchor, group.sides.index_select(1, row), label, settings)
        claimed = largest(metric, row, anchor, (len(group.label), anchors), settings.topk)
        rows.append(row[claimed] + begin)
        places.append(image[claimed] * anchors + anchor[claimed])
    return torch.cat(rows), torch.cat(places)


def _settle_contested(
    owner: Tensor, times: Tensor, found: _Found, objects: _Objects, counts: Sequence[int]
) -> None:
    """Give anchors claimed twice to the object they overlap most, be that one which did not claim them.

    owner [B * A] is changed; times [B, A] an anchor is claimed; counts of objects by image.
    """
    begin = 0
    for number, count in enumerate(counts):
        contested = (times[number] > 1).nonzero().flatten() + number * times.shape[1]
        if len(contested):
            sides = objects.sides[:, begin : begin + count]
            for places in torch.split(contested, max(1, PAIRS_AT_ONCE // count)):
                owner[places] = begin + _closest(found.sides[:, places], sides)
        begin += count


def _inside(centres: Tensor, objects: _Objects) -> Tensor:
    """Whether each anchor's centre lies in each object [N, A], which must be real."""
    x, y = centres.T.contiguous()
    left, top, right, bottom = objects.sides.unsqueeze(2)
    inside: Tensor = (x - left > EPSILON) & (right - x > EPSILON)
    inside &= (y - top > EPSILON) & (bottom - y > EPSILON)
    return inside & objects.is_real.unsqueeze(1)


def _measure(
    found: _Found, image: Tensor, anchor: Tensor, truths: Tensor, label: Tensor, settings: AssignerSettings
) -> tuple[Tensor, Tensor]:
    """Overlap and metric, [I] each, of I anchors with an object of sides [4, I] and label [I] each."""
    boxes = found.sides.index_select(1, image * found.scores.shape[1] + anchor)
    overlap = ciou(truths.T, boxes.T).clamp(min=0)
    return overlap, metric_of(found.scores[image, anchor, label], overlap, settings)


def metric_of(scores: Tensor, overlaps: Tensor, settings: AssignerSettings) -> Tensor:
    """How well an anchor finds an object: score of its class ** alpha * overlap ** beta, each [...].

    torch computes a square root, a cube and a square exactly the same everywhere, but on the CPU the last bit
    of a sixth power depends on the place in the tensor: hence the square of a power by half the exponent.
    """
    return scores.pow(settings.alpha) * overlaps.pow(settings.beta / 2).square()


def _closest(boxes: Tensor, truths: Tensor) -> Tensor:
    """Which of n objects [4, n] each box [4, k] overlaps most: [k]; the first of equal ones.

    Boxes that do not touch have no overlap: the complete IoU is at most the IoU.
    """
    left, top, right, bottom = boxes.unsqueeze(2)
    other_left, other_top, other_right, other_bottom = truths
    apart = (left >= other_right) | (other_left >= right) | (top >= other_bottom) | (other_top >= bottom)
    box, row = (~apart).nonzero(as_tuple=True)
    overlaps = boxes.new_zeros(apart.shape)
    overlaps[box, row] = ciou(truths[:, row].T, boxes[:, box].T).clamp(min=0)
    return overlaps.argmax(dim=1)


def largest(values: Tensor, row: Tensor, column: Tensor, shape: tuple[int, int], count: int) -> Tensor:
    """Marks the values [I] that are among the `count` largest of their row; of equal ones the first.

    They are at least 0 and stand at these places of a table of `shape`, row by row; all else in it is 0, and
    may be among the largest too. torch.topk does not say which of equal values it takes, and may take others
    in a tensor of another size. What is not a number counts as larger than any.
    """
    table = values.new_zeros(shape)
    table[row, column] = values
    least = table.topk(min(count, shape[1])).values[:, -1][row]
    above, level = ~(values <= least), values == least
    room = (
        count
        - torch.zeros(shape[0], dtype=torch.int32, device=row.device).index_add(0, row, above.int())[row]
    )
    # Among zeros, those of the table count that lie between the values.
    earlier = torch.where(least > 0, _earlier(level, row), column - _earlier(above, row))
    return above | (level & (earlier < room))


def _earlier(marks: Tensor, row: Tensor) -> Tensor:
    """How many marks [I] come before each place in the same row; rows [I] ascend."""
    before = marks.cumsum(0, dtype=torch.int32) - marks.int()
    first = torch.searchsorted(row, row)  # where its row begins
    return before - before[first]
