"""What a detector costs: its parameters, its arithmetic, its time, and the memory of what runs on a GPU."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch.utils.flop_counter import FlopCounterMode

from yolov9bench.errors import SettingsError
from yolov9bench.nn.detector import Detector, skeleton

SECONDS = 10.0  # of timed runs for one figure, unless LEAST_RUNS take longer
LEAST_RUNS = 3
MOST_RUNS = 1000
WARM_UP = 0.2  # of the seconds, at least one run
GAIN = 1.02  # a larger batch must give so much more throughput, or the search for the best one ends


@dataclass(frozen=True)
class Peak:
    """The most memory of a GPU, in bytes.

    `allocated_bytes` are in tensors and workspaces, `reserved_bytes` what torch's allocator had taken from
    the driver. `process_bytes` is what the driver counts for this process, its CUDA context included; None
    where nvidia-smi does not list it, as in most containers.
    """

    allocated_bytes: int
    reserved_bytes: int
    process_bytes: int | None


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


def parameters(detector: Detector) -> int:
    """Numbers that training may change, the auxiliary branch included while the detector has one.

    Running statistics are not among them, nor is the constant projection 0..15 that others count (16 a head).
    """
    return sum(parameter.numel() for parameter in detector.parameters())


def gflops(detector: Detector, image_size: int = 640) -> float:
    """Twice the multiply-adds of the convolutions for one square image of `image_size` px, in 1e9.

    This is how the tables of YOLOv8 and YOLOv9 count: no biases, activations, sums or decoding. It is worked
    out from shapes alone, on a twin without storage; the detector does not run.
    """
    twin = skeleton(detector.spec, detector.num_classes, detector.fused).eval()
    image = torch.empty(1, 3, image_size, image_size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin(image)
    return float(counter.get_total_flops()) / 1e9


def forward(detector: Detector, batch: int, image_size: int) -> Callable[[], None]:
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


def timed(
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


def fastest(timing_of: Callable[[int], Timing], first: Timing) -> Timing:
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


def peak(run: Callable[[], object], device: str) -> Peak:
    """The most memory of a CUDA device while something runs; what is on it already counts.

    SettingsError for another device, which has no such count.
    """
    if torch.device(device).type != "cuda":
        raise SettingsError(f"device {device!r} does not count its memory: measure on cuda, or predict")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    run()
    torch.cuda.synchronize(device)
    return Peak(
        torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device), process_bytes()
    )


def process_bytes() -> int | None:
    """What the driver counts for this process now; torch keeps what it reserved, so that is its peak too."""
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True)
    except OSError:
        return None
    for line in answer.stdout.splitlines():
        process, _, mebibytes = line.partition(",")
        if process.strip() == str(os.getpid()) and mebibytes.strip().isdigit():
            return int(mebibytes) * 2**20
    return None
