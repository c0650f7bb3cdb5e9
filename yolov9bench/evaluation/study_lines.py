"""The lines of a study: AP by the baseline and by each departure from it, with the interval of the change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from yolov9bench.evaluation import intervals
from yolov9bench.evaluation.candidates import Candidates, Source, collect_candidates
from yolov9bench.evaluation.departing import Measure, Outcome, measure
from yolov9bench.evaluation.departures import Departure, Procedure
from yolov9bench.evaluation.images_used import warn_of_images, without_skipped
from yolov9bench.evaluation.intervals import Interval, Weighted, paired_intervals
from yolov9bench.evaluation.matching import Integers
from yolov9bench.evaluation.truth import Array, read_truth
from yolov9bench.predict.batches import Batches
from yolov9bench.predict.predictions import result_sha256
from yolov9bench.records.study import PARTS, StudyLine, StudyValues
from yolov9bench.zoo.protocols import Protocol


def measure_all(
    source: Source, protocol: Protocol, departures: Sequence[Departure], categories: tuple[int, ...]
) -> tuple[StudyValues, Batches]:
    """The values of a record, and the batches of the baseline.

    Candidates are kept in memory for the baseline and one other kind of input at a time.
    """
    usual = Procedure(protocol)
    base, batches = collect_candidates(source, usual, "baseline")
    warn_of_images(batches)
    source = replace(source, dataset=without_skipped(source.dataset, batches.skipped))
    truth = read_truth(source.dataset.ground_truth())
    baseline = measure(base, usual, truth, categories)
    found: list[list[Outcome]] = []
    for departure in departures:
        outcomes = []
        for number, change in enumerate(departure.changes, start=1):
            procedure = usual.changed(change)
            label = departure.name if len(departure.changes) == 1 else f"{departure.name} {number}"
            candidates = candidates_of(source, usual, base, procedure, label)
            outcomes.append(measure(candidates, procedure, truth, categories))
        found.append(outcomes)
    ranges = find_intervals(departures, baseline, found)
    parts = zip(departures, found, ranges, strict=True)
    lines = [make_line(departure, baseline, outcomes, interval) for departure, outcomes, interval in parts]
    values = StudyValues(
        baseline=baseline.metrics,
        detections=result_sha256(baseline.predictions),
        lines=lines,
        AP_interval_method=intervals.METHOD if any(line.AP_interval for line in lines) else None,
    )
    return values, batches


def candidates_of(
    source: Source, usual: Procedure, base: dict[int, Candidates], procedure: Procedure, label: str
) -> dict[int, Candidates]:
    """The candidates of a procedure: the baseline's where its inputs are, else from the network."""
    if procedure.inputs == usual.inputs:
        return base
    known = base if procedure.pixels == usual.pixels else None
    return collect_candidates(source, procedure, label, known).by_image


def find_intervals(
    departures: Sequence[Departure], baseline: Outcome, found: Sequence[Sequence[Outcome]]
) -> list[Interval | None]:
    """The interval of each departure's change; of several outcomes that of their mean.

    Both sides interpolate, or neither does: else an interval would lie around another difference.
    """
    seconds = [average([each.weighted for each in outcomes]) for outcomes in found]
    is_own = [any(change.get("formula") == "own" for change in each.changes) for each in departures]
    ranges: dict[int, Interval | None] = {}
    for kind, first in ((False, baseline.weighted), (True, baseline.interpolated)):
        places = [place for place, own in enumerate(is_own) if own == kind]
        if places:
            ranges |= zip(places, paired_intervals(first, [seconds[place] for place in places]), strict=True)
    return [ranges[place] for place in range(len(departures))]


def make_line(
    departure: Departure, baseline: Outcome, outcomes: Sequence[Outcome], interval: Interval | None
) -> StudyLine:
    """What a departure gave; of several outcomes the means count."""
    usual = ap_of(baseline)
    changes = [ap_of(each) - usual for each in outcomes]
    metrics = {name: mean_of([each.metrics[name] for each in outcomes]) for name in PARTS}
    return StudyLine(
        name=departure.name,
        sentence=departure.sentence,
        reports=list(departure.reports),
        changes=list(departure.changes),
        metrics=metrics,
        AP_change=float(np.mean(changes)),
        AP_changes=changes,
        AP_interval=None if interval is None else list(interval),
        detections=[result_sha256(each.predictions) for each in outcomes],
    )


def average(members: Sequence[Weighted]) -> Weighted:
    """What measures the mean AP of several detections of the same objects."""

    def precisions(weights: Integers) -> Array:
        mean: Array = np.mean([each.class_precisions(weights) for each in members], axis=0)
        return mean

    return members[0] if len(members) == 1 else Measure(members[0], precisions)


def ap_of(outcome: Outcome) -> float:
    """The AP, which every formula knows."""
    return float(outcome.metrics["AP"] or 0.0)


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of values that are all known; None where none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
