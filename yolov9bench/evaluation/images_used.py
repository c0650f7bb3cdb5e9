"""The images of an evaluation: what must be on them, what was unusual, and the shares of processes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain

from yolov9bench.data.coco import CocoDataset
from yolov9bench.errors import DatasetError, SettingsError
from yolov9bench.evaluation.own_detections import OriginalImages
from yolov9bench.io.progress import counted
from yolov9bench.ops.distributed import gather
from yolov9bench.predict.batches import Batches
from yolov9bench.predict.postprocess import Counts
from yolov9bench.predict.predictions import Arrays
from yolov9bench.zoo.protocols import Protocol

logger = logging.getLogger("yolov9bench")


def require_objects(dataset: CocoDataset) -> None:
    """DatasetError for images on which no object is annotated, crowds apart: every metric would be -1."""
    if not dataset.has_objects:
        raise DatasetError(
            f"no object is annotated on the {len(dataset.images)} images of {dataset.folder} "
            f"({len(dataset.annotations)} crowds), so that there is nothing to score: choose other images"
        )


def warn_of_images(batches: Batches | OriginalImages) -> None:
    """Say which images were left out, have another size than annotated, or are almost black."""
    if batches.skipped:
        left_out = counted(len(batches.skipped), "images")
        logger.warning("left out %s that cannot be decoded: %s", left_out, batches.skipped)
    if batches.other_size:
        what, first = "another size than annotated", batches.other_size[0]
        logger.warning("%s %s (first %s): their own counts", _have(batches.other_size), what, first)
    if batches.dim:
        what, first = "16 bits a pixel with 12 in use", min(batches.dim)
        remedy = "almost black: scale the pixel values"
        logger.warning("%s %s (first %s), %s", _have(batches.dim), what, first, remedy)


def _have(images: Sequence[str]) -> str:
    return f"{counted(len(images), 'images')} {'has' if len(images) == 1 else 'have'}"


def without_skipped(dataset: CocoDataset, skipped: list[str]) -> CocoDataset:
    """The data set less the images that were left out, so that nothing on them counts as missed."""
    if not skipped:
        return dataset
    kept = tuple(image for image in dataset.images if image.file_name not in skipped)
    if not kept:
        raise DatasetError(
            f"none of the {len(skipped)} images in {dataset.folder} can be decoded: fetch them again"
        )
    return dataset.restricted(kept)


def join_shares(by_image: dict[int, Arrays], batches: Batches) -> dict[int, Arrays]:
    """The detections of every process, and in `batches` what each counted, left out or found otherwise."""
    counts = asdict(batches.counts)
    shares = gather((by_image, batches.skipped, batches.other_size, batches.dim, counts))
    order = {image.file_name: place for place, image in enumerate(batches.dataset.images)}
    batches.skipped = sorted(chain.from_iterable(skipped for _, skipped, *_ in shares), key=order.__getitem__)
    batches.other_size = sorted(
        chain.from_iterable(other for _, _, other, *_ in shares), key=order.__getitem__
    )
    batches.dim = list(chain.from_iterable(dim for *_, dim, _ in shares))
    batches.counts = Counts(**{key: sum(each[key] for *_, each in shares) for key in counts})
    return {number: arrays for found, *_ in shares for number, arrays in found.items()}


def too_large(images: int, protocol: Protocol) -> SettingsError:
    """The error for so many images at a time that a GPU has no memory for."""
    remedy = f"give batch_size {images // 2}" if images > 1 else "give a smaller image_size, or device cpu"
    size = protocol.image_size
    return SettingsError(
        f"a batch of {counted(images, 'images')} of {size} px does not fit into the GPU's memory: {remedy}"
    )
