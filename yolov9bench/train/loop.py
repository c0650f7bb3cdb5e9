"""The training loop: steps, averaged weights, one line of log an epoch, and a checkpoint to resume from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic, perf_counter

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from yolov9bench.errors import TrainingError
from yolov9bench.io.progress import counted
from yolov9bench.nn.detector import Detector
from yolov9bench.ops.distributed import current_ranks, value_of_main
from yolov9bench.ops.kept_memory import give_back_free
from yolov9bench.train.epoch_log import (
    Pace,
    epoch_entry,
    log_epoch,
    memory_and_speed,
    read_losses,
    reset_peak_memory,
)
from yolov9bench.train.event_files import Show
from yolov9bench.train.freeze import set_training_mode
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
# Steps after which several processes ask rank 0 whether a checkpoint is due: clocks differ.
STEPS_BETWEEN_QUESTIONS = 50
GIVE_BACK_EVERY = 32  # iterations, of memory that is kept on a CPU: less than 1 % of the time
SHOWN = (*TERMS, "AP", "rate", "bias_rate", "images_per_second", "bytes_allocated")  # of an epoch's entry


@dataclass(frozen=True)
class Hooks:
    """What the loop leaves to its caller.

    `after_epoch` returns the AP of the averaged detector, or None if not measured. `save` writes a
    checkpoint: after each epoch and every ten minutes, after a step, and only of a finite state. `show`, if
    given, takes the numbers of a line or of an epoch, None for what was not measured, and the iterations so
    far.
    """

    after_epoch: Callable[[State], float | None]
    save: Callable[[State], None]
    show: Show | None = None


def fit(
    state: State,
    schedule: Schedule,
    batches: Callable[[int, int], Iterable[Batch]],
    precision: Precision,
    hooks: Hooks,
    max_steps: int | None = None,
) -> None:
    """Train from where `state` stands to the schedule's last epoch, or to `max_steps` steps in all.

    `batches(epoch, start)` gives an epoch's batches from number `start` on. TrainingError: a diverged run, a
    GPU that is too small.
    """
    recipe, saved, pace = schedule.recipe, monotonic(), Pace(schedule, max_steps)
    while not is_done(vars(state), schedule.epochs, max_steps):
        set_training_mode(state.detector)
        state.optimizer.zero_grad()  # as both references do: gradients do not wait across epochs
        began, first, device = perf_counter(), state.batch, reset_peak_memory(state)
        pace.begin(state)
        for images, targets in batches(state.epoch, state.batch):
            if has_reached(state.steps, max_steps):
                break
            rates = schedule.at(state.iteration)
            waits = state.pending + 1 < rates.accumulation
            try:
                count_iteration(state, forward_backward(state, images, targets, recipe, precision, waits))
                if state.pending >= rates.accumulation:
                    optimizer_step(state, rates, recipe.optimizer.clip_norm)
            except torch.OutOfMemoryError as error:
                raise too_large(len(images), recipe) from error
            if not state.pending and is_checkpoint_due(state, saved):
                read_losses(state, precision)
                require_finite(state)
                hooks.save(state)
                saved = monotonic()
            told = pace.tell(state, precision)
            if told and hooks.show:
                hooks.show(told, state.iteration)
        read_losses(state, precision)
        require_finite(state)
        seconds = perf_counter() - began
        entry = epoch_entry(state, schedule, seconds)
        entry |= memory_and_speed(device, (state.batch - first) * schedule.images_per_iteration, seconds)
        state.begin_next_epoch()
        entry["AP"] = hooks.after_epoch(state)
        state.log.append(entry)
        log_epoch(entry, schedule.epochs)
        if hooks.show:
            hooks.show({f"epoch/{key}": entry[key] for key in SHOWN}, state.iteration)
        hooks.save(state)
        saved = monotonic()


def is_checkpoint_due(state: State, saved: float) -> bool:
    """Whether the last checkpoint, at `saved` on the monotonic clock, is long ago; rank 0's answer in all."""
    if current_ranks().world_size > 1 and state.steps % STEPS_BETWEEN_QUESTIONS:
        return False
    return value_of_main(monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS)


def forward_backward(
    state: State, images: Tensor, targets: Tensor, recipe: Recipe, precision: Precision, wait: bool = False
) -> Tensor:
    """Add one batch's gradients to those that wait, and return its loss terms [4] in the order of TERMS.

    wait: no step follows at once, so that several processes need not exchange their gradients yet.
    The terms stay on the device, since reading them would make it wait for each batch. In float16 a loss that
    is not finite makes the coming step be skipped, as an overflowing gradient does, and BatchNorm's
    statistics stay as they were before the batch; in other precisions the step refuses it.
    """
    weight = next(state.detector.parameters())
    device = weight.device
    kind = torch.bfloat16 if precision == "bfloat16" else torch.float16
    kept = running_statistics(state.detector) if precision == "float16" else []
    statistics = [each.clone() for each in kept]
    inputs = images.to(device, non_blocking=True).to(weight.dtype) / 255
    state.require_exchange(not wait)
    with torch.autocast(device.type, dtype=kind, enabled=precision != "float32"):
        outputs = state.model(inputs.contiguous(memory_format=memory_format(device)))
    losses = detection_loss(outputs, targets.to(device), recipe)
    # Both references multiply by the number of processes, since gradients are averaged over them.
    total = losses["total"] * current_ranks().world_size
    state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
    terms = torch.stack([losses[term].detach() for term in TERMS])
    for now, before in zip(kept, statistics, strict=True):
        now.copy_(torch.where(terms.isfinite().all(), now, before))
    return terms


def too_large(images: int, recipe: Recipe) -> TrainingError:
    """The error for so many images at a time that a GPU has no memory for."""
    size, nominal = recipe.augmentation.image_size, recipe.optimizer.nominal_batch
    remedy = (
        f"halve the batch size (gradients are still accumulated to {nominal} images a step) or give "
        "activation_checkpointing"
    )
    if images == 1:
        remedy = "no batch is smaller; give activation_checkpointing or take a GPU with more memory"
    return TrainingError(
        f"a batch of {counted(images, 'images')} of {size} px does not fit into the GPU's memory: {remedy}"
    )


def count_iteration(state: State, losses: Tensor) -> None:
    """Move the counters on by one iteration, and keep its losses until they are read."""
    state.unread.append(losses)
    state.batch, state.iteration, state.pending = state.batch + 1, state.iteration + 1, state.pending + 1
    if state.iteration % GIVE_BACK_EVERY == 0:
        give_back_free()


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
        read_losses(state, "float16" if state.scaler.is_enabled() else "float32")  # they may say it first
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
