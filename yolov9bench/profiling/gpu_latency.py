"""How long a GPU takes for one image, eagerly, by a CUDA graph and compiled; was its clock held down?

No test reaches a GPU: graphs have not run yet, the rest runs on a CPU, and nvidia-smi is a stand-in there.
"""

from __future__ import annotations

import copy
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from yolov9bench.nn.detector import Detector, Outputs
from yolov9bench.predict.choose_backend import apply_backend
from yolov9bench.profiling.latency import Timing, make_forward, time_runs
from yolov9bench.zoo.backends import COMPILED, EXACT

# Of NVML's clocks event reasons: software power cap, hardware slowdown, software and hardware thermal
# slowdown, power brake. An idle GPU and clocks that were set are no throttling.
THROTTLING = 0x04 | 0x08 | 0x20 | 0x40 | 0x80
MILLISECONDS_BETWEEN_QUESTIONS = 100
SECONDS_TO_END = 5.0

CHANNELS_LAST = EXACT["channels-last-1"]  # one image goes through at a time

Prepare = Callable[[Detector, int], nn.Module]  # of images of so many pixels


@dataclass(frozen=True)
class Latency:
    """Runs of one image by one way.

    `throttled` is None where nvidia-smi does not tell it. `difference`: the largest of its outputs from
    those of the first way, relative to the largest value of each map.
    """

    timing: Timing
    throttled: bool | None
    difference: float


def measure_latencies(detector: Detector, image_size: int, device: str, seconds: float) -> dict[str, Latency]:
    """Latency at batch 1 of a deployed detector, from an image to raw maps, by every way of the device."""
    found: dict[str, Latency] = {}
    noise = torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0)).to(device)
    first: list[Tensor] = []
    for name, prepare in ways_on(device).items():
        network = prepare(copy.deepcopy(detector).to(device), image_size)
        with torch.inference_mode():
            maps = [each.clone() for level in network(noise).main for each in level]
        first = first or maps
        with watched_clocks(device) as is_throttled:
            timing = time_runs(make_forward(network, 1, image_size), 1, seconds)
        found[name] = Latency(timing, is_throttled(), largest_difference(maps, first))
    return found


def ways_on(device: str) -> Mapping[str, Prepare]:
    """How a detector is prepared, in place, for each way that this device has; maps lie channels last."""
    ways: dict[str, Prepare] = {"eager": lambda detector, _: apply_backend(detector, CHANNELS_LAST)}
    if device.startswith("cuda"):
        ways["graph"] = lambda detector, size: Graph(apply_backend(detector, CHANNELS_LAST), size)
    ways["compiled"] = lambda detector, _: apply_backend(detector, COMPILED)
    return ways


class Graph(nn.Module):
    """A network as a CUDA graph, so one launch for all its operations, played again on [1, 3, size, size]."""

    def __init__(self, network: nn.Module, image_size: int) -> None:
        super().__init__()
        self.network = network
        weight = next(network.parameters())
        self.images = torch.zeros(1, 3, image_size, image_size, dtype=weight.dtype, device=weight.device)
        self.images = self.images.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            side = torch.cuda.Stream(weight.device)  # type: ignore[no-untyped-call]
            with torch.cuda.stream(side):  # as torch asks for: before it records, on another stream
                for _ in range(3):
                    network(self.images)
            torch.cuda.synchronize(weight.device)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.outputs: Outputs = network(self.images)

    def forward(self, images: Tensor) -> Outputs:
        """The maps, which the next image overwrites."""
        self.images.copy_(images)
        self.graph.replay()
        return self.outputs


def largest_difference(found: Sequence[Tensor], plain: Sequence[Tensor]) -> float:
    """Of maps from others, relative to the largest value of each."""
    pairs = zip(found, plain, strict=True)
    return max(float((one.float() - other).abs().max() / other.abs().max()) for one, other in pairs)


@contextmanager
def watched_clocks(device: str) -> Iterator[Callable[[], bool | None]]:
    """Ask nvidia-smi meanwhile what holds the GPU's clock down; what is yielded tells it afterwards."""
    lines: list[str] = []

    def is_throttled() -> bool | None:
        reasons = [int(line, 16) for line in lines if line.startswith("0x")]
        return any(reason & THROTTLING for reason in reasons) if reasons else None

    if not device.startswith("cuda"):
        yield is_throttled
        return
    given = torch.device(device).index
    index = torch.cuda.current_device() if given is None else given
    words = ["nvidia-smi", "--query-gpu=clocks_event_reasons.active", "--format=csv,noheader"]
    words += [f"--loop-ms={MILLISECONDS_BETWEEN_QUESTIONS}", f"--id={index}"]
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "reasons.txt"
        with said.open("w") as target:
            watcher = None
            with suppress(OSError):  # no nvidia-smi here, as in many containers
                watcher = subprocess.Popen(words, stdout=target, stderr=subprocess.DEVNULL)
            try:
                yield is_throttled
            finally:
                if watcher is not None:
                    watcher.terminate()
                    watcher.wait(SECONDS_TO_END)
        lines += said.read_text(encoding="utf-8", errors="replace").split()
