"""The results table, its pages and its figures, made from the rows and the records; needs no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from yolov9bench import records
from yolov9bench.errors import ReportError
from yolov9bench.io.files import write_text
from yolov9bench.io.locks import wait_for_turn
from yolov9bench.records import Record, parity
from yolov9bench.records.comparison import Comparison, neighbours, select_comparisons
from yolov9bench.records.evidence import Check, Evidence, checks, evidence, own_evaluations
from yolov9bench.report import csv_table, errors_page, parity_page, rows_page, table
from yolov9bench.report.figure_files import find_faulty_figures, write_figures

__all__ = ["check", "write"]

GENERATED = (
    "<!-- Written by `python -m yolov9bench report` from results/records: change those, not this. -->\n\n"
)
PAGE = f"""# Results

{GENERATED}"""


def write(results_dir: Path, readme: Path | None = None) -> None:
    """Write table.md, table.csv, rows.md, errors.md and figures/ into `results_dir`, and the README's blocks.

    parity.md is made of parity.json, where there is one. `readme` lies beside the results folder; if None, it
    is not written. RecordError: an invalid record. ReportError: a README without a place for the table, or a
    parity.md without its parity.json. Of several processes one writes after the other, each what it finds
    when its turn comes.
    """
    with wait_for_turn(results_dir / ".report.lock", "writes the report"):
        _write(results_dir, readme)


def _write(results_dir: Path, readme: Path | None) -> None:
    measured = records.select(results_dir)
    found, others, own = evidence(measured), checks(measured), own_evaluations(measured)
    compared = select_comparisons(measured, neighbours(found, others))
    texts = _render_texts(found, others, own, compared, results_dir, readme)
    write_figures(results_dir / "figures", found, others, own, compared)
    for path, text in texts.items():
        write_text(path, text)


def check(results_dir: Path, readme: Path | None = None, measured: Iterable[Record] | None = None) -> None:
    """Raise ReportError, which names the files, unless they all are what `write` would write.

    measured: the folder's records, where they have been read already.
    """
    measured = records.select(results_dir) if measured is None else records.by_start(measured)
    found, others, own = evidence(measured), checks(measured), own_evaluations(measured)
    compared = select_comparisons(measured, neighbours(found, others))
    differing = [
        path
        for path, text in _render_texts(found, others, own, compared, results_dir, readme).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    differing += find_faulty_figures(results_dir / "figures", found, others, own, compared)
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
    compared: Sequence[Comparison],
    results_dir: Path,
    readme: Path | None,
) -> dict[Path, str]:
    """The texts of the report by file."""
    texts = {
        results_dir / "table.md": PAGE + table.block(found, others, own=own, compared=compared),
        results_dir / "table.csv": csv_table.csv_text(found, compared),
        results_dir / "rows.md": rows_page.render_page(),
        results_dir / "errors.md": errors_page.render_page(),
    }
    blocks = {"table": GENERATED + table.block(found, others, f"{results_dir.name}/", own, compared)}
    agreed = _read_parity(results_dir)
    if agreed is not None:
        texts[results_dir / "parity.md"] = parity_page.render_page(agreed)
        blocks["parity"] = parity_page.GENERATED + "\n" + parity_page.render_summary(agreed)
    if readme is not None:
        texts[readme] = _replace_blocks(readme, blocks)
    return texts


def _read_parity(results_dir: Path) -> parity.Parity | None:
    """What parity.json holds, None where neither it nor its page is."""
    path, page = results_dir / "parity.json", results_dir / "parity.md"
    if path.is_file():
        return parity.read(path)
    if page.exists():
        raise ReportError(f"{page} has no parity.json beside it: {parity.REMEDY}")
    return None


def _replace_blocks(readme: Path, blocks: Mapping[str, str]) -> str:
    """The README with these blocks between their marks; it may leave out all but that of the table."""
    if not readme.is_file():
        raise ReportError(f"{readme} does not exist: run this in the project's folder, or give --results")
    text = readme.read_text(encoding="utf-8")
    for name, block in blocks.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        inside = re.compile(f"(?<={begin}).*?(?={end})", re.DOTALL)
        if name != "table" and begin not in text and end not in text:
            continue
        places = list(inside.finditer(text))
        if len(places) != 1:
            raise ReportError(
                f"{readme} needs a line <!-- {name} --> and a line <!-- /{name} --> around its {name}: "
                "add them"
            )
        text = text[: places[0].start()] + block + text[places[0].end() :]
    return text
