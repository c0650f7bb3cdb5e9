"""The intervals of AP that were compared with the chosen one: bootstraps over images.

Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 12 to 14. An image drawn twice counts
twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from yolov9bench.evaluation.intervals import all_images
from yolov9bench.evaluation.matching import Integers, Matches
from yolov9bench.evaluation.truth import Array

Method = Literal["percentile", "basic", "bias-corrected", "BCa", "normal"]

METHODS: tuple[Method, ...] = ("percentile", "basic", "bias-corrected", "BCa", "normal")
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Draws:
    """AP of the images as they are, and of data sets of as many images drawn from them with replacement."""

    ap: float
    resampled: Array


def draw_aps(matches: Matches, resamples: int, generator: np.random.Generator) -> Draws:
    """AP of every draw in which it is defined."""
    numbers: Integers = np.arange(1, matches.images + 1)
    found = []
    for _ in range(resamples):
        drawn = generator.choice(numbers, size=len(numbers))
        found.append(matches.average_precision(np.bincount(drawn, minlength=matches.images + 1)))
    values = np.array(found)
    return Draws(matches.average_precision(all_images(matches)), values[values >= 0])


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
        weights = all_images(matches)
        weights[image] = 0
        values.append(matches.average_precision(weights))
    deviations: npt.NDArray[np.float64] = np.mean(values) - np.array(values)
    scale = float((deviations**2).sum()) ** 1.5
    return float((deviations**3).sum() / (6 * scale)) if scale else 0.0
