"""Where AP goes: one checkpoint under a baseline protocol and under single departures from it.

python -m yolov9bench study --checkpoint yolov8n.pt --dataset coco --results results/runs
papermill notebooks/protocol.ipynb OUT.ipynb -p checkpoint yolov8n.pt -p dataset coco
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from yolov9bench import records
from yolov9bench.config import require_checkpoint
from yolov9bench.data.coco import CocoDataset, label_categories, read_coco
from yolov9bench.data.download import Origin
from yolov9bench.errors import require_in_range
from yolov9bench.evaluation import intervals
from yolov9bench.evaluation.candidates import Candidates, Source, collect_candidates
from yolov9bench.evaluation.departing import Measure, Outcome, measure
from yolov9bench.evaluation.departures import ORDERS, Departure, Procedure, list_departures
from yolov9bench.evaluation.evaluate import full_float32, resolve_device, without_skipped
from yolov9bench.evaluation.images_used import require_objects, too_large, warn_of_images
from yolov9bench.evaluation.inputs import describe_inputs
from yolov9bench.evaluation.intervals import Interval, Weighted, paired_intervals
from yolov9bench.evaluation.matching import Integers
from yolov9bench.evaluation.settings import BATCH_SIZE, choose_protocol, row_id
from yolov9bench.evaluation.truth import Array, read_truth
from yolov9bench.io import provenance
from yolov9bench.io.machine import describe_environment
from yolov9bench.predict.batches import Batches
from yolov9bench.predict.predictions import Predictions, result_json
from yolov9bench.records import Record
from yolov9bench.records.lineage import find_training
from yolov9bench.records.study import PARTS, StudyLine, StudySettings, StudyValues
from yolov9bench.weights import Checkpoint
from yolov9bench.weights.fetch import load_any
from yolov9bench.zoo.protocols import Protocol
from yolov9bench.zoo.rows import Row


@dataclass(frozen=True)
class StudyQuestion:
    """How to study what is loaded.

    protocol: the baseline, a name, or "auto" for that of the checkpoint's format
    image_size: pixels, if not the protocol's own
    batch_size: images at a time; changes no detection but for rounding
    device: a torch device, or "auto"
    orders: random orders of images of equal height / width
    skip_corrupt: leave out images that cannot be decoded, instead of refusing them
    """

    protocol: str = "auto"
    image_size: int | None = None
    batch_size: int = BATCH_SIZE
    device: str = "auto"
    orders: int = ORDERS
    skip_corrupt: bool = False


def study_file(
    checkpoint: str | Path,
    dataset: str | Path,
    split: str = "val2017",
    limit: int | None = None,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    **question: Any,
) -> Record:
    """As `study`, of a file of weights or a row's id and a folder in COCO's format.

    Other keywords are those of `StudyQuestion`. annotations, images: where the file of boxes and the folder
    of images lie elsewhere than the split's are looked for.
    """
    asked = StudyQuestion(**question)
    asked = replace(asked, device=resolve_device(asked.device))  # before the data set is read
    require_checkpoint(checkpoint)
    places = [None if path is None else Path(path) for path in (annotations, images)]
    data = read_coco(Path(dataset), split, limit, *places)
    return study(load_any(checkpoint), data, asked)


def study(
    checkpoint: Checkpoint,
    dataset: CocoDataset,
    question: StudyQuestion,
    row: Row | None = None,
    origin: Origin | None = None,
    command: list[str] | None = None,
) -> Record:
    """Measure AP under the baseline and under every departure from it, and return the Record.

    The network runs once on each kind of input. row, origin: of a checkpoint whose hash is known nowhere, the
    row whose own download brought it, and from where. command: for the record, if not that of this process.
    Raises BenchErrors that name the offender and the remedy.
    """
    start, began = datetime.now(UTC), perf_counter()
    device = resolve_device(question.device)
    require_in_range(1, batch_size=question.batch_size)
    require_in_range(0, orders=question.orders)
    protocol = choose_protocol(checkpoint, question.protocol, question.image_size, tta=False, row=row)
    departures = list_departures(protocol, question.orders)
    categories = label_categories(dataset, checkpoint.names, checkpoint.detector.num_classes)
    require_objects(dataset)
    training = find_training(checkpoint.sha256, checkpoint.path) if checkpoint.is_own else None
    detector = checkpoint.detector.deployed().to(device)
    source = Source(
        detector, dataset, device, protocol.score_threshold, question.batch_size, question.skip_corrupt
    )
    with full_float32():
        environment = describe_environment(str(next(detector.parameters()).device))
        try:
            values, batches = measure_all(source, protocol, departures, categories)
        except torch.OutOfMemoryError as error:
            raise too_large(question.batch_size, protocol) from error
    used = without_skipped(dataset, batches.skipped)
    settings = StudySettings(
        protocol=records.as_stored(batches.protocol),
        batch_size=batches.batch_size,
        dtype=str(next(detector.parameters()).dtype).removeprefix("torch."),
        fused=detector.fused,
        skip_corrupt=batches.skip_corrupt,
    )
    return Record(
        row=row.id if row and origin else row_id(checkpoint),
        kind="study",
        values=asdict(values),
        settings=asdict(settings),
        inputs=asdict(describe_inputs(used, batches, checkpoint, origin, training=training)),
        environment=asdict(environment),
        seed=None,
        start=start.isoformat(timespec="seconds"),
        seconds=round(perf_counter() - began, 3),
        command=command or provenance.command(),
    )


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
        detections=hash_of(baseline.predictions),
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
        detections=[hash_of(each.predictions) for each in outcomes],
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


def hash_of(predictions: Predictions) -> str:
    """The sha256 of detections as a result file has them."""
    return hashlib.sha256(result_json(predictions).encode()).hexdigest()


def write_study(record: Record, results_dir: Path) -> tuple[Path, Path, Path]:
    """Add the record to a folder of results, with its table and waterfall in studies/; their paths."""
    from yolov9bench.io.files import atomic_path, write_text
    from yolov9bench.plots.waterfall import plot_waterfall
    from yolov9bench.report.study_page import page_text

    stem = results_dir / "studies" / f"{record.row or records.CUSTOM}-{records.hash8(record)}"
    figure, page = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.md")
    with atomic_path(figure) as fresh:
        plot_waterfall(record).savefig(fresh, dpi=150)
    write_text(page, page_text(record, figure.name))
    return records.write(record, results_dir), page, figure
