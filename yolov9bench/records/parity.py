"""How near this code comes to the references: what the tests compared with recorded output, in one file.

make parity    # runs these tests on the developers' shared material and writes results/parity.json
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from yolov9bench.errors import RecordError
from yolov9bench.io.files import write_json
from yolov9bench.io.provenance import Environment
from yolov9bench.io.strict_json import parse_json

SCHEMA = 1
REMEDY = "restore it from git, or write it again with `make parity`"

Reference = Literal["mmyolo", "yolov9", "ultralytics", "multimediatechlab"]
Part = Literal[
    "network outputs",
    "losses",
    "assignments",
    "augmentations",
    "pre-processing",
    "post-processing",
    "AP",
    "TTA AP",
]
PARTS: tuple[Part, ...] = get_args(Part)
TITLES: dict[Reference, str] = {
    "mmyolo": "mmyolo 0.6.0",
    "yolov9": "WongKinYiu/yolov9 at 5b1ea9a",
    "ultralytics": "Ultralytics 8.4.190",
    "multimediatechlab": "MultimediaTechLab YOLO at c4cb5f6",
}


@dataclass(frozen=True)
class Comparison:
    """One quantity of one reference as one test holds it.

    `difference` is the largest one of `count` values, in `unit`, and at most `tolerance`. `test` is a file
    and a function, as in tests/test_loss.py::test_recorded_losses. RecordError for anything else.
    """

    reference: Reference
    part: Part
    quantity: str
    unit: str
    difference: float
    tolerance: float
    count: int
    test: str

    def __post_init__(self) -> None:
        for part in fields(self):
            value = getattr(self, part.name)
            kind = {"float": int | float, "int": int}.get(str(part.type), str)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise RecordError(f"{part.name} of a comparison cannot be {value!r}: {REMEDY}")
        if self.reference not in TITLES or self.part not in PARTS:
            raise RecordError(f"there is no part {self.part!r} of a reference {self.reference!r}: {REMEDY}")
        if not 0 <= self.difference <= self.tolerance < float("inf"):
            raise RecordError(
                f"{self.test} cannot have passed with a difference of {self.difference} in {self.quantity} "
                f"and a tolerance of {self.tolerance}: {REMEDY}"
            )
        if self.count < 1:
            raise RecordError(f"{self.test} compared no value of {self.quantity}: {REMEDY}")


@dataclass(frozen=True)
class Parity:
    """All comparisons of one run of the tests, and what ran; environment, start and command as a Record's."""

    comparisons: tuple[Comparison, ...]
    environment: Environment
    start: str
    seconds: float
    command: list[str]


def merge(comparisons: Iterable[Comparison]) -> tuple[Comparison, ...]:
    """One for each quantity of a test, over all its cases: the largest difference, the sum of the counts.

    RecordError for two tolerances of one quantity. Ordered by reference, part, test and quantity.
    """
    merged: dict[tuple[str, ...], Comparison] = {}
    for each in comparisons:
        key = (each.reference, each.part, each.test, each.quantity, each.unit)
        known = merged.get(key)
        if known is None:
            merged[key] = each
            continue
        if known.tolerance != each.tolerance:
            raise RecordError(
                f"{each.test} holds {each.quantity} of {each.reference} to two tolerances, {known.tolerance} "
                f"and {each.tolerance}: give the two quantities names of their own"
            )
        largest, count = max(known.difference, each.difference), known.count + each.count
        merged[key] = replace(known, difference=largest, count=count)
    return tuple(sorted(merged.values(), key=_place))


def write(parity: Parity, path: Path) -> None:
    """Write the file whole, in place of an older one."""
    write_json(path, {"schema": SCHEMA, **asdict(parity)})


def read(path: Path) -> Parity:
    """The comparisons in a file; RecordError unless it is whole and every difference within its tolerance."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        if content.pop("schema") != SCHEMA:
            raise RecordError(f"{path} is not of schema {SCHEMA}: read it with the version that wrote it")
        listed = tuple(Comparison(**each) for each in content.pop("comparisons"))
        parity = Parity(listed, Environment(**content.pop("environment")), **content)
        if not isinstance(parity.environment.versions, dict):
            raise TypeError("it names no versions")
        datetime.fromisoformat(parity.start)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(f"{path} is no list of comparisons ({error}): {REMEDY}") from error
    if merge(listed) != listed:
        raise RecordError(f"{path} was changed (its comparisons are doubled or out of order): {REMEDY}")
    return parity


def _place(comparison: Comparison) -> tuple[int, int, str, str]:
    reference = list(TITLES).index(comparison.reference)
    return reference, PARTS.index(comparison.part), comparison.test, comparison.quantity
