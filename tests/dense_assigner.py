"""Task-aligned assignment from every pair of an object and an anchor: the library's equals it to the bit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from yolov9bench.ops.boxes import boxes_to_distances, ciou
from yolov9bench.train.assigner import Positives
from yolov9bench.zoo.recipe import AssignerSettings

EPSILON = 1e-9


def assign_densely(
    boxes: Tensor, scores: Tensor, centres: Tensor, objects: Sequence[Tensor], settings: AssignerSettings
) -> Positives:
    """As `assigner.assign`; tensors of pairs are [B, M, A], M rows for every image."""
    # Each image's objects end with at least one row of zeros, so that even an image of none has a row.
    rows = pad(pad_sequence(list(objects), batch_first=True), (0, 0, 0, 1))
    labels, truths = rows[..., 0].long(), rows[..., 1:]
    inside = boxes_to_distances(centres, truths.unsqueeze(2)).amin(dim=-1) > EPSILON
    # The references know padding by this sum, and so also drop boxes far off the top left.
    real = (truths.sum(dim=-1) > 0).unsqueeze(2)

    overlaps = ciou(truths.unsqueeze(2), boxes.unsqueeze(1)).clamp(min=0)
    metrics = _metrics(scores, labels, overlaps, settings)
    claimed = largest(metrics * inside, settings.topk) & inside & real

    # An anchor claimed twice goes to the object it overlaps most, be that one which did not claim it.
    claims = claimed.sum(dim=1)  # [B, A]
    owner = torch.where(claims > 1, overlaps.argmax(dim=1), claimed.int().argmax(dim=1))
    numbers = torch.arange(rows.shape[1])
    owned = (owner.unsqueeze(1) == numbers[:, None]) & (claims > 0).unsqueeze(1)

    # An object's best anchor should score its best overlap, the others in proportion to their metric.
    best_overlap, best_metric = (overlaps * owned).amax(dim=2), (metrics * owned).amax(dim=2)  # [B, M]
    image, anchor = claims.nonzero(as_tuple=True)
    row = owner[image, anchor]
    score = metrics[image, row, anchor] * best_overlap[image, row] / (best_metric[image, row] + EPSILON)
    return Positives(image, anchor, labels[image, row], truths[image, row], score)


def _metrics(scores: Tensor, labels: Tensor, overlaps: Tensor, settings: AssignerSettings) -> Tensor:
    """Score of its class ** alpha * overlap ** beta, [B, M, A]."""
    images = torch.arange(len(labels))
    found = scores.transpose(1, 2)[images[:, None], labels]  # [B, M, A]
    return found.pow(settings.alpha) * overlaps.pow(settings.beta / 2).square()


def largest(values: Tensor, count: int) -> Tensor:
    """Marks the `count` largest values [..., A] of each row; of equal values the first ones."""
    least = values.topk(min(count, values.shape[-1])).values[..., -1:]
    above = values > least
    level = values == least
    room = count - above.sum(dim=-1, keepdim=True)
    return above | (level & (level.cumsum(dim=-1, dtype=torch.int32) <= room))
