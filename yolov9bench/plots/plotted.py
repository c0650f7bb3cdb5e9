"""What the figures show, as plain data: hashed into their files, so that a stale figure is found out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from yolov9bench.plots.skeletons import skeleton
from yolov9bench.records.evidence import Evidence
from yolov9bench.zoo.paper_points import SERIES
from yolov9bench.zoo.rows import REFINED, ROWS, Row
from yolov9bench.zoo.specs import SPECS

Plotted = dict[str, Any]
# No auxiliary branch; a pyramid; a reversible backbone; a pyramid, and a reversible backbone that stays.
DRAWN_SPECS = ("yolov8-s", "yolov9-s", "yolov9-c", "yolov9-e")


def performance(evidence: Mapping[str, Evidence]) -> Plotted:
    """The paper's series, and over them the table's: AP in percent, parameters in millions, GFLOPs.

    A row's costs are those that are published of its network, by whomever. Ultralytics' rows appear once they
    are measured, for their published figures are those of the paper's YOLOv8 and of YOLOv9's authors.
    """
    ours: dict[str, list[Plotted]] = {}
    for row in ROWS.values():
        measured = evidence[row.id].ap
        published = None if row.source == "ultralytics" else row.published.box_ap
        parameters, gflops = costs(row)
        point = {"row": row.id, "parameters_m": parameters, "gflops": gflops}
        if measured is not None or published is not None:
            figures = {"published": published, "measured": None if measured is None else round(measured, 3)}
            ours.setdefault(series_of(row), []).append(point | figures)
    return {"paper": [asdict(series) for series in SERIES], "table": ours}


def memory(evidence: Mapping[str, Evidence]) -> Plotted:
    """Training memory of every row of which something is known: published in GB, the other two in GiB."""
    found = {}
    for row in ROWS.values():
        own = evidence[row.id]
        figures = {
            "published": row.published.memory_gb,
            "predicted": own.memory_predicted and round(own.memory_predicted, 3),
            "measured": own.memory_measured and round(own.memory_measured, 3),
        }
        if any(figures.values()):
            found[row.id] = figures
    return found


def structures(evidence: Mapping[str, Evidence]) -> Plotted:
    """The networks that are drawn, as boxes and arrows; they depend on no record."""
    return {name: asdict(skeleton(SPECS[name])) for name in DRAWN_SPECS}


def sha256_of(plotted: Plotted) -> str:
    """The sha256 of the data in a form that is equal for equal data, 64 hex digits."""
    return hashlib.sha256(json.dumps(plotted, sort_keys=True).encode()).hexdigest()


def series_of(row: Row) -> str:
    """The line of the performance plot that a row belongs to."""
    if row.source == "mmyolo":
        return "YOLOv8, mask refine (mmyolo)" if row.id.endswith(REFINED) else "YOLOv8 (mmyolo)"
    name = row.backbone.partition("-")[0]
    return f"{name} (Ultralytics)" if row.source == "ultralytics" else f"{name} (official)"


def costs(row: Row) -> tuple[float | None, float | None]:
    """Parameters in millions and GFLOPs as published for this row, or for another of the same network."""
    for other in (row, *ROWS.values()):
        if other.spec == row.spec and other.published.parameters_m is not None:
            return other.published.parameters_m, other.published.gflops
    return None, None
