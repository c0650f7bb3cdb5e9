"""The three-level detection head in its three published forms, and the type of what it returns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from yolov9bench.nn.blocks import ConvBNAct
from yolov9bench.zoo.specs import Head

REG_MAX = 16  # reg_max of the distribution focal loss
STRIDES = (8, 16, 32)


class Level(NamedTuple):
    """Raw maps of one stride: box logits [B, 64, h, w] (l, t, r, b x 16 bins), class logits [B, C, h, w]."""

    box_logits: Tensor
    class_logits: Tensor


Levels = tuple[Level, Level, Level]


class DetectionHead(nn.Module):
    """P3, P4, P5 -> three Levels; every level has a box branch and a class branch of its own."""

    def __init__(self, channels: Sequence[int], head: Head, classes: int) -> None:
        super().__init__()
        self.boxes = nn.ModuleList(make_box_branch(width, head) for width in channels)
        self.classes = nn.ModuleList(make_class_branch(width, head, classes) for width in channels)

    def forward(self, features: Sequence[Tensor]) -> Levels:
        first, second, third = (
            Level(box(feature), score(feature))
            for box, score, feature in zip(self.boxes, self.classes, features, strict=True)
        )
        return first, second, third

    def set_biases(self, image_size: int = 640) -> None:
        """Start from equal bins and from 5 objects an image (the prior of arXiv:1708.02002)."""
        for box, score, stride in zip(self.boxes, self.classes, STRIDES, strict=True):
            box_bias, class_bias = last_bias(box), last_bias(score)
            with torch.no_grad():
                box_bias.fill_(1.0)
                class_bias.fill_(math.log(5 / class_bias.numel() / (image_size / stride) ** 2))


def last_bias(branch: nn.Module) -> Tensor:
    """The bias of a branch's last convolution."""
    *_, last = branch.children()
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    return last.bias


def make_box_branch(channels: int, head: Head) -> nn.Sequential:
    """3x3, 3x3, 1x1 to 64 box logits; the official head groups the last two by side of the box."""
    groups = 4 if head.form == "grouped" else 1
    return nn.Sequential(
        ConvBNAct(channels, head.box_width, 3),
        ConvBNAct(head.box_width, head.box_width, 3, groups=groups),
        nn.Conv2d(head.box_width, 4 * REG_MAX, 1, groups=groups),
    )


def make_class_branch(channels: int, head: Head, classes: int) -> nn.Sequential:
    """3x3, 3x3, 1x1 to class logits; in the depthwise form each 3x3 is a depthwise and a pointwise one."""
    width = head.class_width
    if head.form != "depthwise":
        hidden: list[nn.Module] = [ConvBNAct(channels, width, 3), ConvBNAct(width, width, 3)]
    else:
        hidden = [
            nn.Sequential(ConvBNAct(entering, entering, 3, groups=entering), ConvBNAct(entering, width))
            for entering in (channels, width)
        ]
    return nn.Sequential(*hidden, nn.Conv2d(width, classes, 1))
