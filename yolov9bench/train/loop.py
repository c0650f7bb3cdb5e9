"""The training loop: steps, averaged weights, one line of log an epoch, and a checkpoint to go on from."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from yolov9bench.errors import TrainingError
from yolov9bench.nn.detector import Detector
from yolov9bench.train.loss import detection_loss
from yolov9bench.train.optim import Ema, Rates, Schedule, make_optimizer
from yolov9bench.zoo.recipes import Recipe

Precision = Literal["float32", "float16", "bfloat16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)
Batch = tuple[
    Tensor, Tensor
]  # images uint8 [B, 3, H, W] in RGB; targets [n, 6]: image, class, x1, y1, x2, y2 px
SECONDS_BETWEEN_CHECKPOINTS = 600.0
TERMS = ("box", "cls", "dfl", "total")
# float16 starts at a scale of 2**16 and halves it with each step that it skips: after so many skipped steps
# in a row no gradient can overflow for being scaled.
MOST_SKIPPED = 32

logger = logging.getLogger("yolov9bench")


@dataclass
class State:
    """Everything that changes while training; what `as_dict` returns brings it back exactly.

    `epoch` and `batch` are the next ones to be trained. `pending` counts the iterations since the last step
    of the optimiser, whose gradients wait for it; at a checkpoint there are none. `steps` counts all steps,
    those included that float16 skipped because a gradient was not finite: `skipped` of this epoch and
    `skipped_in_a_row` up to now. `unusable` counts this epoch's iterations whose loss was not finite; `sums`
    leaves them out.
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
    skipped: int = 0
    skipped_in_a_row: int = 0
    unusable: int = 0
    best: float = -1.0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TERMS, 0.0))
    log: list[dict[str, Any]] = field(default_factory=list)

    COUNTERS = (
        "epoch",
        "batch",
        "iteration",
        "pending",
        "steps",
        "skipped",
        "skipped_in_a_row",
        "unusable",
        "best",
        "sums",
        "log",
    )

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
        """Continue from what `as_dict` returned.

        The optimiser keeps its own settings: those of a file may be of another way to compute a step, and
        rates are set anew before every step. Counters that an older file lacks stay at 0.
        """
        self.detector.load_state_dict(saved["detector"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": saved["optimizer"]["state"], "param_groups": groups})
        self.ema.restore(saved["ema"])
        if saved["scaler"]:  # empty where the run was not in float16 so far
            self.scaler.load_state_dict(saved["scaler"])
        for name in self.COUNTERS:
            setattr(self, name, saved.get(name, getattr(self, name)))


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
    every ten minutes, always just behind a step, and only of a state that is finite. TrainingError for a run
    that diverged, and for a GPU that is too small; what was kept stays.
    """
    kept = monotonic()
    while not is_done(vars(state), schedule.epochs, max_steps):
        state.detector.train()
        state.optimizer.zero_grad()  # as both references do: gradients do not wait across epochs
        began, device = perf_counter(), reset_peak_memory(state)
        for images, targets in batches(state.epoch, state.batch):
            if has_reached(state.steps, max_steps):
                break
            rates = schedule.at(state.iteration)
            losses = accumulate(state, images, targets, schedule.recipe, precision)
            count(state, losses)
            if state.pending >= rates.accumulation:
                step(state, rates, schedule.recipe)
                if monotonic() - kept > SECONDS_BETWEEN_CHECKPOINTS:
                    require_finite(state)
                    keep(state)
                    kept = monotonic()
        require_finite(state)
        entry = epoch_entry(state, schedule, perf_counter() - began) | peak_memory(device)
        state.epoch, state.batch, state.skipped, state.unusable = state.epoch + 1, 0, 0, 0
        state.sums = dict.fromkeys(TERMS, 0.0)
        entry["AP"] = after_epoch(state)
        state.log.append(entry)
        ap = "not measured" if entry["AP"] is None else f"{entry['AP']:.4f}"
        logger.info("epoch %d: loss %.4f, AP %s", entry["epoch"], entry["total"], ap)
        keep(state)
        kept = monotonic()


def accumulate(
    state: State, images: Tensor, targets: Tensor, recipe: Recipe, precision: Precision
) -> dict[str, float]:
    """Add one batch's gradients to those that wait, and return its loss terms.

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
        with torch.autocast(device.type, dtype=kind, enabled=precision != "float32"):
            outputs = state.detector(inputs.contiguous(memory_format=memory_format(device)))
        losses = detection_loss(outputs, targets.to(device), recipe)
        total = losses["total"]
        usable = bool(total.isfinite())
        if not usable and precision != "float16":
            raise diverged(state, f"the loss became {total.item()}")
        state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{len(images)} images of {images.shape[-1]} px do not fit into the GPU's memory: halve the "
            f"batch size, gradients are accumulated to {recipe.nominal_batch} images a step all the same"
        ) from error
    if not usable:
        for now, before in zip(kept, statistics, strict=True):
            now.copy_(before)
    return {term: losses[term].item() for term in TERMS}


def count(state: State, losses: dict[str, float]) -> None:
    """Move the counters on by one iteration, and add its losses to the epoch's if they are finite."""
    usable = all(map(math.isfinite, losses.values()))
    for term in TERMS:
        state.sums[term] += losses[term] if usable else 0.0
    state.unusable += not usable
    state.batch, state.iteration, state.pending = state.batch + 1, state.iteration + 1, state.pending + 1


def step(state: State, rates: Rates, recipe: Recipe) -> None:
    """One step of the optimiser on the gradients that wait, clipped; then the averaged weights follow.

    In float16 a step whose gradients are not finite is skipped and the scale halved (as GradScaler does;
    the average moves on, as in both references); else, and after MOST_SKIPPED in a row, TrainingError.
    """
    rates.apply(state.optimizer)
    state.scaler.unscale_(state.optimizer)
    norm = clip_grad_norm_(state.detector.parameters(), recipe.clip_norm)
    if norm.isfinite():
        state.scaler.step(state.optimizer)
        state.skipped_in_a_row = 0
    elif state.scaler.is_enabled() and state.skipped_in_a_row + 1 < MOST_SKIPPED:
        state.skipped, state.skipped_in_a_row = state.skipped + 1, state.skipped_in_a_row + 1
    else:
        times = f" in {MOST_SKIPPED} steps in a row" if state.scaler.is_enabled() else ""
        raise diverged(state, f"the norm of the gradients became {norm.item()}{times}")
    state.scaler.update()
    state.optimizer.zero_grad()
    state.ema.update(state.detector)
    state.pending, state.steps = 0, state.steps + 1


def require_finite(state: State) -> None:
    """TrainingError if anything that a checkpoint keeps is not finite: the last good one is to stay."""
    kept = {"weights": state.detector.state_dict(), "averages": state.ema.detector.state_dict()}
    momenta = {
        f"{number}.{name}": value
        for number, values in enumerate(state.optimizer.state.values())
        for name, value in values.items()
    }
    for kind, tensors in (kept | {"momenta": momenta}).items():
        broken = not_finite(tensors)
        if broken:
            raise diverged(state, f"{len(broken)} of the {kind} became NaN or infinite (first {broken[0]})")


def not_finite(tensors: Mapping[str, Any]) -> list[str]:
    """The names of the floating-point tensors that hold NaN or infinity."""
    floats = {
        name: value
        for name, value in tensors.items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    if not floats:
        return []
    flags = torch.stack([value.isfinite().all().cpu() for value in floats.values()])
    return [name for name, finite in zip(floats, flags.tolist(), strict=True) if not finite]


def diverged(state: State, what: str) -> TrainingError:
    """The error for a run whose numbers are no longer finite; the caller knows what was kept."""
    return TrainingError(f"{what} in epoch {state.epoch}, iteration {state.iteration}: the training diverged")


def running_statistics(detector: Detector) -> list[Tensor]:
    """BatchNorm's running means and variances, which a forward pass in train mode changes."""
    return [buffer for buffer in detector.buffers() if buffer.is_floating_point()]


def is_done(counters: Mapping[str, Any], epochs: int, max_steps: int | None) -> bool:
    """Whether a run with these counters of its State has no epoch left to train or to end.

    A run may be cut between its last step and the end of that epoch: it is not done then.
    """
    at_the_end = counters["epoch"] >= epochs or has_reached(counters["steps"], max_steps)
    return counters["batch"] == 0 and at_the_end


def has_reached(steps: int, max_steps: int | None) -> bool:
    """Whether a run of so many steps has taken all that it may."""
    return max_steps is not None and steps >= max_steps


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
