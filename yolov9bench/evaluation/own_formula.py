"""The AP that the references compute by themselves while they train, beside COCO's; needs no torch.

Its rules are those of recorded outputs: of every detection that overlaps objects of its class, the object it
overlaps most is its own; an object goes to the first such detection by score, though another may overlap it
more, and a detection whose object is gone finds no second one. AP is the area under the highest precision
further on, drawn linearly between 101 recalls. Neither crowds nor sizes are known to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolov9bench.evaluation.matching import IOUS, RECALLS, Integers
from yolov9bench.evaluation.truth import Array, Truth

TINY = 1e-7  # square pixels that the references add to a union, so that empty boxes divide by no zero
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class OwnMatches:
    """Every detection, class by class and best first, and whether it found an object at each of ten IoUs.

    As `matching.Matches`: images are numbered 1..`images`, `image_of` [D], `starts` [classes + 1], objects
    without crowds. `found` [D, 10].
    """

    images: int
    classes: int
    image_of: Integers
    starts: Integers
    found: Flags
    object_images: Integers
    object_classes: Integers

    def average_precisions(self, weights: Integers) -> Array:
        """AP of each class and IoU where image i counts `weights[i]` times, [classes, 10].

        NaN for classes without objects.
        """
        counts = np.bincount(self.object_classes, weights[self.object_images], self.classes + 1)[1:]
        result: Array = np.full((self.classes, len(IOUS)), np.nan)
        for label in np.flatnonzero(counts):
            own = slice(self.starts[label], self.starts[label + 1])
            repeats = weights[self.image_of[own]]
            found = np.repeat(self.found[own], repeats, axis=0)
            result[label] = areas_under(found, counts[label])
        return result

    def class_precisions(self, weights: Integers) -> Array:
        """The mean over the ten IoUs, [classes]."""
        result: Array = self.average_precisions(weights).mean(axis=1)
        return result


def areas_under(found: Flags, objects: float) -> Array:
    """AP [T] of detections, best first, that did or did not find one of so many objects at T IoUs, [D, T]."""
    columns = found.shape[1]
    if not len(found):
        return np.zeros(columns)
    right = np.cumsum(found, axis=0)
    seen = np.arange(1, len(found) + 1)[:, None]
    recall = np.concatenate([np.zeros((1, columns)), right / objects, np.ones((1, columns))])
    precision = np.concatenate([np.ones((1, columns)), right / seen, np.zeros((1, columns))])
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    curves = zip(recall.T, envelope.T, strict=True)
    heights = np.array([np.interp(RECALLS, known, values) for known, values in curves])
    areas: Array = ((heights[:, 1:] + heights[:, :-1]) / 2 * np.diff(RECALLS)).sum(axis=1)
    return areas


def match_own(truth: Truth, results: Array) -> OwnMatches:
    """Match detections, [N, 7] as `truth.result_array` has them, to their objects as the references do."""
    plain = truth.crowds == 0
    images, classes = results[:, 0].astype(np.int64), results[:, 6].astype(np.int64)
    found = np.zeros((len(results), len(IOUS)), bool)
    for rows, objects in _groups(truth, plain, images, classes, results[:, 5]):
        overlaps = _overlaps(results[rows, 1:5], truth.boxes_xywh[objects])
        best, largest = overlaps.argmax(axis=1), overlaps.max(axis=1)
        for place, threshold in enumerate(IOUS):
            candidates = np.flatnonzero(largest >= threshold)
            _, first = np.unique(best[candidates], return_index=True)  # of each object the best score
            found[rows[candidates[first]], place] = True
    order = np.lexsort((np.arange(len(results)), -results[:, 5], classes))
    return OwnMatches(
        images=len(truth.image_ids),
        classes=len(truth.category_ids),
        image_of=images[order],
        starts=np.searchsorted(classes[order], np.arange(1, len(truth.category_ids) + 2)),
        found=found[order],
        object_images=truth.images[plain],
        object_classes=truth.categories[plain],
    )


def _groups(
    truth: Truth, plain: Flags, images: Integers, classes: Integers, scores: Array
) -> Iterator[tuple[Integers, Integers]]:
    """Detections, best first, and objects of every image and class that has both, as indices."""
    span = len(truth.image_ids) + 1
    keys = classes * span + images
    by_key = np.lexsort((np.arange(len(keys)), -scores, keys))
    objects = np.flatnonzero(plain)
    object_keys = truth.categories[objects] * span + truth.images[objects]
    for key in np.unique(object_keys):
        low, high = np.searchsorted(keys[by_key], [key, key + 1])
        if high > low:
            yield by_key[low:high], objects[object_keys == key]


def _overlaps(boxes: Array, objects: Array) -> Array:
    """IoU of boxes [D, 4] and objects [G, 4], both x y width height: [D, G]."""
    low = np.maximum(boxes[:, None, :2], objects[None, :, :2])
    high = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], (objects[:, :2] + objects[:, 2:])[None])
    inter = np.clip(high - low, 0, None).prod(axis=2)
    union = boxes[:, 2:].prod(axis=1)[:, None] + objects[:, 2:].prod(axis=1)[None] - inter
    result: Array = inter / (union + TINY)
    return result
