"""What 16 bits do to AP: the same images by float32 and by them, before a whole data set is run so."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeAlias

from torch import nn

from yolov9bench.data.coco import CocoDataset
from yolov9bench.errors import SettingsError
from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.evaluation.images_used import without_skipped
from yolov9bench.io.progress import counted
from yolov9bench.nn.detector import Detector
from yolov9bench.predict.batches import Batches
from yolov9bench.predict.choose_backend import apply_backend
from yolov9bench.predict.predictions import Predictions
from yolov9bench.records.contents import PrecisionCheck
from yolov9bench.zoo.backends import Backend

Detect: TypeAlias = Callable[[nn.Module, Batches], Predictions]

IMAGES = 64
MOST_SHIFT = 0.02  # of AP, either way: bfloat16 moves that of yolov8n by .007 on a hundred real images

logger = logging.getLogger("yolov9bench")


def apply_checked(
    detector: Detector, backend: Backend, batches: Batches, detect: Detect
) -> tuple[nn.Module, PrecisionCheck | None]:
    """As `apply_backend`, with what a backend of 16 bits does to AP on a few images; None of float32.

    detect: runs a network over batches. SettingsError if AP moves by more than MOST_SHIFT.
    """
    if backend.dtype == "float32":
        return apply_backend(detector, backend), None
    few = choose_images(batches.dataset)

    def ap_by(network: nn.Module) -> float:
        own = Batches(few, batches.protocol, batches.batch_size, batches.skip_corrupt)
        predictions = detect(network, own)
        used = without_skipped(few, own.skipped)
        return coco_metrics(used.ground_truth(), predictions)["AP"]

    plain = ap_by(detector)
    network = apply_backend(detector, backend)
    check = PrecisionCheck(images=len(few.images), AP=ap_by(network), AP_float32=plain)
    _require_near(check, backend)
    return network, check


def choose_images(dataset: CocoDataset) -> CocoDataset:
    """The first images with objects, which alone have an AP; at most IMAGES."""
    with_objects = {entry["image_id"] for entry in dataset.annotations if not entry["iscrowd"]}
    return dataset.restricted([image for image in dataset.images if image.id in with_objects][:IMAGES])


def _require_near(check: PrecisionCheck, backend: Backend) -> None:
    found, plain = check.AP or 0.0, check.AP_float32 or 0.0
    said = f"on {counted(check.images or 0, 'images')} AP is {found:.5f} by {backend.name}"
    if not abs(found - plain) <= MOST_SHIFT:
        raise SettingsError(f"{said}, and {plain:.5f} by float32: leave backend {backend.name} out")
    logger.info("%s, and %.5f by float32", said, plain)
