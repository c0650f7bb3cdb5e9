"""One image with what a detector found in it: to be read, drawn, or written as COCO results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from yolov9bench.errors import SettingsError, shown
from yolov9bench.io.progress import counted
from yolov9bench.ops.images import Pixels, read_image
from yolov9bench.plots.annotated_images import Look, Mark, draw_image
from yolov9bench.plots.style import PALETTE
from yolov9bench.predict.predictions import predictions_of, result_rows
from yolov9bench.zoo.coco2017 import CATEGORY_IDS

SHOWN_CLASSES = 5  # in one line of text


@dataclass(frozen=True, eq=False, repr=False)
class PredictedImage:
    """The detections of one image, best first.

    `boxes_xyxy` [n, 4] in pixels of the image, `scores` [n], `labels` [n]; `size` is (height, width). `path`
    is None for an image that came as an array, whose `pixels` are kept, [H, W, 3] in BGR. `class_names` has
    all labels that the detector knows.
    """

    name: str
    path: Path | None
    pixels: Pixels | None
    size: tuple[int, int]
    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    class_names: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        """How many of each class, with the best score of each: 2 person .87, 1 bus .80."""
        best = dict(zip(reversed(self.names), self.scores[::-1].tolist(), strict=True))
        counts = Counter(self.names).items()
        found = [f"{count} {shown(name, 60)} {_short(best[name])}" for name, count in counts][:SHOWN_CLASSES]
        if len(counts) > SHOWN_CLASSES:
            found.append(f"and {counted(len(counts) - SHOWN_CLASSES, 'classes')} more")
        where = f"{self.name} ({self.size[1]}x{self.size[0]})"
        return f"{counted(len(self), 'detections')} on {where}{': ' if found else ''}{', '.join(found)}"

    def _repr_jpeg_(self) -> bytes:
        """What Jupyter shows for a result that ends a cell: the image of `plot`."""
        content = BytesIO()
        self.plot().savefig(content, format="jpeg")
        return content.getvalue()

    @property
    def names(self) -> list[str]:
        """The class of each detection."""
        return [self.class_names[label] for label in self.labels.tolist()]

    def plot(self) -> Figure:
        """The image with its boxes, class and score, pixel by pixel; savefig writes it to a file."""
        pixels = read_image(self.path) if self.pixels is None and self.path else self.pixels
        if pixels is None:
            raise SettingsError(f"{self.name} has no pixels any more: give the image again")
        return draw_image(pixels, self._marks())

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """The entries of a COCO result file: boxes as x y width height, rounded as every record stores them.

        category_ids: the data set's category of each label; if None, COCO's own for a detector of 80 classes,
        else the labels counted from 1.
        """
        if category_ids is None:
            classes = len(self.class_names)
            category_ids = CATEGORY_IDS if classes == len(CATEGORY_IDS) else range(1, classes + 1)
        elif len(category_ids) < len(self.class_names):
            raise SettingsError(
                f"category_ids has {counted(len(category_ids), 'entries')} for a detector of "
                f"{counted(len(self.class_names), 'classes')}: give one for each label"
            )
        arrays = (self.boxes_xyxy, self.scores, self.labels)
        return list(result_rows(predictions_of({image_id: arrays}, category_ids)))

    def _marks(self) -> tuple[Mark, ...]:
        """The boxes to draw, the best on top; a class has one colour."""
        labels = self.labels.tolist()
        colours = dict(zip(dict.fromkeys(labels), cycle(PALETTE), strict=False))
        found = zip(self.boxes_xyxy.tolist(), self.scores.tolist(), labels, self.names, strict=True)
        return tuple(
            Mark((x1, y1, x2 - x1, y2 - y1), f"{name} {score:.2f}", Look(colours[label], "solid"))
            for (x1, y1, x2, y2), score, label, name in found
        )


def _short(score: float) -> str:
    return f"{score:.2f}".removeprefix("0")
