"""Detections as text and as arrays, beside `json.dumps` of plain dictionaries and Python's `round`."""

import hashlib
import io
import json
import random
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_detections import CATEGORIES, make_case

from yolov9bench.errors import RecordError
from yolov9bench.evaluation.truth import read_truth, result_array
from yolov9bench.evaluation.values import store_predictions
from yolov9bench.predict import result_text
from yolov9bench.predict.predictions import (
    Predictions,
    from_columns,
    predictions_from_json,
    predictions_from_rows,
    predictions_of,
    result_json,
    result_sha256,
)
from yolov9bench.predict.result_files import read_predictions, write_predictions
from yolov9bench.predict.result_text import ROWS, format_rows
from yolov9bench.records import detections as kept
from yolov9bench.records.detections import keep_detections, read_detections

Columns = tuple[list[int], list[int], list[list[float]], list[float]]


def text_of(columns: Columns) -> str:
    """What `json.dumps` makes of a list of dictionaries."""
    names = ("image_id", "category_id", "bbox", "score")
    entries = [dict(zip(names, each, strict=True)) for each in zip(*columns, strict=True)]
    return json.dumps(entries, separators=(",", ":"))


def formatted(columns: Columns) -> str:
    """What the library makes of them."""
    images, categories, boxes, scores = columns
    arrays = np.array(images, np.int64), np.array(categories, np.int64), np.array(boxes, np.float64)
    return f"[{format_rows(*arrays, np.array(scores, np.float64)).decode()[1:]}]"


def columns_of(sides: list[float], scores: list[float]) -> Columns:
    """Detections that have these numbers as sides, each in every place of a box, and as scores."""
    count = max(len(sides), len(scores))
    boxes = [[sides[(index + shift) % len(sides)] for shift in range(4)] for index in range(count)]
    return list(range(count)), [1] * count, boxes, [scores[index % len(scores)] for index in range(count)]


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any row that is written by itself fails the test."""

    def refuse(*_: object) -> bytes:
        raise AssertionError("a row was written by itself")

    monkeypatch.setattr(result_text, "plain_rows", refuse)


@pytest.mark.usefixtures("looked_up")
def test_every_score_and_every_fraction_is_what_python_writes() -> None:
    """All 100,001 scores; all 1,000 fractions behind whole numbers of every length, with both signs."""
    wholes = (0, 1, 9, 10, 99, 100, 638, 1023, 9_999, 10_000, 65_536, 99_999)
    sides = [
        float(f"{sign}{whole}.{part:03}") for sign in ("", "-") for whole in wholes for part in range(1000)
    ]
    scores = [float(f"{number / 100_000:.5f}") for number in range(100_001)]
    columns = columns_of(sides, scores)
    assert formatted(columns) == text_of(columns)


@pytest.mark.parametrize("side", [100_000.0, 123_456_789.125, 1e16, 0.0004, 1 / 3, 5e-324, 1e300, -(2.0**40)])
def test_sides_beyond_the_tables_are_what_python_writes(side: float) -> None:
    columns = columns_of([side, 12.5, -0.0], [0.5, 0.25])
    assert formatted(columns) == text_of(columns)


@pytest.mark.parametrize("score", [1.00001, 2.0, -0.5, -0.0, 0.123456, 1e-9, 1e9])
def test_scores_beyond_the_tables_are_what_python_writes(score: float) -> None:
    columns = columns_of([1.5, 2.0], [0.5, score])
    assert formatted(columns) == text_of(columns)


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_what_is_not_finite_is_what_python_writes(number: float) -> None:
    for columns in (columns_of([number, 1.0], [0.5]), columns_of([1.0], [number])):
        assert formatted(columns) == text_of(columns)


@pytest.mark.usefixtures("looked_up")
def test_ids_of_every_length_are_what_python_writes() -> None:
    ids = [-(2**63), -7, 0, 1, 42, 581_929, 2**53 + 1, 2**63 - 1]
    columns = ids, ids[::-1], [[1.0, 2.0, 3.0, 4.5]] * len(ids), [0.5] * len(ids)
    assert formatted(columns) == text_of(columns)


def far_and_near(count: int) -> Predictions:
    """Boxes of all sizes, some beyond the tables, some negative, in images of several detections."""
    generator = np.random.default_rng(count)
    boxes = generator.uniform(-1, 1, (count, 4)) * 10.0 ** generator.integers(-4, 4, (count, 1))
    boxes[::97] *= 1e4
    boxes[:, 2:] = np.abs(boxes[:, 2:])
    return from_columns(
        np.sort(generator.integers(0, 2000, count)),
        generator.choice(CATEGORIES, count),
        boxes.round(3),
        generator.random(count).round(5),
    )


@pytest.mark.parametrize("count", [0, 1, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS, 2 * ROWS + 1])
def test_parts_make_the_whole_text_and_its_hash(count: int) -> None:
    predictions = far_and_near(count)
    columns = (
        predictions.image_ids.tolist(),
        predictions.category_ids.tolist(),
        predictions.boxes_xywh().tolist(),
        predictions.scores.tolist(),
    )
    expected = text_of(columns)
    assert result_json(predictions) == expected
    assert result_sha256(predictions) == hashlib.sha256(expected.encode()).hexdigest()


def test_rounded_arrays_of_images_are_their_numbers_rounded_one_by_one() -> None:
    """Over more images than are rounded at once, with labels that have no category, to the bit."""
    case = make_case(images=150, an_image=12, seed=4)
    categories = [number if number % 5 else None for number in CATEGORIES]
    rows = [
        {
            "image_id": image,
            "category_id": categories[label],
            "bbox": [round(float(side), 3) for side in (*box[:2], box[2] - box[0], box[3] - box[1])],
            "score": round(float(score), 5),
        }
        for image, found in case.found.items()
        for box, score, label in zip(*found, strict=True)
        if categories[label] is not None
    ]
    turned = dict(reversed(case.found.items()))
    assert 0 < len(rows) < 150 * 12
    assert result_json(predictions_of(turned, categories)) == json.dumps(rows, separators=(",", ":"))
    assert len(predictions_of(case.found, [None] * 80)) == len(predictions_of({}, [1])) == 0


def require_equal(first: Predictions, second: Predictions) -> None:
    """To the bit, the sign of zero included."""
    for name, own in vars(first).items():
        other = getattr(second, name)
        assert own.dtype == other.dtype, name
        assert np.array_equal(own.view(np.int64), other.view(np.int64)), name


def test_text_of_any_layout_is_read() -> None:
    """Blanks, other keys, masks, whole numbers, and images in any order; within one the order is kept."""
    mask = {"size": [4, 4], "counts": "04L4"}
    rows: list[dict[str, Any]] = [
        {"score": 0.5, "bbox": [1, 2, 3, 4], "category_id": 7, "image_id": 9, "segmentation": mask},
        {"image_id": 2**53 + 1, "category_id": 1, "bbox": [0.125, -0.5, 3.25, 4.0], "score": 1},
        {"image_id": 9, "category_id": 8, "bbox": [5.5, 6.5, 7.5, 8.5], "score": 0.75, "id": 3},
        {"image_id": 3, "category_id": 90, "bbox": [0, 0, 1e-3, 1e5], "score": 0.25},
    ]
    for text in (json.dumps(rows), json.dumps(rows, indent=4), json.dumps(rows, separators=(",", ":"))):
        found = predictions_from_json(text)
        assert found.image_ids.tolist() == [3, 9, 9, 2**53 + 1]
        assert found.category_ids.tolist() == [90, 7, 8, 1]
        assert found.boxes_xyxy.tolist() == [
            [0, 0, 1e-3, 1e5],
            [1, 2, 4, 6],
            [5.5, 6.5, 13, 15],
            [0.125, -0.5, 3.375, 3.5],
        ]
        assert found.scores.tolist() == [0.25, 0.5, 0.75, 1]
        require_equal(found, predictions_from_rows(rows))
    assert len(predictions_from_json("[]")) == 0


@pytest.mark.parametrize("box", [[1, 2, 3], [1, 2, 3, 4, 5]])
def test_a_box_of_other_than_four_numbers_is_refused(box: list[int]) -> None:
    row = {"image_id": 1, "category_id": 1, "bbox": box, "score": 0.5}
    with pytest.raises(ValueError, match="unpack"):
        predictions_from_json(json.dumps([row]))


UNUSUAL = {
    "none": ([], []),
    "usual": ([[0.0, 1.5, 20.125, 30.001]], [0.00001]),
    "minus zero": ([[-0.0, 1.5, 20.125, 30.001]], [0.5]),
    "beyond 32 bits": ([[2.0**24, 1.0, 3e6, 4.0]], [1.0]),
    "further decimals": ([[0.1234, 1.0, 2.0, 3.00001]], [0.123456789]),
    "not finite": ([[float("nan"), 1.0, float("inf"), 4.0]], [float("inf")]),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_arrays_give_the_very_detections_back(case: str, tmp_path: Path) -> None:
    boxes, scores = UNUSUAL[case]
    count = len(boxes)
    arrays = np.arange(count, dtype=np.int64) - 2**40, np.full(count, -3), np.array(boxes).reshape(-1, 4)
    predictions = from_columns(*arrays, np.array(scores, np.float64))
    write_predictions(tmp_path / "found.npz", predictions)
    again = read_predictions(tmp_path / "found.npz")
    require_equal(predictions, again)
    assert result_sha256(again) == result_sha256(predictions)


@pytest.mark.parametrize("count", [1, ROWS + 1, 3 * ROWS])
def test_arrays_of_many_give_the_very_detections_back(count: int, tmp_path: Path) -> None:
    predictions = far_and_near(count)
    write_predictions(tmp_path / "found.npz", predictions)
    require_equal(predictions, read_predictions(tmp_path / "found.npz"))
    write_predictions(tmp_path / "found.json", predictions)
    require_equal(predictions, read_predictions(tmp_path / "found.json"))
    assert (tmp_path / "found.json").read_text() == result_json(predictions)


def test_arrays_in_a_file_are_what_the_manual_says(tmp_path: Path) -> None:
    rows = [
        {"image_id": 7, "category_id": 90, "bbox": [1.5, 2.25, 3.125, 4.0], "score": 0.98765},
        {"image_id": 7, "category_id": 1, "bbox": [0.001, 0.0, 640.0, 480.0], "score": 0.5},
        {"image_id": 581_929, "category_id": 1, "bbox": [9.0, 9.0, 9.0, 9.0], "score": 0.00001},
    ]
    write_predictions(tmp_path / "found.npz", predictions_from_rows(rows))
    with np.load(tmp_path / "found.npz") as arrays:
        assert {name: arrays[name].tolist() for name in arrays.files} == {
            "image_ids": [7, 581_929],
            "counts": [2, 1],
            "category_ids": [90, 1, 1],
            "boxes_xywh": [[1500, 2250, 3125, 4000], [1, 0, 640_000, 480_000], [9000, 9000, 9000, 9000]],
            "scores": [98_765, 50_000, 1],
        }


def test_equal_detections_are_equal_files(tmp_path: Path) -> None:
    case = make_case(images=20, an_image=30)
    for name in ("one.npz", "two.npz", "one.json", "two.json"):
        write_predictions(tmp_path / name, predictions_of(case.found, CATEGORIES))
    for suffix in ("npz", "json"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()
    assert (tmp_path / "one.npz").stat().st_size < (tmp_path / "one.json").stat().st_size / 3


HARMS = (
    "cut",
    "text",
    "nothing",
    "a single array",
    "a column missing",
    "counts of other detections",
)


@pytest.mark.parametrize("harm", HARMS)
def test_damaged_arrays_are_a_sentence(harm: str, tmp_path: Path) -> None:
    path = tmp_path / "found.npz"
    write_predictions(path, far_and_near(50))
    with np.load(path) as stored:
        arrays = dict(stored)
    if harm == "a column missing":
        del arrays["scores"]
        np.savez(path, **arrays)
    elif harm == "counts of other detections":
        np.savez(path, **arrays | {"counts": arrays["counts"] + 1})
    elif harm == "a single array":
        with path.open("wb") as file:
            np.save(file, arrays["scores"])
    else:
        content = path.read_bytes()
        path.write_bytes({"cut": content[:900], "text": b"no arrays", "nothing": b""}[harm])
    with pytest.raises(RecordError, match=r"found\.npz cannot be read .*: restore it"):
        read_predictions(path)


def rewritten(path: Path, harm: str) -> bytes:
    """What a hostile file of fifty detections holds."""
    with np.load(path) as stored:
        arrays: dict[str, Any] = dict(stored)
    changes: dict[str, dict[str, Any]] = {
        "huge count": {"counts": np.array([2**62], np.int64), "image_ids": np.array([1])},
        "counts that overflow": {"counts": np.array([2**63 - 1, 2**63 - 1, 52])},
        "negative count": {"counts": np.concatenate([arrays["counts"], [-1, 1]])},
        "two dimensions": {"scores": arrays["scores"][:, None]},
        "no dimension": {"scores": np.array(3)},
        "objects": {"image_ids": arrays["image_ids"].astype(object)},
        "texts": {"category_ids": arrays["category_ids"].astype("U3")},
        "complex": {"scores": arrays["scores"].astype(complex)},
        "small floats": {"scores": np.full(50, 0.5, np.float16)},
        "fractions": {"category_ids": arrays["category_ids"] + 0.5},
        "falling ids": {"image_ids": arrays["image_ids"][::-1]},
    }
    file = io.BytesIO()
    if harm == "compressed":
        np.savez_compressed(file, **arrays)
        return file.getvalue()
    np.savez(file, **arrays | changes[harm])
    return file.getvalue()


def compress_a_bomb() -> bytes:
    """A gigabyte of zeros in a megabyte."""
    file = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**27,)}
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("scores.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(64):
            member.write(bytes(2**24))
    return file.getvalue()


def lying_header(shape: str) -> bytes:
    """An archive of one array whose header states a shape that it has no bytes for."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("scores.npy", header + bytes(16))
    return file.getvalue()


HOSTILE: tuple[str, ...] = (
    "huge count",
    "counts that overflow",
    "negative count",
    "two dimensions",
    "no dimension",
    "objects",
    "texts",
    "complex",
    "small floats",
    "fractions",
    "falling ids",
    "compressed",
)
HEADERS: tuple[str, ...] = ("(10**12,)", "(1000000000000,)", "(-2,)", "(2.0,)", "3", "(" * 90 + ")" * 90, "[")


@pytest.mark.parametrize("harm", HOSTILE)
def test_hostile_arrays_are_a_sentence(harm: str, tmp_path: Path) -> None:
    path = tmp_path / "found.npz"
    write_predictions(path, far_and_near(50))
    require_refused(path, rewritten(path, harm))


@pytest.mark.parametrize("shape", HEADERS)
def test_shapes_that_a_file_has_no_bytes_for_are_a_sentence(shape: str, tmp_path: Path) -> None:
    require_refused(tmp_path / "found.npz", lying_header(shape))


@pytest.mark.slow(6)
def test_a_bomb_of_zeros_is_not_unpacked(tmp_path: Path) -> None:
    require_refused(tmp_path / "found.npz", compress_a_bomb())


@pytest.mark.parametrize("seed", range(300))
def test_flipped_bytes_are_a_sentence_or_detections(seed: int, tmp_path: Path) -> None:
    """A flipped byte of a number is another number; of anything else it must be told."""
    path, generator = tmp_path / "found.npz", random.Random(seed)
    write_predictions(path, far_and_near(50))
    content = bytearray(path.read_bytes())
    for _ in range(generator.randint(1, 4)):
        content[generator.randrange(len(content))] = generator.randrange(256)
    path.write_bytes(content)
    try:
        assert isinstance(read_predictions(path), Predictions)
    except RecordError as error:
        assert str(error).isprintable()


def require_refused(path: Path, content: bytes) -> None:
    """In one line, without more memory than a few megabytes."""
    path.write_bytes(content)
    del content
    tracemalloc.start()
    with pytest.raises(RecordError, match=r"^found\.npz cannot be read .*: restore it") as refused:
        read_predictions(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(refused.value).isprintable() and "pickle" not in str(refused.value)
    assert peak < 5 * 2**20


def test_a_folder_gets_arrays_and_a_name_what_it_asks_for(tmp_path: Path) -> None:
    predictions = predictions_of(make_case(images=6, an_image=9).found, CATEGORIES)
    sha256 = hashlib.sha256(result_json(predictions).encode()).hexdigest()
    names = {tmp_path / "out": f"detections-{sha256[:8]}.npz", tmp_path / "a.json": "a.json", None: None}
    for target, name in names.items():
        assert store_predictions(predictions, target) == {"file": name, "sha256": sha256, "count": 54}
    require_equal(read_predictions(tmp_path / "out" / f"detections-{sha256[:8]}.npz"), predictions)
    assert (tmp_path / "a.json").read_text() == result_json(predictions)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.json", "out"]


def test_kept_text_in_parts_is_the_file_of_the_whole(tmp_path: Path) -> None:
    text = result_json(far_and_near(3000))
    parts = (text[first : first + 777].encode() for first in range(0, len(text), 777))
    whole, joined = keep_detections(tmp_path / "whole", text), keep_detections(tmp_path / "parts", parts)
    assert whole is not None and joined is not None
    assert whole.name == joined.name == f"detections-{hashlib.sha256(text.encode()).hexdigest()[:8]}.json.gz"
    assert whole.read_bytes() == joined.read_bytes()
    assert read_detections(joined) == text


def test_no_more_parts_are_taken_than_the_limit_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise does not compress: of parts of 1 KiB some 10 to 90 are taken before 10 KiB are exceeded."""
    monkeypatch.setattr(kept, "MOST_BYTES", 10 * 2**10)
    taken = []

    def parts() -> Iterator[bytes]:
        for number in range(1000):
            taken.append(number)
            yield np.random.default_rng(number).bytes(2**10)

    assert keep_detections(tmp_path, parts()) is None
    assert 10 <= len(taken) < 100
    assert list(tmp_path.iterdir()) == []
    assert keep_detections(tmp_path, [np.random.default_rng(0).bytes(11 * 2**10)]) is None
    assert keep_detections(tmp_path, [np.random.default_rng(0).bytes(9 * 2**10)]) is not None


def test_no_step_needs_much_memory_beyond_arrays(tmp_path: Path) -> None:
    """At most 20 KB an image above what goes in and what comes out, where dictionaries took over 100."""
    images = 400
    case = make_case(images, an_image=200)
    truth = read_truth(case.ground_truth)
    predictions = predictions_of(case.found, CATEGORIES)
    store_predictions(predictions, None)  # the tables of digits are made once
    steps: tuple[Callable[[], object], ...] = (
        lambda: predictions_of(case.found, CATEGORIES),
        lambda: result_array(truth, predictions),
        lambda: store_predictions(predictions, tmp_path),
        lambda: store_predictions(predictions, tmp_path / "found.json"),
        lambda: read_predictions(tmp_path / "found.npz"),
    )
    write_predictions(tmp_path / "found.npz", predictions)
    for number, step in enumerate(steps):
        tracemalloc.start()
        result = step()
        used, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert result is not None
        assert (peak - used) / images < 20_000, (number, (peak - used) / images)
