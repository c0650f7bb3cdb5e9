"""A network alone by every way that this Python has: python network_by.py WEIGHTS ROUNDS THREADS

The plain backend, the fastest one, bfloat16 and, where onnxruntime and onnx are installed, ONNX Runtime take
turns on the same batch of noise, 640 px. It prints CPU seconds an image of each round, and how far each way's
outputs lie from the plain ones, relative to their largest value.
"""

import copy
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from yolov9bench.nn.detector import Detector
from yolov9bench.ops.kept_memory import kept_memory
from yolov9bench.predict.choose_backend import apply_backend, choose_backend
from yolov9bench.profiling.gpu_latency import largest_difference
from yolov9bench.weights import load
from yolov9bench.zoo.backends import PLAIN, REDUCED

SIDE, BATCH = 640, 4

Compute = Callable[[], Sequence[Tensor]]


class Maps(nn.Module):
    """A network whose outputs are a flat tuple of maps, as an exporter wants them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(each for level in self.network(images).main for each in level)


def ways_of(detector: Detector, images: Tensor, folder: Path, threads: int) -> dict[str, Compute]:
    """By name, what computes the maps of the images."""
    fastest = choose_backend(detector, "auto", SIDE, "cpu")
    ways: dict[str, Compute] = {}
    for backend in dict.fromkeys((PLAIN, fastest, REDUCED["bfloat16"])):
        network = Maps(apply_backend(copy.deepcopy(detector), backend))
        ways[f"PyTorch, {backend.name}"] = lambda network=network: network(images)  # type: ignore[misc]
    if find_spec("onnxruntime") and find_spec("onnx"):
        ways["ONNX Runtime"] = by_onnxruntime(detector, images, folder / "network.onnx", threads)
    return ways


def by_onnxruntime(detector: Detector, images: Tensor, path: Path, threads: int) -> Compute:
    import onnxruntime  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is said to be old
        torch.onnx.export(Maps(detector), (images,), str(path), dynamo=False, opset_version=17)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {session.get_inputs()[0].name: images.numpy()}
    return lambda: [torch.from_numpy(each) for each in session.run(None, inputs)]


def main() -> None:
    weights, rounds, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    detector = load(weights).detector.deployed()
    images = torch.rand((BATCH, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    with TemporaryDirectory() as folder, torch.inference_mode(), kept_memory():
        ways = ways_of(detector, images, Path(folder), threads)
        outputs = {name: compute() for name, compute in ways.items()}  # the first run does not count
        plain = outputs[f"PyTorch, {PLAIN.name}"]
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, compute in ways.items():
                began = process_time()
                compute()
                seconds[name].append((process_time() - began) / BATCH)
    differences = {name: largest_difference(found, plain) for name, found in outputs.items()}
    sys.stdout.write(json.dumps({"seconds": seconds, "differences": differences}) + "\n")


if __name__ == "__main__":
    main()
