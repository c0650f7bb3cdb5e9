"""The training loss: class scores, box overlap and box distributions, against task-aligned targets."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from yolov9bench.errors import DatasetError
from yolov9bench.nn.detector import Outputs
from yolov9bench.nn.head import REG_MAX, Levels
from yolov9bench.ops.boxes import boxes_to_distances, ciou
from yolov9bench.predict.postprocess import (
    anchor_points,
    decode,
    distances_to_boxes,
    expected_distances,
)
from yolov9bench.train.assigner import Positives, assign
from yolov9bench.zoo.recipe import AssignerSettings, Recipe

FARTHEST = REG_MAX - 1 - 0.01  # cells; the references keep a target distance short of the last bin


def detection_loss(outputs: Outputs, targets: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """The loss of a batch of B images: `box`, `cls` and `dfl`, and the `total` to differentiate.

    `targets` [n, 6] are image index in the batch, class, x1, y1, x2, y2 in pixels of the network's input, on
    any device. The three terms include the gains of the recipe and, times `aux_weight`, the
    auxiliary head, which has an assignment and a normaliser of its own. `total` is B times their sum: in both
    references (the repository WongKinYiu/yolov9, mmyolo 0.6.0) a step's gradients add up over its images, and
    so they also multiply by the number of processes where those average gradients.

    At least float32, under autocast too. DatasetError for a target whose image or class does not exist.
    """
    class_logits = outputs.main[0].class_logits
    images, classes = class_logits.shape[:2]
    with torch.autocast(class_logits.device.type, enabled=False):
        objects = by_image(targets, images, classes)
        parts = head_loss(outputs.main, objects, recipe.assigner)
        if outputs.aux is not None:
            parts = parts + recipe.loss.aux_weight * head_loss(outputs.aux, objects, recipe.assigner)
        box, cls, dfl = parts.unbind()
        gains = recipe.loss
        losses = {"box": gains.box_gain * box, "cls": gains.class_gain * cls, "dfl": gains.dfl_gain * dfl}
        return {**losses, "total": images * (losses["box"] + losses["cls"] + losses["dfl"])}


def by_image(targets: Tensor, images: int, classes: int) -> list[Tensor]:
    """Targets [n, 6] -> for each image its [m, 5], without the image index, in the order they came in."""
    known = (targets[:, :2] >= 0) & (targets[:, :2] < targets.new_tensor([images, classes]))
    if not known.all():
        image, label = targets[~known.all(dim=1), :2][0].tolist()
        raise DatasetError(
            f"A target is of image {image:g} and class {label:g}, but the batch has {images} images and the "
            f"detector {classes} classes, from 0: correct the target or give the detector more classes."
        )
    return [targets[targets[:, 0] == image, 1:] for image in range(images)]


def head_loss(levels: Levels, objects: list[Tensor], settings: AssignerSettings) -> Tensor:
    """Box, class and distribution term [3] of one head, without gains; objects as `by_image` has them."""
    return terms(levels, find_positives(levels, objects, settings))


@torch.no_grad()
def find_positives(levels: Levels, objects: list[Tensor], settings: AssignerSettings) -> Positives:
    """The anchors of one head that learn an object; no gradient flows through the choice."""
    boxes, scores = decode(levels)
    points, strides = anchor_points(levels, like=boxes)
    return assign(boxes, scores, points * strides, [rows.to(boxes) for rows in objects], settings)


def terms(levels: Levels, positives: Positives) -> Tensor:
    """Box, class and distribution term [3], each a sum divided by the sum of the target scores (at least 1).

    cls: binary cross-entropy of every anchor and class with the target scores, 0 where there is none.
    box: 1 - CIoU, boxes in cells; dfl: `distribution_loss`; both of positives, weighted by target score.
    """
    dtype = positives.score.dtype
    class_logits = torch.cat([level.class_logits.flatten(2) for level in levels], dim=2).to(dtype)
    box_logits = torch.cat([level.box_logits.flatten(2) for level in levels], dim=2)  # [B, 64, A]
    image, anchor, label, truth, score = positives

    class_targets = torch.zeros_like(class_logits)  # [B, C, A]
    class_targets[image, label, anchor] = score
    cls = binary_cross_entropy_with_logits(class_logits, class_targets, reduction="sum")

    points, strides = (part[anchor] for part in anchor_points(levels, like=score))
    truth = truth / strides
    logits = box_logits[image, :, anchor].reshape(-1, 4, REG_MAX).to(dtype)  # [P, 4, 16]
    predicted = distances_to_boxes(points, expected_distances(logits))
    box = ((1 - ciou(predicted, truth)) * score).sum()
    dfl = (distribution_loss(logits, boxes_to_distances(points, truth)) * score).sum()
    return torch.stack([box, cls, dfl]) / score.sum().clamp(min=1)


def distribution_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Bin logits [P, 4, 16] and target distances [P, 4] in cells -> distribution focal loss [P].

    The mean over the sides of the cross-entropy with a target split between its two nearest bins
    (arXiv:2006.04388).
    """
    bins = torch.arange(REG_MAX, dtype=logits.dtype, device=logits.device)
    shares = (1 - (distances.clamp(0, FARTHEST).unsqueeze(-1) - bins).abs()).clamp(min=0)
    return -(shares * logits.log_softmax(dim=-1)).sum(dim=-1).mean(dim=-1)
