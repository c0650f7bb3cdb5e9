"""Which records may fill the table, and what they say; the rules are in CONTRIBUTING.md, "The table"."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from yolov9bench.data.download import SPLITS
from yolov9bench.records import Record
from yolov9bench.zoo.rows import ROWS, Row, row_of_file

GIBIBYTE = 2**30
IMAGES_PER_GPU = 16  # behind the published memory; the column is of one batch size to be comparable
SPLIT = SPLITS["val2017"]
AUGMENTED = "+tta"  # ends the name of a protocol with test-time augmentation
# What all protocols of published figures have in common. A record that ran with anything else does not speak
# of its row, whatever its protocol is called.
AGREED = {"confidence": 0.001, "iou": 0.7, "multi_label": True, "max_detections": 300}


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
        return None if self.ap_record is None else 100 * self.ap_record.values["AP"]

    @property
    def tta_ap(self) -> float | None:
        """Measured under the row's own protocol with test-time augmentation."""
        return None if self.tta_ap_record is None else 100 * self.tta_ap_record.values["AP"]


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
            augmented = _protocol(record) != row.protocol
            found[row.id]["tta_ap_record" if augmented else "ap_record"] = record
        if record.kind == "measure" and _is_clean(record) and not record.inputs.get("demo"):
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


def obstacles(record: Record) -> list[str]:
    """Why an evaluation does not belong into the table, a few words each; empty if it does."""
    row = ROWS.get(record.row or "")
    if row is None:
        return ["weights of no row"]
    found = [] if _is_clean(record) else ["the code is no commit"]
    known = row_of_file(str(record.inputs.get("weights_sha256")))
    if known is None or known[0].id != row.id:
        found.append("weights other than the row's")
    if record.inputs.get("demo"):
        found.append("the demo set")
    elif record.inputs.get("annotations_sha256") != SPLIT.annotations_sha256:
        found.append("not COCO val2017")
    elif record.inputs.get("images") != SPLIT.images:
        found.append("not all images")
    return found + _departures(record, row)


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


def _is_clean(record: Record) -> bool:
    """Whether a commit, and nothing else, names the code that ran."""
    return record.environment.get("dirty") is False


def _protocol(record: Record) -> str:
    return str(record.settings.get("protocol", {}).get("name"))


def _departures(record: Record, row: Row) -> list[str]:
    settings, name = record.settings.get("protocol", {}), _protocol(record)
    if name not in (row.protocol, row.protocol + AUGMENTED):
        return [f"protocol {name}"]
    # With test-time augmentation `base` is the protocol of a single view.
    applied = settings.get("base", settings)
    own = AGREED | {"image_size": row.image_size}
    changed = [key for key, value in own.items() if applied.get(key, value) != value]
    return [f"another {key.replace('_', ' ')}" for key in changed]
