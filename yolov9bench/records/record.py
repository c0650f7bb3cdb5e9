"""Records: one append-only JSON file per measurement, whose name carries the hash of its content."""

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from datetime import datetime, timedelta
from functools import cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from types import NoneType
from typing import Any, get_origin

from yolov9bench.errors import MOST_INTEGER, RecordError, shown, shown_value
from yolov9bench.io.collection import without_collection
from yolov9bench.io.files import finished_files, write_text
from yolov9bench.io.names import name_fault
from yolov9bench.io.strict_json import parse_json

SCHEMA = 1
KINDS = ("evaluate", "measure", "train", "compare", "study")
CUSTOM = "custom"  # the folder of records that belong to no row of the table
DEEPEST = 30  # lists and objects within one another; records have some eight
EXPONENT = re.compile(rb"e-?\d+,?\n")  # at a line's end, where texts have a quote: a number's
ZEROS = bytes.maketrans(b"123456789", b"000000000")
LONG = (b" " + b"0" * 19, b"-" + b"0" * 19)  # with ZEROS: integers that may be beyond 64 bits
DELETE = b"\x7f"  # orjson leaves it as it is, and Python escapes it
SMALL = b"0.0000"  # orjson writes 0.00001, Python 1e-05
DEEP = b"\n" + b"  " * DEEPEST  # how a line of a file begins at that depth
CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, repr=False)
class Record:
    """What one measurement gave, and all that is needed to believe and repeat it.

    `row` names the table's row, None for anything else. `values` are the results, `settings` the very
    settings that ran, `inputs` what went in (hashes, counts), `environment` what it ran on. `start` is a UTC
    time in ISO form, `seconds` the duration, `command` the arguments. All is plain data: str, int, finite
    float, bool, None, and lists and dicts (with str keys) of these; a tuple is read again as a list.
    RecordError otherwise.
    """

    row: str | None
    kind: str
    values: dict[str, Any]
    settings: dict[str, Any]
    inputs: dict[str, Any]
    environment: dict[str, Any]
    seed: int | None
    start: str
    seconds: int | float
    command: list[str]
    schema: int = field(default=SCHEMA, init=False)

    def __repr__(self) -> str:
        ap = self.values.get("AP")
        measured = f", AP {ap:.5f}" if isinstance(ap, float) else ""
        return f"<{self.kind} record {hash8(self)} of {self.row or CUSTOM}{measured}, {self.start}>"

    def __post_init__(self) -> None:
        _check_fields(self)
        _check_plain(_content_of(self), "record")


@cache  # of a folder's records thousands have the same row
def require_row_name(row: str | None) -> None:
    """RecordError unless a row can be a folder's name, on every system, and not that of custom records."""
    if row is None:
        return
    if row.lower() == CUSTOM or not re.fullmatch(r"[\w-][\w.-]*", row):
        raise RecordError(f"{shown_value(row)} is not a row: use a row's id, or None for a custom record.")
    fault = name_fault(row)
    if fault is not None:
        raise RecordError(f"{shown_value(row)} cannot name a folder ({fault}): choose another id.")


def as_stored(settings: Any) -> Any:
    """Plain data or a dataclass as a record's file has it: a tuple is a list."""
    plain = asdict(settings) if is_dataclass(settings) and not isinstance(settings, type) else settings
    return json.loads(json.dumps(plain))


def canonical(record: Record) -> str:
    """The content as JSON that is equal for equal content: keys sorted, no spaces, ASCII, exact floats."""
    return CANONICAL.encode(_content_of(record))


def _content_of(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _field_types()}  # without asdict's copies


def hash_of(record: Record) -> str:
    """The sha256 of `canonical`, 64 hex digits."""
    return hashlib.sha256(canonical(record).encode()).hexdigest()


def hash8(record: Record) -> str:
    """The first 8 hex digits of `hash_of`."""
    return hash_of(record)[:8]


def path_of(record: Record, results_dir: Path) -> Path:
    """results_dir/records/<row or "custom">/<kind>-<UTC date of the start>-<hash8>.json"""
    return Path(results_dir, "records", *_place_of(record, hash8(record)))


def _place_of(record: Record, digits: str) -> tuple[str, str]:
    """A record's folder and file, by name, with the first digits of its hash."""
    date = _started(record).date().isoformat()
    return record.row or CUSTOM, f"{record.kind}-{date}-{digits}.json"


def write(record: Record, results_dir: Path) -> Path:
    """Add a record and return its file; the same record again changes nothing.

    RecordError: the file holds something else, which is never overwritten.
    """
    path = path_of(record, results_dir)
    if not path.exists():
        write_text(path, json.dumps(_content_of(record), indent=2, sort_keys=True, allow_nan=False) + "\n")
    elif canonical(read(path)) != canonical(record):
        raise RecordError(f"{path} holds another record of the same name: move it elsewhere and write again.")
    return path


def read(path: Path) -> Record:
    """The record in a file; RecordError unless it is whole, and the content the one it was named after."""
    try:
        stored = path.read_bytes()
        quick = _read_as_written(stored)
        content = parse_json(stored.decode()) if quick is None else quick[0]
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error.strerror}): restore it.") from error
    except ValueError as error:
        raise RecordError(
            f"{path} is not valid JSON ({shown(error)}): restore it from git, or delete it."
        ) from error
    _require_complete(content, path)
    try:
        record = _made(content) if quick is None else _trusted(content)
        expected = _place_of(record, hash8(record) if quick is None else quick[1])
    except RecordError as error:
        raise RecordError(f"{path} cannot be trusted: {error}") from error
    if path.absolute().parts[-2:] != expected:
        raise RecordError(
            f"{path} was changed, renamed or moved (its content belongs to {'/'.join(expected)}): "
            "restore it from git, or delete it and measure again."
        )
    return record


def _read_as_written(stored: bytes) -> tuple[dict[str, Any], str] | None:
    """What a file holds and `hash8` of it, if its bytes are those that `write` gives; None for any other.

    That is told in a third of the time, by orjson, which lays out the same text but for numbers that Python
    writes with an exponent and for one character: of a file with either, None. What is told so is ASCII with
    sorted keys, each once, finite numbers, integers of less than 64 bits and no deep lists: it passes
    `_check_plain`.
    """
    import orjson  # here, so that records can be written where it is not installed

    if DEEP in stored or SMALL in stored or DELETE in stored or not stored.isascii():
        return None
    digits = stored.translate(ZEROS)
    if EXPONENT.search(stored) or LONG[0] in digits or LONG[1] in digits:
        return None
    try:
        content = orjson.loads(stored)
        laid_out = orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
        text = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    except (ValueError, TypeError, RecursionError):
        return None
    if laid_out + b"\n" != stored or not isinstance(content, dict):
        return None
    return content, hashlib.sha256(text).hexdigest()[:8]


@without_collection()
def select(results_dir: Path, row: str | None = None, kind: str | None = None) -> list[Record]:
    """The records of a row ("custom": of none) and of a kind, or of all; ordered by start, the newest last.

    Every .json file under results_dir/records must be a record: RecordError names the first that is not. A
    missing folder holds none.
    """
    records = [read(path) for path in finished_files(results_dir / "records", "**/*.json")]
    chosen = [
        record for record in records if row in (None, record.row or CUSTOM) and kind in (None, record.kind)
    ]
    return by_start(chosen)


def by_start(records: Iterable[Record]) -> list[Record]:
    """Records ordered by start, the newest last; those of equal starts by hash."""
    started = sorted(((_started(record), record) for record in records), key=itemgetter(0))
    together = groupby(started, key=itemgetter(0))
    return [record for _, each in together for record in _by_hash([record for _, record in each])]


def _by_hash(records: list[Record]) -> list[Record]:
    return sorted(records, key=hash8) if len(records) > 1 else records


def _require_complete(content: Any, path: Path) -> None:
    if not isinstance(content, dict) or repr(content.get("schema")) != str(SCHEMA):  # nor true, nor 1.0
        raise RecordError(
            f"{path} is not a record of schema {SCHEMA}: read it with the version that wrote it."
        )
    differing = set(content) ^ set(_field_types())
    if differing:
        names = shown(", ".join(sorted(differing)))
        raise RecordError(
            f"{path} is not a complete record (missing or unknown: {names}): restore it from git."
        )


def _made(content: dict[str, Any]) -> Record:
    return Record(**{name: value for name, value in content.items() if name != "schema"})


def _trusted(content: dict[str, Any]) -> Record:
    """As `_made`, of what is known to be plain data, without the walk through it."""
    record = object.__new__(Record)
    vars(record).update(content)
    _check_fields(record)
    return record


def _check_fields(record: Record) -> None:
    for name, (kind, text) in _field_types().items():
        value = getattr(record, name)
        if not isinstance(value, kind) or isinstance(value, bool):  # a bool is an int by inheritance alone
            raise RecordError(f"{name} of a record cannot be {shown_value(value)}: it must be {text}.")
    if record.kind not in KINDS:
        kind = shown_value(record.kind)
        raise RecordError(f"{kind} is not a kind of record: use one of {', '.join(KINDS)}.")
    require_row_name(record.row)
    _started(record)


@cache
def _field_types() -> dict[str, tuple[Any, Any]]:
    """Of each field the type that `isinstance` takes, and the whole one."""
    return {
        part.name: (get_origin(part.type) if get_origin(part.type) in (dict, list) else part.type, part.type)
        for part in fields(Record)
    }


def _started(record: Record) -> datetime:
    try:
        start = datetime.fromisoformat(record.start)
    except ValueError:
        start = datetime.min
    if start.utcoffset() != timedelta(0):
        raise RecordError(
            f"start {shown_value(record.start)} is not a UTC time: write it like 2026-01-31T12:00:00+00:00."
        )
    return start


def _check_plain(value: Any, place: str, depth: int = 0) -> None:
    """Refuse what JSON, a table or a page cannot hold exactly, and name its place, as in record.values.AP."""
    if depth > DEEPEST:
        raise RecordError(f"{shown(place, 60)} has lists in lists {DEEPEST} deep: record plain data.")
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str) or not _is_writable(key):
                raise RecordError(f"{shown(place, 60)} has the key {shown_value(key)}: use a string.")
            _check_plain(part, f"{place}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            _check_plain(part, f"{place}[{index}]", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise RecordError(f"{shown(place, 60)} is {value}: record a finite number, or leave it out.")
    elif isinstance(value, int) and abs(value) > MOST_INTEGER:
        raise RecordError(f"{shown(place, 60)} is an integer of more than 64 bits: record a smaller number.")
    elif isinstance(value, str) and not _is_writable(value):
        raise RecordError(f"{shown(place, 60)} is {shown_value(value)}: record text that UTF-8 can hold.")
    elif not isinstance(value, str | int | float | NoneType):
        raise RecordError(f"{shown(place, 60)} is a {type(value).__name__}: record plain data.")


def _is_writable(text: str) -> bool:
    """Whether a text can be written as UTF-8; JSON may hold half of a surrogate pair, which cannot."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
