"""A detector in one file: it knows pure red and pure blue squares, and nothing else."""

from typing import Any

import numpy as np

CATEGORY_OF = {(255, 0, 0): 1, (0, 0, 255): 2}  # RGB -> category id


def detect(images: list[Any]) -> list[Any]:
    """RGB images uint8 [H, W, 3] -> (boxes [N, 4] x1 y1 x2 y2, scores [N], category ids [N]) of each."""
    found = []
    for image in images:
        boxes, labels = [], []
        for colour, category in CATEGORY_OF.items():
            rows, columns = np.nonzero((image == colour).all(axis=2))
            if len(rows):
                boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                labels.append(category)
        found.append((boxes, [0.9] * len(boxes), labels))
    return found
