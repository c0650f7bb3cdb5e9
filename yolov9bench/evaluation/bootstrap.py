"""How far AP on these images may be from AP on all such images: a percentile bootstrap."""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from yolov9bench.evaluation.coco_metrics import Plain, Truth, plain_truth, require_fit, run_evaluator
from yolov9bench.evaluation.predictions import Predictions


def bootstrap_interval(
    ground_truth: Truth,
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
    truth = plain_truth(ground_truth)
    require_fit(truth, predictions)
    objects = _by_image(truth["annotations"])
    images = [image["id"] for image in truth["images"]]
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        drawn = generator.choice(images, size=len(images)).tolist()
        copies = {
            "images": [{"id": number} for number in range(len(drawn))],
            "annotations": _draw_objects(objects, drawn),
        }
        evaluator = run_evaluator(plain_truth(truth | copies), _draw_predictions(predictions, drawn))
        values.append(evaluator.get_results()["AP"])
    defined = [value for value in values if value >= 0]
    if not defined:
        return -1.0, -1.0
    low, high = np.percentile(defined, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


def _by_image(annotations: list[Plain]) -> dict[int, list[Plain]]:
    groups = defaultdict(list)
    for annotation in annotations:
        groups[annotation["image_id"]].append(annotation)
    return groups


def _draw_objects(groups: dict[int, list[Plain]], images: list[int]) -> list[Plain]:
    """The annotations of the drawn images, each draw an image of its own that is numbered from 0."""
    return [
        row | {"image_id": number} for number, image in enumerate(images) for row in groups.get(image, [])
    ]


def _draw_predictions(predictions: Predictions, images: list[int]) -> Predictions:
    """The predictions on the drawn images, numbered likewise; those of one image lie side by side."""
    starts = np.searchsorted(predictions.image_ids, images, "left")
    counts = np.searchsorted(predictions.image_ids, images, "right") - starts
    offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    drawn = predictions.select(np.repeat(starts, counts) + offsets)
    return replace(drawn, image_ids=np.repeat(np.arange(len(images)), counts))
