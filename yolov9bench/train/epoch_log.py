"""What a run says of itself: losses, rates, memory and speed, an entry an epoch and a line now and then."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import Any

import torch

from yolov9bench.io.progress import duration
from yolov9bench.ops.distributed import add_over_processes, current_ranks, gather
from yolov9bench.train.optim import Schedule
from yolov9bench.train.state import TERMS, Precision, State, divergence_error

# The first iterations load libraries and choose algorithms; those after them tell how long the rest takes.
UNUSUAL_ITERATIONS, TIMED_ITERATIONS = 5, 20
ITERATIONS_BETWEEN_LINES = 500

logger = logging.getLogger("yolov9bench")


class Pace:
    """Says how fast a run goes: once after its first iterations, with the time left, then now and then."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.done, self.began = 0, 0.0

    def count(self, state: State, precision: Precision) -> None:
        """Count an iteration that has ended; reads the losses where it shows them."""
        self.done += 1
        if self.done == UNUSUAL_ITERATIONS:
            self.began = perf_counter()
        if self.done == UNUSUAL_ITERATIONS + TIMED_ITERATIONS:
            seconds = (perf_counter() - self.began) / TIMED_ITERATIONS
            left = self.schedule.epochs * self.schedule.batches_per_epoch - state.iteration
            images, time = self.schedule.images_per_iteration, duration(seconds * left)
            memory = gpu_memory(next(state.detector.parameters()).device)
            logger.info(
                "%.3g s an iteration of %d images: about %s left, validation aside%s",
                *(seconds, images, time, memory),
            )
        if self.done % ITERATIONS_BETWEEN_LINES == 0:
            read_losses(state, precision)
            place = state.epoch, state.batch, self.schedule.batches_per_epoch
            logger.info("epoch %d, iteration %d of %d: loss %.4f", *place, mean_losses(state)["total"])


def gpu_memory(device: torch.device) -> str:
    """What a GPU's memory has held at most, for a line of the log; nothing on a CPU."""
    if device.type != "cuda":
        return ""
    return f"; at most {torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB of GPU memory were in use"


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
    first = state.iteration - len(losses)
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


def log_epoch(entry: dict[str, Any]) -> None:
    """One line of an epoch's entry."""
    ap = "not measured" if entry["AP"] is None else f"{entry['AP']:.4f}"
    logger.info("epoch %d: loss %.4f, AP %s", entry["epoch"], entry["total"], ap)


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
