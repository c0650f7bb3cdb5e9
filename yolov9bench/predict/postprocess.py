"""Raw maps to detections: decoding, then non-maximum suppression, in float32 or better."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor

from yolov9bench.nn.head import REG_MAX, STRIDES, Levels
from yolov9bench.zoo.protocols import Protocol

Suppress: TypeAlias = Callable[[Tensor, Tensor, float], Tensor]  # boxes, scores, IoU -> indices that are kept

LOGIT_MARGIN = 1e-3  # far above the rounding of a sigmoid, so that no cell above the threshold is missed
CLASS_BY_CLASS_FROM = 10_000  # candidates from which mmcv's batched_nms goes class by class


class Detections(NamedTuple):
    """One image's detections, best first: boxes [n, 4] px, scores [n], labels [n]."""

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor


@dataclass
class Counts:
    """What one run came through: images, candidates before suppression, and the detections that were kept.

    A candidate is a box and class whose score is above the protocol's threshold, in any view of an image.
    """

    images: int = 0
    candidates: int = 0
    detections: int = 0


_COUNTS: ContextVar[Counts | None] = ContextVar("counts", default=None)


@contextmanager
def counting(counts: Counts) -> Iterator[None]:
    """Let `nms` add its candidates to `counts` while the body runs."""
    token = _COUNTS.set(counts)
    try:
        yield
    finally:
        _COUNTS.reset(token)


def decode(levels: Levels) -> tuple[Tensor, Tensor]:
    """Boxes [B, A, 4] in input pixels (xyxy, not clipped) and sigmoid scores [B, A, C], at least float32.

    A cell's distance to each side is the mean of the softmax over 16 bins (arXiv:2006.04388), in
    cells; levels follow one another, each row by row.
    """
    dtype = torch.promote_types(levels[0].box_logits.dtype, torch.float32)
    logits = torch.cat([level.box_logits.flatten(2) for level in levels], dim=2).to(dtype)  # [B, 64, A]
    distances = expected_distances(logits.reshape(len(logits), 4, REG_MAX, -1).permute(0, 3, 1, 2))
    points, strides = anchor_points(levels, like=logits)
    scores = torch.cat([level.class_logits.flatten(2) for level in levels], dim=2).to(dtype).sigmoid()
    return distances_to_boxes(points, distances) * strides, scores.transpose(1, 2)


def decode_likely(levels: Levels, threshold: float) -> list[tuple[Tensor, Tensor]]:
    """As `decode`, image by image, of the cells alone that may have a score above a threshold.

    Boxes [k, 4] and scores [k, C] of each image, in the cells' order: some hundreds of 8400 at .001. `nms`
    finds the same in them as in all, to the rounding of a sigmoid. A logit that is not a number may be above.
    """
    dtype = torch.promote_types(levels[0].box_logits.dtype, torch.float32)
    limit = torch.logit(torch.tensor(threshold, dtype=torch.float64).clamp(0, 1)).item() - LOGIT_MARGIN
    likely = [
        ~(level.class_logits.amax(dim=1).flatten(1).to(dtype) <= limit) for level in levels
    ]  # [B, cells]
    points, strides = anchor_points(levels, like=levels[0].box_logits.new_empty(0, dtype=dtype))
    decoded = []
    for image in range(len(likely[0])):
        kept = [mask[image] for mask in likely]
        boxes, classes = (
            torch.cat([maps[image].flatten(1).T[own] for maps, own in zip(of_levels, kept, strict=True)])
            for of_levels in zip(*levels, strict=True)
        )
        cells = torch.cat(kept)
        distances = expected_distances(boxes.to(dtype).reshape(-1, 4, REG_MAX))
        boxes = distances_to_boxes(points[cells], distances) * strides[cells]
        decoded.append((boxes, classes.to(dtype).sigmoid()))
    return decoded


def anchor_points(levels: Levels, like: Tensor) -> tuple[Tensor, Tensor]:
    """Centres [A, 2] of a head's cells, in cells, and strides [A, 1]; `like` gives dtype and device."""
    shapes = [(level.box_logits.shape[2], level.box_logits.shape[3]) for level in levels]
    return make_anchor_points(shapes, STRIDES, like)


def make_anchor_points(
    shapes: Sequence[tuple[int, int]], strides: Sequence[int], like: Tensor
) -> tuple[Tensor, Tensor]:
    """Centres of the cells of several maps, row by row, in cells: points [A, 2] (x, y) and strides [A, 1].

    `like` gives dtype and device; in half precision the points of a 1280 px image would no longer be exact.
    """
    points, scales = [], []
    for (height, width), stride in zip(shapes, strides, strict=True):
        ys = torch.arange(height, dtype=like.dtype, device=like.device) + 0.5
        xs = torch.arange(width, dtype=like.dtype, device=like.device) + 0.5
        grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
        points.append(torch.stack([grid_x, grid_y], dim=-1).reshape(-1, 2))
        scales.append(like.new_full((height * width, 1), float(stride)))
    return torch.cat(points), torch.cat(scales)


def distances_to_boxes(points: Tensor, distances: Tensor) -> Tensor:
    """Points [A, 2] and distances [..., A, 4] to the left, top, right, bottom sides -> boxes [..., A, 4]."""
    low, high = distances.chunk(2, dim=-1)
    return torch.cat([points - low, points + high], dim=-1)


def expected_distances(logits: Tensor) -> Tensor:
    """Bin logits [..., 16] -> expected bin [...]."""
    bins = torch.arange(REG_MAX, dtype=logits.dtype, device=logits.device)
    return logits.softmax(dim=-1) @ bins


def nms(boxes: Tensor, scores: Tensor, protocol: Protocol) -> Detections:
    """Boxes [A, 4] px and scores [A, C] of one image -> its Detections, in the boxes' coordinates."""
    candidates = take_candidates(boxes, scores, protocol)
    keep = suppress(candidates, protocol)[: protocol.max_detections]
    return Detections(*(part[keep] for part in candidates))


def take_candidates(boxes: Tensor, scores: Tensor, protocol: Protocol) -> Detections:
    """What is suppressed of boxes [A, 4] px and scores [A, C]: the best above the threshold, best first."""
    boxes, scores = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (boxes, scores))
    if protocol.multi_label:
        indices, labels = (scores > protocol.score_threshold).nonzero(as_tuple=True)
        values = scores[indices, labels]
    else:
        best, best_labels = scores.max(dim=1)
        indices = (best > protocol.score_threshold).nonzero(as_tuple=True)[0]
        values, labels = best[indices], best_labels[indices]
    if (counts := _COUNTS.get()) is not None:
        counts.candidates += len(values)
    order = values.argsort(descending=True, stable=True)[: protocol.max_candidates]
    return Detections(boxes[indices[order]], values[order], labels[order])


def suppress(candidates: Detections, protocol: Protocol) -> Tensor:
    """Indices [m] of the candidates that no better one of their class suppresses, best first."""
    boxes, scores, labels = candidates
    if protocol.class_shift != "extent":
        return suppress_boxes(boxes + labels[:, None] * protocol.class_shift, scores, protocol.nms_iou)
    if len(boxes) < CLASS_BY_CLASS_FROM:
        extent = boxes.max() + 1 if len(boxes) else 0.0
        return suppress_boxes(boxes + labels[:, None] * extent, scores, protocol.nms_iou)
    kept = []
    for label in range(int(labels.max()) + 1):
        indices = (labels == label).nonzero(as_tuple=True)[0]
        kept.append(indices[suppress_boxes(boxes[indices], scores[indices], protocol.nms_iou)])
    together = torch.cat(kept)
    return together[scores[together].argsort(descending=True, stable=True)]


def suppress_boxes(boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
    """Indices of the boxes that overlap no better one by more than `iou`, best first."""
    kept: Tensor = load_nms()(boxes, scores, iou)
    return kept


@cache
def load_nms() -> Suppress:
    """torchvision's operator, from its compiled library where that can be loaded alone.

    The package around it imports torch._dynamo, which takes longer than torch itself. Where the library lies
    elsewhere or needs the package, as other versions may, the package is imported.
    """
    operators: Any = torch.ops  # mypy does not see what a library adds
    found = find_spec("torchvision")
    folders = [] if found is None else found.submodule_search_locations or []
    for library in sorted(file for folder in folders for file in Path(folder).glob("_C*.so")):
        try:
            operators.load_library(library)
            return cast(Suppress, operators.torchvision.nms.default)
        except (AttributeError, OSError, RuntimeError):
            continue
    import torchvision

    return cast(Suppress, torchvision.ops.nms)
