"""How far AP may be off on a small set of images: the bootstrap; needs no torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yolov9bench.evaluation.truth import GroundTruth, read_truth, result_array, run_evaluator
from yolov9bench.predict.predictions import Predictions

Integers = npt.NDArray[np.int64]


def bootstrap_interval(
    ground_truth: GroundTruth,
    predictions: Predictions,
    resamples: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """The percentile interval of AP over data sets of as many images, drawn from these with replacement.

    An image drawn twice counts twice (Efron and Tibshirani 1993, chapter 13); hotcoco 1.3's own `compare`
    counts it once, which can make its intervals a quarter too narrow. On few images a resample loses rare,
    hard classes, so that the interval lies high. The ends are fractions, and both -1 where AP is undefined.
    """
    truth = read_truth(ground_truth)
    results = result_array(truth, predictions)
    objects, detections = _by_image(truth.images), _by_image(results[:, 0].astype(np.int64))
    # In the file's order, so that a seed draws the same images whatever their ids are.
    images = np.searchsorted(truth.image_ids, [image["id"] for image in ground_truth["images"]]) + 1
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        drawn = generator.choice(images, size=len(images))
        chosen, numbers = _draw(objects, drawn)
        picked, placed = _draw(detections, drawn)
        resampled = results[picked]
        resampled[:, 0] = placed
        evaluator = run_evaluator(truth.take(chosen, numbers, len(drawn)), resampled)
        values.append(evaluator.get_results()["AP"])
    defined = [value for value in values if value >= 0]
    if not defined:
        return -1.0, -1.0
    low, high = np.percentile(defined, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


def _by_image(images: Integers) -> dict[int, Integers]:
    """The indices of each image number, in their order."""
    order = np.argsort(images, kind="stable")
    numbers, starts = np.unique(images[order], return_index=True)
    return dict(zip(numbers.tolist(), np.split(order, starts[1:]), strict=False))


def _draw(indices: dict[int, Integers], drawn: Integers) -> tuple[Integers, Integers]:
    """Indices of what is on the drawn images, and the number of the draw, from 1, that each belongs to."""
    nothing = np.zeros(0, np.int64)
    parts = [indices.get(image, nothing) for image in drawn.tolist()]
    numbers = np.repeat(np.arange(1, len(drawn) + 1), [len(part) for part in parts])
    return np.concatenate([nothing, *parts]), numbers
