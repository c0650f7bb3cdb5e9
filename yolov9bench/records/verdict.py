"""What an evaluation's record says of its row's published figure, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from yolov9bench.records.comparability import (
    HASH_UNPINNED,
    INTERVAL_CAVEAT,
    Column,
    ap_of,
    column_of,
    count_text,
    is_unpinned,
    obstacles,
    row_of,
)
from yolov9bench.records.contents import read_evaluate
from yolov9bench.records.record import Record
from yolov9bench.zoo.rows import Row


@dataclass(frozen=True)
class Verdict:
    """A measured AP against the published one, in percent to 0.1, and what keeps them from comparison.

    `measured` is None where the record states no AP. `unpinned`: no hash of the weights is published.
    """

    word: Literal["reproduced", "not reproduced", "not comparable"]
    measured: float | None
    published: float | None
    reasons: tuple[str, ...] = ()
    column: Column = "box AP"
    unpinned: bool = False

    def __str__(self) -> str:
        if self.reasons:
            return f"{self.word}: {'; '.join(self.reasons)}"
        note = f" ({HASH_UNPINNED})" if self.unpinned else ""
        return f"{self.word}: {self.column} {self.measured:.1f}{note}, published {self.published:.1f}"


def verdict(record: Record) -> Verdict:
    """What a Record of kind "evaluate" says of its row's published AP, or of its published TTA AP.

    Figures are rounded to 0.1 and reproduced iff they then differ by at most 0.1; comparable only where
    `comparability.obstacles` finds nothing, which is also what the table asks.
    """
    column, ap = column_of(record), ap_of(record)
    row = row_of(record)
    measured = None if ap is None else round(100 * ap, 1)
    published = None if row is None else published_ap(row, column)
    reasons = tuple(obstacles(record))
    if row is not None and published is None:
        reasons = (f"no published {'TTA ' if column == 'TTA box AP' else ''}figure is known", *reasons)
    if reasons or measured is None or published is None:
        return Verdict("not comparable", measured, published, reasons, column)
    tenths = abs(round(10 * measured) - round(10 * published))
    word: Literal["reproduced", "not reproduced"] = "reproduced" if tenths <= 1 else "not reproduced"
    return Verdict(word, measured, published, (), column, is_unpinned(record))


def published_ap(row: Row, column: Column) -> float | None:
    """The published AP of a row in a column, in percent."""
    return row.published.box_ap if column == "box AP" else row.published.tta_box_ap


def ap_text(record: Record) -> str:
    """The AP that an evaluation states, as a fraction."""
    ap = read_evaluate(record).values.AP
    return "no AP" if ap is None else f"AP {ap:.5f}"


def images_text(record: Record) -> str:
    """How many images an evaluation was on."""
    return f"{count_text(read_evaluate(record).inputs.images)} images"


def interval_text(record: Record) -> str:
    """What the images at hand say of AP on all such images, in one sentence."""
    interval = read_evaluate(record).values.AP_interval
    if interval is None:
        return f"AP on {images_text(record)}; its bootstrap interval is drawn on small sets only."
    low, high = (100 * end for end in interval)
    return (
        f"On {images_text(record)} AP is uncertain: its 95 % bootstrap interval over images is "
        f"{low:.1f} to {high:.1f}. {INTERVAL_CAVEAT}"
    )
