"""What the set-up of the published memory column adds to a training step of this project, in bytes.

The column is mmyolo 0.6.0's: eight processes on eight GPUs, 16 images each. It differs from a step of ours on
one GPU in what is alive while the loss is computed, where the peak lies:

- Gradient buckets. torch's DistributedDataParallel copies gradients to buckets, unless it is told to let the
  gradients be views of them: that, its documentation says under `gradient_as_bucket_view`, saves as much as
  all the gradients. It is off by default.
- Kept gradients. The ten files are of January and February 2023 by their names; torch 2.0, from which on
  `zero_grad` lets go of the gradients, came in March. Before, it filled them with zeros: they stay.
- The assigner works on the whole batch at once, on as many rows an image as the fullest one has boxes, and
  counts by one-hot vectors which anchors a box has chosen.
- The figure is a line of mmengine's log: the allocator's peak since the line before, 50 iterations earlier,
  on the first GPU. So its fullest image is the fullest of 50 batches, not of one.

Which line was published is not known; one of the mosaic epochs is assumed, which are 98 % of all.

Left out is what the prediction for one GPU leaves out (workspaces, the inside of operations); SyncBN, which
keeps for each layer what BatchNorm keeps and the counts of eight processes, one block of 512 bytes; and what
NCCL takes, which torch's allocator does not count.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from yolov9bench.nn.detector import Detector, Outputs
from yolov9bench.nn.head import Levels

LOGGED_ITERATIONS = 50  # from one line of the log to the next, in all of mmyolo's configuration files

Form = tuple[tuple[int, ...], torch.dtype]


def gradient_bytes(detector: Detector) -> int:
    """Bytes of all gradients, and of the buckets: a float32 number for each parameter."""
    return 4 * sum(parameter.numel() for parameter in detector.parameters())


def assigner_tensors(images: int, boxes: int, anchors: int, topk: int) -> list[Form]:
    """Shapes and types of the assigner's tensors that are alive when it takes most, for B images of G boxes.

    Of a pair of a box and an anchor that is 8 * topk + 21 bytes. The algorithm is that of TOOD
    (arXiv:2108.07755) as PaddleDetection's PP-YOLOE batches it: overlaps and metrics of all pairs, the pairs
    whose centre is inside, metrics of these alone, the topk anchors of each box, one-hot vectors of these
    (torch's `one_hot` gives int64), and their sum, by which padding is recognised. Each is counted once, in
    its smallest usual type; an implementation may keep more beside them.
    """
    pairs = (images, boxes, anchors)
    return [
        (pairs, torch.float32),  # overlaps
        (pairs, torch.float32),  # metrics
        (pairs, torch.bool),  # whether the anchor's centre is inside the box
        (pairs, torch.float32),  # metrics of anchors inside
        ((images, boxes, topk), torch.int64),  # the anchors a box has chosen
        ((images, boxes, topk, anchors), torch.int64),  # the same one-hot
        (pairs, torch.int64),  # how often each was chosen
    ]


def assigner_bytes(images: int, boxes: int, anchors: int, topk: int) -> int:
    """Bytes of `assigner_tensors`."""
    forms = assigner_tensors(images, boxes, anchors, topk)
    return sum(math.prod(shape) * dtype.itemsize for shape, dtype in forms)


def add_to_step(detector: Detector, boxes: int, topk: int) -> Tensor:
    """Let a step of a detector take what the published set-up does; returns the buckets, to be kept.

    Its gradients are zeros from now on, not None, until the next `zero_grad`. After each forward pass, while
    all feature maps are alive, the assigner's tensors are made and let go, beside what it reads: boxes in
    float32, and scores in the type of the logits.
    """
    for parameter in detector.parameters():
        parameter.grad = torch.zeros_like(parameter)

    def assign(_: Detector, inputs: object, outputs: Outputs) -> None:
        allocate_assignment(outputs.main, boxes, topk)

    detector.register_forward_hook(assign)
    return next(detector.parameters()).new_empty(gradient_bytes(detector) // 4)


def allocate_assignment(levels: Levels, boxes: int, topk: int) -> None:
    """Make the assigner's input and its tensors on the device of a head's maps, and let them go."""
    logits = levels[0].class_logits
    images, classes = logits.shape[:2]
    anchors = sum(level.class_logits[0, 0].numel() for level in levels)
    inputs: list[Form] = [((images, anchors, 4), torch.float32), ((images, anchors, classes), logits.dtype)]
    alive = [
        torch.empty(shape, dtype=dtype, device=logits.device)
        for shape, dtype in inputs + assigner_tensors(images, boxes, anchors, topk)
    ]
    del alive
