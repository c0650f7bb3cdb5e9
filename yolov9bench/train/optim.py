"""Optimisation as a Recipe states it: parameter groups, rates by iteration, averaged weights."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from yolov9bench.errors import SettingsError
from yolov9bench.nn.detector import Detector
from yolov9bench.zoo.recipe import EmaSettings, Recipe


@dataclass(frozen=True)
class Rates:
    """What holds in one iteration; learning rates in the order of `parameter_groups`."""

    learning_rates: tuple[float, float, float]
    momentum: float
    accumulation: int  # iterations whose gradients make one step of the optimiser

    def apply(self, optimizer: torch.optim.Optimizer) -> None:
        """Set rates and momentum of an optimiser made by `make_optimizer`."""
        for group, rate in zip(optimizer.param_groups, self.learning_rates, strict=True):
            group["lr"] = rate
            if "betas" in group:
                group["betas"] = (self.momentum, group["betas"][1])
            else:
                group["momentum"] = self.momentum


@dataclass(frozen=True)
class Schedule:
    """The rates of every iteration: a function of its number alone, so that resuming needs no state.

    `images_per_iteration` counts the images of all GPUs. SettingsError for a number below 1.
    """

    recipe: Recipe
    batches_per_epoch: int
    epochs: int
    images_per_iteration: int

    def __post_init__(self) -> None:
        for name in ("batches_per_epoch", "epochs", "images_per_iteration"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}: give a number from 1 up.")

    @property
    def warmup_iterations(self) -> int:
        """The first iteration that runs at full rates."""
        settings = self.recipe.optimizer
        return max(round(settings.warmup_epochs * self.batches_per_epoch), settings.warmup_minimum_iterations)

    def factor(self, epoch: int) -> float:
        """What the learning rate is multiplied by in an epoch, counted from 0, leaving the lag aside."""
        final = self.recipe.optimizer.final_learning_rate_factor
        return (1 - epoch / self.epochs) * (1 - final) + final

    def at(self, iteration: int) -> Rates:
        """The rates of an iteration, counted from 0 over all epochs; linear in it during warm-up.

        The lag of a recipe begins with the epoch after the one in which warm-up ends.
        """
        settings, warmup = self.recipe.optimizer, self.warmup_iterations
        epoch = iteration // self.batches_per_epoch
        if epoch > warmup // self.batches_per_epoch:
            epoch -= settings.schedule_lag_epochs
        rate = settings.learning_rate * self.factor(epoch)
        progress = iteration / warmup if iteration < warmup else 1.0
        weights = _between(0.0, rate, progress)
        biases = _between(settings.warmup_bias_learning_rate, rate, progress)
        return Rates(
            learning_rates=(weights, weights, biases),
            momentum=_between(settings.warmup_momentum, settings.momentum, progress),
            accumulation=max(
                round(_between(1.0, settings.nominal_batch / self.images_per_iteration, progress)), 1
            ),
        )


class Ema:
    """A detector whose weights follow another's as an average; this one is validated and saved.

    Update n, from 1, keeps the share decay * (1 - exp(-n / tau)) of the average. BatchNorm's
    statistics are averaged like weights; its count of batches stays as it was when the average began: at
    construction, or at the first update where the recipe lets that one copy.
    """

    def __init__(self, detector: Detector, settings: EmaSettings) -> None:
        self.settings = settings
        self.detector = copy.deepcopy(detector).eval().requires_grad_(False)
        self.updates = 0

    def decay(self, update: int) -> float:
        """The share of the average that an update, counted from 1, keeps."""
        if update == 1 and self.settings.first_update_copies:
            return 0.0
        return self.settings.decay * (1 - math.exp(-update / self.settings.tau))

    @torch.no_grad()
    def update(self, detector: Detector) -> None:
        """Take in the weights of the trained detector: once after every step of the optimiser."""
        self.updates += 1
        decay = self.decay(self.updates)
        if decay == 0.0:
            self.detector.load_state_dict(detector.state_dict())
            return
        mix = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        mix(floating(self.detector), floating(detector), self.updates)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold to resume; the tensors are the average's own, not copies."""
        return {"updates": self.updates, "tensors": self.detector.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.updates = state["updates"]
        self.detector.load_state_dict(state["tensors"])


def floating(detector: Detector) -> list[Tensor]:
    """Parameters and BatchNorm's statistics, but not its counts."""
    tensors = itertools.chain(detector.parameters(), detector.buffers())
    return [tensor.detach() for tensor in tensors if tensor.is_floating_point()]


def parameter_groups(detector: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Three groups: weights, which alone decay; BatchNorm's weights; all biases.

    This is mmyolo's order. YOLOv9 begins with the biases, which changes no number: a parameter's step depends
    on its own group alone.
    """
    weights: list[Tensor] = []
    norms: list[Tensor] = []
    biases: list[Tensor] = []
    for module in detector.modules():
        for name, parameter in module.named_parameters(recurse=False):
            group = biases if name == "bias" else norms if isinstance(module, _BatchNorm) else weights
            group.append(parameter)
    return [
        {"params": weights, "weight_decay": weight_decay},
        {"params": norms, "weight_decay": 0.0},
        {"params": biases, "weight_decay": 0.0},
    ]


def scale_weight_decay(recipe: Recipe, images_per_iteration: int) -> float:
    """The recipe's weight decay in proportion to the images of a step, accumulated ones included."""
    recipe_images = recipe.run.gpus * recipe.run.images_per_gpu
    images, usual = (images_per_step(recipe, count) for count in (images_per_iteration, recipe_images))
    return recipe.optimizer.weight_decay * images / usual


def make_optimizer(detector: nn.Module, recipe: Recipe, images_per_iteration: int) -> torch.optim.Optimizer:
    """The recipe's optimiser; rates and momentum are those after warm-up until a Rates is applied.

    SGD is not torch's fused one (seen in 2.14): where a GradScaler skips its first step, that one leaves its
    momentum buffers uninitialised and takes them as momentum later. AdamW starts from zeros and is safe.
    """
    groups = parameter_groups(detector, scale_weight_decay(recipe, images_per_iteration))
    rate, momentum = recipe.optimizer.learning_rate, recipe.optimizer.momentum
    if recipe.optimizer.algorithm == "adamw":
        return torch.optim.AdamW(groups, lr=rate, betas=(momentum, 0.999), fused=True)
    nesterov = recipe.optimizer.nesterov
    return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=nesterov, foreach=True)


def images_per_step(recipe: Recipe, images_per_iteration: int) -> int:
    """Images whose gradients make a step after warm-up: iterations add up to about the nominal batch."""
    return images_per_iteration * max(round(recipe.optimizer.nominal_batch / images_per_iteration), 1)


def _between(start: float, end: float, progress: float) -> float:
    """`end` itself, and not a rounding error beside it, once progress is 1."""
    return end if progress == 1 else start + (end - start) * progress
