"""The lines of the report on evaluations that were compared on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from yolov9bench.records import Record, path_of
from yolov9bench.records.comparability import read_stated
from yolov9bench.records.comparison import ALIKE, Comparison, apart
from yolov9bench.records.evidence import Evidence

ABSENT = "—"
TITLE = "### Compared on the same images"
EXPLAINED = (
    "Each line is two neighbours of a table above: the second's AP less the first's, in points. What makes "
    "images easy or hard for both cancels, so that this interval is narrower than those of the two; where it "
    f"holds 0, they cannot be told apart ({ALIKE}). It lies around the difference without interpolation."
)
HEADER = ("First", "Second", "Images", "Difference", "95 % interval", "Told apart", "Record")


def compared_cells(compared: Comparison, folder: str) -> tuple[str, ...]:
    """One comparison, with a link to its record under the date it began."""
    images = read_stated(compared.first).inputs.images
    difference, interval = compared.difference, compared.interval
    return (
        _side_of(compared.first),
        _side_of(compared.second),
        ABSENT if images is None else f"{images:,}",
        ABSENT if difference is None else f"**{100 * difference:+.2f}**",
        ABSENT if interval is None else " to ".join(f"{100 * end:+.2f}" for end in interval),
        "yes" if compared.is_told_apart else f"no ({ALIKE})",
        f"[{compared.record.start[:10]}]({folder}{path_of(compared.record, Path()).as_posix()})",
    )


def difference_facts(column: str, compared: Comparison | None) -> dict[str, object]:
    """The cells of table.csv: a difference and the ends of its interval, in points; None without one."""
    ends = (compared and compared.interval) or (None, None)
    values = (None if compared is None else compared.difference, *ends)
    names = ("difference_from_above", "difference_low", "difference_high")
    return {
        f"{column}_{name}": None if value is None else round(100 * value, 3)
        for name, value in zip(names, values, strict=True)
    }


def compare_with_above(
    evidence: Mapping[str, Evidence], compared: Sequence[Comparison]
) -> dict[str, dict[str, Comparison]]:
    """For each AP column the rows that were compared with the measured one above them."""
    rows = list(evidence)
    columns = {
        "ap": [each.ap_record for each in evidence.values()],
        "tta_ap": [each.tta_ap_record for each in evidence.values()],
    }
    return {
        name: {rows[place]: each for place, each in apart(compared, column).items()}
        for name, column in columns.items()
    }


def find_marks(evidence: Mapping[str, Evidence], compared: Sequence[Comparison]) -> dict[str, dict[str, str]]:
    """ALIKE by row and column, where the row cannot be told apart from the measured one above it."""
    marks: dict[str, dict[str, str]] = {}
    for column, rows in compare_with_above(evidence, compared).items():
        for row, each in rows.items():
            if not each.is_told_apart:
                marks.setdefault(row, {})[column] = ALIKE
    return marks


def _side_of(record: Record) -> str:
    stated = read_stated(record)
    row = record.row or f"custom: {stated.inputs.spec or ABSENT}"
    return f"{row}, {stated.settings.protocol_name}".replace("|", r"\|")
