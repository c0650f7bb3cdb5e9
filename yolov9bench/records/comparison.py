"""Comparisons of two evaluations on the same images: what their records state, and which pairs are shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from yolov9bench.errors import RecordError
from yolov9bench.io.provenance import Environment
from yolov9bench.records.comparability import is_clean, read_stated
from yolov9bench.records.contents import RecordName, read_part
from yolov9bench.records.evidence import Check, Evidence
from yolov9bench.records.record import Record, hash8, hash_of

ALIKE = "≈"  # beside what cannot be told apart


@dataclass(frozen=True)
class CompareValues:
    """The second's AP less the first's, and the ends of its 95 % interval; fractions.

    `AP_interval` is None where the images cannot tell it. It lies around the difference without COCO's
    interpolation, so `AP_difference` need not be its middle.
    """

    AP_difference: float | None
    AP_interval: list[float] | None
    AP_interval_method: str | None


@dataclass(frozen=True)
class CompareSettings:
    """How many half-samples the interval is from."""

    draws: int | None


@dataclass(frozen=True)
class CompareInputs:
    """The two evaluations by their records, and the images that both are on."""

    first: RecordName
    second: RecordName
    annotations_sha256: str | None
    image_list_sha256: str | None
    images: int | None


@dataclass(frozen=True)
class CompareContents:
    """What a record of kind "compare" states."""

    values: CompareValues
    settings: CompareSettings
    inputs: CompareInputs
    environment: Environment


@dataclass(frozen=True)
class Comparison:
    """Two evaluations and what the newest record that compares them says."""

    first: Record
    second: Record
    record: Record

    @property
    def difference(self) -> float | None:
        """The second's AP less the first's, a fraction."""
        return read_comparison(self.record).values.AP_difference

    @property
    def interval(self) -> list[float] | None:
        """The two ends of the difference's 95 % interval, fractions; None where nothing tells it."""
        return read_comparison(self.record).values.AP_interval

    @property
    def is_told_apart(self) -> bool:
        """Whether the interval of the difference leaves out 0; without an interval it does not."""
        interval = self.interval
        return interval is not None and not interval[0] <= 0 <= interval[1]


def read_comparison(record: Record) -> CompareContents:
    """What a comparison states; RecordError names the first key whose value has a wrong type."""
    try:
        stated = read_part(CompareContents, vars(record), "")
    except RecordError as error:
        raise RecordError(f"record {hash8(record)}: {error}") from error
    if stated.values.AP_interval is not None and len(stated.values.AP_interval) != 2:
        raise RecordError(f"record {hash8(record)}: values.AP_interval has not two ends: compare again")
    return stated


def apart(compared: Iterable[Comparison], column: Sequence[Record | None]) -> dict[int, Comparison]:
    """By place, the comparison of a record of a column with the one above it, where there is one."""
    known = {(hash_of(each.first), hash_of(each.second)): each for each in compared}
    hashes = [(place, hash_of(each)) for place, each in enumerate(column) if each is not None]
    pairs = {place: (above, own) for (_, above), (place, own) in pairwise(hashes)}
    return {place: known[pair] for place, pair in pairs.items() if pair in known}


def same_images(first: Record, second: Record) -> bool:
    """Whether two evaluations were on the same images, annotations and classes."""
    return _images_of(first) == _images_of(second)


def neighbours(evidence: Mapping[str, Evidence], checks: Sequence[Check]) -> list[tuple[Record, Record]]:
    """The pairs one above the other, on the same images: in each AP column, and among the checks."""
    found = list(evidence.values())
    columns = (
        [each.ap_record for each in found if each.ap_record is not None],
        [each.tta_ap_record for each in found if each.tta_ap_record is not None],
        [check.record for check in checks],
    )
    return [pair for column in columns for pair in pairwise(column) if same_images(*pair)]


def select_comparisons(records: Iterable[Record], pairs: Iterable[tuple[Record, Record]]) -> list[Comparison]:
    """For each of the pairs that has one the newest comparison by committed code, in the pairs' order.

    `records` are ordered by start, the newest last. RecordError as `read_comparison`.
    """
    newest: dict[tuple[str | None, str | None], Record] = {}
    for record in records:
        if record.kind == "compare":
            stated = read_comparison(record)
            if is_clean(stated.environment):
                newest[stated.inputs.first.sha256, stated.inputs.second.sha256] = record
    if not newest:
        return []
    named = [((hash_of(first), hash_of(second)), first, second) for first, second in pairs]
    return [Comparison(first, second, newest[key]) for key, first, second in named if key in newest]


def _images_of(record: Record) -> str:
    stated = read_stated(record)
    inputs = stated.inputs
    skipped, classes = sorted(inputs.images_skipped or []), sorted((stated.settings.classes or {}).values())
    return json.dumps([inputs.annotations_sha256, inputs.image_list_sha256, inputs.images, skipped, classes])
