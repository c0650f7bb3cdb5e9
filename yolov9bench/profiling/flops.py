"""What a detector holds and computes: its parameters and its floating-point operations."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from yolov9bench.nn.detector import Detector, skeleton
from yolov9bench.weights import Checkpoint
from yolov9bench.zoo.rows import Published, row_of_file


def count_parameters(detector: Detector) -> int:
    """Numbers that training may change, the auxiliary branch included while the detector has one.

    Running statistics are not among them, nor is the constant projection 0..15 that others count (16 a head).
    """
    return sum(parameter.numel() for parameter in detector.parameters())


def count_gflops(detector: Detector, image_size: int = 640) -> float:
    """Twice the multiply-adds of the convolutions for one square image of `image_size` px, in 1e9.

    This is how the tables of YOLOv8 and YOLOv9 count: no biases, activations, sums or decoding. It is worked
    out from shapes alone, on a twin without storage; the detector does not run.
    """
    twin = skeleton(detector.spec, detector.num_classes, detector.fused).eval()
    image = torch.empty(1, 3, image_size, image_size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin(image)
    return float(counter.get_total_flops()) / 1e9


def count_costs(checkpoint: Checkpoint) -> dict[str, dict[str, float | None]]:
    """Parameters (millions) and GFLOPs at 640 px as deployed, counted and published (None where unknown)."""
    deployed = checkpoint.detector.deployed()
    known = row_of_file(checkpoint.sha256)
    published = known[0].published if known else Published("")
    return {
        "counted": {"parameters (M)": count_parameters(deployed) / 1e6, "GFLOPs": count_gflops(deployed)},
        "published": {"parameters (M)": published.parameters_m, "GFLOPs": published.gflops},
    }
