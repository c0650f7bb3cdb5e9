"""Keep the first parts of a backbone as they are while the rest is trained."""

from __future__ import annotations

from torch.nn.modules.batchnorm import _BatchNorm

from yolov9bench.nn.detector import Detector


def freeze_backbone(detector: Detector, parts: int) -> None:
    """Ask for no gradients of the first parts of the backbone: 1 is the stem, 2 to 5 are it and its stages.

    Of two backbones it is the first, whose features the other takes. `set_training_mode` keeps the statistics
    of their BatchNorm. To be called before the detector is shared among processes, which then exchange
    gradients of the rest alone.
    """
    for part in [detector.backbone.stem, *detector.backbone.stages][:parts]:
        part.requires_grad_(False)


def set_training_mode(detector: Detector) -> None:
    """Train mode, but for every BatchNorm whose weights are frozen: it normalises by what it has learnt."""
    detector.train()
    for module in detector.modules():
        if isinstance(module, _BatchNorm) and not module.weight.requires_grad:
            module.eval()
