"""Records on disk: names and hashes computed by hand, and every way in which a file can be wrong."""

import json
import math
import random
import struct
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from yolov9bench.errors import RecordError
from yolov9bench.records import Record, canonical, hash8, path_of, read, select, write
from yolov9bench.records.record import _read_as_written

RECORD = Record(
    row="yolov8-n",
    kind="evaluate",
    values={"AP": 0.1 + 0.2, "APs": -1.0, "detections": {"file": "detections.json", "count": 3}},
    settings={"confidence": 0.001, "sizes": [640, 480], "half": False},
    inputs={"weights": "ab" * 32},
    environment={"commit": None, "dirty": None},
    seed=0,
    start="2026-01-31T23:59:59+00:00",
    seconds=1.5,
    command=["yolov9bench", "reproduce"],
)
CANONICAL = (
    '{"command":["yolov9bench","reproduce"],"environment":{"commit":null,"dirty":null},'
    f'"inputs":{{"weights":"{"ab" * 32}"}},"kind":"evaluate","row":"yolov8-n","schema":1,'
    '"seconds":1.5,"seed":0,"settings":{"confidence":0.001,"half":false,"sizes":[640,480]},'
    '"start":"2026-01-31T23:59:59+00:00","values":{"AP":0.30000000000000004,"APs":-1.0,'
    '"detections":{"count":3,"file":"detections.json"}}}'
)
HASH = "be228260"  # of `sha256sum` of the form above, without a line end


def edited(path: Path, **changes: Any) -> Path:
    """The file with fields of its content changed by hand."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def test_the_canonical_form_and_its_hash() -> None:
    assert canonical(RECORD) == CANONICAL
    assert hash8(RECORD) == HASH


def test_the_order_of_keys_changes_nothing() -> None:
    turned = replace(RECORD, values=dict(reversed(RECORD.values.items())))
    assert list(turned.values) != list(RECORD.values)
    assert hash8(turned) == HASH


def test_where_a_record_lies(tmp_path: Path) -> None:
    assert path_of(RECORD, tmp_path) == tmp_path / f"records/yolov8-n/evaluate-2026-01-31-{HASH}.json"
    custom = replace(RECORD, row=None, kind="train")
    assert path_of(custom, tmp_path) == tmp_path / f"records/custom/train-2026-01-31-{hash8(custom)}.json"


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = write(RECORD, tmp_path)
    assert path == path_of(RECORD, tmp_path)
    assert read(path) == RECORD
    assert json.loads(path.read_text()) == json.loads(CANONICAL)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_tuple_comes_back_as_a_list(tmp_path: Path) -> None:
    record = replace(RECORD, settings={"sizes": (640, 480)})
    again = read(write(record, tmp_path))
    assert again.settings == {"sizes": [640, 480]}
    assert hash8(again) == hash8(record)


def test_the_same_record_again_leaves_the_file_alone(tmp_path: Path) -> None:
    path = write(RECORD, tmp_path)
    before = path.stat()
    assert write(RECORD, tmp_path) == path
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_changed_file_is_not_overwritten(tmp_path: Path) -> None:
    path = edited(write(RECORD, tmp_path), seed=1)
    before = path.read_bytes()
    with pytest.raises(RecordError, match=path.name):
        write(RECORD, tmp_path)
    assert path.read_bytes() == before


def test_two_records_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolov9bench.records.record._read_as_written", lambda stored: None)
    monkeypatch.setattr("yolov9bench.records.record.hash8", lambda record: "01234567")
    path = write(RECORD, tmp_path)
    with pytest.raises(RecordError, match="another record"):
        write(replace(RECORD, seed=1), tmp_path)
    assert read(path).seed == 0


@pytest.mark.parametrize(
    "change",
    [
        {"values": {"AP": 0.9}},
        {"seconds": 1},
        {"row": "yolov8-s"},
        {"kind": "train"},
        {"start": "2026-02-01T00:00:00+00:00"},
        {"command": []},
    ],
)
def test_a_change_by_hand_is_found(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="was changed"):
        read(edited(write(RECORD, tmp_path), **change))


def test_another_layout_of_the_same_content_is_none(tmp_path: Path) -> None:
    path = write(RECORD, tmp_path)
    path.write_text(CANONICAL)
    assert read(path) == RECORD


@pytest.mark.parametrize(
    "target", ["yolov8-s/{name}", "yolov8-n/train-2026-01-31-{hash}.json", "yolov8-n/x.json"]
)
def test_a_moved_or_renamed_file_is_found(target: str, tmp_path: Path) -> None:
    path = write(RECORD, tmp_path)
    place = tmp_path / "records" / target.format(name=path.name, hash=HASH)
    place.parent.mkdir(exist_ok=True)
    path.rename(place)
    with pytest.raises(RecordError, match="moved"):
        read(place)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        (CANONICAL[:-1], "not valid JSON"),
        ("[]", "not a record of schema 1"),
        (CANONICAL.replace('"schema":1', '"schema":2'), "not a record of schema 1"),
        (CANONICAL.replace('"seed":0,', ""), "missing or unknown: seed"),
        (CANONICAL.replace('"seed":0,', '"seed":0,"note":"",'), "missing or unknown: note"),
        (CANONICAL.replace('"seed":0', '"seed":"0"'), "seed of a record cannot be '0'"),
        (CANONICAL.replace("0.001", "NaN"), r"record\.settings\.confidence is nan"),
        ("\udcff", "not valid JSON"),
    ],
)
def test_what_is_no_record_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = write(RECORD, tmp_path)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RecordError, match=f"^{path}.*{message}"):
        read(path)
    with pytest.raises(RecordError, match=f"^{path}"):
        select(tmp_path)


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"gone\.json cannot be read"):
        read(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": {"AP": math.nan}}, r"record\.values\.AP is nan"),
        ({"values": {"curve": [0.5, math.inf]}}, r"record\.values\.curve\[1\] is inf"),
        ({"settings": {"classes": {3: "car"}}}, r"record\.settings\.classes has the key 3"),
        ({"inputs": {"weights": Path("model.pt")}}, r"record\.inputs\.weights is a \w*Path"),
        ({"values": {"labels": {1, 2}}}, r"record\.values\.labels is a set"),
        ({"command": [b"x"]}, r"record\.command\[0\] is a bytes"),
        ({"values": [0.5]}, "values of a record"),
        ({"seed": 1.5}, "seed of a record"),
        ({"kind": "guess"}, "'guess' is not a kind"),
        ({"row": "../yolov8-n"}, "is not a row"),
        ({"row": ""}, "is not a row"),
        ({"row": ".."}, "is not a row"),
        ({"row": "custom"}, "is not a row"),
        ({"row": "Custom"}, "is not a row"),
        ({"row": "nul"}, "'nul' cannot name a folder .the name of a device on Windows.: choose"),
        ({"row": "mine."}, "'mine.' cannot name a folder .with a dot or a space at its end"),
        ({"start": "yesterday"}, "is not a UTC time"),
        ({"start": "2026-01-31T23:59:59"}, "is not a UTC time"),
        ({"start": "2026-01-31T23:59:59+01:00"}, "is not a UTC time"),
    ],
)
def test_what_cannot_be_recorded_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        replace(RECORD, **change)


def test_records_are_selected_and_ordered_by_their_start(tmp_path: Path) -> None:
    middle = replace(RECORD, start="2026-02-01T00:00:00Z")
    newest = replace(RECORD, start="2026-02-01T00:00:00.5+00:00", kind="measure")
    custom = replace(RECORD, row=None, start="2026-01-01T00:00:00+00:00")
    for record in (newest, RECORD, custom, middle):
        write(record, tmp_path)
    assert select(tmp_path) == [custom, RECORD, middle, newest]
    assert select(tmp_path, row="yolov8-n") == [RECORD, middle, newest]
    assert select(tmp_path, row="custom") == [custom]
    assert select(tmp_path, row="yolov8-n", kind="evaluate") == [RECORD, middle]
    assert select(tmp_path, kind="train") == []


def test_no_folder_no_records(tmp_path: Path) -> None:
    assert select(tmp_path / "nowhere") == []


def test_nothing_under_records_is_passed_over(tmp_path: Path) -> None:
    write(RECORD, tmp_path)
    stray = tmp_path / "records" / "notes.json"
    stray.write_text("{}")
    with pytest.raises(RecordError, match=r"notes\.json"):
        select(tmp_path, row="yolov8-n")


@pytest.mark.parametrize(
    "row",
    ["a/../../x", "a/b", "yolov8-n\n", "yolov8-n/", "a\\b", "yolov8 n", ".yolov8-n", "/yolov8-n", "a\0"],
)
def test_no_row_leads_out_of_its_folder(row: str) -> None:
    """The whole id is looked at, not how it begins: `a/../../x` would lie beside the records' folder."""
    with pytest.raises(RecordError, match="is not a row"):
        replace(RECORD, row=row)


@pytest.mark.parametrize("row", ["yolov8-n.v2", "_x", "-", "9"])
def test_an_id_of_one_folder_is_a_row(row: str, tmp_path: Path) -> None:
    path = write(replace(RECORD, row=row), tmp_path)
    assert path.resolve().parent == (tmp_path / "records" / row).resolve()
    assert path.parent.parent == tmp_path / "records"


def test_records_of_one_day_are_ordered_by_their_start_and_then_by_hash(tmp_path: Path) -> None:
    """Twenty hashes do not happen to lie in the order of the hours; equal starts are told apart by hash."""
    hours = [replace(RECORD, start=f"2026-01-31T{hour:02}:30:00+00:00") for hour in range(20)]
    twins = [replace(RECORD, seed=seed, kind=kind) for seed in range(10) for kind in ("evaluate", "measure")]
    for record in [*reversed(hours), *twins]:
        write(record, tmp_path)
    found = select(tmp_path)
    assert found[:20] == hours
    assert [hash8(record) for record in hours] != sorted(hash8(record) for record in hours)
    assert len(found) == 40
    assert [hash8(record) for record in found[20:]] == sorted(hash8(record) for record in twins)


def test_starts_are_ordered_as_times_not_as_texts(tmp_path: Path) -> None:
    """Z, +00:00 and fractions of a second: as texts "12:00:00.5" lies before "12:00:00Z"."""
    starts = [f"2026-01-31T12:00:0{end}" for end in ("0Z", "0.5+00:00", "0.75Z", "1+00:00")]
    for start in starts:
        write(replace(RECORD, start=start), tmp_path)
    assert [record.start for record in select(tmp_path)] == starts
    assert sorted(starts) != starts


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_no_number_that_is_not_finite_is_recorded(number: float) -> None:
    with pytest.raises(RecordError, match=r"record\.values\.deep\[0\]\.AP is"):
        replace(RECORD, values={"deep": [{"AP": number}]})


def test_a_record_deep_inside_the_folder_is_found_to_be_moved(tmp_path: Path) -> None:
    """Whatever lies below records/ is looked at, also two folders down."""
    path = write(RECORD, tmp_path)
    place = path.parent / "old" / path.name
    place.parent.mkdir()
    path.rename(place)
    with pytest.raises(RecordError, match="moved"):
        select(tmp_path)


@pytest.mark.parametrize(
    "said", ['say "AP": 0.5', 'a "b":c', "NaN: no number", "Infinity", "line\nend", "plain: text"]
)
def test_any_text_within_a_record_is_read_again(said: str, tmp_path: Path) -> None:
    record = replace(RECORD, settings={said: [said, {"deep": said}]}, command=[said])
    path = write(record, tmp_path)
    assert read(path) == record
    path.write_text(path.read_text() + "\n\n")  # a change of layout alone
    assert read(path) == record


@pytest.mark.parametrize(
    ("before", "after"), [('\\": 0', '\\":0'), ("a:  b", "a: b"), ("  c", " c"), (' "', '"')]
)
def test_a_blank_that_is_changed_within_a_text_is_found(before: str, after: str, tmp_path: Path) -> None:
    """Blanks of the layout are none of the content; those of a text are."""
    path = write(replace(RECORD, command=['say "AP": 0', "a:  b", "  c"]), tmp_path)
    text = path.read_text()
    place = text.index('"command"') + text[text.index('"command"') + 12 :].index(before) + 12
    path.write_text(text[:place] + text[place:].replace(before, after, 1))
    if before == ' "':  # before a text, which is layout
        assert read(path).command == ['say "AP": 0', "a:  b", "  c"]
    else:
        with pytest.raises(RecordError, match="was changed"):
            read(path)


def test_the_hash_from_the_text_is_that_of_the_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `write` wrote is known by its text alone, and the same record by its content."""
    paths = [write(RECORD, tmp_path), *Path(__file__).parents[1].glob("results/records/*/*.json")]
    monkeypatch.setattr("yolov9bench.records.record._read_as_written", lambda stored: None)
    by_content = [read(path) for path in paths]
    digests = [sha256(canonical(record).encode()).hexdigest() for record in by_content]
    assert [path.stem[-8:] for path in paths] == [digest[:8] for digest in digests]
    assert len(paths) > 50
    monkeypatch.undo()
    assert [read(path) for path in paths] == by_content

    def refuse(record: Record) -> str:
        raise AssertionError("the content was written again")

    monkeypatch.setattr("yolov9bench.records.record.hash8", refuse)
    assert read(paths[0]) == RECORD


@pytest.mark.parametrize(
    "text",
    [
        '{\n  "a": 1e-7\n}\n',  # as orjson writes it, and not Python
        '{\n  "a": 0.00001\n}\n',
        '{\n  "a": 1,\n  "a": 1\n}\n',
        '{\n  "b": 1,\n  "a": 1\n}\n',
        '{"a": 1}\n',
        '{\n  "a": "\\ud800"\n}\n',
        '{\n  "a": "\u00e9"\n}\n',
        '{\n  "a": 18446744073709551616\n}\n',
        '{\n  "a": 9223372036854775808\n}\n',  # which no record may hold
        '{\n  "a": -9223372036854775808\n}\n',
        '{\n  "a": [\n    9223372036854775808\n  ]\n}\n',
        '{\n  "a": "\x7f"\n}\n',  # Python escapes it
        '{\n  "\x7f": 1\n}\n',
        '{\n  "a": NaN\n}\n',
        "[]\n",
        '{\n  "a": ' + "[\n" * 40 + "]" * 40 + "\n}\n",
    ],
)
def test_only_text_as_it_is_written_is_read_quickly(text: str) -> None:
    assert _read_as_written(text.encode()) is None


def test_what_is_read_quickly_is_what_python_reads() -> None:
    content = {"a": [1, -0.0, 0.1, 1e15, 123456.789, 10**18 - 1], "b": {"c": None, "d": '\n "x": 1e-7'}}
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    digest = sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    assert _read_as_written(text.encode()) == (content, digest[:8])


def test_numbers_that_are_read_quickly_are_written_alike() -> None:
    """Of doubles of every size, orjson's text is Python's, or is not read quickly."""
    generator = random.Random(0)
    patterns = (struct.unpack("d", generator.randbytes(8))[0] for _ in range(20_000))
    sizes = (round(generator.uniform(1, 10), 3) * 10.0**power for power in range(-9, 25) for _ in range(200))
    told = 0
    for number in filter(math.isfinite, (*patterns, *sizes)):
        quick = _read_as_written(orjson.dumps({"a": number}, option=orjson.OPT_INDENT_2) + b"\n")
        told += quick is not None
        text = f'{{"a":{number!r}}}'
        assert quick in (None, ({"a": number}, sha256(text.encode()).hexdigest()[:8]))
    assert told > 3000


def test_a_number_too_large_for_a_double_is_found(tmp_path: Path) -> None:
    path = write(RECORD, tmp_path)
    path.write_text(path.read_text().replace("0.001", "1e999"))
    with pytest.raises(RecordError, match=r"cannot be trusted: record\.settings\.confidence is inf"):
        read(path)
