"""Mutants of records under the name of their own hash, as whoever writes a false record would name it."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import re
import shutil
import struct
from contextlib import suppress
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from random import Random
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import orjson
from mutations import mutated, mutated_bytes, slots
from record_parts import EMPTY
from stored_records import detections, make_record, truth

from yolov9bench import records
from yolov9bench.io.strict_json import parse_json
from yolov9bench.records.comparison import CompareContents, neighbours, select_comparisons
from yolov9bench.records.contents import EvaluateContents, MeasureContents
from yolov9bench.records.evidence import checks, evidence, own_evaluations
from yolov9bench.records.record import _check_plain, _read_as_written
from yolov9bench.records.study import StudyContents
from yolov9bench.records.training import TrainContents
from yolov9bench.records.verdict import verdict, verdict_table
from yolov9bench.report import csv_table, table
from yolov9bench.verify import verify

RESULTS = Path(__file__).parents[1] / "results"
FORMS: dict[str, type] = {
    "evaluate": EvaluateContents,
    "measure": MeasureContents,
    "compare": CompareContents,
    "study": StudyContents,
    "train": TrainContents,
}


def records_in(folder: Path) -> Any:
    """An attack on records of every kind: those of the table, and one of each kind with every key."""
    annotations = folder / "boxes.json"
    annotations.write_text(json.dumps(truth()))
    whole, text = make_record(annotations, detections())
    kept = folder / f"results/detections/detections-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json.gz"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(gzip.compress(text.encode()))
    stored = [json.loads(path.read_bytes()) for path in sorted(RESULTS.glob("records/*/*.json"))]
    bases = [asdict(whole), *map(filled, FORMS), *stored]
    listed = [records.read(path) for path in sorted(RESULTS.glob("records/*/evaluate*.json"))[:2]]

    def attack(random: Random) -> str:
        # Half of the time the record whose AP can be computed again, so that all of `verify` is reached.
        content = mutated(bases[0] if random.random() < 0.5 else random.choice(bases), random)
        written = json.dumps(content).encode()
        shutil.rmtree(folder / "results/records", ignore_errors=True)
        path = folder / "results/records" / name_of(content)
        path.parent.mkdir(parents=True)
        path.write_bytes(mutated_bytes(written, random) if random.random() < 0.1 else written)
        outcomes = verify(folder / "results", [path], [annotations])
        for outcome in outcomes:
            assert str(outcome).isprintable(), str(outcome)
        use(records.read(path), listed)
        return f"read, {outcomes[0].word}"

    return attack


def layouts_in(folder: Path) -> Any:
    """An attack on the quick reading of records: what it takes is what `write` writes for that content."""
    stored = [json.loads(path.read_bytes()) for path in sorted(RESULTS.glob("records/*/*.json"))]
    bases = [*map(filled, FORMS), *stored]

    def attack(random: Random) -> str:
        content = copy.deepcopy(random.choice(bases))
        places = [place for place in slots(content) if not isinstance(place[0][place[1]], dict | list)]
        for container, key in random.choices(places, k=random.randint(0, 3)):
            container[key] = unusual(random)
        content = mutated(content, random) if random.random() < 0.2 else content
        written = laid_out(content, random)
        written = mutated_bytes(written, random, most=1) if random.random() < 0.2 else written
        quick = _read_as_written(written)
        if quick is not None:
            require_as_written(written, *quick)
        path = folder / name_of(content)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(written)
        record = records.read(path)
        assert (
            asdict(record) == parse_json(written.decode())
            and records.path_of(record, folder).name == path.name
        )
        return "read slowly" if quick is None else "read quickly"

    return attack


def require_as_written(stored: bytes, content: dict[str, Any], digits: str) -> None:
    """The text and the hash are those that Python's own writer gives, and the content passes its checks."""
    assert stored == (json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
    plain = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    assert digits == hashlib.sha256(plain.encode()).hexdigest()[:8]
    _check_plain(content, "record")


def laid_out(content: Any, random: Random) -> bytes:
    """A record as Python lays it out, or as orjson does what it can."""
    if random.random() < 0.5:
        with suppress(TypeError):  # of integers beyond 64 bits, and of half a surrogate pair
            return orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def unusual(random: Random) -> Any:
    """A number, a text or a list at an edge of what two writers write alike."""
    choice = random.randrange(6)
    if choice == 0:
        return struct.unpack("<d", random.randbytes(8))[0]
    if choice == 1:
        return random.choice((1, -1)) * random.randrange(1, 10**17) * 10.0 ** random.randint(-22, 3)
    if choice == 2:
        return random.choice((1, -1)) * (2 ** random.randint(60, 65) + random.randint(-1, 1))
    if choice == 3:
        return f"a{chr(random.randrange(0x120))}b"
    if choice == 4:
        return random.choice((random.randrange(10**18, 10**19), 10**17, [], {}, [[]], {"\x7f": {}}, "e5,\n"))
    deep: Any = 1
    for _ in range(random.randint(24, 32)):
        deep = [deep]
    return deep


def use(record: records.Record, listed: list[records.Record]) -> None:
    """Judge a record and make the table with it; a table is text that can be written."""
    measured = records.by_start([record, *listed])
    found, others, own = evidence(measured), checks(measured), own_evaluations(measured)
    compared = select_comparisons(measured, neighbours(found, others))
    texts = [repr(record), table.block(found, others, own=own, compared=compared)]
    texts.append(csv_table.csv_text(found, compared))
    if record.kind == "evaluate":
        texts += [str(verdict(record)), verdict_table(record)]
    for text in texts:
        text.encode()
        # nothing colours a terminal, or begins a row of its own
        assert not re.search(r"\x1b|a\nb", text), text


def name_of(content: Any) -> Path:
    """Folder and name that a record's content asks for, as far as it can have any."""
    parts = content if isinstance(content, dict) else {}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    hash8 = hashlib.sha256(text.encode()).hexdigest()[:8]
    row, kind, start = (parts.get(key) for key in ("row", "kind", "start"))
    is_name = (isinstance(row, str) and row.isidentifier()) or row in ("yolov9-c", "ultralytics-yolov8n")
    folder = row if is_name and len(str(row)) < 100 else "custom"
    day = start[:10] if isinstance(start, str) and start[:10].replace("-", "").isdigit() else "2026-01-01"
    return Path(str(folder), f"{kind if str(kind) in FORMS else 'evaluate'}-{day}-{hash8}.json")


def filled(kind: str) -> dict[str, Any]:
    """A record of a kind in which every key that the kind has is stated."""
    parts = {name: example(hint) for name, hint in get_type_hints(FORMS[kind]).items()}
    return asdict(replace(EMPTY, kind=kind, **parts))


def example(hint: Any) -> Any:
    """A value of an annotated type, every field of a dataclass filled."""
    kind = next(each for each in get_args(hint) or (hint,) if each is not NoneType)
    if NoneType not in get_args(hint):
        kind = hint
    plain = get_origin(kind) or kind
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return {each.name: example(hints[each.name]) for each in fields(kind)}
    if plain is list:
        return [example(get_args(kind)[0])] * 2
    if plain is dict:
        return {"name": example(get_args(kind)[1])}
    return {str: "text", int: 3, float: 0.5, bool: False}.get(plain, "text")
