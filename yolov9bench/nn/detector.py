"""The detector: a backbone, a main branch and, in training, an auxiliary branch, composed from a Spec."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from yolov9bench.nn.backbone import Backbone, CBBackbone, level_widths
from yolov9bench.nn.blocks import ConvBNAct, RepConv
from yolov9bench.nn.head import DetectionHead, Levels
from yolov9bench.nn.pyramid import PAFPN, pyramid_widths
from yolov9bench.zoo.specs import Spec


class Outputs(NamedTuple):
    """What a detector returns in every mode; `aux` is None without an auxiliary branch."""

    main: Levels
    aux: Levels | None


class Branch(nn.Module):
    """From the first backbone's features to a head, by way of a second backbone, a pyramid, or both."""

    def __init__(self, reversible: CBBackbone | None, pyramid: PAFPN | None, head: DetectionHead) -> None:
        super().__init__()
        self.reversible = reversible
        self.pyramid = pyramid
        self.head = head

    def forward(self, images: Tensor, features: Sequence[Tensor]) -> Levels:
        if self.reversible is not None:
            features = self.reversible(images, features)
        levels = features[-3:] if self.pyramid is None else self.pyramid(features)
        outputs: Levels = self.head(levels)
        return outputs


class Detector(nn.Module):
    """Images [B, 3, H, W], RGB in 0..1, sides divisible by 32 -> Outputs of raw maps at strides 8, 16, 32."""

    def __init__(self, spec: Spec, classes: int) -> None:
        super().__init__()
        self.spec = spec
        self.num_classes = classes
        self.fused = False
        self.backbone = Backbone(spec)
        self.main = make_main_branch(spec, classes)
        self.aux = None if spec.aux is None else make_aux_branch(spec, classes)

    def forward(self, images: Tensor) -> Outputs:
        features = self.backbone(images)
        aux = None if self.aux is None else self.aux(images, features)
        return Outputs(self.main(images, features), aux)

    def without_aux(self) -> Detector:
        """This detector with its auxiliary branch, and the mention of it in its Spec, taken off."""
        self.aux = None
        self.spec = replace(self.spec, aux=None, aux_head=None)
        return self

    def deployed(self) -> Detector:
        """A copy in eval mode: no auxiliary branch, BatchNorm and RepConv folded (in float64)."""
        copied = copy.deepcopy(self).without_aux()
        fuse_batchnorm(copied)
        return copied.eval().requires_grad_(False)


def make_main_branch(spec: Spec, classes: int) -> Branch:
    """The branch that detects: yolov9-e's and gelan-e's runs over a second backbone fused at every level."""
    reversible = CBBackbone(spec, levels=(1, 2, 3, 4, 5)) if spec.reversible else None
    head = DetectionHead(pyramid_widths(spec, bottom_up=True), spec.head, classes)
    return Branch(reversible, PAFPN(spec, bottom_up=True), head)


def make_aux_branch(spec: Spec, classes: int) -> Branch:
    """The branch that only helps training: a top-down pyramid, or a backbone fused at strides 8, 16, 32."""
    if spec.aux_head is None:
        raise ValueError(f"{spec.name} has an auxiliary branch but no aux_head: give its widths")
    if spec.aux == "pyramid":
        head = DetectionHead(pyramid_widths(spec, bottom_up=False), spec.aux_head, classes)
        return Branch(None, PAFPN(spec, bottom_up=False), head)
    head = DetectionHead(level_widths(spec)[-3:], spec.aux_head, classes)
    return Branch(CBBackbone(spec, levels=(3, 4, 5)), None, head)


def fuse_batchnorm(module: nn.Module) -> None:
    """Replace every ConvBNAct and RepConv below a module by the one convolution it equals in eval mode."""
    for name, child in module.named_children():
        if isinstance(child, ConvBNAct | RepConv):
            setattr(module, name, child.fuse())
        else:
            fuse_batchnorm(child)
    if isinstance(module, Detector):
        module.fused = True


def build(spec: Spec, classes: int = 80, seed: int = 0) -> Detector:
    """A freshly initialised detector, the same for the same seed, leaving torch's global generator alone.

    Convolutions keep torch's default initialisation; head biases as in `DetectionHead.set_biases`.
    Raises ValueError for fewer than one class.
    """
    if classes < 1:
        raise ValueError(f"a detector needs at least one class, not {classes}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        detector = Detector(spec, classes)
    for branch in (detector.main, detector.aux):
        if branch is not None:
            branch.head.set_biases()
    return detector


def skeleton(spec: Spec, classes: int, fused: bool = False) -> Detector:
    """A detector without storage (torch's meta device), to be filled by `load_state_dict(assign=True)`."""
    with torch.device("meta"):
        detector = Detector(spec, classes)
    if fused:
        fuse_batchnorm(detector)
    return detector
