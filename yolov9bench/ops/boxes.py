"""Boxes as tensors, in pixels x1 y1 x2 y2 unless a name says otherwise: distances and overlap."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CIOU_EPSILON = 1e-7


def boxes_to_distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Points [..., 2] and boxes [..., 4] -> distances [..., 4] to the left, top, right, bottom sides.

    The inverse of `predict.postprocess.distances_to_boxes`; negative where a point lies beyond that side.
    """
    low, high = boxes.chunk(2, dim=-1)
    return torch.cat([points - low, high - points], dim=-1)


def ciou(first: Tensor, second: Tensor) -> Tensor:
    """Complete IoU (arXiv:1911.08287) of boxes [..., 4] and [..., 4], broadcast; above -1.5, at most 1.

    Overlap, less the centres' distance, less a weighted difference in aspect; the weight is a constant to the
    gradient. 1e-7 stands where both references of the training loss have it: on the heights but not on the
    widths, on the union, on the enclosing diagonal and in the weight.
    """
    left, top, right, bottom = first.unbind(-1)
    other_left, other_top, other_right, other_bottom = second.unbind(-1)
    width, height = right - left, bottom - top + CIOU_EPSILON
    other_width, other_height = other_right - other_left, other_bottom - other_top + CIOU_EPSILON

    across = (torch.minimum(right, other_right) - torch.maximum(left, other_left)).clamp(min=0)
    down = (torch.minimum(bottom, other_bottom) - torch.maximum(top, other_top)).clamp(min=0)
    shared = across * down
    iou = shared / (width * height + other_width * other_height - shared + CIOU_EPSILON)

    reach_x = torch.maximum(right, other_right) - torch.minimum(left, other_left)
    reach_y = torch.maximum(bottom, other_bottom) - torch.minimum(top, other_top)
    apart_x = (other_left + other_right - left - right) / 2
    apart_y = (other_top + other_bottom - top - bottom) / 2
    distance = (apart_x**2 + apart_y**2) / (reach_x**2 + reach_y**2 + CIOU_EPSILON)

    angle = torch.atan(other_width / other_height) - torch.atan(width / height)
    aspect = 4 / math.pi**2 * angle**2
    with torch.no_grad():
        weight = aspect / (aspect - iou + (1 + CIOU_EPSILON))
    return iou - (distance + weight * aspect)
