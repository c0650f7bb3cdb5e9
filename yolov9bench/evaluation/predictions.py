"""Predictions of a data set as arrays, from the detector to the metrics; lists of dicts only in files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Row = dict[str, Any]  # of a COCO result file: image_id, category_id, bbox [x, y, w, h] in pixels, score


@dataclass(frozen=True, eq=False)  # == of two arrays has no truth value
class Predictions:
    """Detections on the images of a data set, by ascending image id, best first within an image.

    image_ids: [N] int64.
    boxes_xyxy: [N, 4] float64, in pixels of the original images.
    scores: [N] float64, in 0..1.
    category_ids: [N] int64, the data set's own.
    """

    image_ids: npt.NDArray[np.int64]
    boxes_xyxy: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    category_ids: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.image_ids)

    def select(self, chosen: npt.NDArray[Any]) -> Predictions:
        """Some of the predictions, by a mask [N] or by indices."""
        return Predictions(
            self.image_ids[chosen], self.boxes_xyxy[chosen], self.scores[chosen], self.category_ids[chosen]
        )

    def to_coco_array(self) -> npt.NDArray[np.float64]:
        """[N, 7]: image id, x, y, width, height, score, category id, as hotcoco and pycocotools load it."""
        x1y1, x2y2 = self.boxes_xyxy[:, :2], self.boxes_xyxy[:, 2:]
        columns = (self.image_ids, x1y1, x2y2 - x1y1, self.scores, self.category_ids)
        return np.column_stack([np.asarray(column, np.float64) for column in columns])

    def to_rows(self) -> list[Row]:
        """The rows of a COCO result file, boxes with 3 decimals and scores with 5."""
        x1y1 = self.boxes_xyxy[:, :2]
        xywh = round_exactly(np.concatenate([x1y1, self.boxes_xyxy[:, 2:] - x1y1], axis=1), 3).tolist()
        columns = (self.image_ids.tolist(), self.category_ids.tolist(), xywh)
        scores = round_exactly(self.scores, 5).tolist()
        return [
            {"image_id": image, "category_id": category, "bbox": box, "score": score}
            for image, category, box, score in zip(*columns, scores, strict=True)
        ]


def predictions_of_image(
    image_id: int,
    boxes_xyxy: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    categories: Sequence[int],
) -> Predictions:
    """One image's detections as they are stored and scored: x, y, width, height rounded to 3 decimals.

    boxes_xyxy: [n, 4] in pixels of the original image. scores: [n], rounded to 5 decimals. labels: [n], which
    index `categories`, the data set's category ids. Widths and heights are differences in float32.
    """
    boxes = np.asarray(boxes_xyxy, np.float32).reshape(-1, 4)
    x1y1 = round_exactly(boxes[:, :2], 3)
    size = round_exactly(boxes[:, 2:] - boxes[:, :2], 3)
    return Predictions(
        np.full(len(boxes), image_id, np.int64),
        np.concatenate([x1y1, x1y1 + size], axis=1),
        round_exactly(np.asarray(scores, np.float32), 5),
        np.asarray(categories, np.int64)[np.asarray(labels, np.int64)],
    )


def join(parts: Iterable[Predictions]) -> Predictions:
    """Predictions of several images as one, in ascending order of image id."""
    ordered = sorted((part for part in parts if len(part)), key=lambda part: int(part.image_ids[0]))
    if not ordered:
        return Predictions(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    return Predictions(
        np.concatenate([part.image_ids for part in ordered]),
        np.concatenate([part.boxes_xyxy for part in ordered]),
        np.concatenate([part.scores for part in ordered]),
        np.concatenate([part.category_ids for part in ordered]),
    )


def from_rows(rows: Iterable[Mapping[str, Any]]) -> Predictions:
    """Predictions from the rows of a COCO result file, in ascending order of image id, else as they come."""
    listed = list(rows)
    image_ids = np.array([row["image_id"] for row in listed], np.int64)
    xywh = np.array([row["bbox"] for row in listed], np.float64).reshape(-1, 4)
    unordered = Predictions(
        image_ids,
        np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
        np.array([row["score"] for row in listed], np.float64),
        np.array([row["category_id"] for row in listed], np.int64),
    )
    return unordered.select(np.argsort(image_ids, kind="stable"))


def round_exactly(values: npt.NDArray[np.floating], decimals: int) -> npt.NDArray[np.float64]:
    """As Python's `round` for each float32 (widened), and for doubles that hold so many decimals already.

    A float32 has 24 bits and 10**5 has 17, so that their product is exact in a double, and `rint` breaks ties
    to even as `round` does; the quotient of two exact numbers is the nearest double.
    """
    scale = 10.0**decimals
    rounded: npt.NDArray[np.float64] = np.rint(values.astype(np.float64) * scale) / scale
    return rounded
