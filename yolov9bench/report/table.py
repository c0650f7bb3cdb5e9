"""The results table as Markdown: published and measured figures, each in its own look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tabulate import DataRow, TableFormat, tabulate

from yolov9bench.records import Record, path_of
from yolov9bench.records.comparability import HASH_UNPINNED, PERCENTILE_CAVEAT, ap_of, read_stated
from yolov9bench.records.comparison import ALIKE, Comparison, apart
from yolov9bench.records.contents import HALF_SAMPLES, EvaluateValues
from yolov9bench.records.evidence import Check, Evidence
from yolov9bench.report import compared_rows, own_detectors
from yolov9bench.zoo.rows import ROWS, Row

ABSENT = "—"
HEADER = (
    "Backbone",
    "Arch",
    "size",
    "Mask Refine",
    "SyncBN",
    "AMP",
    "Mem (GB)",
    "box AP",
    "TTA box AP",
    "Config",
    "Download",
)
LEGEND = (
    "**bold**: measured here, by the newest record · ~: predicted · *italic*: as its authors published it · "
    f"{ABSENT}: none of these. AP in percent on COCO val2017; in brackets the gain over the row without mask "
    "refine. Memory is that of one GPU in training on 16 images, in the authors' GB where published, else in "
    "GiB; in brackets as predicted for the published set-up, with eight processes and mmyolo's assigner. "
    f"*{HASH_UNPINNED}*: no hash of the weights is published; they came from the row's own address. "
    f"{ALIKE}: measured on the same images as the one above, from which it cannot be told apart."
)
CHECKED = (
    "Evaluations that may not fill the table, the newest of each kind. Their AP are not comparable with a "
    "published figure. The interval is that of AP on all such images, at 95 %; "
    "AP on few images lies higher."
)
NOTHING_CHECKED = "No record yet."
CHECKED_HEADER = ("Row", "Protocol", "Images", "box AP", "Interval", "Not above because of", "Record")


def _alignment_line(widths: Sequence[int], alignments: Sequence[str]) -> str:
    return "| " + " | ".join([":-", *[":-:"] * (len(widths) - 1)]) + " |"


# tabulate's own Markdown formats pad every cell to its column, which long addresses would widen.
MARKDOWN = TableFormat(
    lineabove=None,
    linebelowheader=_alignment_line,
    linebetweenrows=None,
    linebelow=None,
    headerrow=DataRow("| ", " | ", " |"),
    datarow=DataRow("| ", " | ", " |"),
    padding=0,
    with_header_hide=None,
)


def section_of(row: Row) -> str:
    """The part of the table that a row belongs to."""
    if row.source == "ultralytics":
        return "Ultralytics"
    return {"yolov8": "YOLOv8 of mmyolo", "yolov9": "YOLOv9", "gelan": "GELAN"}[row.family]


def block(
    evidence: Mapping[str, Evidence],
    checks: Sequence[Check],
    folder: str = "",
    own: Sequence[Record] = (),
    compared: Sequence[Comparison] = (),
) -> str:
    """Table, legend, the checks and, if there are any, comparisons and own detectors, as Markdown.

    `folder` leads to the results, as in "results/"; `own` is as `evidence.own_evaluations` gives it, and
    `compared` as `comparison.select_comparisons`.
    """
    marks = compared_rows.find_marks(evidence, compared)
    lines: list[Sequence[str]] = []
    section = ""
    for row in ROWS.values():
        if section_of(row) != section:
            section = section_of(row)
            lines.append([f"**{section}**", *[""] * (len(HEADER) - 1)])
        lines.append(cells(row, evidence[row.id], folder, marks.get(row.id, {})))
    table = markdown_table(HEADER, lines)
    checked = ["### Checked on subsets", "", *_checked_lines(checks, folder, compared), ""]
    return "\n".join(
        [table, "", LEGEND, "", *checked, *_compared_lines(compared, folder), *_own_lines(own, folder)]
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column on the left, the others centred; one line per row, unpadded."""
    return tabulate(list(rows), header, MARKDOWN, stralign=None, disable_numparse=True)


def cells(
    row: Row, found: Evidence, folder: str, marks: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, ...]:
    """One row of the table in Markdown; `marks` stand beside what was measured, by column."""
    published = row.published
    log = f"[log]({row.log_url})" if row.log_url else ABSENT
    return (
        row.backbone,
        row.arch,
        str(row.image_size),
        *(_yes(fact) for fact in (row.mask_refine, row.syncbn, row.amp)),
        _cell(_memory(found), _one_decimal(published.memory_gb)),
        _cell(
            _measured(found.ap, found.ap_unpinned, marks.get("ap")),
            None if published.box_ap is None else row.box_ap_text,
        ),
        _cell(
            _measured(found.tta_ap, found.tta_ap_unpinned, marks.get("tta_ap")),
            _one_decimal(published.tta_box_ap),
        ),
        f"[config]({folder}rows.md#{row.id})",
        rf"[model]({row.download.url}) \| {log}",
    )


def _checked_lines(checks: Sequence[Check], folder: str, compared: Sequence[Comparison]) -> list[str]:
    if not checks:
        return [NOTHING_CHECKED]
    older = any(
        values.AP_interval is not None and values.AP_interval_method != HALF_SAMPLES
        for values in (read_stated(check.record).values for check in checks)
    )
    explained = f"{CHECKED} Of those with percentiles: {PERCENTILE_CAVEAT}" if older else CHECKED
    beside = apart(compared, [check.record for check in checks])
    alike = {place for place, each in beside.items() if not each.is_told_apart}
    table = markdown_table(
        CHECKED_HEADER,
        (
            _checked_cells(check, folder, ALIKE if place in alike else "")
            for place, check in enumerate(checks)
        ),
    )
    return [explained, "", table]


def _compared_lines(compared: Sequence[Comparison], folder: str) -> list[str]:
    if not compared:
        return []
    lines = markdown_table(
        compared_rows.HEADER, (compared_rows.compared_cells(each, folder) for each in compared)
    )
    return ["", compared_rows.TITLE, "", compared_rows.EXPLAINED, "", lines, ""]


def _own_lines(own: Sequence[Record], folder: str) -> list[str]:
    if not own:
        return []
    lines = markdown_table(own_detectors.HEADER, (own_detectors.own_cells(each, folder) for each in own))
    return ["", own_detectors.TITLE, "", own_detectors.EXPLAINED, "", lines, ""]


def _checked_cells(check: Check, folder: str, mark: str) -> tuple[str, ...]:
    """One evaluation that may not fill the table, with a link to its record under the date it began.

    `mark` stands beside its AP.
    """
    record, stated = check.record, read_stated(check.record)
    images, fraction = stated.inputs.images, ap_of(record)
    return (
        record.row or f"custom: {stated.inputs.spec or ABSENT}",
        _escaped(str(stated.settings.protocol_name)),
        ABSENT if images is None else f"{images:,}",
        ABSENT if fraction is None else f"**{100 * fraction:.1f}** {mark}".rstrip(),
        _interval(stated.values),
        _escaped("; ".join(check.reasons)),
        f"[{record.start[:10]}]({folder}{record_file(record)})",
    )


def _interval(values: EvaluateValues) -> str:
    if values.AP_interval is None:
        return ABSENT
    ends = " to ".join(f"{100 * end:.1f}" for end in values.AP_interval)
    return ends if values.AP_interval_method == HALF_SAMPLES else f"{ends} (percentiles)"


def _escaped(text: str) -> str:
    """Text in which a bar does not end the cell of a Markdown table."""
    return text.replace("|", r"\|")


def _cell(own: str | None, published: str | None) -> str:
    """What this project found, then what is published, each in its own look."""
    looks = [own, None if published is None else f"*{published}*"]
    return " · ".join(look for look in looks if look is not None) or ABSENT


def _memory(found: Evidence) -> str | None:
    """Of our own set-up measured, else predicted; in brackets the prediction for the published set-up."""
    predicted, published_setup = (
        None if value is None else f"~{value:.1f}"
        for value in (found.memory_predicted, found.memory_published_setup)
    )
    own = _bold(found.memory_measured) or predicted
    return own if own is None or published_setup is None else f"{own} ({published_setup})"


def _bold(value: float | None) -> str | None:
    return None if value is None else f"**{value:.1f}**"


def _measured(ap: float | None, unpinned: bool, mark: str | None) -> str | None:
    bold = _bold(ap)
    if bold is None:
        return None
    return bold + (f" {mark}" if mark else "") + (f" ({HASH_UNPINNED})" if unpinned else "")


def _one_decimal(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _yes(fact: bool | None) -> str:
    return ABSENT if fact is None else "Yes" if fact else "No"


def record_file(record: Record | None) -> str | None:
    """Where a record lies in the results folder, None for none."""
    return None if record is None else path_of(record, Path()).as_posix()
