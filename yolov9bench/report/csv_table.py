"""The results table as CSV: published and measured figures in columns of their own."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from yolov9bench.records.comparability import HASH_UNPINNED
from yolov9bench.records.comparison import Comparison
from yolov9bench.records.evidence import Evidence
from yolov9bench.report import compared_rows
from yolov9bench.report.table import record_file, section_of
from yolov9bench.zoo.rows import ROWS, Row


def csv_text(evidence: Mapping[str, Evidence], compared: Sequence[Comparison] = ()) -> str:
    """Every row with published and measured figures in columns of their own; empty where there is none.

    The difference to the measured row above, in points, and the ends of its interval, where they were
    compared.
    """
    out = io.StringIO()
    beside = compared_rows.compare_with_above(evidence, compared)
    facts = [
        _facts(row, evidence[row.id])
        | compared_rows.difference_facts("box_ap", beside["ap"].get(row.id))
        | compared_rows.difference_facts("tta_box_ap", beside["tta_ap"].get(row.id))
        for row in ROWS.values()
    ]
    writer = csv.DictWriter(out, list(facts[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(facts)
    return out.getvalue()


def _facts(row: Row, found: Evidence) -> dict[str, object]:
    published = row.published
    return {
        "row": row.id,
        "section": section_of(row),
        "backbone": row.backbone,
        "arch": row.arch,
        "size": row.image_size,
        "mask_refine": row.mask_refine,
        "syncbn": row.syncbn,
        "amp": row.amp,
        "memory_gb_published": published.memory_gb,
        "memory_gib_measured": _rounded(found.memory_measured),
        "memory_gib_predicted": _rounded(found.memory_predicted),
        "memory_gib_predicted_published_setup": _rounded(found.memory_published_setup),
        "box_ap_published": published.box_ap,
        "box_ap_gain_published": row.box_ap_gain,
        "box_ap_measured": _rounded(found.ap),
        "tta_box_ap_published": published.tta_box_ap,
        "tta_box_ap_measured": _rounded(found.tta_ap),
        "config": row.config,
        "model": row.download.url,
        "log": row.log_url,
        "licence": row.licence,
        "published_in": published.source,
        "box_ap_weights": HASH_UNPINNED if found.ap_unpinned else None,
        "tta_box_ap_weights": HASH_UNPINNED if found.tta_ap_unpinned else None,
        "box_ap_record": record_file(found.ap_record),
        "tta_box_ap_record": record_file(found.tta_ap_record),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
