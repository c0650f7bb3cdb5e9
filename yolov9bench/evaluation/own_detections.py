"""The images of a data set through a user's function, and what it returns, checked where it comes in."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from yolov9bench.data.classes import ChosenClasses, choose_classes
from yolov9bench.data.coco import CocoDataset, CocoImage
from yolov9bench.errors import DatasetError, DetectorError, shown_value
from yolov9bench.evaluation.own_function import OwnFunction, describe_failure
from yolov9bench.io.progress import counted, track
from yolov9bench.ops.images import Pixels, is_dim, read_image
from yolov9bench.predict.predictions import Arrays, Predictions, predictions_of

FARTHEST = 2.0**24  # px: as good as infinite, and no longer exact in float32
BEYOND = 1e-3  # px that a box may reach out of its image unsaid: what is stored has three decimals

logger = logging.getLogger("yolov9bench")

Read = tuple[CocoImage, Pixels]  # RGB


class OriginalImages:
    """Iterate over a data set in batches of whole images in RGB, each in its own size.

    `skipped`, `other_size` and `dim` are filled as by `predict.batches.Batches`.
    """

    def __init__(self, dataset: CocoDataset, batch_size: int, skip_corrupt: bool) -> None:
        self.dataset, self.batch_size, self.skip_corrupt = dataset, batch_size, skip_corrupt
        self.skipped: list[str] = []
        self.other_size: list[str] = []
        self.dim: list[str] = []
        starts = range(0, len(dataset.images), batch_size)
        self.chunks = [dataset.images[start : start + batch_size] for start in starts]

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[list[Read]]:
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
            for chunk in self.chunks:
                read = zip(chunk, pool.map(self._read, chunk), strict=True)
                kept = [(image, rgb) for image, pixels in read for rgb in self._take(image, pixels)]
                if kept:
                    yield kept

    def _read(self, image: CocoImage) -> Pixels | DatasetError:
        try:
            return read_image(self.dataset.image_path(image))
        except DatasetError as error:
            return error

    def _take(self, image: CocoImage, pixels: Pixels | DatasetError) -> Iterator[Pixels]:
        """The image in RGB, once what is unusual about it is noted; nothing for one that is left out."""
        if isinstance(pixels, DatasetError):
            if not self.skip_corrupt:
                raise pixels
            self.skipped.append(image.file_name)
            return
        if pixels.shape[:2] != (image.height, image.width):
            self.other_size.append(image.file_name)
        if is_dim(self.dataset.image_path(image), pixels):
            self.dim.append(image.file_name)
        yield np.ascontiguousarray(pixels[:, :, ::-1])


def choose_by_id(dataset: CocoDataset, asked: Mapping[str, str]) -> ChosenClasses:
    """The classes to evaluate of a function, whose classes are those of the data set itself."""
    if not asked:
        return ChosenClasses(dataset, tuple(number for number, _ in dataset.categories))
    return choose_classes(dataset, dict(enumerate(dataset.names)), len(dataset.names), asked)


def run_function(
    own: OwnFunction, images: OriginalImages, ids: Sequence[int], categories: Sequence[int | None]
) -> Predictions:
    """What a function detects on a whole data set.

    ids: the category ids that it may return, ascending; categories: those to keep, None for the others, as
    `predictions_of` takes them. DetectorError names the image, the fault and the remedy.
    """
    count, beyond = counted(len(images.dataset.images), "images"), Beyond()
    logger.info("evaluating %s on %s", own.label, count)
    by_image: dict[int, Arrays] = {}
    for batch in track(images, len(images), f"evaluating {count}", "batches"):
        pixels = [each for _, each in batch]
        sizes = [each.shape for each in pixels]  # before the function has the images to itself
        try:
            returned = own.detect(pixels)
        except Exception as error:
            names = ", ".join(image.file_name for image, _ in batch[:3])
            raise DetectorError(
                f"detector {own.label} fails on {names} ({describe_failure(error, own.file)}): correct it"
            ) from error
        for (image, _), size, result in zip(
            batch, sizes, as_results(own.label, returned, len(batch)), strict=True
        ):
            boxes, scores, labels = check_result(f"detector {own.label}, {image.file_name}", result, ids)
            beyond.count(image.file_name, boxes, size[:2])
            by_image[image.id] = boxes, scores, labels
    if beyond.boxes:
        logger.warning("%s", beyond)
    return predictions_of(by_image, categories)


class Beyond:
    """The boxes that reach out of their images: counted, and evaluated as they are."""

    def __init__(self) -> None:
        self.boxes, self.images, self.first = 0, 0, ""

    def count(self, name: str, boxes: npt.NDArray[Any], size: tuple[int, ...]) -> None:
        """Add an image of (height, width)."""
        height, width = size
        limits = np.array([width, height, width, height]) + BEYOND
        found = int(((boxes < -BEYOND) | (boxes > limits)).any(axis=1).sum())
        self.boxes, self.images = self.boxes + found, self.images + bool(found)
        self.first = self.first or (name if found else "")

    def __str__(self) -> str:
        boxes, images = counted(self.boxes, "boxes"), counted(self.images, "images")
        return f"{boxes} on {images} (first {self.first}) reach out of their image: evaluated as they are"


def as_results(label: str, returned: Any, images: int) -> Sequence[Any]:
    """What a function returned, as one result an image; DetectorError if it is no list of so many."""
    if not isinstance(returned, list | tuple):
        raise DetectorError(
            f"detector {label} returned a {type(returned).__name__}: "
            "return a list with one (boxes, scores, labels) for each image"
        )
    if len(returned) != images:
        raise DetectorError(
            f"detector {label} returned {counted(len(returned), 'results')} for {counted(images, 'images')}: "
            "return one (boxes, scores, labels) for each image"
        )
    return returned


def check_result(place: str, result: Any, ids: Sequence[int]) -> Arrays:
    """One image's boxes [N, 4], scores [N] and labels as indices into `ids` [N], best first.

    place: what an error begins with. DetectorError for another form, and for values that cannot be.
    """
    if not isinstance(result, list | tuple) or len(result) != 3:
        what = f"{len(result)} values" if isinstance(result, list | tuple) else f"a {type(result).__name__}"
        raise DetectorError(f"{place}: the result is {what}: return (boxes, scores, labels) for it")
    boxes, scores, labels = (
        as_numbers(place, name, value)
        for name, value in zip(("boxes", "scores", "labels"), result, strict=True)
    )
    boxes = boxes.reshape(0, 4) if boxes.size == 0 else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise DetectorError(f"{place}: boxes have the shape {list(boxes.shape)}: return [N, 4], x1 y1 x2 y2")
    for name, values in (("scores", scores), ("labels", labels)):
        if values.shape != (len(boxes),):
            raise DetectorError(
                f"{place}: {name} have the shape {list(values.shape)} beside {counted(len(boxes), 'boxes')}: "
                f"return [{len(boxes)}]"
            )
    boxes, scores = boxes.astype(np.float64), scores.astype(np.float64)
    _check_values(place, boxes, scores)
    order = np.argsort(-scores, kind="stable")
    return boxes[order], scores[order], _as_indices(place, labels, ids)[order]


def as_numbers(place: str, name: str, values: Any) -> npt.NDArray[Any]:
    """Values as an array of numbers; tensors of any device are taken too."""
    if hasattr(values, "detach"):  # torch's; bfloat16 is unknown to numpy
        values = values.detach().cpu()
        values = (values.double() if values.is_floating_point() else values).numpy()
    try:
        array = np.asarray(values)
    except ValueError:  # lists of several lengths
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise DetectorError(f"{place}: {name} are {shown_value(values)}: return an array of numbers")
    return array


def _check_values(place: str, boxes: npt.NDArray[Any], scores: npt.NDArray[Any]) -> None:
    """DetectorError for the first box that is not finite, ends before it begins, or has no such score."""
    faults = {
        "is not finite": ~((np.abs(boxes) < FARTHEST).all(axis=1) & np.isfinite(scores)),
        "ends before it begins": (boxes[:, 2:] < boxes[:, :2]).any(axis=1),
        "has no score from 0 to 1": (scores < 0) | (scores > 1),
    }
    remedies = ("return numbers", "return x1 y1 x2 y2, not x y width height", "return scores from 0 to 1")
    for (fault, where), remedy in zip(faults.items(), remedies, strict=True):
        if where.any():
            first = int(np.flatnonzero(where)[0])
            box = ", ".join(f"{number:g}" for number in boxes[first])
            raise DetectorError(f"{place}: box {first} [{box}] of score {scores[first]:g} {fault}: {remedy}")


def _as_indices(place: str, labels: npt.NDArray[Any], ids: Sequence[int]) -> npt.NDArray[np.int64]:
    known = np.asarray(ids, np.int64)
    strange = np.flatnonzero(~np.isin(labels, known))
    if len(strange):
        raise DetectorError(
            f"{place}: label {labels[strange[0]]:g} is no category id of the data set ({_shown(ids)}): "
            "return category ids of the annotation file, not indices"
        )
    return np.searchsorted(known, labels.astype(np.int64))


def _shown(ids: Sequence[int]) -> str:
    listed = ", ".join(map(str, ids[:5]))
    return listed if len(ids) <= 5 else f"{len(ids)} ids, {listed} to {ids[-1]}"
