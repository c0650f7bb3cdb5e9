"""What a record of a study states: AP under a baseline protocol and under single departures from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yolov9bench.io.provenance import Environment
from yolov9bench.records.contents import EvaluateInputs, read_part
from yolov9bench.records.record import Record, hash8

PARTS = ("AP", "AP50", "AP75", "APs", "APm", "APl")  # the metrics of a line
TOLERANCE = 1e-12  # of a difference that is computed again


@dataclass(frozen=True)
class StudyLine:
    """One departure: what differs, what it gave, and how far that is from the baseline's AP (fractions).

    `metrics` are PARTS, None where the departure's formula knows no such part. `changes` has the settings
    that differ, for each run; of several runs `metrics` are the means and `AP_changes` each one's change.
    `AP_interval`: the paired 95 % interval of the change, None where the images cannot tell it. `detections`:
    the sha256 of their JSON, for each run.
    """

    name: str | None
    sentence: str | None
    reports: list[str] | None
    changes: list[dict[str, Any]] | None
    metrics: dict[str, float | None] | None
    AP_change: float | None
    AP_changes: list[float] | None
    AP_interval: list[float] | None
    detections: list[str] | None


@dataclass(frozen=True)
class StudyValues:
    """The baseline's PARTS, the sha256 of its detections' JSON, and the departures from it.

    `AP_interval_method`: how the intervals were found, None if there are none.
    """

    baseline: dict[str, float | None] | None
    detections: str | None
    lines: list[StudyLine] | None
    AP_interval_method: str | None


@dataclass(frozen=True)
class StudySettings:
    """The settings that ran; `protocol` is the baseline, `dtype` that of the network's weights."""

    protocol: dict[str, Any] | None
    batch_size: int | None
    dtype: str | None
    fused: bool | None
    skip_corrupt: bool | None


@dataclass(frozen=True)
class StudyContents:
    """What a record of kind "study" states."""

    values: StudyValues
    settings: StudySettings
    inputs: EvaluateInputs
    environment: Environment


def read_study(record: Record) -> StudyContents:
    """What a study states; RecordError names the first key whose value has a wrong type."""
    return read_part(StudyContents, vars(record), f"record {hash8(record)}: ")


def find_false_lines(stated: StudyContents) -> list[str]:
    """Which changes are not the difference of the AP beside them, or have several runs of another mean."""
    usual, faults = (stated.values.baseline or {}).get("AP"), []
    if usual is None or not stated.values.lines:
        return ["it states no baseline or no departure"]
    for line in stated.values.lines:
        ap, runs = (line.metrics or {}).get("AP"), line.AP_changes or []
        change = line.AP_change
        if ap is None or change is None or abs(ap - usual - change) > TOLERANCE:
            faults.append(f"{line.name} changes AP by {change}, its AP {ap} and the baseline's differ else")
        elif not runs or abs(sum(runs) / len(runs) - change) > TOLERANCE:
            faults.append(f"{line.name} changes AP by {change}, its runs have another mean")
    return faults
