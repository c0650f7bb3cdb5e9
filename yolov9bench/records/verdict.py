"""What an evaluation's record says of its row's published figure, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tabulate import tabulate

from yolov9bench.records.comparability import (
    HASH_UNPINNED,
    PERCENTILE_CAVEAT,
    Column,
    ap_of,
    column_of,
    count_text,
    is_unpinned,
    obstacles,
    own_obstacles,
    read_stated,
    row_of,
)
from yolov9bench.records.comparison import Comparison
from yolov9bench.records.contents import HALF_SAMPLES, read_evaluate
from yolov9bench.records.own import OwnDetector
from yolov9bench.records.record import Record
from yolov9bench.zoo.rows import Row

ABSENT = "—"
HALF_SAMPLES_MEANING = (
    "It is that of AP on all such images, which lies lower than AP on few of them: COCO's interpolation "
    "favours small sets."
)


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
    own = read_stated(record).inputs.own
    if own is not None:
        return _own_verdict(record, own)
    column, ap = column_of(record), ap_of(record)
    row = row_of(record)
    measured = None if ap is None else round(100 * ap, 1)
    published = None if row is None else published_ap(row, column)
    reasons = tuple(obstacles(record))
    if row is not None and published is None:
        reasons = (f"no published {'TTA ' if column == 'TTA box AP' else ''}figure is known", *reasons)
    return _judge(measured, published, reasons, column, is_unpinned(record))


def _own_verdict(record: Record, own: OwnDetector) -> Verdict:
    """Of a detector of one's own, against the figure that the record states for it."""
    ap, published = ap_of(record), None if own.published is None else own.published.box_ap
    reasons = tuple(own_obstacles(record))
    if published is None:
        reasons = ("no published figure is stated", *reasons)
    return _judge(None if ap is None else round(100 * ap, 1), published, reasons, "box AP", False)


def _judge(
    measured: float | None, published: float | None, reasons: tuple[str, ...], column: Column, unpinned: bool
) -> Verdict:
    """The verdict on two figures in percent, where no reason is against a comparison."""
    if reasons or measured is None or published is None:
        return Verdict("not comparable", measured, published, reasons, column)
    tenths = abs(round(10 * measured) - round(10 * published))
    word: Literal["reproduced", "not reproduced"] = "reproduced" if tenths <= 1 else "not reproduced"
    return Verdict(word, measured, published, (), column, unpinned)


def verdict_cells(record: Record) -> dict[str, str]:
    """A verdict's numbers in percent, its word and its reasons, by heading; — where the record has none.

    The numbers are there where they may not be compared too: then the word and the reasons say so.
    """
    found = verdict(record)
    measured, published = found.measured, found.published
    difference = None if measured is None or published is None else measured - published
    interval = read_stated(record).values.AP_interval
    apart = "at most" if found.word == "reproduced" else "more than"
    return {
        "figure": f"{found.column} (%)",
        "published": _number(published),
        "measured": _number(measured) + (f" ({HASH_UNPINNED})" if found.unpinned else ""),
        "difference": ABSENT if difference is None else f"{difference:+.1f}",
        "95 % interval": " to ".join(f"{100 * end:.1f}" for end in interval) if interval else ABSENT,
        "verdict": found.word,
        "why": "; ".join(found.reasons) or f"the figures, rounded to 0.1, differ by {apart} 0.1",
    }


def verdict_table(record: Record) -> str:
    """The cells of a verdict as a Markdown table of one line."""
    cells = {name: text.replace("|", r"\|") for name, text in verdict_cells(record).items()}
    return tabulate([list(cells.values())], list(cells), "pipe", disable_numparse=True)


def _number(percent: float | None) -> str:
    return ABSENT if percent is None else f"{percent:.1f}"


def published_ap(row: Row, column: Column) -> float | None:
    """The published AP of a row in a column, in percent."""
    return row.published.box_ap if column == "box AP" else row.published.tta_box_ap


def ap_text(record: Record) -> str:
    """The AP that an evaluation states, as a fraction."""
    ap = read_evaluate(record).values.AP
    return "no AP" if ap is None else f"AP {ap:.5f}"


def images_text(record: Record) -> str:
    """How many images an evaluation was on."""
    return count_text(read_evaluate(record).inputs.images, "images")


def comparison_text(compared: Comparison) -> str:
    """What two evaluations on the same images say of one another, in one sentence; AP in points."""
    first, second = (_name_of(record) for record in (compared.first, compared.second))
    difference, interval = compared.difference or 0.0, compared.interval
    if interval is None:
        known = "these images tell no interval"
    else:
        low, high = (100 * end for end in interval)
        word = "they are told apart" if compared.is_told_apart else "they cannot be told apart"
        known = f"95 % interval {low:+.2f} to {high:+.2f}, so that {word}"
    return f"{second} beside {first}, {images_text(compared.first)}: {100 * difference:+.2f} AP; {known}"


def _name_of(record: Record) -> str:
    stated = read_stated(record)
    return f"{record.row or 'custom'} under {stated.settings.protocol_name}"


def interval_text(record: Record) -> str:
    """What the images at hand say of AP on all such images, in one sentence."""
    values = read_evaluate(record).values
    if values.AP_interval is None:
        return f"AP on {images_text(record)}; the record states no interval."
    low, high = (100 * end for end in values.AP_interval)
    meaning = HALF_SAMPLES_MEANING if values.AP_interval_method == HALF_SAMPLES else PERCENTILE_CAVEAT
    return (
        f"On {images_text(record)} AP is uncertain: its 95 % interval over images is "
        f"{low:.1f} to {high:.1f}. {meaning}"
    )
