"""From candidates to AP by a procedure: selection, ground truth and formula, each with its departures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from yolov9bench.evaluation.candidates import Candidates
from yolov9bench.evaluation.departures import Procedure
from yolov9bench.evaluation.intervals import Weighted, all_images
from yolov9bench.evaluation.matching import Integers, match
from yolov9bench.evaluation.own_formula import match_own
from yolov9bench.evaluation.truth import Array, Truth, result_array, run_evaluator
from yolov9bench.ops.images import LetterboxInfo
from yolov9bench.predict.detect import boxes_for_nms, place_in_original, select_detections
from yolov9bench.predict.postprocess import Detections, suppress_boxes, take_candidates
from yolov9bench.predict.predictions import Predictions, predictions_of
from yolov9bench.records.study import PARTS
from yolov9bench.zoo.protocols import Protocol

FLOAT16_BATCH = 16  # images that are suppressed as one in half precision


@dataclass(frozen=True, eq=False)
class Outcome:
    """AP by a procedure and its parts, as fractions, None where the formula knows no such part.

    `weighted` measures AP with other weights of the images, `interpolated` COCO's own formula so, for lines
    whose formula interpolates as well.
    """

    metrics: dict[str, float | None]
    predictions: Predictions
    weighted: Weighted
    interpolated: Weighted


@dataclass(frozen=True, eq=False)
class Measure:
    """The images and objects of matches, with another AP of each class than theirs."""

    of: Weighted
    precisions: Callable[[Integers], Array]

    @property
    def images(self) -> int:
        return self.of.images

    @property
    def classes(self) -> int:
        return self.of.classes

    @property
    def object_images(self) -> Integers:
        return self.of.object_images

    @property
    def object_classes(self) -> Integers:
        return self.of.object_classes

    def class_precisions(self, weights: Integers) -> Array:
        return self.precisions(weights)


def measure(
    candidates: Mapping[int, Candidates],
    procedure: Procedure,
    truth: Truth,
    categories: tuple[int, ...],
) -> Outcome:
    """AP of candidates by image id; truth and `categories`, by label, are the data set's."""
    selected = select_all(candidates, procedure)
    arrays = {
        number: (each.boxes_xyxy.numpy(), each.scores.numpy(), each.labels.numpy())
        for number, each in selected.items()
    }
    predictions = predictions_of(arrays, categories)
    letterboxes = {number: one.letterbox for number, one in candidates.items()}
    changed = change_truth(truth, procedure, letterboxes)
    results = result_array(changed, predictions)
    if procedure.formula == "own":
        own = match_own(changed, results)
        return Outcome(own_metrics(own.average_precisions(all_images(own))), predictions, own, own)
    values = run_evaluator(changed, results).get_results()
    matches = match(changed, results)
    interpolated = Measure(matches, matches.interpolated_precisions)
    return Outcome({name: values[name] for name in PARTS}, predictions, matches, interpolated)


def select_all(candidates: Mapping[int, Candidates], procedure: Procedure) -> dict[int, Detections]:
    """The detections of every image, in original pixels, or in those of the input with such coordinates."""
    if procedure.nms_arithmetic == "float32":
        return {number: select(one, procedure) for number, one in candidates.items()}
    numbers = sorted(candidates)
    found: dict[int, Detections] = {}
    for start in range(0, len(numbers), FLOAT16_BATCH):
        batch = numbers[start : start + FLOAT16_BATCH]
        detections = select_in_float16([candidates[number] for number in batch], procedure.protocol)
        found.update(zip(batch, detections, strict=True))
    return found


def select(candidates: Candidates, procedure: Procedure) -> Detections:
    """The detections of one image."""
    info = candidates.letterbox
    if procedure.coordinates == "input":  # as if the input were the image: nothing is scaled back
        info = LetterboxInfo(info.input, info.input, info.input, 0, 0)
    return select_detections(candidates.boxes, candidates.all_scores(), info, procedure.protocol)


def select_in_float16(batch: Sequence[Candidates], protocol: Protocol) -> list[Detections]:
    """The detections of a batch that is suppressed as one, with float16 boxes.

    Images and labels are kept apart by shifting boxes by (image + label * images) * (largest coordinate + 1).
    A float16 has 11 bits: boxes that are shifted by 32,768 px and more lie on a grid of 32 px, and beyond
    65,504 px they are infinite and suppress nothing. IoUs of the rounded boxes are computed in float32, as
    torchvision's kernel for CUDA accumulates them.
    """
    taken = [
        take_candidates(boxes_for_nms(one.boxes, one.letterbox, protocol), one.all_scores(), protocol)
        for one in batch
    ]
    together = Detections(*(torch.cat(parts) for parts in zip(*taken, strict=True)))
    image = torch.arange(len(batch)).repeat_interleave(torch.tensor([len(each.scores) for each in taken]))
    rounded = together.boxes_xyxy.half()
    extent = rounded.max() + 1 if len(rounded) else rounded.new_zeros(())
    shifts = (image + together.labels * len(batch)).half() * extent
    keep = suppress_boxes((rounded + shifts[:, None]).float(), together.scores, protocol.nms_iou)
    found = []
    for place, one in enumerate(batch):
        own = keep[image[keep] == place][: protocol.max_detections]
        kept = Detections(*(part[own] for part in together))
        found.append(place_in_original(kept, one.letterbox, protocol))
    return found


def change_truth(truth: Truth, procedure: Procedure, letterboxes: Mapping[int, LetterboxInfo]) -> Truth:
    """The truth less its crowds, or in input pixels, as the procedure has it.

    letterboxes: by image id. Boxes and areas follow the scale of each axis and the paddings of their image.
    """
    if procedure.crowds == "dropped":
        truth = without_crowds(truth)
    if procedure.coordinates == "original":
        return truth
    infos = [letterboxes[number] for number in truth.image_ids[truth.images - 1].tolist()]
    gains = np.array([np.divide(info.resized, info.original)[::-1] for info in infos]).reshape(-1, 2)
    paddings = np.array([(info.left, info.top) for info in infos], np.float64).reshape(-1, 2)
    corners = truth.boxes_xywh[:, :2] * gains + paddings
    boxes = np.concatenate([corners, truth.boxes_xywh[:, 2:] * gains], axis=1)
    return replace(truth, boxes_xywh=boxes, areas=truth.areas * gains.prod(axis=1))


def without_crowds(truth: Truth) -> Truth:
    """The truth of single objects alone."""
    kept = truth.crowds == 0
    columns = ("images", "categories", "boxes_xywh", "areas", "crowds")
    return replace(truth, **{name: getattr(truth, name)[kept] for name in columns})


def own_metrics(precisions: Array) -> dict[str, float | None]:
    """The metrics of the own formula, of its AP by class and IoU [classes, 10]; it knows no sizes."""
    present = precisions[~np.isnan(precisions[:, 0])]
    ap, ap50, ap75 = (
        float(columns.mean()) if len(present) else -1.0 for columns in (present, present[:, 0], present[:, 5])
    )
    return {"AP": ap, "AP50": ap50, "AP75": ap75, "APs": None, "APm": None, "APl": None}
