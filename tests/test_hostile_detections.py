"""Files of detections that claim more than they have, or that two readers would read differently."""

import io
import json
import random
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolov9bench.errors import RecordError
from yolov9bench.io import json_objects
from yolov9bench.io.json_objects import read_objects
from yolov9bench.predict.predictions import Predictions, from_columns, predictions_from_json
from yolov9bench.predict.result_files import read_predictions, write_predictions

ENTRY = {"image_id": 1, "category_id": 1, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}


def arrays_of(count: int) -> dict[str, Any]:
    """Sound arrays of so many detections on two images."""
    return {
        "image_ids": np.array([3, 7]),
        "counts": np.array([count // 2, count - count // 2]),
        "category_ids": np.ones(count, np.uint8),
        "boxes_xywh": np.tile(np.array([1000, 2000, 3500, 4000], np.int32), (count, 1)),
        "scores": np.full(count, 50_000, np.int32),
    }


def saved(path: Path, **changes: Any) -> Path:
    """A file of ten detections of which some arrays are others; None leaves one out."""
    arrays = arrays_of(10) | changes
    np.savez(path, **{name: each for name, each in arrays.items() if each is not None})
    return path


def refusal(path: Path) -> str:
    """The one line with which a file is refused, for which a few megabytes must do."""
    tracemalloc.start()
    try:
        with pytest.raises(RecordError, match=rf"^{path.name} cannot be read .*: restore it") as refused:
            read_predictions(path)
        assert tracemalloc.get_traced_memory()[1] < 5 * 2**20
    finally:
        tracemalloc.stop()
    assert str(refused.value).isprintable() and len(str(refused.value)) < 300
    return str(refused.value)


# Arrays


def test_sound_arrays_are_read(tmp_path: Path) -> None:
    found = read_predictions(saved(tmp_path / "found.npz"))
    assert found.image_ids.tolist() == [3] * 5 + [7] * 5
    assert found.boxes_xyxy.tolist() == [[1.0, 2.0, 4.5, 6.0]] * 10 and set(found.scores) == {0.5}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"boxes_xyxy": np.zeros((10, 4))}, "its arrays are boxes_xywh, boxes_xyxy,"),
        ({"extra": np.zeros(3)}, "its arrays are boxes_xywh, category_ids, counts, extra,"),
        ({"boxes_xywh": None}, "its arrays are category_ids,"),
        ({"boxes_xywh": np.zeros((10, 4))}, "of another type than is written"),
        ({"boxes_xywh": None, "boxes_xyxy": np.zeros((10, 4), np.int32)}, "of another type than is written"),
        ({"boxes_xywh": np.zeros((10, 4), ">i4")}, "of another type than is written"),
        ({"boxes_xywh": np.zeros((4, 10), np.int32)}, "not of one length"),
        ({"scores": np.zeros((10, 1), np.int32)}, "not of one length"),
        ({"category_ids": np.full(10, 2**63, np.uint64)}, "its ids are beyond 64 bits"),
        ({"image_ids": np.array([3, 2**64 - 1], np.uint64)}, "its ids are beyond 64 bits"),
        ({"category_ids": np.ones(10, bool)}, "its ids are no whole numbers"),
        ({"counts": np.array([10, 0])}, "its counts are not of 10 detections"),
        ({"counts": np.array([-1, 11])}, "its counts are not of 10 detections"),
        ({"counts": np.array([2**63, 2**63 + 10], np.uint64)}, "its counts are not of 10 detections"),
        ({"counts": np.array([10])}, "its images have no counts"),
        ({"counts": np.array(10), "image_ids": np.array(3)}, "its images have no counts"),
        ({"counts": np.zeros(10**6, np.int8), "image_ids": np.zeros(10**6, np.int8)}, "have no counts"),
        ({"image_ids": np.array([2**62, -(2**62) - 1])}, "image ids must ascend"),
    ],
)
def test_arrays_that_are_no_detections_are_refused(tmp_path: Path, changes: Any, said: str) -> None:
    assert said in refusal(saved(tmp_path / "found.npz", **changes))


@pytest.mark.parametrize("descr", ["|V0", "|S0", "<U0", "[('a', '<i4', (0,))]"])
@pytest.mark.parametrize("shape", ["(10000000000000,)", "(10000000000000, 4)"])
def test_values_without_bytes_are_not_made(tmp_path: Path, descr: str, shape: str) -> None:
    """Of these a header may state as many as it wants: no bytes stand for all of them."""
    quoted = descr if descr.startswith("[") else f"'{descr}'"
    header = f"{{'descr': {quoted}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    path = saved(tmp_path / "found.npz", scores=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("scores.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    refusal(path)


def test_members_that_stand_twice_or_overlap_are_refused(tmp_path: Path) -> None:
    """Of two of one name readers take the first or the last; members in one place multiply it."""
    content = saved(tmp_path / "sound.npz").read_bytes()
    path = tmp_path / "found.npz"
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("scores.npy", archive.read("scores.npy"))
    assert "its members stand twice" in refusal(path)

    ended, start = content.index(b"PK\x05\x06"), content.index(b"PK\x01\x02")
    first = content[start : content.index(b"PK\x01\x02", start + 4)]
    listed = content[start:ended]
    sizes = struct.pack("<HHII", 205, 205, len(listed) + 200 * len(first), start)
    path.write_bytes(content[:ended] + first * 200 + content[ended : ended + 8] + sizes + b"\0\0")
    assert "it lists 205 members" in refusal(path)


def test_a_long_list_of_members_is_not_taken_up(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number}", b"")
    (tmp_path / "found.npz").write_bytes(file.getvalue())
    assert "it lists 20,000 members" in refusal(tmp_path / "found.npz")


def test_columns_by_column_are_the_same_detections(tmp_path: Path) -> None:
    units, swapped = arrays_of(10)["boxes_xywh"] + np.arange(10)[:, None], arrays_of(10)["counts"]
    changes = {"boxes_xywh": np.asfortranarray(units.astype(np.int32)), "counts": swapped.astype(">i2")}
    found = read_predictions(saved(tmp_path / "found.npz", **changes))
    x, y, width, height = units.T / 1000
    assert np.array_equal(found.boxes_xyxy.T, [x, y, x + width, y + height])
    assert found.boxes_xyxy.flags.c_contiguous


def test_ids_at_both_ends_of_64_bits_come_back(tmp_path: Path) -> None:
    """Their difference is beyond 64 bits."""
    ids = np.array([-(2**63), -(2**63), 0, 2**63 - 1])
    written = from_columns(ids, ids, np.ones((4, 4)), np.ones(4))
    write_predictions(tmp_path / "found.npz", written)
    assert read_predictions(tmp_path / "found.npz").image_ids.tolist() == ids.tolist()
    assert read_predictions(tmp_path / "found.npz").category_ids.tolist() == ids.tolist()
    write_predictions(tmp_path / "found.json", written)
    assert read_predictions(tmp_path / "found.json").category_ids.tolist() == ids.tolist()
    with pytest.raises(ValueError, match="image ids must ascend"):
        Predictions(ids[::-1], np.ones((4, 4)), np.ones(4), ids)


def test_arrays_take_at_most_three_times_their_file(tmp_path: Path) -> None:
    path = tmp_path / "found.npz"
    np.savez(path, **arrays_of(200_000))
    tracemalloc.start()
    found = read_predictions(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 200_000 and peak < 3 * path.stat().st_size


# Text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            json.dumps([ENTRY, {"category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]),
            "entry 1 is no detection",
        ),
        (json.dumps([None, ENTRY | {"copy": ENTRY}]), "no object begins at character 1"),
        (json.dumps({"annotations": [ENTRY]}), "it is no list"),
        (json.dumps(ENTRY), "it is no list"),
        (json.dumps([[ENTRY]]), "no object begins at character 1"),
        (json.dumps([ENTRY | {"image_id": "1"}]), "entry 0 is no detection (TypeError"),
        (json.dumps([ENTRY | {"image_id": 1.5}]), "entry 0 is no detection (TypeError"),
        (json.dumps([ENTRY | {"category_id": True}]), "neither true nor false is an id"),
        (json.dumps([ENTRY | {"category_id": None}]), "entry 0 is no detection (TypeError"),
        (json.dumps([ENTRY | {"image_id": 2**63}]), "entry 0 is no detection (OverflowError"),
        (json.dumps([ENTRY | {"image_id": float("nan")}]), "entry 0 is no detection (TypeError"),
        (json.dumps([ENTRY | {"image_id": float("inf")}]), "entry 0 is no detection (TypeError"),
        (json.dumps([ENTRY | {"score": True}]), "neither true nor false is a number"),
        (json.dumps([ENTRY | {"score": 10**400}]), "entry 0 is no detection (OverflowError"),
        (json.dumps([ENTRY | {"bbox": {"x": 1, "y": 2, "z": 3, "w": 4}}]), "entry 0 is no detection"),
        (json.dumps([ENTRY])[:-1], "its list is broken"),
        (json.dumps([ENTRY]) + "x", "its list is broken"),
        (json.dumps([ENTRY])[:-1] + ",]", "no object begins"),
        (f"[{'1' * 5000}]", "no object begins"),
        ("[" + '{"a":[' * 10**5, "lists in lists without an end"),
        ("", "it is no list"),
        ("\ufeff[]", "it is no list"),
    ],
)
def test_text_of_no_detections_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "found.json"
    path.write_text(text, encoding="utf-8")
    assert said in refusal(path)


def test_a_detection_within_a_detection_is_none_of_its_own() -> None:
    rows = [ENTRY | {"copy": ENTRY | {"image_id": 9}, "copies": [ENTRY]}, ENTRY]
    assert predictions_from_json(json.dumps(rows)).image_ids.tolist() == [1, 1]


def test_bytes_that_are_no_text_and_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "found.json").write_bytes(b"\xff\xfe")
    refusal(tmp_path / "found.json")
    refusal(tmp_path / "none.json")
    refusal(tmp_path / "none.npz")


def test_whole_numbers_with_a_point_are_ids() -> None:
    found = predictions_from_json(json.dumps([ENTRY | {"image_id": 7.0, "category_id": -3.0}]))
    assert (found.image_ids.tolist(), found.category_ids.tolist()) == ([7], [-3])


def test_values_that_are_not_finite_stay_that(tmp_path: Path) -> None:
    rows = [ENTRY | {"score": float("nan")}, ENTRY | {"bbox": [1e308, 0, 1e308, 1]}]
    found = predictions_from_json(json.dumps(rows))
    assert np.isnan(found.scores[0]) and np.isinf(found.boxes_xyxy[1, 2])


def test_lists_in_an_entry_do_not_fill_the_memory(tmp_path: Path) -> None:
    """Two million empty lists take 56 bytes each once they are read, and 3 as text."""
    path = tmp_path / "found.json"
    for text in (
        "[" + "[]," * 2_000_000 + "[]]",
        json.dumps([ENTRY])[:-2] + ', "x": [' + "[]," * 2_000_000 + "[]]}]",
    ):
        path.write_text(text)
        tracemalloc.start()
        with pytest.raises(RecordError, match=r"no object (begins|of up to)"):
            read_predictions(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2.5 * len(text) + 32 * 2**20 < 56 * 2_000_000


@pytest.mark.parametrize("longest", [90, 97, 256, 2**20])
def test_objects_are_those_of_the_whole_text(longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the parts of a text end: within an object, a blank or a comma."""
    monkeypatch.setattr(json_objects, "LONGEST", longest)
    generator = random.Random(longest)
    values: list[Any] = [{}, {"a": "], {é"}, {"a": [1, {"b": "}"}]}, {"": [[], {}, -2.5, None]}, ENTRY]
    for _ in range(100):
        entries = generator.choices(values, k=generator.randrange(12))
        pieces = [blanks(generator) + json.dumps(each, ensure_ascii=False) for each in entries]
        listed = f"{blanks(generator)},".join(pieces)
        text = f"{blanks(generator)}[{listed}{blanks(generator)}]{blanks(generator)}"
        assert list(read_objects(text)) == json.loads(text) == entries


def blanks(generator: random.Random) -> str:
    return "".join(generator.choices(" \t\r\n", k=generator.choice((0, 0, 1, 5))))


def test_an_object_longer_than_a_part_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_objects, "LONGEST", 20)
    whole = '{"a": "' + "x" * 11 + '"}'
    assert list(read_objects(f"[{whole}, {whole}]")) == [{"a": "x" * 11}] * 2
    with pytest.raises(ValueError, match="no object of up to 20 characters is at 23"):
        list(read_objects(f"[{whole}, {whole.replace('x', 'xy')}]"))


@pytest.mark.parametrize(
    "text", ["[{}", "[{},]", "[{}]]", "[{} {}]", "[,{}]", "[{},,{}]", "[1]", "{}", "[{]"]
)
def test_a_broken_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(read_objects(text))
