"""Boxes that are well formed and probably not what was meant: a counted warning with the likely cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SHARE = 0.05  # of the boxes; COCO's own have far fewer such
SLACK = 1.0  # px by which a box may reach over its image


def find_suspect_boxes(
    annotations: Sequence[Mapping[str, Any]], sizes: Mapping[int, tuple[int, int]]
) -> list[str]:
    """Warnings on boxes that reach over their image or are smaller than a pixel, if they are many.

    `sizes` are width and height by image id; boxes of other images are left aside.
    """
    known = [entry for entry in annotations if entry["image_id"] in sizes and not entry["iscrowd"]]
    if not known:
        return []
    with np.errstate(over="ignore", invalid="ignore"):
        boxes = np.array([entry["bbox"] for entry in known], np.float64)
        limits = np.array([sizes[entry["image_id"]] for entry in known], np.float64)
        outside = ((boxes[:, :2] < -SLACK) | (boxes[:, :2] + boxes[:, 2:] > limits + SLACK)).any(axis=1)
        small = (boxes[:, 2:] < 1).any(axis=1)
        corners = (boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (boxes[:, 2:] <= limits + SLACK).all(axis=1)
    total, warnings = len(known), []
    if outside.sum() > SHARE * total:
        cause = "; they may be x1, y1, x2, y2 instead of x, y, width, height" if corners.all() else ""
        first = known[int(outside.argmax())]["id"]
        said = f"{int(outside.sum()):,} of {total:,} boxes reach over their image"
        warnings.append(f"{said}, first that of annotation {first}{cause}")
    if small.sum() > SHARE * total:
        cause = "; they may be fractions of the image's sides instead of pixels" if (boxes <= 1).all() else ""
        first = known[int(small.argmax())]["id"]
        said = f"{int(small.sum()):,} of {total:,} boxes are smaller than a pixel"
        warnings.append(f"{said}, first that of annotation {first}{cause}")
    return warnings
