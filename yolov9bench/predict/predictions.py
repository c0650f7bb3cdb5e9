"""Detections of a whole data set as arrays, and as the text of a COCO result file; needs no torch."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index as index_of
from typing import Any

import numpy as np
import numpy.typing as npt

from yolov9bench.errors import shown
from yolov9bench.io.json_objects import read_objects
from yolov9bench.predict.result_text import (
    BOX_DECIMALS,
    SCORE_DECIMALS,
    Floats,
    Integers,
    format_rows,
    parts_of,
    result_entries,
)

Arrays = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]  # boxes xyxy [n, 4], scores, labels [n]

IMAGES = 64  # rounded together: their arrays stay in a processor's cache
SUM_ERROR = 1e-9  # px; a size comes back from the corner x + width with an error of about 1e-13


@dataclass(frozen=True, eq=False)
class Predictions:
    """Detections of a data set: [N] image ids, [N, 4] boxes, [N] scores and [N] category ids.

    Boxes are x1 y1 x2 y2 in pixels of the original image. Image ids ascend; within an image the best
    detection comes first, or what a file lists first.
    """

    image_ids: Integers
    boxes_xyxy: Floats
    scores: Floats
    category_ids: Integers

    def __post_init__(self) -> None:
        count = len(self.image_ids)
        shapes = [part.shape for part in (self.image_ids, self.scores, self.category_ids)]
        if shapes != [(count,)] * 3 or self.boxes_xyxy.shape != (count, 4):
            raise ValueError(
                f"shapes {shapes} and {self.boxes_xyxy.shape} are not those of {count} detections"
            )
        if (self.image_ids[1:] < self.image_ids[:-1]).any():  # a difference may be beyond 64 bits
            raise ValueError("image ids must ascend")

    def __len__(self) -> int:
        return len(self.image_ids)

    def select(self, chosen: npt.NDArray[Any] | slice) -> Predictions:
        """The detections under a mask [N], at ascending indices, or of a slice."""
        return Predictions(
            self.image_ids[chosen], self.boxes_xyxy[chosen], self.scores[chosen], self.category_ids[chosen]
        )

    def of_images(self, image_ids: Iterable[int]) -> Predictions:
        """The detections on these images."""
        return self.select(np.isin(self.image_ids, np.array(list(image_ids), np.int64)))

    def boxes_xywh(self) -> Floats:
        """Boxes [N, 4] as x y width height; a size of three decimals is exact, as it was before the sum."""
        boxes = self.boxes_xyxy.copy()
        for part in parts_of(len(self)):
            with np.errstate(over="ignore", invalid="ignore"):  # the metrics refuse what is not finite
                sizes = boxes[part, 2:] - boxes[part, :2]
                short = np.rint(sizes * 10**BOX_DECIMALS) / 10**BOX_DECIMALS
                boxes[part, 2:] = np.where(np.abs(sizes - short) < SUM_ERROR, short, sizes)
        return boxes


def predictions_of(detections: Mapping[int, Arrays], categories: Sequence[int | None]) -> Predictions:
    """Detections by image id -> Predictions, rounded as a result file stores them.

    detections: boxes xyxy [n, 4] in pixels, scores [n], labels [n] that index `categories`, the data set's
    category ids; those of a label whose category is None are left out. Sizes are computed in float32; boxes
    (as x y width height) are rounded to 3 decimals, scores to 5.
    """
    numbers = sorted(detections)
    ids = np.array([category or 0 for category in categories], np.int64)
    known = np.array([category is not None for category in categories])
    parts = [
        _rounded_images(numbers[first : first + IMAGES], detections, ids, known)
        for first in range(0, len(numbers), IMAGES)
    ]
    nothing = np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64)
    return Predictions(*(np.concatenate(columns) for columns in zip(nothing, *parts, strict=True)))


def _rounded_images(
    numbers: Sequence[int], detections: Mapping[int, Arrays], ids: Integers, known: npt.NDArray[np.bool_]
) -> tuple[Integers, Floats, Floats, Integers]:
    """The columns of Predictions of some images; known: of each label, whether it has one of the ids."""
    found = [detections[number] for number in numbers]
    boxes = np.concatenate([np.reshape(boxes, (-1, 4)) for boxes, _, _ in found]).astype(np.float32)
    scores = np.concatenate([scores for _, scores, _ in found]).astype(np.float32)
    labels = np.concatenate([np.asarray(labels, np.int64) for _, _, labels in found])
    boxes[:, 2:] -= boxes[:, :2]
    sides = rounded(boxes, BOX_DECIMALS)
    sides[:, 2:] += sides[:, :2]
    image_ids = np.repeat(np.array(numbers, np.int64), [len(scores) for _, scores, _ in found])
    columns = image_ids, sides, rounded(scores, SCORE_DECIMALS), ids[labels]
    kept = known[labels]
    return columns if kept.all() else tuple(column[kept] for column in columns)


def rounded(values: npt.NDArray[np.float32], decimals: int) -> Floats:
    """Each value as Python's `round` gives it for its double, to the last bit; at most 9 decimals.

    The 24 significant bits of a float32 times a power of ten, of at most 21, are exact in a double, and half
    of a unit goes to the even one, as Python has it. The quotient of two exact integers is the double nearest
    to the decimal; where a value is too large to have such decimals it is the value itself.
    """
    decimal: Floats = np.rint(values.astype(np.float64) * 10**decimals) / 10**decimals
    return decimal


def predictions_from_json(text: str) -> Predictions:
    """The detections of a COCO result file's text, each taken up as it is read; ValueError as below."""
    return predictions_from_rows(read_objects(text))


def predictions_from_rows(rows: Iterable[Mapping[str, Any]]) -> Predictions:
    """The entries of a COCO result file (image_id, category_id, bbox [x, y, width, height], score).

    ValueError names the first that is no detection: without one of these, or with other than numbers.
    """
    ids, numbers = array("q"), array("d")
    for index, row in enumerate(rows):
        try:
            _append(row, ids, numbers)
        except (ValueError, LookupError, TypeError, OverflowError) as error:
            said = f"{type(error).__name__}: {shown(error, 60)}"
            raise ValueError(f"entry {index:,} is no detection ({said})") from error
    return _by_image(ids, numbers)


def _append(row: Mapping[str, Any], ids: array[int], numbers: array[float]) -> None:
    x, y, width, height = row["bbox"]
    image_id, category_id, values = row["image_id"], row["category_id"], (x, y, width, height, row["score"])
    if bool in map(type, values):  # which an array takes for 0 or 1
        raise TypeError("neither true nor false is a number")
    if type(image_id) is not int or type(category_id) is not int:
        image_id, category_id = _whole(image_id), _whole(category_id)
    ids.extend((image_id, category_id))
    numbers.extend(values)


def _whole(value: Any) -> int:
    """An id; 7.0 is 7, as other readers have it, and no other value becomes a whole number in silence."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool):
        raise TypeError("neither true nor false is an id")
    return index_of(value)


def _by_image(ids: array[int], numbers: array[float]) -> Predictions:
    """From two ids and five numbers of each detection, ordered by image."""
    images, categories = np.array(ids, np.int64).reshape(-1, 2).T
    values = np.array(numbers, np.float64).reshape(-1, 5)
    order = np.argsort(images, kind="stable")
    return from_columns(images[order], categories[order], values[order, :4], values[order, 4])


def from_columns(
    image_ids: Integers, category_ids: Integers, boxes_xywh: Floats, scores: Floats
) -> Predictions:
    """Predictions of boxes [N, 4] as x y width height."""
    with np.errstate(over="ignore", invalid="ignore"):  # as above
        corners = boxes_xywh[:, :2] + boxes_xywh[:, 2:]
    return Predictions(image_ids, np.concatenate([boxes_xywh[:, :2], corners], axis=1), scores, category_ids)


def result_rows(predictions: Predictions) -> Iterator[dict[str, Any]]:
    """The entries of a COCO result file, one detection each."""
    return result_entries(*_columns(predictions))


def result_json(predictions: Predictions) -> str:
    """The text of a COCO result file."""
    return b"".join(result_parts(predictions)).decode()


def result_parts(predictions: Predictions) -> Iterator[bytes]:
    """The text of a COCO result file in parts, so that it need not lie in memory as a whole."""
    yield b"["
    for part in parts_of(len(predictions)):
        rows = format_rows(*_columns(predictions.select(part)))
        yield rows if part.start else rows[1:]  # less the comma before the first
    yield b"]"


def result_sha256(predictions: Predictions) -> str:
    """The sha256 of the text of a COCO result file, by which records know detections."""
    digest = hashlib.sha256()
    for part in result_parts(predictions):
        digest.update(part)
    return digest.hexdigest()


def _columns(predictions: Predictions) -> tuple[Integers, Integers, Floats, Floats]:
    """As `result_text` takes them."""
    boxes = predictions.boxes_xywh()
    return predictions.image_ids, predictions.category_ids, boxes, predictions.scores
