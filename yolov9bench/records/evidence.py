"""Which records may fill the table, and what they say; the rules are in CONTRIBUTING.md, "The table"."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from yolov9bench.records import Record
from yolov9bench.records.comparability import (
    ap_of,
    column_of,
    is_clean,
    is_unpinned,
    obstacles,
    read_stated,
)
from yolov9bench.records.contents import PLAIN, PUBLISHED_SETUP, read_measure
from yolov9bench.zoo.rows import ROWS, Row

GIBIBYTE = 2**30
IMAGES_PER_GPU = 16  # behind the published memory; the column is of one batch size to be comparable


@dataclass(frozen=True)
class Evidence:
    """What the records say of one row: AP in percent, memory of a training step in GiB; None where nothing.

    `ap_record` and `tta_ap_record` are the records that the AP come from. `memory_published_setup` is
    predicted, for the set-up that the published memory was measured in.
    """

    ap_record: Record | None = None
    tta_ap_record: Record | None = None
    memory_measured: float | None = None
    memory_predicted: float | None = None
    memory_published_setup: float | None = None

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
        if record.kind == "measure":
            found[row.id] |= training_memory(record, row)
    return {row_id: Evidence(**parts) for row_id, parts in found.items()}


def checks(records: Iterable[Record]) -> list[Check]:
    """The other evaluations of checkpoints, without those of the demo set: the newest of each row, settings
    and images.

    In the order of the rows, then by the protocol's name and the number of images.
    """
    newest: dict[str, Check] = {}
    for record in records:
        if record.kind != "evaluate":
            continue
        stated = read_stated(record)
        inputs = stated.inputs
        if inputs.demo or inputs.own is not None:
            continue
        reasons = obstacles(record)
        if reasons:
            same = (inputs.weights_sha256, inputs.image_list_sha256, inputs.images)
            settings = (stated.settings.protocol, stated.settings.classes or {})
            key = json.dumps([record.row, *settings, *same], sort_keys=True)
            newest[key] = Check(record, tuple(reasons))
    places = {row_id: place for place, row_id in enumerate(ROWS)}

    def order(check: Check) -> tuple[int, str, int]:
        stated = read_stated(check.record)
        place = places.get(check.record.row or "", len(places))
        return place, str(stated.settings.protocol_name), stated.inputs.images or 0

    return sorted(newest.values(), key=order)


def own_evaluations(records: Iterable[Record]) -> list[Record]:
    """The evaluations of detectors of one's own, without those of the demo set: the newest of each name,
    protocol, classes and images, by name and number of images.
    """
    newest: dict[str, tuple[str, int, Record]] = {}
    for record in records:
        if record.kind != "evaluate":
            continue
        stated = read_stated(record)
        own, inputs = stated.inputs.own, stated.inputs
        if own is None or inputs.demo:
            continue
        settings = (stated.settings.protocol, stated.settings.classes or {})
        key = json.dumps([own.name, *settings, inputs.image_list_sha256], sort_keys=True)
        newest[key] = str(own.name), inputs.images or 0, record
    return [record for _, _, record in sorted(newest.values(), key=itemgetter(0, 1))]


def training_memory(record: Record, row: Row) -> dict[str, float]:
    """GiB of a training step as a record of kind "measure" has it, under the names of Evidence's fields.

    Measured is the peak that was allocated on the GPU it ran on. Empty if neither is stated, if the batch or
    the image size was not that of the published figures, or if uncommitted code or the demo set was used.
    RecordError as `read_measure`.
    """
    stated = read_measure(record)
    if not is_clean(stated.environment) or stated.inputs.demo:
        return {}
    step = (stated.settings.training or {}).get(PLAIN)
    images = IMAGES_PER_GPU if step is None or step.batch_size is None else step.batch_size
    if images != IMAGES_PER_GPU or stated.settings.image_size not in (None, row.image_size):
        return {}
    steps, found = stated.values.memory.training or {}, {}
    memory, published_setup = steps.get(PLAIN), steps.get(PUBLISHED_SETUP)
    if memory and memory.allocated_bytes and str(stated.environment.device).startswith("cuda"):
        found["memory_measured"] = memory.allocated_bytes / GIBIBYTE
    if memory and memory.predicted_bytes:
        found["memory_predicted"] = memory.predicted_bytes / GIBIBYTE
    if published_setup and published_setup.predicted_bytes:
        found["memory_published_setup"] = published_setup.predicted_bytes / GIBIBYTE
    return found


def _percent(record: Record | None) -> float | None:
    ap = None if record is None else ap_of(record)
    return None if ap is None else 100 * ap
