"""The building blocks of YOLOv8 and YOLOv9: convolutions, aggregation, downsampling, pooling.

Names follow arXiv:2402.13616; every block maps [B, C, H, W] to [B, C', H', W'].
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d, pad, silu

from yolov9bench.nn.recomputed import Recomputable
from yolov9bench.zoo.specs import Block, DownKind

NORM_EPSILON = 1e-3
NORM_MOMENTUM = 0.03


class FusedConv(nn.Module):
    """A biased convolution and its activation: what folding makes of ConvBNAct and RepConv."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.activation(self.conv(x)))


class SiLU(nn.SiLU):
    """SiLU, in place where no gradient is wanted; where one is, autograd would copy what is overwritten."""

    def forward(self, x: Tensor) -> Tensor:
        return silu(x, inplace=not torch.is_grad_enabled())


class ConvBNAct(Recomputable):
    """Convolution without bias ("same" padding), batch normalisation, SiLU."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            channels_in, channels_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(channels_out, eps=NORM_EPSILON, momentum=NORM_MOMENTUM)
        self.activation = SiLU() if activate else nn.Identity()

    def compute(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.activation(self.norm(self.conv(x))))

    def fused_weight(self) -> tuple[Tensor, Tensor]:
        """Kernel and bias, in float64, of the one convolution that equals this module in eval mode."""
        norm = self.norm
        if self.conv.weight.is_meta:  # shapes alone: nothing to compute, and every step on them takes as long
            return self.conv.weight.double(), norm.bias.double()
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        bias = norm.bias.double() - norm.running_mean.double() * scale
        return self.conv.weight.double() * scale[:, None, None, None], bias

    def fuse(self) -> FusedConv:
        """The same function as one biased convolution (inference only)."""
        return FusedConv(make_biased_conv(self.conv, *self.fused_weight()), self.activation)


class RepConv(nn.Module):
    """A 3x3 and a 1x1 convolution, each with its own normalisation, added and activated."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.three = ConvBNAct(channels_in, channels_out, 3, activate=False)
        self.one = ConvBNAct(channels_in, channels_out, 1, activate=False)
        self.activation = SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.activation(self.three(x) + self.one(x)))

    def fuse(self) -> FusedConv:
        """The same function as one biased 3x3 convolution: the 1x1 kernel sits in the centre."""
        (three, bias_three), (one, bias_one) = self.three.fused_weight(), self.one.fused_weight()
        weight = three + pad(one, [1, 1, 1, 1])
        return FusedConv(make_biased_conv(self.three.conv, weight, bias_three + bias_one), self.activation)


def make_biased_conv(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> nn.Conv2d:
    """A convolution of the same geometry, dtype and device with this kernel and bias."""
    kernel, stride, padding = (
        cast(tuple[int, int], size) for size in (conv.kernel_size, conv.stride, conv.padding)
    )
    with torch.device("meta"):
        biased = nn.Conv2d(
            conv.in_channels, conv.out_channels, kernel, stride, padding, groups=conv.groups, bias=True
        )
    biased.weight = nn.Parameter(weight.detach().to(conv.weight.dtype))
    biased.bias = nn.Parameter(bias.detach().to(conv.weight.dtype))
    return biased


class Bottleneck(nn.Module):
    """Two 3x3 convolutions of one width, the first re-parameterizable or plain, added to the input or not."""

    def __init__(self, channels: int, rep: bool, shortcut: bool) -> None:
        super().__init__()
        self.first = RepConv(channels, channels) if rep else ConvBNAct(channels, channels, 3)
        self.second = ConvBNAct(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = cast(Tensor, self.second(self.first(x)))
        return x + y if self.shortcut else y


class RepCSP(nn.Module):
    """Cross-stage partial block: a chain of re-parameterizable bottlenecks beside a 1x1 convolution."""

    def __init__(self, channels_in: int, channels_out: int, depth: int) -> None:
        super().__init__()
        hidden = channels_out // 2
        self.main = ConvBNAct(channels_in, hidden)
        self.side = ConvBNAct(channels_in, hidden)
        self.bottlenecks = nn.Sequential(*(Bottleneck(hidden, rep=True, shortcut=True) for _ in range(depth)))
        self.merge = ConvBNAct(2 * hidden, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.merge(torch.cat([self.bottlenecks(self.main(x)), self.side(x)], dim=1)))


class Aggregation(Recomputable):
    """C2f, ELAN and GELAN's RepNCSPELAN4 in one: enter, halve, chain the parts, join everything, leave."""

    def __init__(self, channels_in: int, block: Block) -> None:
        super().__init__()
        self.entry = ConvBNAct(channels_in, block.split)
        self.parts = nn.ModuleList(make_parts(block))
        self.exit = ConvBNAct(block.split + len(self.parts) * block.part, block.out)

    def compute(self, x: Tensor) -> Tensor:
        pieces = list(self.entry(x).chunk(2, dim=1))
        for part in self.parts:
            pieces.append(part(pieces[-1]))
        return cast(Tensor, self.exit(torch.cat(pieces, dim=1)))


def make_parts(block: Block) -> list[nn.Module]:
    """The chain inside an aggregation block: the first part sees half of the split, the others a part."""
    widths = (block.split // 2, block.part)
    if block.kind == "c2f":
        return [Bottleneck(block.part, rep=False, shortcut=block.shortcut) for _ in range(block.depth)]
    if block.kind == "elan":
        return [ConvBNAct(width, block.part, 3) for width in widths]
    return [
        nn.Sequential(RepCSP(width, block.part, block.depth), ConvBNAct(block.part, block.part, 3))
        for width in widths
    ]


class SPPF(Recomputable):
    """SPPF and SPPELAN: the input and three chained 5x5 max pools of it, joined by 1x1 convolutions."""

    def __init__(self, channels_in: int, hidden: int, channels_out: int) -> None:
        super().__init__()
        self.entry = ConvBNAct(channels_in, hidden)
        self.exit = ConvBNAct(4 * hidden, channels_out)

    def compute(self, x: Tensor) -> Tensor:
        pieces = [self.entry(x)]
        for _ in range(3):
            pieces.append(max_pool2d(pieces[-1], kernel_size=5, stride=1, padding=2))
        return cast(Tensor, self.exit(torch.cat(pieces, dim=1)))


class AConv(Recomputable):
    """Halve the resolution: a 2x2 average of stride 1, then a 3x3 convolution of stride 2."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.wide = ConvBNAct(channels_in, channels_out, 3, stride=2)

    def compute(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.wide(avg_pool2d(x, kernel_size=2, stride=1)))


class ADown(Recomputable):
    """Halve the resolution: a 2x2 average, then one half convolved by stride 2 and the other max-pooled."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.wide = ConvBNAct(channels_in // 2, channels_out // 2, 3, stride=2)
        self.pooled = ConvBNAct(channels_in // 2, channels_out // 2)

    def compute(self, x: Tensor) -> Tensor:
        first, second = avg_pool2d(x, kernel_size=2, stride=1).chunk(2, dim=1)
        second = max_pool2d(second, kernel_size=3, stride=2, padding=1)
        return torch.cat([self.wide(first), self.pooled(second)], dim=1)


def make_downsample(kind: DownKind, channels_in: int, channels_out: int) -> nn.Module:
    """The module that halves the resolution in this family of networks."""
    if kind == "conv":
        return ConvBNAct(channels_in, channels_out, 3, stride=2)
    return {"aconv": AConv, "adown": ADown}[kind](channels_in, channels_out)
