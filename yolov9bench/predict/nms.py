"""Non-maximum suppression by the rules of a protocol, in float32 or better whatever the model's precision."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from yolov9bench.zoo.protocols import Protocol

CLASS_BY_CLASS_FROM = 10_000  # candidates from which mmcv's batched_nms goes class by class


class Detections(NamedTuple):
    """One image's detections, best first: boxes [n, 4] px, scores [n], labels [n]."""

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor


def nms(boxes: Tensor, scores: Tensor, settings: Protocol) -> Detections:
    """Boxes [A, 4] px and scores [A, C] of one image -> its Detections, in the boxes' coordinates."""
    boxes, scores = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (boxes, scores))
    if settings.multi_label:
        rows, labels = (scores > settings.confidence).nonzero(as_tuple=True)
        values = scores[rows, labels]
    else:
        best, best_labels = scores.max(dim=1)
        rows = (best > settings.confidence).nonzero(as_tuple=True)[0]
        values, labels = best[rows], best_labels[rows]
    order = values.argsort(descending=True, stable=True)[: settings.max_candidates]
    candidates = Detections(boxes[rows[order]], values[order], labels[order])
    keep = survivors(candidates, settings)[: settings.max_detections]
    return Detections(*(part[keep] for part in candidates))


def survivors(candidates: Detections, settings: Protocol) -> Tensor:
    """Indices [m] of the candidates that no better one of their class suppresses, best first."""
    boxes, scores, labels = candidates
    if settings.class_shift != "extent":
        return suppressed(boxes + labels[:, None] * settings.class_shift, scores, settings.iou)
    if len(boxes) < CLASS_BY_CLASS_FROM:
        extent = boxes.max() + 1 if len(boxes) else 0.0
        return suppressed(boxes + labels[:, None] * extent, scores, settings.iou)
    kept = []
    for label in range(int(labels.max()) + 1):
        indices = (labels == label).nonzero(as_tuple=True)[0]
        kept.append(indices[suppressed(boxes[indices], scores[indices], settings.iou)])
    together = torch.cat(kept)
    return together[scores[together].argsort(descending=True, stable=True)]


def suppressed(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Indices of the boxes that overlap no better one by more than `iou`, best first."""
    from torchvision.ops import nms as torchvision_nms  # here, as it takes two seconds to import

    kept: Tensor = torchvision_nms(boxes, scores, iou)
    return kept
