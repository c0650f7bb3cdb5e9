"""Boxes and grid points. Boxes are pixels, x1 y1 x2 y2, unless a name says otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Centre and size [..., 4] -> corners [..., 4]."""
    centre, size = boxes.chunk(2, dim=-1)
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Corners [..., 4] -> centre and size [..., 4]."""
    low, high = boxes.chunk(2, dim=-1)
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def grid_points(
    shapes: Sequence[tuple[int, int]], strides: Sequence[int], like: Tensor
) -> tuple[Tensor, Tensor]:
    """Centres of the cells of several maps, row by row, in cells: points [A, 2] (x, y) and strides [A, 1].

    `like` gives dtype and device; in half precision the points of a 1280 px image would no longer be exact.
    """
    points, scales = [], []
    for (height, width), stride in zip(shapes, strides, strict=True):
        ys = torch.arange(height, dtype=like.dtype, device=like.device) + 0.5
        xs = torch.arange(width, dtype=like.dtype, device=like.device) + 0.5
        grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
        points.append(torch.stack([grid_x, grid_y], dim=-1).reshape(-1, 2))
        scales.append(like.new_full((height * width, 1), float(stride)))
    return torch.cat(points), torch.cat(scales)


def distances_to_boxes(points: Tensor, distances: Tensor) -> Tensor:
    """Points [A, 2] and distances [..., A, 4] to the left, top, right, bottom sides -> boxes [..., A, 4]."""
    low, high = distances.chunk(2, dim=-1)
    return torch.cat([points - low, points + high], dim=-1)
