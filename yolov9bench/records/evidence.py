"""Which records may fill the table, and what they say; the rules are in CONTRIBUTING.md, "The table"."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from yolov9bench.records import Record
from yolov9bench.records.comparability import ap_of, column_of, is_clean, is_unpinned, obstacles
from yolov9bench.zoo.rows import ROWS, Row

GIBIBYTE = 2**30
IMAGES_PER_GPU = 16  # behind the published memory; the column is of one batch size to be comparable


@dataclass(frozen=True)
class Evidence:
    """What the records say of one row: AP in percent, memory of a training step in GiB; None where nothing.

    `ap_record` and `tta_ap_record` are the records that the AP come from.
    """

    ap_record: Record | None = None
    tta_ap_record: Record | None = None
    memory_measured: float | None = None
    memory_predicted: float | None = None

    @property
    def ap(self) -> float | None:
        """Measured under the row's own protocol."""
        return _percent(self.ap_record)

    @property
    def tta_ap(self) -> float | None:
        """Measured under the row's own protocol with test-time augmentation."""
        return _percent(self.tta_ap_record)

    @property
    def ap_unpinned(self) -> bool:
        """Whether the weights behind `ap` are known by their origin, not by a published hash."""
        return self.ap_record is not None and is_unpinned(self.ap_record)

    @property
    def tta_ap_unpinned(self) -> bool:
        """As `ap_unpinned`, of `tta_ap`."""
        return self.tta_ap_record is not None and is_unpinned(self.tta_ap_record)


@dataclass(frozen=True)
class Check:
    """An evaluation that may not fill the table, and why."""

    record: Record
    reasons: tuple[str, ...]


def evidence(records: Iterable[Record]) -> dict[str, Evidence]:
    """What the records say of every row, by row id; the newest counts, never the best.

    `records` are ordered by start, the newest last, as `records.select` gives them.
    """
    found: dict[str, dict[str, Any]] = {row_id: {} for row_id in ROWS}
    for record in records:
        row = ROWS.get(record.row or "")
        if row is None:
            continue
        if record.kind == "evaluate" and not obstacles(record):
            found[row.id]["ap_record" if column_of(record) == "box AP" else "tta_ap_record"] = record
        if record.kind == "measure" and is_clean(record) and not record.inputs.get("demo"):
            found[row.id] |= training_memory(record, row)
    return {row_id: Evidence(**parts) for row_id, parts in found.items()}


def checks(records: Iterable[Record]) -> list[Check]:
    """The other evaluations, without those of the demo set: the newest of each row, settings and images."""
    newest: dict[str, Check] = {}
    for record in records:
        if record.kind != "evaluate" or record.inputs.get("demo"):
            continue
        reasons = obstacles(record)
        if reasons:
            inputs = [record.inputs.get(name) for name in ("weights_sha256", "image_list_sha256", "images")]
            key = json.dumps([record.row, record.settings.get("protocol"), *inputs], sort_keys=True)
            newest[key] = Check(record, tuple(reasons))
    places = {row_id: place for place, row_id in enumerate(ROWS)}
    return sorted(newest.values(), key=lambda check: places.get(check.record.row or "", len(places)))


def training_memory(record: Record, row: Row) -> dict[str, float]:
    """GiB of a training step as a record of kind "measure" has it, under the names of Evidence's fields.

    values["memory"]["training"]["plain"] holds "allocated_bytes", the peak on the GPU it ran on, and
    "predicted_bytes". Empty where it holds neither, or where the batch was not that of the published figures.
    """
    images = _part(record.settings, "training", "plain").get("batch_size", IMAGES_PER_GPU)
    if images != IMAGES_PER_GPU or record.settings.get("image_size", row.image_size) != row.image_size:
        return {}
    step, found = _part(record.values, "memory", "training", "plain"), {}
    if step.get("allocated_bytes") and str(record.environment.get("device")).startswith("cuda"):
        found["memory_measured"] = step["allocated_bytes"] / GIBIBYTE
    if step.get("predicted_bytes"):
        found["memory_predicted"] = step["predicted_bytes"] / GIBIBYTE
    return found


def _part(plain: dict[str, Any], *names: str) -> dict[str, Any]:
    """The dictionary inside dictionaries that the names lead to; empty if there is none."""
    part: Any = plain
    for name in names:
        part = part.get(name) if isinstance(part, dict) else None
    return part if isinstance(part, dict) else {}


def _percent(record: Record | None) -> float | None:
    ap = None if record is None else ap_of(record)
    return None if ap is None else 100 * ap
