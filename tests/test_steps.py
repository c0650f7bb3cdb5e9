"""Steps of the loop on real images, against the formulas written out."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from yolov9bench.data.coco import read_coco
from yolov9bench.data.loader import TrainingBatches
from yolov9bench.nn import Detector, build
from yolov9bench.train.loop import forward_backward, optimizer_step
from yolov9bench.train.loss import detection_loss
from yolov9bench.train.optim import Rates
from yolov9bench.train.state import TERMS, make_state
from yolov9bench.zoo import RECIPES, SPECS

IMAGES, SIZE = 4, 160


def by_hand(
    detector: Detector,
    velocities: dict[str, Tensor],
    gradients: dict[str, Tensor],
    rates: Rates,
    decay: float,
) -> dict[str, Tensor]:
    """What the weights are after a step of clipped SGD with Nesterov's momentum; velocities are moved on."""
    norm = torch.sqrt(torch.stack([(gradient**2).sum() for gradient in gradients.values()]).sum())
    shrink = min(1.0, 10.0 / (norm.item() + 1e-6))
    after = {}
    for name, parameter in detector.named_parameters():
        is_weight, is_bias = parameter.ndim == 4, name.endswith(".bias")
        slope = gradients[name] * shrink + (decay * parameter.detach() if is_weight else 0)
        velocities[name] = rates.momentum * velocities[name] + slope if name in velocities else slope
        rate = rates.learning_rates[2 if is_bias else 0 if is_weight else 1]
        after[name] = parameter.detach() - rate * (slope + rates.momentum * velocities[name])
    return after


@pytest.mark.parametrize("name", ["yolov8-n", "yolov9-t"])
def test_steps_on_real_images_are_those_of_the_formula(shared: Path, name: str) -> None:
    recipe = RECIPES["yolov8-n" if name == "yolov8-n" else "yolov9"].varied(augmentation={"image_size": SIZE})
    dataset = read_coco(shared / "coco", "train2017", 2 * IMAGES)
    detector = build(SPECS[name], classes=len(dataset.categories), seed=0).double().train()
    state = make_state(detector, recipe, IMAGES, "float32")
    # 4 images at a time, 16 times: the decay stated for 128 images, at 64.
    decay = 0.0005
    velocities: dict[str, Tensor] = {}
    for number, (images, targets) in enumerate(TrainingBatches(dataset, recipe, IMAGES, seed=0)):
        rates = Rates((0.01, 0.008, 0.05), (0.8, 0.9)[number], accumulation=1)
        total = detection_loss(detector(images.double() / 255), targets, recipe)["total"]
        found = torch.autograd.grad(total, list(detector.parameters()))
        names = [name for name, _ in detector.named_parameters()]
        # The running statistics of that forward pass change no gradient of this one.
        after = by_hand(detector, velocities, dict(zip(names, found, strict=True)), rates, decay)
        losses = forward_backward(state, images, targets, recipe, "float32")
        assert losses[TERMS.index("total")].item() == pytest.approx(total.item(), rel=1e-12)
        optimizer_step(state, rates, recipe.optimizer.clip_norm)
        for key, parameter in detector.named_parameters():
            assert (parameter - after[key]).abs().max() <= 1e-9, (number, key)
    assert len(velocities) == len(names)
    assert len(targets) > 0
