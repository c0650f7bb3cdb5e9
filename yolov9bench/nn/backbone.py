"""The backbone (a stem and four stages) and the reversible second backbone that the first one feeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn.functional import interpolate

from yolov9bench.nn.blocks import Aggregation, ConvBNAct, make_downsample
from yolov9bench.zoo.specs import Spec, Stage


class DownStage(nn.Module):
    """Halve the resolution, add what another backbone sends to this level, aggregate."""

    def __init__(self, down: nn.Module, stage: Stage) -> None:
        super().__init__()
        self.down = down
        self.block = Aggregation(stage.down, stage.block)

    def forward(self, x: Tensor, additions: Sequence[Tensor] = ()) -> Tensor:
        return cast(Tensor, self.block(cb_fuse(self.down(x), additions)))


class Backbone(nn.Module):
    """Image [B, 3, H, W] -> five features; level k, from 1, has stride 2**k (widths: `level_widths`)."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        widths = level_widths(spec)
        self.stem = ConvBNAct(3, spec.stem, 3, stride=2)
        self.stages = nn.ModuleList(
            DownStage(make_downsample("conv" if index == 0 else spec.down, width, stage.down), stage)
            for index, (width, stage) in enumerate(zip(widths, spec.stages, strict=False))
        )

    def forward(
        self, images: Tensor, additions: Mapping[int, Sequence[Tensor]] | None = None
    ) -> list[Tensor]:
        additions = additions or {}
        features = [cb_fuse(self.stem(images), additions.get(1, ()))]
        for level, stage in enumerate(self.stages, start=2):
            features.append(stage(features[-1], additions.get(level, ())))
        return features


class CBBackbone(nn.Module):
    """A second backbone on the same image, to which the first sends its features at each of `levels`.

    CBLinear and CBFuse of the YOLOv9 paper: a biased 1x1 convolution per level of the first backbone,
    whose pieces go to that and every finer level: enlarged (nearest) and added behind the downsampling.
    """

    def __init__(self, spec: Spec, levels: Sequence[int]) -> None:
        super().__init__()
        outputs = level_widths(spec)
        entered = (spec.stem, *(stage.down for stage in spec.stages))
        self.levels = tuple(levels)
        self.pieces = [[entered[fine - 1] for fine in levels if fine <= level] for level in levels]
        self.projections = nn.ModuleList(
            nn.Conv2d(outputs[level - 1], sum(pieces), 1)
            for level, pieces in zip(levels, self.pieces, strict=True)
        )
        self.backbone = Backbone(spec)

    def forward(self, images: Tensor, features: Sequence[Tensor]) -> list[Tensor]:
        additions: dict[int, list[Tensor]] = {level: [] for level in self.levels}
        for level, projection, pieces in zip(self.levels, self.projections, self.pieces, strict=True):
            projected = projection(features[level - 1]).split(pieces, dim=1)
            for target, piece in zip(self.levels, projected, strict=False):
                additions[target].append(piece)
        return cast(list[Tensor], self.backbone(images, additions))


def level_widths(spec: Spec) -> tuple[int, ...]:
    """Channels of the backbone's five features, stride 2 first."""
    return (spec.stem, *(stage.block.out for stage in spec.stages))


def cb_fuse(x: Tensor, additions: Sequence[Tensor]) -> Tensor:
    """The sum of a feature and of others enlarged to its size (nearest neighbour)."""
    for addition in additions:
        x = x + interpolate(addition, size=x.shape[-2:], mode="nearest")
    return x
