"""Raw maps to boxes and scores."""

from __future__ import annotations

import torch
from torch import Tensor

from yolov9bench.nn.head import REG_MAX, STRIDES, Levels
from yolov9bench.ops.boxes import distances_to_boxes, grid_points


def decode(levels: Levels) -> tuple[Tensor, Tensor]:
    """Boxes [B, A, 4] in input pixels (xyxy, not clipped) and sigmoid scores [B, A, C], at least float32.

    A cell's distance to each side is the mean of the softmax over 16 bins (arXiv:2006.04388), in
    cells; levels follow one another, each row by row.
    """
    dtype = torch.promote_types(levels[0].box_logits.dtype, torch.float32)
    logits = torch.cat([level.box_logits.flatten(2) for level in levels], dim=2).to(dtype)  # [B, 64, A]
    distances = expected_distances(logits.reshape(len(logits), 4, REG_MAX, -1).permute(0, 3, 1, 2))
    points, strides = cells(levels, like=logits)
    scores = torch.cat([level.class_logits.flatten(2) for level in levels], dim=2).to(dtype).sigmoid()
    return distances_to_boxes(points, distances) * strides, scores.transpose(1, 2)


def cells(levels: Levels, like: Tensor) -> tuple[Tensor, Tensor]:
    """Centres [A, 2] of a head's cells, in cells, and strides [A, 1]; `like` gives dtype and device."""
    shapes = [(level.box_logits.shape[2], level.box_logits.shape[3]) for level in levels]
    return grid_points(shapes, STRIDES, like)


def expected_distances(logits: Tensor) -> Tensor:
    """Bin logits [..., 16] -> expected bin [...]."""
    bins = torch.arange(REG_MAX, dtype=logits.dtype, device=logits.device)
    return logits.softmax(dim=-1) @ bins
