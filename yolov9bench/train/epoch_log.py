"""What a run says of itself: losses, rates, memory and speed, by epoch and every few seconds."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import torch

from yolov9bench.io.progress import SECONDS_BETWEEN_LINES, duration
from yolov9bench.ops.distributed import add_over_processes, current_ranks, gather, value_of_main
from yolov9bench.train.optim import Schedule
from yolov9bench.train.state import TERMS, Precision, State, divergence_error

# Iterations after which several processes ask rank 0 whether a line is due: clocks differ.
ITERATIONS_BETWEEN_QUESTIONS = 10

logger = logging.getLogger("yolov9bench")


class Pace:
    """Says inside an epoch how far a run is, at what losses and speed, and how long the rest takes."""

    def __init__(self, schedule: Schedule, max_steps: int | None = None) -> None:
        self.schedule, self.max_steps = schedule, max_steps
        self.began, self.first = 0.0, 0

    def begin(self, state: State) -> None:
        """Measure the speed from here on, so that it has no validation in it."""
        self.began, self.first = perf_counter(), state.iteration

    def tell(self, state: State, precision: Precision) -> dict[str, float] | None:
        """After an iteration: log a line if the last one is a few seconds old, and return its numbers.

        The losses are means of the epoch so far. They are read from the device for a line alone.
        """
        if not self.is_due(state):
            return None
        read_losses(state, precision)
        seconds = (perf_counter() - self.began) / (state.iteration - self.first)
        speed = self.schedule.images_per_iteration / seconds
        logger.info(
            "epoch %d of %d, iteration %d of %d: %s, %.3g images/s, about %s left, validation aside%s",
            *(state.epoch + 1, self.schedule.epochs, state.batch, self.schedule.batches_per_epoch),
            *(losses_text(mean_losses(state)), speed, duration(seconds * self.iterations_left(state))),
            gpu_memory(next(state.detector.parameters()).device),
        )
        self.begin(state)
        return mean_losses(state) | {"images_per_second": speed}

    def is_due(self, state: State) -> bool:
        """Whether the last line is a few seconds old; rank 0's answer in all processes."""
        if current_ranks().world_size > 1 and state.iteration % ITERATIONS_BETWEEN_QUESTIONS:
            return False
        return value_of_main(perf_counter() - self.began >= SECONDS_BETWEEN_LINES)

    def iterations_left(self, state: State) -> int:
        """Iterations up to the end of the schedule, or to the last step that the run may take."""
        left = self.schedule.epochs * self.schedule.batches_per_epoch - state.iteration
        if self.max_steps is None:
            return left
        return min(left, (self.max_steps - state.steps) * self.schedule.at(state.iteration).accumulation)


def losses_text(terms: Mapping[str, float]) -> str:
    """The loss of an image and its parts, for a line of the log; `total` is that of a whole batch."""
    parts = {term: terms[term] for term in TERMS if term != "total"}
    named = ", ".join(f"{term} {value:.4g}" for term, value in parts.items())
    return f"loss {sum(parts.values()):.4f} ({named})"


def gpu_memory(device: torch.device) -> str:
    """What a GPU's memory has held at most, for a line of the log; nothing on a CPU."""
    if device.type != "cuda":
        return ""
    return f", at most {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB of GPU memory in use"


def read_losses(state: State, precision: Precision) -> None:
    """Add the losses that wait on the device to the epoch's sums: those of every process, in every process.

    TrainingError for one that is not finite; float16 counts those and leaves them out, since it skips the
    step.
    """
    if not state.unread:
        return
    losses = torch.stack(state.unread).double()  # [iterations, terms]
    state.unread.clear()
    unusable = ~losses.isfinite().all(dim=1, keepdim=True)
    first = state.batch - len(losses) + 1  # they are all of this epoch
    counted = torch.cat([losses.masked_fill(unusable, 0.0), unusable.double()], dim=1)
    rows = add_over_processes(counted).tolist()
    if precision != "float16":
        for number, (*_, bad) in enumerate(rows):
            if bad:
                total = losses[number, TERMS.index("total")].item()
                what = (
                    f"the loss became {total}" if unusable[number] else "another process's loss is not finite"
                )
                raise divergence_error(state, what, first + number)
    for *terms, bad in rows:
        for name, value in zip(TERMS, terms, strict=True):
            state.sums[name] += value
        state.unusable += int(bad)


def mean_losses(state: State) -> dict[str, float]:
    """The mean terms of the epoch's iterations so far, over all processes; unusable ones are left out."""
    count = state.batch * current_ranks().world_size - state.unusable
    return {term: total / max(count, 1) for term, total in state.sums.items()}


def epoch_entry(state: State, schedule: Schedule, seconds: float) -> dict[str, Any]:
    """An epoch for the log: mean losses of its iterations, the rates of the last one, steps in float16.

    `epoch` counts from 0, as in every log so far; what is shown to a reader counts from 1.
    `scale` is what float16 multiplies the loss by at the end, None in other precisions; `skipped_steps` are
    this epoch's, `unusable_batches` those whose loss was not finite, which the means leave out.
    """
    rates = schedule.at(max(state.iteration - 1, 0))
    weights, _, biases = rates.learning_rates
    return {
        "epoch": state.epoch,
        "steps": state.steps,
        "seconds": round(seconds, 3),
        **mean_losses(state),
        "rate": weights,
        "bias_rate": biases,
        "momentum": rates.momentum,
        "scale": state.scaler.get_scale() if state.scaler.is_enabled() else None,
        "skipped_steps": state.skipped,
        "unusable_batches": state.unusable,
    }


def log_epoch(entry: dict[str, Any], epochs: int) -> None:
    """One line of an epoch's entry."""
    ap = "not measured" if entry["AP"] is None else f"{entry['AP']:.4f}"
    logger.info("epoch %d of %d: %s, AP %s", entry["epoch"] + 1, epochs, losses_text(entry), ap)


def reset_peak_memory(state: State) -> torch.device:
    """Let a GPU's peak begin again, and say which device it is."""
    device = next(state.detector.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    return device


def memory_and_speed(device: torch.device, images: int, seconds: float) -> dict[str, Any]:
    """Images a second of all processes, this process's peaks, and with several those of each by rank.

    images: of all processes, the last batch counted as a whole one. Bytes are what torch's allocator had
    allocated, and reserved, at most; None on a CPU, which counts none.
    """
    on_gpu = device.type == "cuda"
    own: dict[str, Any] = {
        "bytes_allocated": torch.cuda.max_memory_allocated(device) if on_gpu else None,
        "bytes_reserved": torch.cuda.max_memory_reserved(device) if on_gpu else None,
    }
    speed = images / seconds
    by_rank = gather(own | {"images_per_second": round(speed / current_ranks().world_size, 2)})
    own |= {"images_per_second": round(speed, 2)}
    return own if len(by_rank) == 1 else own | {"processes": by_rank}
