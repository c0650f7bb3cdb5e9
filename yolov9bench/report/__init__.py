"""The results table, its pages and its figures, made from the rows and the records; needs no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from yolov9bench import records
from yolov9bench.errors import ReportError
from yolov9bench.io.files import write_text
from yolov9bench.records import Record
from yolov9bench.records.evidence import Check, Evidence, checks, evidence, own_evaluations
from yolov9bench.report import rows_page, table
from yolov9bench.report.figure_files import find_faulty_figures, write_figures

__all__ = ["check", "write"]

BLOCK = re.compile(r"(?<=<!-- table -->\n).*?(?=<!-- /table -->)", re.DOTALL)
GENERATED = (
    "<!-- Written by `python -m yolov9bench report` from results/records: change those, not this. -->\n\n"
)
PAGE = f"""# Results

{GENERATED}"""


def write(results_dir: Path, readme: Path | None = None) -> None:
    """Write table.md, table.csv, rows.md and figures/ into `results_dir`, and the block of the README.

    `readme` lies beside the results folder; if None, it is not written. RecordError: an invalid record.
    ReportError: a README without a place for the table.
    """
    measured = records.select(results_dir)
    found, others, own = evidence(measured), checks(measured), own_evaluations(measured)
    texts = _render_texts(found, others, own, results_dir, readme)
    write_figures(results_dir / "figures", found, others, own)
    for path, text in texts.items():
        write_text(path, text)


def check(results_dir: Path, readme: Path | None = None, measured: Iterable[Record] | None = None) -> None:
    """Raise ReportError, which names the files, unless they all are what `write` would write.

    measured: the folder's records, where they have been read already.
    """
    measured = records.select(results_dir) if measured is None else records.by_start(measured)
    found, others, own = evidence(measured), checks(measured), own_evaluations(measured)
    differing = [
        path
        for path, text in _render_texts(found, others, own, results_dir, readme).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    differing += find_faulty_figures(results_dir / "figures", found, others, own)
    if differing:
        names = ", ".join(path.name for path in differing)
        raise ReportError(
            f"{names}: not what the records say; rewrite with `python -m yolov9bench report`, "
            "and change records, not results"
        )


def _render_texts(
    found: Mapping[str, Evidence],
    others: Sequence[Check],
    own: Sequence[Record],
    results_dir: Path,
    readme: Path | None,
) -> dict[Path, str]:
    """The texts of the report by file."""
    texts = {
        results_dir / "table.md": PAGE + table.block(found, others, own=own),
        results_dir / "table.csv": table.csv_text(found),
        results_dir / "rows.md": rows_page.render_page(),
    }
    if readme is not None:
        block = GENERATED + table.block(found, others, f"{results_dir.name}/", own)
        texts[readme] = _replace_block(readme, block)
    return texts


def _replace_block(readme: Path, block: str) -> str:
    if not readme.is_file():
        raise ReportError(f"{readme} does not exist: run this in the project's folder, or give --results")
    text = readme.read_text(encoding="utf-8")
    if len(BLOCK.findall(text)) != 1:
        raise ReportError(
            f"{readme} needs a line <!-- table --> and a line <!-- /table --> around its table: add them"
        )
    return BLOCK.sub(lambda _: block, text)
