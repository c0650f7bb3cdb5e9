"""Two evaluations on the same images compared by their stored detections: a difference with its interval.

python -m yolov9bench compare                      # each pair of neighbours in the table and among the checks
python -m yolov9bench compare FIRST.json SECOND.json --annotations instances_val2017.json
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from yolov9bench import records
from yolov9bench.errors import RecordError
from yolov9bench.evaluation.intervals import DRAWS, METHOD, paired_interval
from yolov9bench.evaluation.matching import Matches, match
from yolov9bench.evaluation.rederive import (
    Annotations,
    find_annotations,
    find_detections,
    require_detections,
    require_truth,
)
from yolov9bench.evaluation.truth import GroundTruth, read_truth, result_array
from yolov9bench.io import provenance
from yolov9bench.io.progress import track
from yolov9bench.predict.predictions import Predictions
from yolov9bench.records import Record
from yolov9bench.records.comparability import ap_of, read_stated
from yolov9bench.records.comparison import (
    CompareInputs,
    CompareSettings,
    CompareValues,
    Comparison,
    neighbours,
    same_images,
    select_comparisons,
)
from yolov9bench.records.contents import RecordName, read_evaluate
from yolov9bench.records.evidence import checks, evidence


def compare_files(
    paths: Sequence[Path],
    results_dir: Path,
    annotations: Sequence[Path] = (),
    data_folder: Path | None = None,
) -> list[Comparison]:
    """Compare two records of evaluations; without any, each pair of neighbours that was not compared yet.

    Detections and annotations are found by their hashes, as `verify` finds them, and must give the records'
    own metrics. RecordError names what is missing or false, or that the two are not on the same images.
    """
    if paths:
        first, second = (records.read(path) for path in paths)
        pairs, places = (
            [(first, second)],
            dict(zip(map(records.hash_of, (first, second)), paths, strict=True)),
        )
    else:
        pairs, places = _pending(records.select(results_dir)), {}
    named = [record for pair in pairs for record in pair]
    _require_comparable(pairs)
    matches: dict[str, Matches] = {}
    with find_annotations(named, annotations, data_folder) as known:
        unique = {records.hash_of(record): record for record in named}
        for sha256, record in track(unique.items(), len(unique), "matching detections", "records"):
            path = places.get(sha256, records.path_of(record, results_dir))
            matches[sha256] = _match_verified(path, record, results_dir, known)
    return [
        Comparison(*pair, compare(*pair, *(matches[records.hash_of(record)] for record in pair)))
        for pair in track(pairs, len(pairs), "comparing", "pairs")
    ]


def compare(first: Record, second: Record, first_matches: Matches, second_matches: Matches) -> Record:
    """The record of a comparison of two evaluations whose detections have been matched."""
    start, began = datetime.now(UTC), perf_counter()
    interval = paired_interval(first_matches, second_matches)
    values = CompareValues(difference_of(first, second), interval and list(interval), interval and METHOD)
    stated = read_evaluate(first).inputs
    inputs = CompareInputs(
        first=_name_of(first),
        second=_name_of(second),
        annotations_sha256=stated.annotations_sha256,
        image_list_sha256=stated.image_list_sha256,
        images=stated.images,
    )
    return Record(
        row=None,
        kind="compare",
        values=asdict(values),
        settings=asdict(CompareSettings(DRAWS)),
        inputs=asdict(inputs),
        environment=asdict(_environment()),
        seed=0,
        start=start.isoformat(timespec="seconds"),
        seconds=round(perf_counter() - began, 3),
        command=provenance.command(),
    )


def compare_with_neighbours(
    record: Record, truth: GroundTruth, predictions: Predictions, results_dir: Path
) -> list[Comparison]:
    """Compare an evaluation with those beside it in its results whose detections are at hand.

    truth, predictions: its own. Comparisons that the results hold already are among the answer.
    """
    found = records.select(results_dir)
    pairs = [pair for pair in neighbours(evidence(found), checks(found)) if record in pair]
    known = select_comparisons(found, pairs)
    done = [(each.first, each.second) for each in known]
    own = match_detections(truth, predictions) if len(known) < len(pairs) else None
    compared = list(known)
    for first, second in pairs:
        if own is None or (first, second) in done:
            continue
        other = second if first == record else first
        stored = _stored_detections(other, results_dir)
        if stored is not None:
            theirs = match_detections(truth, stored)
            sides = (own, theirs) if first == record else (theirs, own)
            compared.append(Comparison(first, second, compare(first, second, *sides)))
    return compared


def match_detections(truth: GroundTruth, predictions: Predictions) -> Matches:
    """The matches behind the AP of these detections; MetricsError as `read_truth` and `result_array`."""
    arrays = read_truth(truth)
    return match(arrays, result_array(arrays, predictions))


def _match_verified(path: Path, record: Record, results_dir: Path, known: Annotations) -> Matches:
    stated = read_evaluate(record)
    detections = require_detections(path, results_dir, stated)
    content = known.get(str(stated.inputs.annotations_sha256))
    return match_detections(require_truth(path, content, detections, stated), detections)


def _stored_detections(record: Record, results_dir: Path) -> Predictions | None:
    stated = read_stated(record)
    sha256 = str((stated.values.detections or {}).get("sha256"))
    return find_detections(sha256, records.path_of(record, results_dir), results_dir, stated)


def _pending(found: Sequence[Record]) -> list[tuple[Record, Record]]:
    """The neighbours that no record compares."""
    pairs = neighbours(evidence(found), checks(found))
    done = [(each.first, each.second) for each in select_comparisons(found, pairs)]
    return [pair for pair in pairs if pair not in done]


def _require_comparable(pairs: Iterable[tuple[Record, Record]]) -> None:
    for first, second in pairs:
        for record in (first, second):
            if record.kind != "evaluate" or ap_of(record) is None:
                raise RecordError(
                    f"record {records.hash8(record)} is no evaluation with an AP: give two of them"
                )
        if not same_images(first, second):
            raise RecordError(
                f"records {records.hash8(first)} and {records.hash8(second)} are not on the same images, "
                "annotations and classes: compare two that are"
            )


def _name_of(record: Record) -> RecordName:
    return RecordName(records.path_of(record, Path()).name, records.hash_of(record))


def difference_of(first: Record, second: Record) -> float:
    """The second's AP less the first's; one that is not stated counts as 0."""
    return (ap_of(second) or 0.0) - (ap_of(first) or 0.0)


def _environment() -> provenance.Environment:
    from yolov9bench.io.machine import describe_environment  # here, because it takes torch

    return replace(describe_environment("cpu"), device=None)
