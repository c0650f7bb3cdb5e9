"""How far AP may be off for having been measured on these images alone: half-samples; needs no torch.

The method was chosen by how often its intervals held the AP of a population of images; CONTRIBUTING.md has
the figures, and tests/benchmarks/interval_coverage.py measures them again.
"""

from __future__ import annotations

import typing
from collections.abc import Sequence

import numpy as np

from yolov9bench.evaluation.matching import Integers, Matches, match
from yolov9bench.evaluation.truth import Array, GroundTruth, read_truth, result_array
from yolov9bench.predict.predictions import Predictions
from yolov9bench.records.contents import HALF_SAMPLES

DRAWS = 1000
NORMAL_95 = 1.959964  # standard deviations on each side
METHOD = HALF_SAMPLES

Interval = tuple[float, float]


class Weighted(typing.Protocol):
    """What AP can be measured on with other weights of the images: `Matches`, and what is like them.

    As there, `class_precisions` of weights [images + 1] is the AP of each class, NaN without objects.
    """

    @property
    def images(self) -> int: ...
    @property
    def classes(self) -> int: ...
    @property
    def object_images(self) -> Integers: ...
    @property
    def object_classes(self) -> Integers: ...
    def class_precisions(self, weights: Integers) -> Array: ...


def ap_interval(
    ground_truth: GroundTruth, predictions: Predictions, draws: int = DRAWS, seed: int = 0
) -> Interval | None:
    """The 95 % interval, as fractions within 0..1, of AP on all such images; None where nothing tells it.

    That is on a single image, or where no class has objects in two. COCO's AP lies high on few images, since
    it replaces each precision by the highest one further on; the interval lies around the area under the
    curve as it is, and need not have the measured AP at its middle. Classes without objects have no part.
    """
    truth = read_truth(ground_truth)
    matches = match(truth, result_array(truth, predictions))
    # In the file's order, so that a seed draws the same images whatever their ids are.
    images = np.searchsorted(truth.image_ids, [image["id"] for image in ground_truth["images"]]) + 1
    return interval_of(matches, draws, seed, images)


def interval_of(
    matches: Matches, draws: int = DRAWS, seed: int = 0, images: Integers | None = None
) -> Interval | None:
    """As `ap_interval`, from matches; `images`: their numbers in the order to draw from, if not ascending."""
    numbers = np.arange(1, matches.images + 1) if images is None else images
    if len(numbers) < 2:
        return None
    halves = _half_samples(numbers, draws, seed)
    spread = _spread(np.array([matches.class_precisions(weights) for weights in halves]), matches)
    if spread is None:
        return None
    middle = float(np.nanmean(matches.class_precisions(all_images(matches))))
    return max(middle - NORMAL_95 * spread, 0.0), min(middle + NORMAL_95 * spread, 1.0)


def paired_interval(first: Weighted, second: Weighted, draws: int = DRAWS, seed: int = 0) -> Interval | None:
    """As `paired_intervals`, of one pair."""
    (interval,) = paired_intervals(first, [second], draws, seed)
    return interval


def paired_intervals(
    first: Weighted, seconds: Sequence[Weighted], draws: int = DRAWS, seed: int = 0
) -> list[Interval | None]:
    """The 95 % interval of each second AP less the first, on the same images; None as for `ap_interval`.

    Both are measured on the same half-samples, so that what makes images easy or hard for both cancels; it
    lies around the difference of their areas, as that of `ap_interval` around one. ValueError if their images
    or objects are not the same.
    """
    for second in seconds:
        _require_same_objects(first, second)
    if first.images < 2:
        return [None] * len(seconds)
    halves = _half_samples(np.arange(1, first.images + 1), draws, seed)
    usual = np.array([first.class_precisions(weights) for weights in halves])
    return [_interval_of_difference(first, usual, second, halves) for second in seconds]


def _require_same_objects(first: Weighted, second: Weighted) -> None:
    same = first.images == second.images and all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("object_images", "object_classes")
    )
    if not same:
        raise ValueError("a paired interval needs the same images and objects on both sides")


def _interval_of_difference(
    first: Weighted, usual: Array, second: Weighted, halves: Sequence[Integers]
) -> Interval | None:
    """The interval of a second AP less the first, of which `usual` is each class's on the halves."""
    drawn = np.array([second.class_precisions(weights) for weights in halves]) - usual
    spread = _spread(drawn, first)
    if spread is None:
        return None
    once = all_images(first)
    middle = float(np.nanmean(second.class_precisions(once) - first.class_precisions(once)))
    return middle - NORMAL_95 * spread, middle + NORMAL_95 * spread


def all_images(matches: Weighted) -> Integers:
    """The weights that count every image once, [images + 1]."""
    weights = np.ones(matches.images + 1, np.int64)
    weights[0] = 0
    return weights


def _half_samples(images: Integers, draws: int, seed: int) -> list[Integers]:
    """Weights of `draws` random halves of the images, rounded down, [images + 1] each."""
    generator = np.random.default_rng(seed)
    halves = []
    for _ in range(draws):
        weights = np.zeros(len(images) + 1, np.int64)
        weights[generator.permutation(images)[: len(images) // 2]] = 1
        halves.append(weights)
    return halves


def _spread(drawn: Array, matches: Weighted) -> float | None:
    """The standard deviation of the mean over classes, from its half-samples [draws, classes].

    Halves drawn without replacement vary as the whole does (Shao and Wu 1989, the delete-d jackknife). A
    class with objects in one image alone shows no variance: it is taken to be that of an image of the others.
    """
    drawn = drawn[~np.isnan(drawn).all(axis=1)]
    pairs = np.unique(matches.object_classes * (matches.images + 1) + matches.object_images)
    images = np.bincount(pairs // (matches.images + 1), minlength=matches.classes + 1)[1:]  # of each class
    often = images > 1
    if not len(drawn) or not often.any():
        return None
    kept = matches.images // 2
    scale = kept / (matches.images - kept)
    variance = scale * np.nanmean(drawn, axis=1).var()
    an_image = scale * np.mean(_variances(drawn[:, often]) * images[often])
    return float(np.sqrt(variance + (images == 1).sum() * an_image / (images > 0).sum() ** 2))


def _variances(drawn: Array) -> Array:
    """Of each column, over the rows that are not NaN; 0 for a column of NaN."""
    counts = np.maximum((~np.isnan(drawn)).sum(axis=0), 1)
    deviations = drawn - np.nansum(drawn, axis=0) / counts
    result: Array = np.nansum(deviations**2, axis=0) / counts
    return result
