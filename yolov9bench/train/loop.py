"""The training loop: steps, averaged weights, one line of log an epoch, and a checkpoint to resume from."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from time import monotonic, perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from yolov9bench.errors import TrainingError
from yolov9bench.nn.detector import Detector
from yolov9bench.ops.distributed import current_ranks
from yolov9bench.train.loss import detection_loss
from yolov9bench.train.optim import Rates, Schedule
from yolov9bench.train.state import (
    TERMS,
    Batch,
    Precision,
    State,
    divergence_error,
    has_reached,
    is_done,
    require_finite,
)
from yolov9bench.zoo.recipe import Recipe

SECONDS_BETWEEN_CHECKPOINTS = 600.0
# float16 starts at a scale of 2**16 and halves it with each step that it skips: after so many skipped steps
# in a row no gradient can overflow for being scaled.
MOST_SKIPPED = 32


logger = logging.getLogger("yolov9bench")


def fit(
    state: State,
    schedule: Schedule,
    batches: Callable[[int, int], Iterable[Batch]],
    precision: Precision,
    after_epoch: Callable[[State], float | None],
    save: Callable[[State], None],
    max_steps: int | None = None,
) -> None:
    """Train from where `state` stands to the schedule's last epoch, or to `max_steps` steps in all.

    `batches(epoch, start)` gives an epoch's batches from number `start` on. `after_epoch` returns the AP of
    the averaged detector, or None if not measured. `save` writes a checkpoint: after each epoch and every ten
    minutes, after a step, and only of a finite state. TrainingError: a diverged run, a GPU that is too small.
    """
    recipe, saved = schedule.recipe, monotonic()
    while not is_done(vars(state), schedule.epochs, max_steps):
        state.detector.train()
        state.optimizer.zero_grad()  # as both references do: gradients do not wait across epochs
        began, device = perf_counter(), reset_peak_memory(state)
        for images, targets in batches(state.epoch, state.batch):
            if has_reached(state.steps, max_steps):
                break
            rates = schedule.at(state.iteration)
            waits = state.pending + 1 < rates.accumulation
            losses = forward_backward(state, images, targets, recipe, precision, waits)
            count_iteration(state, losses)
            if state.pending >= rates.accumulation:
                optimizer_step(state, rates, recipe.optimizer.clip_norm)
                if monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                    require_finite(state)
                    save(state)
                    saved = monotonic()
        require_finite(state)
        entry = epoch_entry(state, schedule, perf_counter() - began) | peak_memory(device)
        state.begin_next_epoch()
        entry["AP"] = after_epoch(state)
        state.log.append(entry)
        log_epoch(entry)
        save(state)
        saved = monotonic()


def log_epoch(entry: dict[str, Any]) -> None:
    """One line of an epoch's entry."""
    ap = "not measured" if entry["AP"] is None else f"{entry['AP']:.4f}"
    logger.info("epoch %d: loss %.4f, AP %s", entry["epoch"], entry["total"], ap)


def forward_backward(
    state: State, images: Tensor, targets: Tensor, recipe: Recipe, precision: Precision, wait: bool = False
) -> dict[str, float]:
    """Add one batch's gradients to those that wait, and return its loss terms.

    wait: no step follows at once, so that several processes need not exchange their gradients yet.
    A loss that is not finite is a TrainingError, but in float16: there it makes the coming step be skipped,
    as an overflowing gradient does, and BatchNorm's statistics stay as they were before the batch.
    """
    weight = next(state.detector.parameters())
    device = weight.device
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float16
    kept = running_statistics(state.detector) if precision == "float16" else []
    statistics = [each.clone() for each in kept]
    try:
        inputs = images.to(device, non_blocking=True).to(weight.dtype) / 255
        state.require_exchange(not wait)
        with torch.autocast(device.type, dtype=kind, enabled=precision != "float32"):
            outputs = state.model(inputs.contiguous(memory_format=memory_format(device)))
        losses = detection_loss(outputs, targets.to(device), recipe)
        # Both references multiply by the number of processes, since gradients are averaged over them.
        total = losses["total"] * current_ranks().world_size
        usable = bool(total.isfinite())
        if not usable and precision != "float16":
            raise divergence_error(state, f"the loss became {total.item()}")
        state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{len(images)} images of {images.shape[-1]} px do not fit into the GPU's memory: halve the "
            f"batch size; gradients are still accumulated to {recipe.optimizer.nominal_batch} images a step"
        ) from error
    if not usable:
        for now, before in zip(kept, statistics, strict=True):
            now.copy_(before)
    return {term: losses[term].item() for term in TERMS}


def count_iteration(state: State, losses: dict[str, float]) -> None:
    """Move the counters on by one iteration, and add its losses to the epoch's if they are finite."""
    usable = all(map(math.isfinite, losses.values()))
    for term in TERMS:
        state.sums[term] += losses[term] if usable else 0.0
    state.unusable += not usable
    state.batch, state.iteration, state.pending = state.batch + 1, state.iteration + 1, state.pending + 1


def optimizer_step(state: State, rates: Rates, clip_norm: float) -> None:
    """One step of the optimiser on the gradients that wait, clipped; then the averaged weights follow.

    In float16 a step whose gradients are not finite is skipped and the scale halved (as GradScaler does;
    the average moves on, as in both references); else, and after MOST_SKIPPED in a row, TrainingError.
    """
    rates.apply(state.optimizer)
    state.scaler.unscale_(state.optimizer)
    norm = clip_grad_norm_(state.detector.parameters(), clip_norm)
    if norm.isfinite():
        state.scaler.step(state.optimizer)
        state.skipped_in_a_row = 0
    elif state.scaler.is_enabled() and state.skipped_in_a_row + 1 < MOST_SKIPPED:
        state.skipped, state.skipped_in_a_row = state.skipped + 1, state.skipped_in_a_row + 1
    else:
        times = f" in {MOST_SKIPPED} steps in a row" if state.scaler.is_enabled() else ""
        raise divergence_error(state, f"the norm of the gradients became {norm.item()}{times}")
    state.scaler.update()
    state.optimizer.zero_grad()
    state.ema.update(state.detector)
    state.pending, state.steps = 0, state.steps + 1


def running_statistics(detector: Detector) -> list[Tensor]:
    """BatchNorm's running means and variances, which a forward pass in train mode changes."""
    return [buffer for buffer in detector.buffers() if buffer.is_floating_point()]


def memory_format(device: torch.device) -> torch.memory_format:
    """Channels last on a GPU, whose convolutions want it; as they come on a CPU."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def epoch_entry(state: State, schedule: Schedule, seconds: float) -> dict[str, Any]:
    """An epoch for the log: mean losses of its iterations, the rates of the last one, steps in float16.

    `scale` is what float16 multiplies the loss by at the end, None in other precisions; `skipped_steps` are
    this epoch's, `unusable_batches` those whose loss was not finite, which the means leave out.
    """
    rates = schedule.at(max(state.iteration - 1, 0))
    weights, _, biases = rates.learning_rates
    means = {term: total / max(state.batch - state.unusable, 1) for term, total in state.sums.items()}
    return {
        "epoch": state.epoch,
        "steps": state.steps,
        "seconds": round(seconds, 3),
        **means,
        "rate": weights,
        "bias_rate": biases,
        "momentum": rates.momentum,
        "scale": state.scaler.get_scale() if state.scaler.is_enabled() else None,
        "skipped_steps": state.skipped,
        "unusable_batches": state.unusable,
    }


def reset_peak_memory(state: State) -> torch.device:
    """Let a GPU's peak begin again, and say which device it is."""
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
