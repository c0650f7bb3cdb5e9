"""A comparison of two evaluations computed again, from the records that it names and their detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from yolov9bench import records
from yolov9bench.evaluation.compare import difference_of, match_detections
from yolov9bench.evaluation.intervals import paired_interval
from yolov9bench.evaluation.matching import Matches
from yolov9bench.evaluation.rederive import (
    METRIC_TOLERANCE,
    Annotations,
    are_equal,
    find_detections,
    select_truth,
)
from yolov9bench.records import Record
from yolov9bench.records.comparison import CompareContents, read_comparison, same_images
from yolov9bench.records.contents import RecordName, read_evaluate

MOST_DRAWS = 100_000  # of half-samples that are drawn again


class Compared:
    """The evaluations that comparisons name, each found and matched once, when it is first asked for.

    read: records that have been read already, by file; others are looked for in the results by name.
    """

    def __init__(self, read: Mapping[Path, Record], results_dir: Path, annotations: Annotations) -> None:
        self._files = {path.name: (path, record) for path, record in read.items()}
        self._results_dir, self._annotations = results_dir, annotations
        self._matches: dict[str, Matches | None] = {}

    def find_faults(self, record: Record) -> list[str]:
        """What a comparison says that its evaluations do not give.

        The interval is computed again where the detections and annotations of both are there. RecordError as
        `read_comparison`, and for an evaluation that cannot be trusted.
        """
        stated = read_comparison(record)
        names = (stated.inputs.first, stated.inputs.second)
        found = [self._find(name) for name in names]
        faults = [
            f"it compares {name.file}, which is not there"
            for name, side in zip(names, found, strict=True)
            if side is None
        ]
        sides = [side for side in found if side is not None]
        if faults or len(sides) < 2:
            return faults
        (_, first), (_, second) = sides
        if not same_images(first, second):
            return ["its two records are not on the same images"]
        return [*_find_wrong_difference(stated, first, second), *self._find_wrong_interval(record, sides)]

    def has_matches(self, record: Record) -> bool:
        """Whether the detections and annotations of both its evaluations are there."""
        stated = read_comparison(record).inputs
        return all(
            side is not None and self._match(*side) is not None
            for side in (self._find(stated.first), self._find(stated.second))
        )

    def _find_wrong_interval(self, record: Record, sides: Sequence[tuple[Path, Record]]) -> list[str]:
        stated = read_comparison(record)
        draws, interval = stated.settings.draws, stated.values.AP_interval
        if draws is None or not 0 < draws <= MOST_DRAWS:
            return [f"its interval is from {draws} half-samples: compare again"]
        own, theirs = (self._match(*side) for side in sides)
        if own is None or theirs is None:
            return []
        found = paired_interval(own, theirs, draws, record.seed or 0)
        if are_equal(interval, found):
            return []
        return [f"AP_interval is {interval}, the detections of its records give {found}"]

    def _find(self, name: RecordName) -> tuple[Path, Record] | None:
        """The record of this name and hash and its file; None where there is none."""
        file = str(name.file)
        if file not in self._files:
            places = sorted((self._results_dir / "records").glob(f"*/{Path(file).name}"))
            if not places:
                return None
            self._files[file] = places[0], records.read(places[0])
        path, record = self._files[file]
        return (path, record) if records.hash_of(record) == name.sha256 else None

    def _match(self, path: Path, record: Record) -> Matches | None:
        sha256 = records.hash_of(record)
        if sha256 not in self._matches:
            self._matches[sha256] = self._match_stored(path, record)
        return self._matches[sha256]

    def _match_stored(self, path: Path, record: Record) -> Matches | None:
        stated = read_evaluate(record)
        content = self._annotations.get(str(stated.inputs.annotations_sha256))
        sha256 = str((stated.values.detections or {}).get("sha256"))
        detections = find_detections(sha256, path, self._results_dir, stated)
        if content is None or detections is None:
            return None
        return match_detections(select_truth(content, stated.inputs, stated.settings.classes), detections)


def _find_wrong_difference(stated: CompareContents, first: Record, second: Record) -> list[str]:
    said, found = stated.values.AP_difference, difference_of(first, second)
    if said is not None and abs(said - found) <= METRIC_TOLERANCE:
        return []
    return [f"AP_difference is {said!r}, its records give {found!r}"]
