"""Which records may be told to others as a model's figure, and what has to be told with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from yolov9bench import records
from yolov9bench.errors import RecordError, ReportError
from yolov9bench.records import Record
from yolov9bench.records.comparability import (
    HASH_UNPINNED,
    VAL2017,
    ap_of,
    column_of,
    count_text,
    is_unpinned,
    obstacles,
)
from yolov9bench.records.contents import EvaluateContents, read_evaluate
from yolov9bench.records.evidence import checks, evidence

WHOLE = "COCO 2017 val2017"


@dataclass(frozen=True)
class Figure:
    """A record of an evaluation, what it states, and what keeps it from being its model's figure."""

    record: Record
    stated: EvaluateContents
    ap: float  # a fraction
    reasons: tuple[str, ...]

    @property
    def model(self) -> str:
        """The row's id; for a custom checkpoint its network and the hash of the weights."""
        inputs = self.stated.inputs
        return self.record.row or f"{inputs.spec or 'custom'}-{str(inputs.weights_sha256)[:8]}"

    @property
    def file(self) -> str:
        """Where the record lies in the results folder."""
        return records.path_of(self.record, Path()).as_posix()

    @property
    def dataset(self) -> str:
        """The data set's name, with the images that were used unless it is the table's own."""
        inputs = self.stated.inputs
        if not self.reasons:
            return WHOLE
        images = count_text(inputs.images, "images")
        if inputs.demo:
            return f"demo set, {images}"
        known = inputs.annotations_sha256 == VAL2017.annotations_sha256
        return f"{WHOLE if known else f'annotations {str(inputs.annotations_sha256)[:8]}'}, {images}"

    @property
    def column(self) -> str:
        """The column that it is meant for: box AP or TTA box AP."""
        return column_of(self.record)

    @property
    def conditions(self) -> str:
        """The protocol, whether the weights' hash is unpinned, and what keeps the figure from comparison."""
        reasons = f", not comparable: {'; '.join(self.reasons)}" if self.reasons else ""
        unpinned = f", {HASH_UNPINNED}" if is_unpinned(self.record) else ""
        return f"protocol {self.stated.settings.protocol_name}{unpinned}{reasons}"


def select_figures(results_dir: Path, paths: Sequence[Path], not_comparable: bool = False) -> list[Figure]:
    """The evaluations to export: those named, or else those that fill the table.

    With `not_comparable` those that may not fill it are taken too, the newest of each kind if none is named.
    RecordError: not an evaluation, or without an AP. ReportError: one that may not stand as its model's
    figure, or none at all.
    """
    if paths:
        chosen = [records.read(path) for path in dict.fromkeys(paths)]
    else:
        kept = records.select(results_dir)
        found = evidence(kept).values()
        chosen = [record for each in found for record in (each.ap_record, each.tta_ap_record) if record]
        chosen += [check.record for check in checks(kept)] if not_comparable else []
    figures = [_figure(record) for record in chosen]
    for each in figures:
        if each.reasons and not not_comparable:
            raise ReportError(
                f"{each.file} may not stand as the figure of {each.model} ({'; '.join(each.reasons)}): "
                "add --not-comparable, which names the images that it is of"
            )
    if not figures:
        raise ReportError(
            f"no record in {results_dir} may stand as the figure of its model: measure on all images, or add "
            "--not-comparable"
        )
    return figures


def _figure(record: Record) -> Figure:
    if record.kind != "evaluate":
        raise RecordError(
            f"record {records.hash8(record)} is of kind {record.kind}: give those of evaluations"
        )
    ap = ap_of(record)
    if ap is None:
        raise RecordError(f"record {records.hash8(record)} states no AP within 0..1: name another one")
    return Figure(record, read_evaluate(record), ap, tuple(obstacles(record)))
