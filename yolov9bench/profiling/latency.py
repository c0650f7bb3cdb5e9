"""How long a detector takes: the time of one run, its percentiles, and the batch of highest throughput."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import nn

SECONDS = 10.0  # of timed runs for one figure, unless LEAST_RUNS take longer
LEAST_RUNS = 3
MOST_RUNS = 1000
WARM_UP = 0.2  # of the seconds, at least one run
GAIN = 1.02  # a larger batch must give so much more throughput, or the search for the best one ends


@dataclass(frozen=True)
class Timing:
    """Seconds of one run on a batch.

    A percentile is a measured value, the smallest that so many percent of the runs do not exceed. p95 needs
    20 runs and p99 needs 100; with fewer it would only be the slowest run, and is None.
    """

    batch: int
    runs: int
    p50: float
    p95: float | None
    p99: float | None

    @property
    def images_per_second(self) -> float:
        """Throughput of the median run."""
        return self.batch / self.p50


def make_forward(detector: nn.Module, batch: int, image_size: int) -> Callable[[], None]:
    """A run of the detector on a batch of images that are there already, to its end on a GPU too.

    Images to raw maps: no decoding, no suppression.
    """
    weight = next(detector.parameters())
    images = torch.rand(batch, 3, image_size, image_size).to(weight.device, weight.dtype)
    if weight.device.type == "cuda":
        images = images.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run() -> None:
        detector(images)
        if weight.device.type == "cuda":
            torch.cuda.synchronize(weight.device)

    return run


def time_runs(
    run: Callable[[], object],
    batch: int,
    seconds: float,
    clock: Callable[[], float] = perf_counter,
) -> Timing:
    """Time a run, after warming up, until the seconds are used up: LEAST_RUNS at least, MOST_RUNS at most."""
    began = clock()
    run()
    while clock() - began < WARM_UP * seconds:
        run()
    durations: list[float] = []
    began = clock()
    while len(durations) < LEAST_RUNS or (clock() - began < seconds and len(durations) < MOST_RUNS):
        start = clock()
        run()
        durations.append(clock() - start)
    return Timing(
        batch,
        runs := len(durations),
        percentile(durations, 50),
        percentile(durations, 95) if runs >= 20 else None,
        percentile(durations, 99) if runs >= 100 else None,
    )


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest of the values that so many percent of them do not exceed (nearest rank)."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100), 1) - 1]


def find_best_batch(timing_of: Callable[[int], Timing], first: Timing) -> Timing:
    """The batch of highest throughput, doubling it from `first` as long as that gains GAIN and fits."""
    best = first
    while True:
        try:
            larger = timing_of(2 * best.batch)
        except torch.OutOfMemoryError:
            return best
        if larger.images_per_second < GAIN * best.images_per_second:
            return max(best, larger, key=lambda timing: timing.images_per_second)
        best = larger
