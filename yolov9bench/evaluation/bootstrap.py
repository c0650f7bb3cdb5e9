"""How far AP on these images may be from AP on all such images: a percentile bootstrap."""

from collections import defaultdict

import numpy as np

from yolov9bench.evaluation.coco_metrics import Plain, Rows, Truth, plain_rows, plain_truth, run_evaluator


def bootstrap_interval(
    ground_truth: Truth, detections: Rows, resamples: int = 200, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of AP over data sets of as many images, drawn from these with replacement.

    An image drawn twice counts twice (Efron and Tibshirani 1993, chapter 13); hotcoco 1.3's own `compare`
    counts it once, which can make its intervals a quarter too narrow. On few images a resample loses rare,
    hard classes, so that the interval lies high. The ends are fractions, and both -1 where AP is undefined.
    """
    truth, rows = plain_truth(ground_truth), plain_rows(ground_truth, detections)
    objects, found = _by_image(truth["annotations"]), _by_image(rows)
    images = [image["id"] for image in truth["images"]]
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        drawn = generator.choice(images, size=len(images)).tolist()
        copies = {
            "images": [{"id": number} for number in range(len(drawn))],
            "annotations": _drawn(objects, drawn),
        }
        evaluator = run_evaluator(plain_truth(truth | copies), _drawn(found, drawn))
        values.append(evaluator.get_results()["AP"])
    defined = [value for value in values if value >= 0]
    if not defined:
        return -1.0, -1.0
    low, high = np.percentile(defined, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


def _by_image(rows: list[Plain]) -> dict[int, list[Plain]]:
    groups = defaultdict(list)
    for row in rows:
        groups[row["image_id"]].append(row)
    return groups


def _drawn(groups: dict[int, list[Plain]], images: list[int]) -> list[Plain]:
    """The rows of the drawn images, each draw an image of its own that is numbered from 0."""
    return [
        row | {"image_id": number} for number, image in enumerate(images) for row in groups.get(image, [])
    ]
