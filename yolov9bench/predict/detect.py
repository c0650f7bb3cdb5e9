"""A batch of images to detections in their own pixels: each view on its own, then merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from yolov9bench.nn.detector import Outputs
from yolov9bench.ops.images import LetterboxInfo
from yolov9bench.predict.batches import Batch
from yolov9bench.predict.postprocess import Detections, decode_likely, nms, suppress
from yolov9bench.zoo.protocols import Protocol, View


def detect_batch(detector: nn.Module, batch: Batch, protocol: Protocol, device: str) -> list[Detections]:
    """The Detections of each image of a batch, from the protocol's one view or merged from several."""
    by_view = [detect_view(detector, batch, view, protocol, device) for view in protocol.views]
    if len(by_view) == 1:
        return by_view[0]
    return [merge_views(views, protocol) for views in zip(*by_view, strict=True)]


def detect_view(
    detector: nn.Module, batch: Batch, view: View, protocol: Protocol, device: str
) -> list[Detections]:
    """The Detections of each image of a batch in one view, in original pixels, where nothing is flipped."""
    inputs = batch.inputs[round(protocol.image_size * view.scale)]
    pixels, letterboxes = inputs.pixels.to(device).float().div_(255), inputs.letterboxes
    if not view.flipped:
        return detect(detector, pixels, letterboxes, protocol)
    if protocol.mirror_padding:
        letterboxes = tuple(mirrored_letterbox(info) for info in letterboxes)
    return [
        each._replace(boxes_xyxy=mirrored(each.boxes_xyxy, info.original[1]))
        for each, info in zip(
            detect(detector, pixels.flip(3), letterboxes, protocol), letterboxes, strict=True
        )
    ]


@torch.inference_mode()
def detect(
    detector: nn.Module, images: Tensor, letterboxes: Sequence[LetterboxInfo], protocol: Protocol
) -> list[Detections]:
    """Inputs [B, 3, H, W] (RGB, 0..1) and where images lie in them -> Detections, clipped to the images."""
    outputs: Outputs = detector(images)
    decoded = decode_likely(outputs.main, protocol.score_threshold)
    return [
        select_detections(boxes, scores, info, protocol)
        for (boxes, scores), info in zip(decoded, letterboxes, strict=True)
    ]


def select_detections(boxes: Tensor, scores: Tensor, info: LetterboxInfo, protocol: Protocol) -> Detections:
    """Decoded boxes [A, 4] in input pixels and scores [A, C] of one image -> its Detections."""
    kept = nms(boxes_for_nms(boxes, info, protocol), scores, protocol)
    return place_in_original(kept, info, protocol)


def boxes_for_nms(boxes: Tensor, info: LetterboxInfo, protocol: Protocol) -> Tensor:
    """Boxes [n, 4] in input pixels -> in the pixels in which the protocol suppresses."""
    return to_original(boxes, info, protocol) if protocol.nms_coordinates == "original" else boxes


def place_in_original(kept: Detections, info: LetterboxInfo, protocol: Protocol) -> Detections:
    """What was kept, as it was suppressed -> in original pixels, clipped to the image."""
    boxes = kept.boxes_xyxy
    if protocol.nms_coordinates == "input":
        boxes = to_original(boxes, info, protocol)
    return kept._replace(boxes_xyxy=clipped(boxes, info.original))


def merge_views(views: Sequence[Detections], protocol: Protocol) -> Detections:
    """One image's Detections in all its views, none flipped -> the best of them, best first."""
    together = Detections(*(torch.cat(parts) for parts in zip(*views, strict=True)))
    settings = replace(protocol, nms_iou=protocol.merge_iou)
    keep = suppress(together, settings)[: protocol.merge_max_detections]
    return Detections(*(part[keep] for part in together))


def to_original(boxes: Tensor, info: LetterboxInfo, protocol: Protocol) -> Tensor:
    """Boxes [n, 4] in input pixels -> in original pixels, not clipped."""
    gain_y, gain_x = (
        resized / original for resized, original in zip(info.resized, info.original, strict=True)
    )
    left, top = float(info.left), float(info.top)
    if protocol.scale_back == "height":
        gain_x = gain_y
        top, left = ((whole - part) / 2 for whole, part in zip(info.input, info.resized, strict=True))
    offset = boxes.new_tensor([left, top, left, top])
    return (boxes - offset) / boxes.new_tensor([gain_x, gain_y, gain_x, gain_y])


def clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes [n, 4] limited to an image of (height, width)."""
    height, width = size
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack(
        [x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)], dim=1
    )


def mirrored_letterbox(info: LetterboxInfo) -> LetterboxInfo:
    """Where an image lies once its padded input is flipped: what was right of it is then left."""
    return replace(info, left=info.input[1] - info.resized[1] - info.left)


def mirrored(boxes: Tensor, width: int) -> Tensor:
    """Boxes [n, 4] flipped horizontally in an image of this width."""
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)
