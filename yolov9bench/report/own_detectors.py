"""The section of the table on detectors of one's own: what was measured, beside what was stated."""

from __future__ import annotations

from pathlib import Path

from yolov9bench.records import Record, path_of
from yolov9bench.records.comparability import ap_of, read_stated
from yolov9bench.records.own import StatedFigures
from yolov9bench.records.verdict import verdict

ABSENT = "—"
TITLE = "### Own detectors"
EXPLAINED = (
    "Functions and rows that are not of the table, the newest evaluation of each on each set of images. "
    "**bold**: measured here, with its 95 % interval over images · *italic*: as stated by whoever "
    "evaluated it, with the source."
)
HEADER = ("Name", "Detector", "Protocol", "Images", "box AP", "Interval", "Stated", "Verdict", "Record")


def own_cells(record: Record, folder: str) -> tuple[str, ...]:
    """One evaluation in Markdown; `folder` leads to the results, as in "results/"."""
    stated = read_stated(record)
    own, inputs, interval, ap = stated.inputs.own, stated.inputs, stated.values.AP_interval, ap_of(record)
    name, function, published = (None,) * 3 if own is None else (own.name, own.function, own.published)
    return (
        _escaped(name or ABSENT),
        _escaped(function or inputs.spec or ABSENT),
        _escaped(str(stated.settings.protocol_name)),
        ABSENT if inputs.images is None else f"{inputs.images:,}",
        ABSENT if ap is None else f"**{100 * ap:.1f}**",
        " to ".join(f"{100 * end:.1f}" for end in interval) if interval else ABSENT,
        _stated_figure(published),
        _escaped(_verdict_words(record)) if published else ABSENT,
        f"[{record.start[:10]}]({folder}{path_of(record, Path()).as_posix()})",
    )


def _stated_figure(published: StatedFigures | None) -> str:
    if published is None or published.box_ap is None:
        return ABSENT
    return f"*{published.box_ap:.1f}* ({_escaped(published.source or ABSENT)})"


def _verdict_words(record: Record) -> str:
    """The verdict without its figures, which stand in cells of their own."""
    found = verdict(record)
    return str(found) if found.reasons else found.word


def _escaped(text: str) -> str:
    """Text of a user in the cell of a Markdown table: no bar ends it, nothing in it is a tag or a link."""
    for letter in "\\|<>[]*_`":
        text = text.replace(letter, f"\\{letter}")
    return " ".join(text.split())
