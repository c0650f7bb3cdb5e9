"""The table of a study, for the terminal, a page and a notebook; all figures are those of its record."""

from __future__ import annotations

from tabulate import tabulate

from yolov9bench.io.progress import counted
from yolov9bench.records import Record
from yolov9bench.records.study import StudyContents, StudyLine, read_study

ABSENT = "—"
HEADER = ("departure", "AP", "change", "95 % interval", "S", "M", "L", "explains")
SIZES = ("APs", "APm", "APl")


def study_text(record: Record) -> str:
    """The table for a terminal, below a sentence on what was studied."""
    stated = read_study(record)
    lines = [[*cells, ", ".join(reports)] for cells, reports in study_cells(stated)]
    table = tabulate(lines, HEADER, "plain", disable_numparse=True)
    return f"{study_title(stated, record)}\n\n{table}"


def study_markdown(record: Record) -> str:
    """The table in Markdown, whose reports are links."""
    cells = study_cells(read_study(record))
    lines = [[*line, ", ".join(map(_link, reports))] for line, reports in cells]
    return tabulate(lines, HEADER, "pipe", disable_numparse=True)


def page_text(record: Record, figure: str) -> str:
    """A page with the table, the figure of this file name, and a sentence on each departure."""
    stated = read_study(record)
    sentences = [f"- **{line.name}**: {line.sentence}" for line in stated.values.lines or []]
    parts = ["# Where AP goes", study_title(stated, record), f"![Change of AP by departure]({figure})"]
    return "\n\n".join([*parts, study_markdown(record), "\n".join(sentences)]) + "\n"


def study_title(stated: StudyContents, record: Record) -> str:
    """What was studied, and how the figures are meant."""
    baseline, images = stated.values.baseline or {}, counted(stated.inputs.images or 0, "images")
    return (
        f"{record.row or 'custom'} on {images} of {stated.inputs.split}: AP {_percent(baseline.get('AP'))} % "
        f"under protocol {(stated.settings.protocol or {}).get('name')}. Every line departs from it in one "
        "thing; changes are in points of AP, S, M and L those of its sizes."
    )


def study_cells(stated: StudyContents) -> list[tuple[list[str], list[str]]]:
    """The baseline and each departure: the cells of HEADER but for the last, and the reports."""
    baseline = stated.values.baseline or {}
    sizes = [_percent(baseline.get(name)) for name in SIZES]
    first = ["baseline", _percent(baseline.get("AP")), "", "", *sizes]
    return [
        (first, []),
        *((_cells_of(line, baseline), line.reports or []) for line in stated.values.lines or []),
    ]


def _cells_of(line: StudyLine, baseline: dict[str, float | None]) -> list[str]:
    metrics, runs = line.metrics or {}, line.AP_changes or []
    change = _points(line.AP_change)
    if len(runs) > 1:
        change += f" ({len(runs)} runs: {_points(min(runs))} to {_points(max(runs))})"
    interval = ABSENT
    if line.AP_interval is not None:
        interval = " to ".join(_points(end) for end in line.AP_interval)
    sizes = [_difference(metrics.get(name), baseline.get(name)) for name in SIZES]
    return [str(line.name), _percent(metrics.get("AP")), change, interval, *sizes]


def _difference(value: float | None, usual: float | None) -> str:
    """A change of a metric; nothing where one of them is unknown or undefined."""
    if value is None or usual is None or min(value, usual) < 0:
        return ABSENT
    return _points(value - usual)


def _points(change: float | None) -> str:
    """A change of a fraction in points, with its sign; never a negative zero."""
    if change is None:
        return ABSENT
    text = f"{100 * change:+.2f}"
    return "0.00" if float(text) == 0 else text


def _percent(value: float | None) -> str:
    return ABSENT if value is None or value < 0 else f"{100 * value:.2f}"


def _link(report: str) -> str:
    """A report as a link: a thread as owner/name#number, code as owner/name@commit."""
    repository, _, number = report.partition("#")
    if number:
        return f"[{report}](https://github.com/{repository}/issues/{number})"
    repository, _, commit = report.partition("@")
    return f"[{report}](https://github.com/{repository}/tree/{commit})"
