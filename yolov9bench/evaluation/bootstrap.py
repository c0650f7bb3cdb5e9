"""How far AP may be off for having been measured on these images alone: the bootstrap; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from yolov9bench.evaluation.matching import Integers, Matches, match
from yolov9bench.evaluation.truth import Array, GroundTruth, read_truth, result_array
from yolov9bench.predict.predictions import Predictions

Method = Literal["percentile", "basic", "bias-corrected", "BCa", "normal"]

METHODS: tuple[Method, ...] = ("percentile", "basic", "bias-corrected", "BCa", "normal")
CHOSEN: Method = "percentile"  # no other one covered clearly more on few images, see LOG.md
RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Draws:
    """AP of the images as they are, and of data sets of as many images drawn from them with replacement."""

    ap: float
    resampled: Array


def bootstrap_interval(
    ground_truth: GroundTruth,
    predictions: Predictions,
    resamples: int = RESAMPLES,
    seed: int = 0,
    method: Method = CHOSEN,
) -> tuple[float, float]:
    """The 95 % interval of AP over sets of as many images (Efron and Tibshirani 1993, chapters 12 to 14).

    An image drawn twice counts twice. Ends are fractions within 0..1, both -1 where AP is undefined. Images
    are matched once and then weighted by their draws, so that a draw of 5,000 images takes milliseconds.
    """
    truth = read_truth(ground_truth)
    matches = match(truth, result_array(truth, predictions))
    # In the file's order, so that a seed draws the same images whatever their ids are.
    images = np.searchsorted(truth.image_ids, [image["id"] for image in ground_truth["images"]]) + 1
    draws = draw_aps(matches, resamples, np.random.default_rng(seed), images)
    if draws.ap < 0 or not len(draws.resampled):
        return -1.0, -1.0
    return intervals(matches, draws)[method]


def draw_aps(
    matches: Matches, resamples: int, generator: np.random.Generator, images: Integers | None = None
) -> Draws:
    """AP of every draw in which it is defined; `images` are the image numbers to draw from, all if None."""
    numbers = np.arange(1, matches.images + 1) if images is None else images
    found = []
    for _ in range(resamples):
        drawn = generator.choice(numbers, size=len(numbers))
        found.append(matches.average_precision(np.bincount(drawn, minlength=matches.images + 1)))
    values = np.array(found)
    return Draws(matches.average_precision(_once(matches)), values[values >= 0])


def intervals(matches: Matches, draws: Draws) -> dict[Method, tuple[float, float]]:
    """The interval of each method, as fractions within 0..1."""
    tail = (1 - CONFIDENCE) / 2
    ends = np.array([tail, 1 - tail])
    low, high = np.quantile(draws.resampled, ends)
    shift = _bias_z(draws)
    spread = NormalDist().inv_cdf(1 - tail) * float(draws.resampled.std())
    found: dict[Method, tuple[float, float]] = {
        "percentile": (low, high),
        "basic": (2 * draws.ap - high, 2 * draws.ap - low),
        "bias-corrected": _quantiles(draws, [_corrected(end, shift, 0.0) for end in ends]),
        "BCa": _quantiles(draws, [_corrected(end, shift, _acceleration(matches)) for end in ends]),
        "normal": (draws.ap - spread, draws.ap + spread),
    }
    return {name: (max(float(a), 0.0), min(float(b), 1.0)) for name, (a, b) in found.items()}


def _once(matches: Matches) -> Integers:
    weights = np.ones(matches.images + 1, np.int64)
    weights[0] = 0
    return weights


def _quantiles(draws: Draws, ends: list[float]) -> tuple[float, float]:
    low, high = np.quantile(draws.resampled, ends)
    return float(low), float(high)


def _bias_z(draws: Draws) -> float:
    """The normal quantile of the share of draws below the AP of the images as they are."""
    share = ((draws.resampled < draws.ap).mean() + (draws.resampled <= draws.ap).mean()) / 2
    return NormalDist().inv_cdf(float(np.clip(share, 1e-3, 1 - 1e-3)))


def _corrected(end: float, shift: float, acceleration: float) -> float:
    """A quantile after correction for bias and skewness (the reference's formula 14.10)."""
    moved = shift + NormalDist().inv_cdf(end)
    return NormalDist().cdf(shift + moved / (1 - acceleration * moved))


def _acceleration(matches: Matches) -> float:
    """From the AP without each image in turn (the reference's formula 14.15)."""
    values = []
    for image in range(1, matches.images + 1):
        weights = _once(matches)
        weights[image] = 0
        values.append(matches.average_precision(weights))
    deviations: npt.NDArray[np.float64] = np.mean(values) - np.array(values)
    scale = float((deviations**2).sum()) ** 1.5
    return float((deviations**3).sum() / (6 * scale)) if scale else 0.0
