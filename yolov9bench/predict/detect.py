"""A batch of network inputs to detections in the pixels of the original images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from yolov9bench.nn.detector import Detector
from yolov9bench.ops.images import Placement
from yolov9bench.predict.decode import decode
from yolov9bench.predict.nms import Detections, nms
from yolov9bench.zoo.protocols import Protocol


@torch.inference_mode()
def detect(
    detector: Detector, images: Tensor, placements: Sequence[Placement], protocol: Protocol
) -> list[Detections]:
    """Inputs [B, 3, H, W] (RGB, 0..1) and where images lie in them -> Detections, clipped to the images."""
    boxes, scores = decode(detector(images).main)
    return [
        detections_of(image_boxes, image_scores, placement, protocol)
        for image_boxes, image_scores, placement in zip(boxes, scores, placements, strict=True)
    ]


def detections_of(boxes: Tensor, scores: Tensor, placement: Placement, protocol: Protocol) -> Detections:
    """Decoded boxes [A, 4] in input pixels and scores [A, C] of one image -> its Detections."""
    if protocol.nms_coordinates == "original":
        found = nms(to_original(boxes, placement, protocol), scores, protocol)
    else:
        found = nms(boxes, scores, protocol)
        found = found._replace(boxes_xyxy=to_original(found.boxes_xyxy, placement, protocol))
    return found._replace(boxes_xyxy=clipped(found.boxes_xyxy, placement.original))


def to_original(boxes: Tensor, placement: Placement, protocol: Protocol) -> Tensor:
    """Boxes [n, 4] in input pixels -> in original pixels, not clipped."""
    gain_y, gain_x = (
        resized / original for resized, original in zip(placement.resized, placement.original, strict=True)
    )
    left, top = float(placement.left), float(placement.top)
    if protocol.scale_back == "height":
        gain_x = gain_y
        top, left = (
            (whole - part) / 2 for whole, part in zip(placement.input, placement.resized, strict=True)
        )
    offset = boxes.new_tensor([left, top, left, top])
    return (boxes - offset) / boxes.new_tensor([gain_x, gain_y, gain_x, gain_y])


def clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes [n, 4] limited to an image of (height, width)."""
    height, width = size
    return torch.stack(
        [
            boxes[:, 0].clamp(0, width),
            boxes[:, 1].clamp(0, height),
            boxes[:, 2].clamp(0, width),
            boxes[:, 3].clamp(0, height),
        ],
        dim=1,
    )
