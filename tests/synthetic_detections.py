"""A made-up data set of any size and what a detector finds on it, as suppression hands it over."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Arrays = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int64]]

CATEGORIES = tuple(number for number in range(1, 91) if number % 9)  # 80 ids with gaps, as COCO has them
OBJECTS_AN_IMAGE = 7
SIZE = 640.0  # px


@dataclass(frozen=True)
class Case:
    """A ground truth in COCO's form, and by image id the boxes xyxy [n, 4], scores [n] and labels [n] found.

    The best detection comes first; every label indexes CATEGORIES.
    """

    ground_truth: dict[str, Any]
    found: dict[int, Arrays]


def make_case(images: int, an_image: int, seed: int = 0) -> Case:
    """Objects of all sizes, one in a hundred a crowd; detections near objects, and worse ones elsewhere."""
    generator = np.random.default_rng(seed)
    image_ids = np.sort(generator.choice(120 * images, images, replace=False)).tolist()
    annotations: list[dict[str, Any]] = []
    found = {}
    for image_id in image_ids:
        count = int(generator.integers(0, 2 * OBJECTS_AN_IMAGE + 1))
        boxes, labels = make_boxes(generator, count), generator.integers(0, len(CATEGORIES), count)
        for box, label in zip(boxes.round(2).tolist(), labels.tolist(), strict=True):
            x1, y1, x2, y2 = box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": CATEGORIES[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": int(len(annotations) % 100 == 99),
                }
            )
        found[image_id] = detect(generator, boxes, labels, an_image)
    names = [{"id": number, "name": f"class {number}"} for number in CATEGORIES]
    listed = [
        {"id": number, "file_name": f"{number}.jpg", "width": 640, "height": 640} for number in image_ids
    ]
    return Case({"images": listed, "annotations": annotations, "categories": names}, found)


def make_boxes(generator: np.random.Generator, count: int) -> Floats:
    """Boxes [n, 4], x1 y1 x2 y2 in px, within the image."""
    corners = generator.uniform(0, SIZE - 20, (count, 2))
    sizes = np.exp(generator.uniform(np.log(8), np.log(400), (count, 2)))
    return np.concatenate([corners, np.minimum(corners + sizes, SIZE)], axis=1)


def detect(
    generator: np.random.Generator, objects: Floats, labels: npt.NDArray[np.int64], count: int
) -> Arrays:
    """So many detections of an image: one near each object, of its class, and others anywhere."""
    boxes, classes = make_boxes(generator, count), generator.integers(0, len(CATEGORIES), count)
    scores = 0.001 + 0.6 * generator.random(count) ** 4
    near = min(len(objects), count)
    boxes[:near] = np.clip(objects[:near] + generator.normal(0, 4, (near, 4)), 0, SIZE)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    classes[:near], scores[:near] = labels[:near], generator.random(near)
    order = np.argsort(-scores, kind="stable")
    return boxes[order].astype(np.float32), scores[order].astype(np.float32), classes[order]
