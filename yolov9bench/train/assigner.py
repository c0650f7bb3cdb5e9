"""Which anchor learns which object: task-aligned assignment, by what the detector itself finds now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from yolov9bench.ops.boxes import boxes_to_distances, ciou
from yolov9bench.zoo.recipe import AssignerSettings

EPSILON = 1e-9  # pixels between a centre and the sides it lies within; also added to a divisor
PAIRS_AT_ONCE = 2**23  # of an object and an anchor: a pair takes some 60 bytes, so about 500 MB


class Positives(NamedTuple):
    """The P anchors that learn an object, by image, then anchor; all other anchors learn background."""

    image: Tensor  # [P]
    anchor: Tensor  # [P]
    label: Tensor  # [P]
    box: Tensor  # [P, 4] px
    score: Tensor  # [P] that the anchor should give the label, 0..1; also its weight in the box terms


def assign(
    boxes: Tensor, scores: Tensor, centres: Tensor, objects: Sequence[Tensor], settings: AssignerSettings
) -> Positives:
    """Predicted boxes [B, A, 4] px and scores [B, A, C], anchor centres [A, 2] px, objects -> Positives.

    `objects` holds for every image [m, 5]: class, x1, y1, x2, y2 in px. arXiv:2108.07755 with the numbers of
    the recipe, in detail as the repository WongKinYiu/yolov9 and mmyolo 0.6.0 do it. Takes as many images at
    once as PAIRS_AT_ONCE allows, at least one; with the references' exponents no bit depends on how many.
    """
    most = max(len(rows) for rows in objects) + 1
    step = max(1, PAIRS_AT_ONCE // (most * len(centres)))
    parts = []
    for start in range(0, len(objects), step):
        group = slice(start, start + step)
        # Each image's objects end with at least one row of zeros, so that even an image of none has a row.
        rows = pad(pad_sequence(list(objects[group]), batch_first=True), (0, 0, 0, 1))
        part = _assign_group(boxes[group], scores[group], centres, rows, settings)
        parts.append(part._replace(image=part.image + start))
    return Positives(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _assign_group(
    boxes: Tensor, scores: Tensor, centres: Tensor, objects: Tensor, settings: AssignerSettings
) -> Positives:
    """`assign` for objects [B, M, 5] of equally many rows an image; tensors of pairs are [B, M, A]."""
    labels, truths = objects[..., 0].long(), objects[..., 1:]
    inside = boxes_to_distances(centres, truths.unsqueeze(2)).amin(dim=-1) > EPSILON
    # The references know padding by this sum, and so also drop boxes far off the top left.
    real = (truths.sum(dim=-1) > 0).unsqueeze(2)

    overlaps = ciou(truths.unsqueeze(2), boxes.unsqueeze(1)).clamp(min=0)
    metrics = _metrics(scores, labels, overlaps, settings)
    claimed = largest(metrics * inside, settings.topk) & inside & real

    # An anchor claimed twice goes to the object it overlaps most, be that one which did not claim it.
    claims = claimed.sum(dim=1)  # [B, A]
    owner = torch.where(claims > 1, overlaps.argmax(dim=1), claimed.int().argmax(dim=1))
    rows = torch.arange(objects.shape[1], device=owner.device)
    owned = (owner.unsqueeze(1) == rows[:, None]) & (claims > 0).unsqueeze(1)

    # An object's best anchor should score its best overlap, the others in proportion to their metric.
    best_overlap, best_metric = (overlaps * owned).amax(dim=2), (metrics * owned).amax(dim=2)  # [B, M]
    image, anchor = claims.nonzero(as_tuple=True)
    row = owner[image, anchor]
    score = metrics[image, row, anchor] * best_overlap[image, row] / (best_metric[image, row] + EPSILON)
    return Positives(image, anchor, labels[image, row], truths[image, row], score)


def _metrics(scores: Tensor, labels: Tensor, overlaps: Tensor, settings: AssignerSettings) -> Tensor:
    """How well each anchor finds each object: score of its class ** alpha * overlap ** beta, [B, M, A].

    torch computes a square root, a cube and a square exactly the same everywhere, but on the CPU the last bit
    of a sixth power depends on the place in the tensor: hence the square of a power by half the exponent.
    """
    images = torch.arange(len(labels), device=labels.device)
    found = scores.transpose(1, 2)[images[:, None], labels]  # [B, M, A]
    return found.pow(settings.alpha) * overlaps.pow(settings.beta / 2).square()


def largest(values: Tensor, count: int) -> Tensor:
    """Marks the `count` largest values [..., A] of each row; of equal values the first ones.

    torch.topk does not say which of equal values it takes, and may take others in a tensor of another size.
    """
    least = values.topk(min(count, values.shape[-1])).values[..., -1:]
    above = values > least
    level = values == least
    room = count - above.sum(dim=-1, keepdim=True)
    return above | (level & (level.cumsum(dim=-1, dtype=torch.int32) <= room))
