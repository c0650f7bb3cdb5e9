"""The data of the figures, in plain types: its hash in a figure's file shows whether the figure is stale."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from yolov9bench.plots.diagrams import lay_out
from yolov9bench.records import Record
from yolov9bench.records.comparability import ap_of, column_of, image_obstacles, read_stated, row_of
from yolov9bench.records.comparison import Comparison, apart
from yolov9bench.records.evidence import Check, Evidence
from yolov9bench.records.verdict import published_ap
from yolov9bench.zoo.paper_points import SERIES
from yolov9bench.zoo.rows import REFINED, ROWS, Row
from yolov9bench.zoo.specs import SPECS

FigureData = dict[str, Any]
# No auxiliary branch; a pyramid; a reversible backbone; a pyramid, and a reversible backbone that stays.
DRAWN_SPECS = ("yolov8-s", "yolov9-s", "yolov9-c", "yolov9-e")


def gather_performance(evidence: Mapping[str, Evidence], own: Sequence[Record] = ()) -> FigureData:
    """The paper's series and those of the table: AP in percent, parameters in millions, GFLOPs.

    A row's costs are those published for its network by any source. Ultralytics' rows appear once they are
    measured, since their published figures are those of the paper's YOLOv8 and of YOLOv9's authors. Of `own`
    detectors those appear that state a cost and were measured on all of val2017, by whatever protocol.
    """
    table: dict[str, list[FigureData]] = {}
    for row in ROWS.values():
        measured = evidence[row.id].ap
        published = None if row.source == "ultralytics" else row.published.box_ap
        parameters, gflops = published_costs(row)
        point = {"row": row.id, "parameters_m": parameters, "gflops": gflops}
        if measured is not None or published is not None:
            figures = {"published": published, "measured": None if measured is None else round(measured, 3)}
            table.setdefault(series_of(row), []).append(point | figures)
    data = {"paper": [asdict(series) for series in SERIES], "table": table}
    points = [point for record in own for point in own_points(record)]
    return data | {"own": points} if points else data  # figures of before have no such key


def own_points(record: Record) -> list[FigureData]:
    """The point of an own detector in the performance plot; none where it may not stand beside the others."""
    stated, ap = read_stated(record), ap_of(record)
    own = stated.inputs.own
    if own is None or own.published is None or ap is None or image_obstacles(record):
        return []
    costs = {"parameters_m": own.published.parameters_m, "gflops": own.published.gflops}
    if costs == {"parameters_m": None, "gflops": None}:
        return []
    return [{"name": own.name, "measured": round(100 * ap, 3), **costs}]


def gather_memory(evidence: Mapping[str, Evidence]) -> FigureData:
    """Training memory: published in GB, predicted and measured in GiB, of the rows that have any of these.

    The ids of the rows that are not predicted are under "no recipe" or, if a recipe is known, "no record".
    """
    data: FigureData = {"rows": {}, "no recipe": [], "no record": []}
    for row in ROWS.values():
        own = evidence[row.id]
        figures = {
            "published": row.published.memory_gb,
            "predicted": own.memory_predicted and round(own.memory_predicted, 3),
            "predicted, published set-up": own.memory_published_setup
            and round(own.memory_published_setup, 3),
            "measured": own.memory_measured and round(own.memory_measured, 3),
        }
        if any(figures.values()):
            data["rows"][row.id] = figures
        if own.memory_predicted is None:
            data["no recipe" if row.recipe is None else "no record"].append(row.id)
    return data


def gather_structures(evidence: Mapping[str, Evidence]) -> FigureData:
    """The drawn networks as boxes and arrows; they depend on no record."""
    return {name: asdict(lay_out(SPECS[name])) for name in DRAWN_SPECS}


def gather_checks(checks: Sequence[Check], compared: Sequence[Comparison] = ()) -> FigureData:
    """Measured on part of the images: AP in percent with its interval, beside the row's published figure.

    Left out are evaluations of no row or without an interval. Not every row has a published TTA AP. "alike":
    whether it cannot be told apart from the one above it; there only where the two were compared.
    """
    measurements: list[FigureData] = []
    beside = apart(compared, [check.record for check in checks])
    for place, check in enumerate(checks):
        stated, row, ap = read_stated(check.record), row_of(check.record), ap_of(check.record)
        interval, images = stated.values.AP_interval, stated.inputs.images
        if row is None or ap is None or interval is None or images is None:
            continue
        low, high = (round(100 * end, 3) for end in interval)
        measurements.append(
            {
                "row": row.id,
                "protocol": str(stated.settings.protocol_name),
                "images": images,
                "ap": round(100 * ap, 3),
                "low": low,
                "high": high,
                "published": published_ap(row, column_of(check.record)),
            }
        )
        if place in beside:
            measurements[-1]["alike"] = not beside[place].is_told_apart
    return {"measurements": measurements}


def data_sha256(data: FigureData) -> str:
    """The sha256 of the data as JSON with sorted keys, 64 hex digits."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def series_of(row: Row) -> str:
    """The line of the performance plot that a row belongs to."""
    if row.source == "mmyolo":
        return "YOLOv8, mask refine (mmyolo)" if row.id.endswith(REFINED) else "YOLOv8 (mmyolo)"
    name = row.backbone.partition("-")[0]
    return f"{name} (Ultralytics)" if row.source == "ultralytics" else f"{name} (official)"


def published_costs(row: Row) -> tuple[float | None, float | None]:
    """Parameters in millions and GFLOPs as published for this row, or for another of the same network."""
    for other in (row, *ROWS.values()):
        if other.spec == row.spec and other.published.parameters_m is not None:
            return other.published.parameters_m, other.published.gflops
    return None, None
