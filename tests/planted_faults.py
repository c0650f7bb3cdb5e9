"""Faults that public code was seen to have, planted into the path that an evaluation takes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from yolov9bench.data.classes import choose_classes
from yolov9bench.data.coco import CocoDataset
from yolov9bench.evaluation import coco_metrics, evaluate, run_network
from yolov9bench.evaluation.truth import read_truth
from yolov9bench.nn.detector import Detector
from yolov9bench.predict import batches, detect, postprocess
from yolov9bench.predict.batches import Inputs
from yolov9bench.predict.postprocess import Detections
from yolov9bench.predict.predictions import predictions_of
from yolov9bench.zoo.protocols import Protocol

Plant = Callable[[pytest.MonkeyPatch], None]


def suppress_in_float16(patch: pytest.MonkeyPatch) -> None:
    """Boxes of a class apart from others by a shift in half precision, which overflows from the ninth on."""

    def suppress(candidates: Detections, protocol: Protocol) -> Tensor:
        boxes, scores, labels = candidates
        shift = 7680.0 if protocol.class_shift == "extent" else protocol.class_shift
        shifted = boxes.half() + labels.half()[:, None] * torch.tensor(shift).half()
        return postprocess.suppress_boxes(shifted.float(), scores, protocol.nms_iou)

    patch.setattr(postprocess, "suppress", suppress)


def suppress_across_classes(patch: pytest.MonkeyPatch) -> None:
    def suppress(candidates: Detections, protocol: Protocol) -> Tensor:
        return postprocess.suppress_boxes(candidates.boxes_xyxy, candidates.scores, protocol.nms_iou)

    patch.setattr(postprocess, "suppress", suppress)


def leave_letterboxed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(detect, "to_original", lambda boxes, info, protocol: boxes)


def swap_channels(patch: pytest.MonkeyPatch) -> None:
    right = batches.stack_inputs

    def stack(parts: Any) -> Inputs:
        inputs = right(parts)
        return replace(inputs, pixels=inputs.pixels.flip(1))

    patch.setattr(batches, "stack_inputs", stack)


def keep_training(patch: pytest.MonkeyPatch) -> None:
    """Neither folded nor in eval mode."""
    patch.setattr(Detector, "deployed", lambda detector: detector.without_aux().train())


def shift_labels(patch: pytest.MonkeyPatch) -> None:
    """Categories taken for indices that begin at 1."""
    patch.setattr(
        run_network,
        "predictions_of",
        lambda detections, categories: predictions_of(detections, np.roll(categories, 1).tolist()),
    )


def shift_names(patch: pytest.MonkeyPatch) -> None:
    """A table of categories that is one off, which detections and metrics agree on."""

    def choose(*given: Any) -> Any:
        chosen = choose_classes(*given)
        return replace(chosen, categories=(*chosen.categories[1:], chosen.categories[0]))

    patch.setattr(evaluate, "choose_classes", choose)


def drop_crowds(patch: pytest.MonkeyPatch) -> None:
    right = CocoDataset.ground_truth

    def ground_truth(dataset: CocoDataset) -> dict[str, Any]:
        truth = right(dataset)
        return truth | {"annotations": [each for each in truth["annotations"] if not each["iscrowd"]]}

    patch.setattr(CocoDataset, "ground_truth", ground_truth)


def drop_crowds_in_metrics(patch: pytest.MonkeyPatch) -> None:

    def read(truth: Any) -> Any:
        kept = [each for each in truth["annotations"] if not each["iscrowd"]]
        return read_truth({**truth, "annotations": kept})

    patch.setattr(coco_metrics, "read_truth", read)


# The name that the self-check gives each.
FAULTS: dict[str, tuple[Plant, str]] = {
    "float16": (suppress_in_float16, "float16 NMS"),
    "class-agnostic": (suppress_across_classes, "class-agnostic NMS"),
    "letterboxed": (leave_letterboxed, "letterboxed coordinates"),
    "BGR": (swap_channels, "BGR input"),
    "BatchNorm": (keep_training, "BatchNorm in train mode"),
    "labels": (shift_labels, "shifted labels"),
    "names": (shift_names, "shifted labels"),
    "crowds": (drop_crowds, "dropped crowds"),
    "crowds in the metrics": (drop_crowds_in_metrics, "dropped crowds"),
}
