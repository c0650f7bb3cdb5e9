"""How a fresh detector starts where a recipe departs from torch's defaults."""

from __future__ import annotations

import torch
from torch import nn

from yolov9bench.nn.blocks import ConvBNAct
from yolov9bench.nn.detector import Detector


def initialise_head(detector: Detector, seed: int) -> None:
    """Draw the convolutions of the main head again from N(0, 2 / (kernel area * channels out)).

    This is He initialisation by fan-out (arXiv:1502.01852), mmcv's for its own convolutions. The last 1x1
    convolutions and all biases stay as `build` made them; torch's global generator is left alone.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in detector.main.head.modules():
        if isinstance(module, ConvBNAct):
            weight = module.conv.weight
            nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu", generator=generator)
