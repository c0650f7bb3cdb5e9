"""The training loop: steps, averaged weights, one line of log an epoch, and a checkpoint to go on from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from yolov9bench.errors import TrainingError
from yolov9bench.nn.detector import Detector
from yolov9bench.train.loss import detection_loss
from yolov9bench.train.optim import Ema, Rates, Schedule, make_optimizer
from yolov9bench.zoo.recipes import Recipe

Precision = Literal["float32", "float16", "bfloat16"]
Batch = tuple[
    Tensor, Tensor
]  # images uint8 [B, 3, H, W] in RGB; targets [n, 6]: image, class, x1, y1, x2, y2 px
SECONDS_BETWEEN_CHECKPOINTS = 600.0
TERMS = ("box", "cls", "dfl", "total")

logger = logging.getLogger("yolov9bench")


@dataclass
class State:
    """Everything that changes while training; what `as_dict` returns brings it back exactly.

    `epoch` and `batch` are the next ones to be trained. `pending` counts the iterations since the last step
    of the optimiser, whose gradients wait for it; at a checkpoint there are none.
    """

    detector: Detector
    optimizer: torch.optim.Optimizer
    ema: Ema
    scaler: torch.amp.GradScaler
    epoch: int = 0
    batch: int = 0
    iteration: int = 0
    pending: int = 0
    steps: int = 0
    best: float = -1.0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TERMS, 0.0))
    log: list[dict[str, Any]] = field(default_factory=list)

    COUNTERS = ("epoch", "batch", "iteration", "pending", "steps", "best", "sums", "log")

    def as_dict(self) -> dict[str, Any]:
        """Tensors and plain data; the tensors are those in use, to be written at once."""
        counters = {name: getattr(self, name) for name in self.COUNTERS}
        return counters | {
            "detector": self.detector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from what `as_dict` returned."""
        self.detector.load_state_dict(saved["detector"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.ema.restore(saved["ema"])
        self.scaler.load_state_dict(saved["scaler"])
        for name in self.COUNTERS:
            setattr(self, name, saved[name])


def begun(detector: Detector, recipe: Recipe, images_per_iteration: int, precision: Precision) -> State:
    """The state before the first iteration, on the detector's device."""
    device = next(detector.parameters()).device.type
    scaler = torch.amp.GradScaler(device, enabled=precision == "float16")
    optimizer = make_optimizer(detector, recipe, images_per_iteration)
    return State(detector, optimizer, Ema(detector, recipe), scaler)


def fit(
    state: State,
    schedule: Schedule,
    batches: Callable[[int, int], Iterable[Batch]],
    precision: Precision,
    after_epoch: Callable[[State], float | None],
    keep: Callable[[State], None],
    max_steps: int | None = None,
) -> None:
    """Train from where `state` stands to the schedule's last epoch, or to `max_steps` steps in all.

    `batches(epoch, start)` gives an epoch's batches from number `start` on. `after_epoch` returns the AP of
    the averaged detector, or None where it was not measured. `keep` writes a checkpoint: after each epoch and
    every ten minutes, always just behind a step. TrainingError for a loss that is not finite, and for a GPU
    that is too small; what was kept stays.
    """
    recipe, kept = schedule.recipe, monotonic()
    while state.epoch < schedule.epochs and not reached(state, max_steps):
        state.detector.train()
        state.optimizer.zero_grad()  # as both references do: gradients do not wait across epochs
        began, fresh = perf_counter(), reset_peak_memory(state)
        for images, targets in batches(state.epoch, state.batch):
            rates = schedule.at(state.iteration)
            losses = accumulate(state, images, targets, recipe, precision)
            for term in TERMS:
                state.sums[term] += losses[term]
            state.batch, state.iteration, state.pending = (
                state.batch + 1,
                state.iteration + 1,
                state.pending + 1,
            )
            if state.pending >= rates.accumulation:
                step(state, rates, recipe)
                if monotonic() - kept > SECONDS_BETWEEN_CHECKPOINTS:
                    keep(state)
                    kept = monotonic()
            if reached(state, max_steps):
                break
        entry: dict[str, Any] = {
            "epoch": state.epoch,
            "steps": state.steps,
            "seconds": round(perf_counter() - began, 3),
        }
        entry |= {term: total / max(state.batch, 1) for term, total in state.sums.items()}
        entry |= rates_entry(schedule, state) | peak_memory(fresh)
        state.epoch, state.batch, state.sums = state.epoch + 1, 0, dict.fromkeys(TERMS, 0.0)
        entry["AP"] = after_epoch(state)
        state.log.append(entry)
        ap = "not measured" if entry["AP"] is None else f"{entry['AP']:.4f}"
        logger.info("epoch %d: loss %.4f, AP %s", entry["epoch"], entry["total"], ap)
        keep(state)
        kept = monotonic()


def accumulate(
    state: State, images: Tensor, targets: Tensor, recipe: Recipe, precision: Precision
) -> dict[str, float]:
    """Add one batch's gradients to those that wait, and return its loss terms."""
    weight = next(state.detector.parameters())
    device = weight.device
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float16
    try:
        inputs = images.to(device, non_blocking=True).to(weight.dtype) / 255
        with torch.autocast(device.type, dtype=kind, enabled=precision != "float32"):
            outputs = state.detector(inputs.contiguous(memory_format=memory_format(device)))
        losses = detection_loss(outputs, targets.to(device), recipe)
        total = losses["total"]
        if not total.isfinite():
            raise TrainingError(
                f"the loss became {total.item()} in epoch {state.epoch}, iteration {state.iteration}: "
                "the last checkpoint is good; go on from it in float32, or with a lower learning rate"
            )
        state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{len(images)} images of {images.shape[-1]} px do not fit into the GPU's memory: halve the "
            f"batch size, gradients are accumulated to {recipe.nominal_batch} images a step all the same"
        ) from error
    return {term: losses[term].item() for term in TERMS}


def step(state: State, rates: Rates, recipe: Recipe) -> None:
    """One step of the optimiser on the gradients that wait, clipped; then the averaged weights follow."""
    rates.apply(state.optimizer)
    state.scaler.unscale_(state.optimizer)
    clip_grad_norm_(state.detector.parameters(), recipe.clip_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad()
    state.ema.update(state.detector)
    state.pending, state.steps = 0, state.steps + 1


def reached(state: State, max_steps: int | None) -> bool:
    """Whether the run has taken all the steps it may."""
    return max_steps is not None and state.steps >= max_steps


def memory_format(device: torch.device) -> torch.memory_format:
    """Channels last on a GPU, whose convolutions want it; as they come on a CPU."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def rates_entry(schedule: Schedule, state: State) -> dict[str, float]:
    """The rates of an epoch's last iteration, for the log."""
    rates = schedule.at(max(state.iteration - 1, 0))
    weights, _, biases = rates.learning_rates
    return {"rate": weights, "bias_rate": biases, "momentum": rates.momentum}


def reset_peak_memory(state: State) -> torch.device:
    """Let a GPU's peak begin anew, and say which device it is."""
    device = next(state.detector.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    return device


def peak_memory(device: torch.device) -> dict[str, int | None]:
    """Bytes that torch's allocator had allocated, and reserved, at most; None on a CPU, which counts none."""
    if device.type != "cuda":
        return {"bytes_allocated": None, "bytes_reserved": None}
    return {
        "bytes_allocated": torch.cuda.max_memory_allocated(device),
        "bytes_reserved": torch.cuda.max_memory_reserved(device),
    }
