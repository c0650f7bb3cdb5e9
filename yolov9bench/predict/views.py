"""Test-time augmentation: several views of an image detected on their own, their detections merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from yolov9bench.data.coco import CocoDataset, CocoImage
from yolov9bench.nn.detector import Detector
from yolov9bench.ops.images import Placement
from yolov9bench.predict.batches import Batch, Batches
from yolov9bench.predict.detect import detect
from yolov9bench.predict.nms import Detections, survivors
from yolov9bench.zoo.protocols import AugmentedProtocol, Protocol, View


class ViewBatches:
    """Iterate over a data set in batches, each a dict of Batch by image size, all of the same images.

    The rest is as in Batches; every image is decoded once per size.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        protocol: AugmentedProtocol,
        batch_size: int = 16,
        skip_corrupt: bool = False,
    ) -> None:
        self.dataset, self.protocol = dataset, protocol
        self.by_size = {
            size: Batches(dataset, replace(protocol.base, image_size=size), batch_size, skip_corrupt)
            for size in dict.fromkeys(view.image_size for view in protocol.views)
        }
        self.first = self.by_size[protocol.views[0].image_size]

    @property
    def skipped(self) -> list[str]:
        """The files left out because they cannot be decoded: the same at every size."""
        return self.first.skipped

    @property
    def other_size(self) -> list[str]:
        """The files whose decoded size is not the annotated one: the same at every size."""
        return self.first.other_size

    def __len__(self) -> int:
        return len(self.first)

    def __iter__(self) -> Iterator[dict[int, Batch]]:
        for batches in zip(*self.by_size.values(), strict=True):
            yield dict(zip(self.by_size, batches, strict=True))


def batches_of(
    dataset: CocoDataset, protocol: Protocol | AugmentedProtocol, batch_size: int, skip_corrupt: bool
) -> Batches | ViewBatches:
    """The data set in batches as a protocol of one view or of several wants it."""
    if isinstance(protocol, AugmentedProtocol):
        return ViewBatches(dataset, protocol, batch_size, skip_corrupt)
    return Batches(dataset, protocol, batch_size, skip_corrupt)


def detections_by_batch(
    detector: Detector, batches: Batches | ViewBatches, device: str
) -> Iterator[tuple[tuple[CocoImage, ...], list[Detections]]]:
    """The images of each batch with their Detections, from one view or merged from several."""
    if isinstance(batches, ViewBatches):
        for by_size in batches:
            images = next(iter(by_size.values())).images
            yield images, detect_views(detector, by_size, batches.protocol, device)
    else:
        for batch in batches:
            inputs = network_inputs(batch, device)
            yield batch.images, detect(detector, inputs, batch.placements, batches.protocol)


def detect_views(
    detector: Detector, by_size: dict[int, Batch], protocol: AugmentedProtocol, device: str
) -> list[Detections]:
    """The merged Detections of each image of one item of ViewBatches, in original pixels."""
    by_view = [
        detect_view(detector, by_size[view.image_size], view, protocol, device) for view in protocol.views
    ]
    return [merged(views, protocol) for views in zip(*by_view, strict=True)]


def detect_view(
    detector: Detector, batch: Batch, view: View, protocol: AugmentedProtocol, device: str
) -> list[Detections]:
    """The Detections of each image of a Batch in one view, in original pixels, where nothing is flipped."""
    inputs, placements = network_inputs(batch, device), batch.placements
    if not view.flipped:
        return detect(detector, inputs, placements, protocol.base)
    if protocol.mirror_padding:
        placements = tuple(mirrored_placement(placement) for placement in placements)
    found = detect(detector, inputs.flip(3), placements, protocol.base)
    return [
        each._replace(boxes_xyxy=mirrored(each.boxes_xyxy, placement.original[1]))
        for each, placement in zip(found, placements, strict=True)
    ]


def network_inputs(batch: Batch, device: str) -> Tensor:
    """A batch's inputs as a network takes them: floats in 0..1, on its device."""
    return batch.inputs.to(device).float() / 255


def mirrored_placement(placement: Placement) -> Placement:
    """Where an image lies once its padded input is flipped: what was right of it is then left."""
    return replace(placement, left=placement.input[1] - placement.resized[1] - placement.left)


def mirrored(boxes: Tensor, width: int) -> Tensor:
    """Boxes [n, 4] flipped horizontally in an image of this width."""
    x1, y1, x2, y2 = boxes.unbind(dim=1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=1)


def merged(views: Sequence[Detections], protocol: AugmentedProtocol) -> Detections:
    """One image's Detections in all its views, none flipped -> the best of them, best first."""
    together = Detections(*(torch.cat(parts) for parts in zip(*views, strict=True)))
    keep = survivors(together, replace(protocol.base, iou=protocol.merge_iou))[: protocol.max_detections]
    return Detections(*(part[keep] for part in together))
