"""What a network gives on one kind of input, kept so that every selection from it is arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from yolov9bench.data.coco import CocoDataset, CocoImage
from yolov9bench.evaluation.departures import Procedure
from yolov9bench.evaluation.variants import input_maker, shuffle_ties
from yolov9bench.io.progress import track
from yolov9bench.nn.detector import Detector
from yolov9bench.ops.images import LetterboxInfo
from yolov9bench.predict.batches import Batches, Shape
from yolov9bench.predict.postprocess import decode


@dataclass(frozen=True, eq=False)
class Candidates:
    """The boxes of one image with a score above a threshold, and every such score, on the CPU.

    `boxes` [A, 4] in input pixels, xyxy, in the network's order; of each score [N] its row among them and its
    label. `classes`: how many labels there are. `letterbox`: where the image lies in the input.
    """

    boxes: Tensor
    rows: Tensor
    labels: Tensor
    scores: Tensor
    classes: int
    letterbox: LetterboxInfo

    def all_scores(self) -> Tensor:
        """Scores [A, classes], 0 where one was not above the threshold."""
        filled = self.scores.new_zeros(len(self.boxes), self.classes)
        filled[self.rows.long(), self.labels.long()] = self.scores
        return filled


class Collected(NamedTuple):
    """Candidates by image id, and the batches that went through the network for them."""

    by_image: dict[int, Candidates]
    batches: Batches


@dataclass(frozen=True)
class Source:
    """What candidates come from: a deployed detector, its device and data, and the lowest score to keep."""

    detector: Detector
    dataset: CocoDataset
    device: str
    threshold: float
    batch_size: int
    skip_corrupt: bool = False


@torch.inference_mode()
def collect_candidates(
    source: Source, procedure: Procedure, label: str, known: Mapping[int, Candidates] | None = None
) -> Collected:
    """Run the network on a procedure's inputs, each image once, and keep what scores above the threshold.

    known: candidates of inputs with the same pixels, which are taken where the shape agrees too. label: for
    the progress.
    """
    found: dict[int, Candidates] = {}

    def take_known(image: CocoImage, shape: Shape) -> bool:
        one = (known or {}).get(image.id)
        if one is None or one.letterbox.input != shape:
            return False
        found[image.id] = one
        return True

    ordered = source.dataset.restricted(shuffle_ties(source.dataset.images, procedure.tie_seed))
    settings = (source.batch_size, source.skip_corrupt)
    batches = Batches(ordered, procedure.protocol, *settings, make=input_maker(procedure))
    batches.leave_out(take_known)
    for batch in track(batches, len(batches), label, "batches") if len(batches) else ():
        ((_, inputs),) = batch.inputs.items()
        boxes, scores = decode(source.detector(inputs.pixels.to(source.device).float() / 255).main)
        parts = zip(batch.images, boxes, scores, inputs.letterboxes, strict=True)
        for image, image_boxes, image_scores, info in parts:
            found[image.id] = keep_above(image_boxes, image_scores, info, source.threshold)
    return Collected(found, batches)


def keep_above(boxes: Tensor, scores: Tensor, info: LetterboxInfo, threshold: float) -> Candidates:
    """The candidates among decoded boxes [A, 4] and scores [A, C] of one image."""
    used = (scores > threshold).any(dim=1)
    boxes, scores = boxes[used].cpu(), scores[used].cpu()
    rows, labels = (scores > threshold).nonzero(as_tuple=True)
    small = (rows.to(torch.int32), labels.to(torch.int16))  # half of a candidate's memory otherwise
    return Candidates(boxes, *small, scores[rows, labels], scores.shape[1], info)
