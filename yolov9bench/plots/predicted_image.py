"""One image with what a detector found in it: to be read, drawn, or written as COCO results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from yolov9bench.errors import SettingsError
from yolov9bench.ops.images import Pixels, read_image
from yolov9bench.plots.annotated_images import Look, Mark, draw_image
from yolov9bench.plots.style import PALETTE
from yolov9bench.predict.predictions import predictions_of, result_rows
from yolov9bench.zoo.coco2017 import CATEGORY_IDS


@dataclass(frozen=True, eq=False, repr=False)
class PredictedImage:
    """The detections of one image, best first.

    `boxes_xyxy` [n, 4] in pixels of the image, `scores` [n], `labels` [n]; `size` is (height, width). `path`
    is None for an image that came as an array, whose `pixels` are kept, [H, W, 3] in BGR. `class_names` by
    label are the checkpoint's, empty where it has none.
    """

    name: str
    path: Path | None
    pixels: Pixels | None
    size: tuple[int, int]
    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    class_names: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        counts = Counter(self.names)
        found = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing found"
        return f"<{self.name}, {self.size[1]}x{self.size[0]}: {found}>"

    @property
    def names(self) -> list[str]:
        """The class of each detection."""
        return [self.class_names.get(label, f"class {label}") for label in self.labels.tolist()]

    def plot(self) -> Figure:
        """The image with its boxes, class and score; as wide as its pixels at 100 to the inch."""
        pixels = read_image(self.path) if self.pixels is None and self.path else self.pixels
        if pixels is None:
            raise SettingsError(f"{self.name} has no pixels any more: give the image again")
        return draw_image(pixels, self._marks())

    def to_coco(self, image_id: int, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """The entries of a COCO result file: boxes as x y width height, rounded as every record stores them.

        category_ids: the data set's category of each label; if None, COCO's own for the 80 classes of COCO,
        else the labels counted from 1.
        """
        if category_ids is None:
            classes = max(len(self.class_names), int(self.labels.max(initial=-1)) + 1)
            category_ids = CATEGORY_IDS if classes == len(CATEGORY_IDS) else range(1, classes + 1)
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
