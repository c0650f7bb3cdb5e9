"""The feature pyramid: pooling, a top-down path, and for the main branch a bottom-up path."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from yolov9bench.nn.backbone import level_widths
from yolov9bench.nn.blocks import SPPF, Aggregation, make_downsample
from yolov9bench.zoo.specs import Spec


class BottomUp(nn.Module):
    """Halve the finer level, join the coarser one, aggregate."""

    def __init__(self, down: nn.Module, block: Aggregation) -> None:
        super().__init__()
        self.down = down
        self.block = block

    def forward(self, finer: Tensor, coarser: Tensor) -> Tensor:
        joined: Tensor = self.block(torch.cat([self.down(finer), coarser], dim=1))
        return joined


class PAFPN(nn.Module):
    """Features of strides 2 to 32 -> P3, P4, P5 (strides 8, 16, 32) of widths `pyramid_widths`."""

    def __init__(self, spec: Spec, bottom_up: bool) -> None:
        super().__init__()
        *_, width3, width4, width5 = level_widths(spec)
        block4, block3 = spec.top_down
        self.pool = SPPF(width5, spec.pool.hidden, spec.pool.out)
        self.top_down = nn.ModuleList(
            [Aggregation(spec.pool.out + width4, block4), Aggregation(block4.out + width3, block3)]
        )
        self.bottom_up = nn.ModuleList()
        if bottom_up:
            stage4, stage5 = spec.bottom_up
            for entering, stage, coarser in (
                (block3.out, stage4, block4.out),
                (stage4.block.out, stage5, spec.pool.out),
            ):
                down = make_downsample(spec.down, entering, stage.down)
                self.bottom_up.append(BottomUp(down, Aggregation(stage.down + coarser, stage.block)))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        _, _, feature3, feature4, feature5 = features
        outputs = [self.pool(feature5)]
        for block, lateral in zip(self.top_down, (feature4, feature3), strict=True):
            enlarged = interpolate(outputs[0], scale_factor=2.0, mode="nearest")
            outputs.insert(0, block(torch.cat([enlarged, lateral], dim=1)))
        for index, stage in enumerate(self.bottom_up, start=1):
            outputs[index] = stage(outputs[index - 1], outputs[index])
        return outputs


def pyramid_widths(spec: Spec, bottom_up: bool) -> tuple[int, int, int]:
    """Channels of P3, P4 and P5 behind the pyramid."""
    block4, block3 = spec.top_down
    if not bottom_up:
        return block3.out, block4.out, spec.pool.out
    stage4, stage5 = spec.bottom_up
    return block3.out, stage4.block.out, stage5.block.out
