"""COCO's matching done once, so that AP of the images with other weights costs milliseconds; no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask

from yolov9bench.evaluation.truth import Array, Truth

Integers = npt.NDArray[np.int64]

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST_DETECTIONS = 100  # of an image and class, as COCO's AP has it
ALMOST_ONE = 1 - 1e-10  # pycocotools' limit of an IoU threshold


@dataclass(frozen=True, eq=False)
class Matches:
    """Every detection that counts, class by class and best first, and what became of it at each IoU.

    Images are numbered 1..`images`, classes 1..`classes`. `image_of` [D] and `starts` [classes + 1]: where
    the detections of a class begin. For each of the ten IoU thresholds: indices of the detections that found
    an object, and of those that lie on a crowd and do not count. Objects (no crowds): their image and class.
    `scores` [D]. `overlaps`: at the lowest threshold, the IoU of each detection of `found[0]` and its object.
    """

    images: int
    classes: int
    image_of: Integers
    starts: Integers
    found: tuple[Integers, ...]
    ignored: tuple[Integers, ...]
    object_images: Integers
    object_classes: Integers
    scores: Array
    overlaps: Array

    def average_precision(self, weights: Integers) -> float:
        """AP over IoU .50:.95 (-1 without objects) where image i counts `weights[i]` times; [images + 1].

        Equal to COCO's AP of a data set with so many copies of each image, but for the order among equal
        scores: copies of one detection follow one another, and only the last of them lies on the curve's
        envelope.
        """
        precisions = self.interpolated_precisions(weights)
        present = ~np.isnan(precisions)
        return float(precisions[present].mean()) if present.any() else -1.0

    def interpolated_precisions(self, weights: Integers) -> Array:
        """COCO's AP of each class, as `average_precision`, [classes]; NaN for classes without objects."""
        counts = np.bincount(self.object_classes, weights[self.object_images], self.classes + 1)[1:]
        counts = counts.astype(np.int64)
        present = np.flatnonzero(counts)
        needed = _needed(counts[present])
        of_detection = weights[self.image_of]
        seen = np.concatenate([[0], np.cumsum(of_detection)])
        result: Array = np.full(self.classes, np.nan)
        result[present] = 0.0
        for found, ignored in zip(self.found, self.ignored, strict=True):
            sums = self._precisions(found, ignored, of_detection, seen, present, needed).sum(axis=1)
            result[present] += sums / (len(IOUS) * len(RECALLS))
        return result

    def class_precisions(self, weights: Integers) -> Array:
        """AP of each class without COCO's interpolation, [classes]; NaN for classes without objects.

        The area under the curve of precision over recall by trapezoids: of each object found, the mean of the
        precisions before and after it, over the ten IoU thresholds. It lies less high on few objects than
        the interpolated area (Boyd, Eng and Page 2013). Before a class's first detection, precision is taken
        to be the share of classes whose first detection is right.
        """
        return self._curves.class_precisions(weights)

    @cached_property
    def _curves(self) -> Curves:
        return Curves(self)

    def _counts(
        self, found: Integers, ignored: Integers, of_detection: Integers, seen: Integers
    ) -> tuple[Integers, Integers, Integers]:
        """Of each of `found`: its class, and how many detections up to it are right and count at all."""
        hits = np.concatenate([[0], np.cumsum(of_detection[found])])
        passed = np.concatenate([[0], np.cumsum(of_detection[ignored])])
        bounds = np.searchsorted(found, self.starts)
        owner = np.repeat(np.arange(self.classes), np.diff(bounds))
        first = self.starts[owner]
        counted = seen[found + 1] - seen[first]
        counted -= passed[np.searchsorted(ignored, found)] - passed[np.searchsorted(ignored, first)]
        return owner, hits[1:] - hits[bounds[owner]], counted

    def _precisions(
        self,
        found: Integers,
        ignored: Integers,
        of_detection: Integers,
        seen: Integers,
        present: Integers,
        needed: Integers,
    ) -> Array:
        """Precision at each of COCO's recalls, [present classes, 101], at one IoU."""
        hits = np.concatenate([[0], np.cumsum(of_detection[found])])
        bounds = np.searchsorted(found, self.starts)  # of each class among `found`
        owner, right, counted = self._counts(found, ignored, of_detection, seen)
        live = of_detection[found] > 0
        precision = np.divide(right, counted, out=np.zeros(len(found)), where=live & (counted > 0))
        # The highest precision from each place to its class's end: classes are kept apart by whole numbers.
        apart = 2.0 * (self.classes - owner)
        envelope = np.maximum.accumulate((precision + apart)[::-1])[::-1] - apart
        wanted = hits[bounds[present]][:, None] + np.maximum(needed, 1)
        place = np.searchsorted(hits[1:], wanted)
        inside = wanted <= hits[bounds[present + 1]][:, None]
        padded = np.concatenate([envelope, [0.0]])
        return np.where(inside, padded[np.minimum(place, len(envelope))], 0.0)


class Curves:
    """The objects found at all ten IoU thresholds in one row [F], with what no weights change.

    Made once for many weights: then each takes a pass over the detections and one over the row.
    """

    def __init__(self, matches: Matches) -> None:
        self.matches = matches
        counts = [len(each) for each in matches.found]
        self.found = np.concatenate(matches.found)
        self.threshold = np.repeat(np.arange(len(counts)), counts)
        self.owner = np.searchsorted(matches.starts, self.found, side="right") - 1  # its class, from 0
        self.first = matches.starts[self.owner]  # detection of its class
        group = self.threshold * matches.classes + self.owner
        self.begins = np.searchsorted(group, group)  # the first of its class and threshold in the row
        self.ignored = np.concatenate(matches.ignored)
        # How many of `ignored` come before each of `found`, and before the first detection of its class.
        before = np.cumsum([0, *(len(each) for each in matches.ignored[:-1])])
        firsts = np.split(self.first, np.cumsum(counts)[:-1])
        parts = list(zip(before, matches.ignored, matches.found, firsts, strict=True))
        self.passed = np.concatenate([start + np.searchsorted(own, found) for start, own, found, _ in parts])
        self.passed_first = np.concatenate(
            [start + np.searchsorted(own, first) for start, own, _, first in parts]
        )

    def class_precisions(self, weights: Integers) -> Array:
        """AP of each class, as `Matches.class_precisions` has it."""
        matches = self.matches
        counts = np.bincount(matches.object_classes, weights[matches.object_images], matches.classes + 1)[1:]
        of_detection = weights[matches.image_of]
        seen, hits, passed = map(_sums, (of_detection, of_detection[self.found], of_detection[self.ignored]))
        detected = int((np.diff(seen[matches.starts]) > 0).sum())
        live = np.flatnonzero(of_detection[self.found])
        found, threshold = self.found[live], self.threshold[live]
        right = hits[live + 1] - hits[self.begins[live]]
        counted = seen[found + 1] - seen[self.first[live]]
        counted -= passed[self.passed[live]] - passed[self.passed_first[live]]
        weight = of_detection[found]
        earlier = counted - weight
        unknown = np.bincount(threshold[earlier == 0], minlength=len(IOUS)) / max(detected, 1)
        before = np.divide(right - weight, earlier, out=unknown[threshold], where=earlier > 0)
        area = np.bincount(self.owner[live], (right / counted + before) / 2 * weight, matches.classes)
        undefined = np.full(matches.classes, np.nan)
        result: Array = np.divide(area / len(IOUS), counts, out=undefined, where=counts > 0)
        return result


def _sums(values: Integers) -> Integers:
    """The sums of the first 0, 1, 2 ... values."""
    return np.concatenate([[0], np.cumsum(values)])


def _needed(counts: Integers) -> Integers:
    """How many of `counts` [K] objects must be found for each of COCO's recalls: [K, 101]."""
    least = np.ceil(counts[:, None] * RECALLS - 1e-9).astype(np.int64)
    short = least / counts[:, None] < RECALLS  # as the evaluators compare
    return least + short


def match(truth: Truth, results: Array) -> Matches:
    """Match detections, [N, 7] as `truth.result_array` has them, to their objects as pycocotools does."""
    order, image_of, class_of = _sorted_detections(results)
    objects = np.lexsort((truth.crowds, truth.images, truth.categories))
    found: list[list[int]] = [[] for _ in IOUS]
    ignored: list[list[int]] = [[] for _ in IOUS]
    shared: list[float] = []  # IoUs of found[0]
    for detections, entries in _groups(truth, objects, image_of, class_of):
        boxes: Any = results[order[detections], 1:5]  # pycocotools' types know no arrays of doubles
        objects_boxes: Any = truth.boxes_xywh[entries]
        crowds = truth.crowds[entries]
        overlaps = np.asarray(mask.iou(boxes, objects_boxes, crowds.tolist()))
        outcomes = _match_group(overlaps, crowds)
        shared += outcomes[0][2]
        for threshold, (hit, passed, _) in enumerate(outcomes):
            found[threshold] += detections[hit].tolist()
            ignored[threshold] += detections[passed].tolist()
    plain = truth.crowds == 0
    classes = len(truth.category_ids)
    return Matches(
        images=len(truth.image_ids),
        classes=classes,
        image_of=image_of,
        starts=np.searchsorted(class_of, np.arange(1, classes + 2)),
        found=tuple(np.sort(np.array(each, np.int64)) for each in found),
        ignored=tuple(np.sort(np.array(each, np.int64)) for each in ignored),
        object_images=truth.images[plain],
        object_classes=truth.categories[plain],
        scores=results[order, 5],
        overlaps=np.array(shared)[np.argsort(found[0])],
    )


def _sorted_detections(results: Array) -> tuple[Integers, Integers, Integers]:
    """Rows of the detections that count, by class and then best first; their images and classes."""
    images, classes = results[:, 0].astype(np.int64), results[:, 6].astype(np.int64)
    by_group = np.lexsort((np.arange(len(results)), -results[:, 5], images, classes))
    keys = classes[by_group] * (images.max(initial=0) + 1) + images[by_group]
    begins = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else keys
    place = np.arange(len(keys)) - np.repeat(begins, np.diff(np.append(begins, len(keys))))
    kept = by_group[place < MOST_DETECTIONS]
    order = kept[np.lexsort((np.arange(len(kept)), -results[kept, 5], classes[kept]))]
    return order, images[order], classes[order]


def _groups(
    truth: Truth, objects: Integers, image_of: Integers, class_of: Integers
) -> Iterator[tuple[Integers, Integers]]:
    """Detections and objects (crowds last) of every image and class that has both, as indices."""
    span = len(truth.image_ids) + 1
    keys = class_of * span + image_of
    by_key = np.argsort(keys, kind="stable")
    object_keys = truth.categories[objects] * span + truth.images[objects]
    known, begins = np.unique(object_keys, return_index=True)
    lows = np.asarray(np.searchsorted(keys[by_key], known, side="left"))
    highs = np.asarray(np.searchsorted(keys[by_key], known, side="right"))
    parts = np.split(objects, begins[1:])  # of nothing one part
    for low, high, entries in zip(lows, highs, parts, strict=False):
        if high > low:
            yield by_key[low:high], entries


def _match_group(overlaps: Array, crowds: Integers) -> list[tuple[Integers, Integers, list[float]]]:
    """For each IoU threshold the detections that found an object, those on a crowd, and IoUs of the former.

    overlaps [D, G]: detections best first, crowds last. A detection takes the free object that it overlaps
    most, of equal ones the last; a crowd only if no object is left, and as often as need be.
    """
    plain = int((crowds == 0).sum())
    candidates = np.flatnonzero((overlaps >= IOUS[0]).any(axis=1))
    outcomes = []
    for threshold in np.minimum(IOUS, ALMOST_ONE):
        free = np.ones(plain, bool)
        hit, passed, shared = [], [], []
        for row in candidates:
            own = np.where(free, overlaps[row, :plain], -1.0)
            best = float(own.max()) if plain else -1.0
            if best >= threshold:
                free[plain - 1 - int(own[::-1].argmax())] = False
                hit.append(row)
                shared.append(best)
            elif plain < len(crowds) and overlaps[row, plain:].max() >= threshold:
                passed.append(row)
        outcomes.append((np.array(hit, np.int64), np.array(passed, np.int64), shared))
    return outcomes
