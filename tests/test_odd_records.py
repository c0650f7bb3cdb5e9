"""Records with a true hash and false content, and the files that they name."""

import gzip
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from record_parts import EMPTY
from stored_records import detections, make_record, truth

from yolov9bench import records
from yolov9bench.errors import RecordError
from yolov9bench.evaluation.rederive import find_file
from yolov9bench.io.strict_json import parse_json
from yolov9bench.records import detections as stored
from yolov9bench.records.detections import read_detections
from yolov9bench.verify import verify

Content = dict[str, Any]
DEEP = json.loads("[" * 500 + "]" * 500)


def write_named(folder: Path, content: Content, text: str | None = None) -> Path:
    """A record's file under the name that its content's hash gives it."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    hash8 = hashlib.sha256(canonical.encode()).hexdigest()[:8]
    path = folder / "records/yolov9-c" / f"evaluate-2026-01-01-{hash8}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content) if text is None else text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(RecordError) as refused:
        records.read(path)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 600
    return str(refused.value)


def test_an_honest_one_is_read(tmp_path: Path) -> None:
    assert records.read(write_named(tmp_path, asdict(EMPTY))) == EMPTY


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("values", {"AP": float("nan")}, "record.values.AP is nan"),
        ("values", {"AP": 10**400}, "record.values.AP is an integer of more than 64 bits"),
        ("values", {"AP": "\ud800"}, r"record.values.AP is '\ud800': record text that UTF-8 can hold"),
        ("values", {"\udfff": 1}, r"record.values has the key '\udfff'"),
        ("values", {"a\nb": [float("inf")]}, r"record.values.a\nb[0] is inf"),
        ("values", {"deep": DEEP}, "has lists in lists 30 deep"),
        ("seed", True, "seed of a record cannot be True"),
        ("seconds", False, "seconds of a record cannot be False"),
        ("seconds", "x" * 1000, "seconds of a record cannot be 'xxx"),
        ("schema", True, "is not a record of schema 1"),
        ("schema", 1.0, "is not a record of schema 1"),
        ("row", "../elsewhere", "'../elsewhere' is not a row"),
        ("start", "x" * 1000, "start 'xxx"),
        ("kind", "\x1b" * 100, r"is not a kind of record"),
        ("command", [3, {"a": float("-inf")}], "record.command[1].a is -inf"),
    ],
)
def test_what_no_record_can_hold_is_named(tmp_path: Path, part: str, value: Any, said: str) -> None:
    assert said in refusal(write_named(tmp_path, asdict(EMPTY) | {part: value}))


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """The hash is of what was read, the last one; a reader of the text may see the first."""
    content = asdict(EMPTY) | {"values": {"AP": 0.5}}
    text = json.dumps(content).replace('{"AP": 0.5}', '{"AP": 0.9, "AP": 0.5}')
    assert "the key 'AP' is there twice" in refusal(write_named(tmp_path, content, text))


@pytest.mark.parametrize(
    "text", ["[" * 10**5, '{"a":' * 10**5, '{"values": ' + "1" * 5000 + "}", "", "\ufeff{}"]
)
def test_text_that_no_reader_can_follow_is_refused(tmp_path: Path, text: str) -> None:
    assert "is not valid JSON" in refusal(write_named(tmp_path, asdict(EMPTY), text))


def test_json_with_one_reading_is_read() -> None:
    assert parse_json('{"a": [{"b": 1}, {"b": 2}], "b": null}') == {"a": [{"b": 1}, {"b": 2}], "b": None}


# Detections


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Content, str]:
    """A record whose AP can be computed again, as plain data, and its detections' text."""
    annotations = tmp_path / "boxes.json"
    annotations.write_text(json.dumps(truth()))
    record, text = make_record(annotations, detections())
    return asdict(record) | {"row": "yolov9-c"}, text


def verdict_on(folder: Path, content: Content) -> tuple[str, str]:
    (outcome,) = verify(folder, [write_named(folder, content)], [folder / "boxes.json"])
    return outcome.word, str(outcome)


def keep(folder: Path, text: str, packed: bytes | None = None) -> str:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    path = stored.path_of_detections(folder, sha256)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if packed is None else packed)
    return sha256


def test_the_honest_ones_are_verified(tmp_path: Path, whole: tuple[Content, str]) -> None:
    keep(tmp_path, whole[1])
    assert verdict_on(tmp_path, whole[0])[0] == "verified"


@pytest.mark.parametrize(
    "name", ["../../secret.json", "/etc/passwd", "..", "C:\\x", "a/b", "x\0y", "sub\\secret.json"]
)
def test_a_record_cannot_have_other_files_looked_at(
    tmp_path: Path, whole: tuple[Content, str], name: str
) -> None:
    """Not even where such a file has the detections."""
    (tmp_path / "secret.json").write_text(whole[1])
    whole[0]["values"]["detections"]["file"] = name
    word, said = verdict_on(tmp_path, whole[0])
    assert word == "false" and "which is no file's name" in said


def test_a_hash_that_is_none_leads_nowhere(tmp_path: Path, whole: tuple[Content, str]) -> None:
    for sha256 in ("../../x", "", "0" * 63, "G" * 64):
        assert find_file(sha256, None, tmp_path / "record.json", tmp_path) is None


@pytest.mark.parametrize(
    "rows",
    [
        "{}",
        "3",
        "[3]",
        "[{}]",
        '[{"image_id": 1}]',
        '[{"image_id": 1e999, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]',
        '[{"image_id": 1, "category_id": 99999999999999999999, "bbox": [1, 2, 3, 4], "score": 1}]',
        '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3], "score": 1}]',
        '[{"image_id": 1, "category_id": 1, "bbox": "1234", "score": 1}]',
        "[" * 10**5,
        "no JSON",
    ],
)
def test_what_are_no_detections_is_refused_under_their_own_hash(
    tmp_path: Path, whole: tuple[Content, str], rows: str
) -> None:
    whole[0]["values"]["detections"]["sha256"] = keep(tmp_path, rows)
    word, said = verdict_on(tmp_path, whole[0])
    assert word == "false" and ("holds no detections" in said or "detections are stated" in said)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda packed: packed[:20], "cannot be read (Compressed file ended"),
        (lambda packed: packed[:15] + bytes(9) + packed[24:], "cannot be read"),
        (lambda packed: b"no gzip", "cannot be read (Not a gzipped file"),
        (lambda packed: gzip.compress(b"\xff\xfe"), "cannot be read"),
    ],
)
def test_a_damaged_file_of_detections_is_said(
    tmp_path: Path, whole: tuple[Content, str], damage: Callable[[bytes], bytes], said: str
) -> None:
    keep(tmp_path, whole[1], damage(gzip.compress(whole[1].encode())))
    word, found = verdict_on(tmp_path, whole[0])
    assert word == "false" and said in found


def test_a_file_that_unpacks_without_an_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "MOST_UNPACKED", 1000)
    for name, content in (("a.json.gz", gzip.compress(bytes(1001))), ("a.json", bytes(1001))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RecordError, match=rf"{name} has more than 1,000 bytes"):
            read_detections(tmp_path / name)
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(bytes(1000)))
    assert read_detections(tmp_path / "b.json.gz") == "\0" * 1000
