"""Detections of a whole data set as arrays, and as the JSON of a COCO result file; needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Arrays = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]  # boxes xyxy [n, 4], scores, labels [n]

BOX_DECIMALS, SCORE_DECIMALS = 3, 5
SUM_ERROR = 1e-9  # px; a size comes back from the corner x + width with an error of about 1e-13
EXACT_BELOW = 2.0**50  # scaled values from here on are left to Python's round
NEAR_TIE = 1e-6  # of a scaled value's fraction to 1/2, where the product's rounding error could decide


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
        if (np.diff(self.image_ids) < 0).any():
            raise ValueError("image ids must ascend")

    def __len__(self) -> int:
        return len(self.image_ids)

    def select(self, chosen: npt.NDArray[Any]) -> Predictions:
        """The detections under a mask [N] or at ascending indices."""
        return Predictions(
            self.image_ids[chosen], self.boxes_xyxy[chosen], self.scores[chosen], self.category_ids[chosen]
        )

    def of_images(self, image_ids: Iterable[int]) -> Predictions:
        """The detections on these images."""
        return self.select(np.isin(self.image_ids, np.array(list(image_ids), np.int64)))

    def boxes_xywh(self) -> Floats:
        """Boxes [N, 4] as x y width height; a size of three decimals is exact, as it was before the sum."""
        with np.errstate(invalid="ignore"):  # sizes may be infinite: the metrics refuse them by name
            sizes = self.boxes_xyxy[:, 2:] - self.boxes_xyxy[:, :2]
            short = np.rint(sizes * 10**BOX_DECIMALS) / 10**BOX_DECIMALS
            sizes = np.where(np.abs(sizes - short) < SUM_ERROR, short, sizes)
        return np.concatenate([self.boxes_xyxy[:, :2], sizes], axis=1)


def predictions_of(detections: Mapping[int, Arrays], categories: Sequence[int | None]) -> Predictions:
    """Detections by image id -> Predictions, rounded as a result file stores them.

    detections: boxes xyxy [n, 4] in pixels, scores [n], labels [n] that index `categories`, the data set's
    category ids; those of a label whose category is None are left out. Sizes are computed in float32; boxes
    (as x y width height) are rounded to 3 decimals, scores to 5.
    """
    numbers = sorted(detections)
    parts = [detections[number] for number in numbers]
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(np.reshape(part[0], (-1, 4)) for part in parts)])
    scores = np.concatenate([np.zeros(0, np.float32), *(part[1] for part in parts)])
    labels = np.concatenate([np.zeros(0, np.int64), *(part[2] for part in parts)])
    boxes = boxes.astype(np.float32)
    low = rounded(boxes[:, :2], BOX_DECIMALS)
    sizes = rounded(boxes[:, 2:] - boxes[:, :2], BOX_DECIMALS)
    known = np.array([category is not None for category in categories])
    return Predictions(
        np.repeat(np.array(numbers, np.int64), [len(part[1]) for part in parts]),
        np.concatenate([low, low + sizes], axis=1),
        rounded(scores.astype(np.float32), SCORE_DECIMALS),
        np.array([category or 0 for category in categories], np.int64)[labels],
    ).select(known[labels])


def rounded(values: npt.NDArray[Any], decimals: int) -> Floats:
    """Each value as Python's `round` gives it for its double, to the last bit.

    Multiplying by a power of ten rounds too, which matters only near a tie: there Python's round is taken.
    Elsewhere the quotient of two exact integers is the double nearest to the decimal, as it is in Python.
    """
    doubles = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = doubles * 10**decimals
        result = np.asarray(np.rint(scaled) / 10**decimals)
        near_tie = np.abs(np.abs(scaled - np.trunc(scaled)) - 0.5) < NEAR_TIE
        unsure = near_tie | ~(np.abs(scaled) < EXACT_BELOW)
    result[unsure] = [round(number, decimals) for number in doubles[unsure].tolist()]
    return result


def predictions_from_rows(rows: Iterable[Mapping[str, Any]]) -> Predictions:
    """The entries of a COCO result file (image_id, category_id, bbox [x, y, width, height], score)."""
    entries = sorted(rows, key=lambda row: int(row["image_id"]))
    boxes = np.array([row["bbox"] for row in entries], np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return Predictions(
        np.array([row["image_id"] for row in entries], np.int64),
        boxes,
        np.array([row["score"] for row in entries], np.float64),
        np.array([row["category_id"] for row in entries], np.int64),
    )


def read_predictions(path: Path) -> Predictions:
    """The detections of a COCO result file."""
    return predictions_from_rows(json.loads(path.read_text(encoding="utf-8")))


def result_rows(predictions: Predictions) -> Iterator[dict[str, Any]]:
    """The entries of a COCO result file, one detection each."""
    columns = zip(
        predictions.image_ids.tolist(),
        predictions.category_ids.tolist(),
        predictions.boxes_xywh().tolist(),
        predictions.scores.tolist(),
        strict=True,
    )
    for image_id, category_id, bbox, score in columns:
        yield {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def result_json(predictions: Predictions) -> str:
    """The text of a COCO result file."""
    rows = (json.dumps(row, separators=(",", ":")) for row in result_rows(predictions))
    return f"[{','.join(rows)}]"
