"""Test-time augmentation: several views of an image detected on their own, their detections merged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from yolov9bench.data.coco import CocoDataset, CocoImage
from yolov9bench.errors import SettingsError
from yolov9bench.images import Placement
from yolov9bench.nn.detector import Detector
from yolov9bench.predict.batches import Batch, Batches
from yolov9bench.predict.detect import detect
from yolov9bench.predict.nms import Detections, survivors
from yolov9bench.predict.protocols import MMYOLO, Protocol


@dataclass(frozen=True)
class View:
    """One look at an image: the long side scaled to `image_size` px, the padded input mirrored or not."""

    image_size: int
    flipped: bool


@dataclass(frozen=True)
class AugmentedProtocol:
    """How the views of an image become its detections; a record stores the very object that ran.

    Each view is detected by `base`, at the view's image size, up to boxes in the original image; those of
    flipped views are mirrored there. The boxes of all views, in the views' order, are suppressed once more
    within a class, at IoU > `merge_iou`, their scores unchanged, and the first `max_detections` kept.
    `mirror_padding`: whether a flipped view's left padding is taken to be what was its right. mmyolo forgets
    this; where the padding is odd (one pixel more on the right) it puts boxes one input pixel off.
    """

    name: str
    base: Protocol
    views: tuple[View, ...]
    merge_iou: float
    max_detections: int
    mirror_padding: bool


# The TTA column of mmyolo's YOLOv8 table: `tools/test.py --tta` with configs/_base_/det_p5_tta.py.
MMYOLO_TTA = AugmentedProtocol(
    "mmyolo+tta",
    base=MMYOLO,
    views=tuple(View(size, flipped) for size in (640, 320, 960) for flipped in (True, False)),
    merge_iou=0.65,
    max_detections=300,
    mirror_padding=False,
)


def find_augmented(name: str, image_size: int | None = None) -> AugmentedProtocol:
    """The augmented protocol for a plain one's name or "auto"; SettingsError for one that has none."""
    if name not in ("auto", MMYOLO.name):
        raise SettingsError(
            f"test-time augmentation is defined for protocol {MMYOLO.name}, not {name!r}: "
            f"take {MMYOLO.name} or auto, or leave tta out"
        )
    if image_size is not None:
        sizes = ", ".join(str(size) for size in dict.fromkeys(view.image_size for view in MMYOLO_TTA.views))
        raise SettingsError(
            f"image_size {image_size} cannot go with tta, whose views are {sizes} px: leave one of them out"
        )
    return MMYOLO_TTA


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
