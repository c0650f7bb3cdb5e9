"""What a record states of a detector of one's own: its name, its code, and the figure to hold it against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yolov9bench.zoo.rows import Published

OWN_PROTOCOL = "own"  # of a function, which resizes, thresholds and suppresses as it pleases


@dataclass(frozen=True)
class StatedFigures:
    """Published figures as the user states them, AP in percent, with their source."""

    source: str | None
    box_ap: float | None
    parameters_m: float | None
    gflops: float | None


@dataclass(frozen=True)
class OwnDetector:
    """A function, or a row from a TOML file.

    `function` is its name as in my.py:detect, None for a row; `function_sha256` is the hash of its source
    file and `commit` the one that holds that file as it ran, if any does. `protocol` is the one under which
    the figures were published.
    """

    name: str | None
    function: str | None
    function_sha256: str | None
    commit: str | None
    protocol: dict[str, Any] | None
    published: StatedFigures | None


def stated_figures(published: Published | None) -> StatedFigures | None:
    """What a record keeps of published figures."""
    if published is None:
        return None
    return StatedFigures(published.source, published.box_ap, published.parameters_m, published.gflops)
