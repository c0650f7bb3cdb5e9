"""Mutants of files of detections, as arrays and as text, under the hash of what they hold."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from mutations import HOSTILE, as_json, mutated, mutated_bytes
from stored_records import detections, make_record, truth

from yolov9bench.io.files import sha256_of
from yolov9bench.predict.predictions import Predictions, predictions_from_rows, result_sha256
from yolov9bench.predict.result_files import read_predictions, write_predictions
from yolov9bench.records import Record, write
from yolov9bench.verify import verify

Arrays = dict[str, npt.NDArray[Any]]
TYPES = (
    "i1",
    "u1",
    "<i4",
    ">i4",
    "<i8",
    ">i8",
    "u8",
    "f2",
    "<f4",
    "<f8",
    ">f8",
    "c16",
    "?",
    "U3",
    "S0",
    "V8",
)
ENDS = (-(2**63), 2**63 - 1, -1, 0, 1, 2**31, 2**62)
SHAPES = ("(10**12,)", "(1000000000000,)", "(0, 1000000000000)", "(-6,)", "(6,)", "(6, 4)", "()", "(2, 3)")


def detections_in(folder: Path) -> Any:
    """An attack on the readers of detections; what is taken is what `numpy` or `json` find in the file."""
    annotations = folder / "boxes.json"
    annotations.write_text(json.dumps(truth()))
    record, _ = make_record(annotations, detections())
    source = folder / "found.npz"
    write_predictions(source, predictions_from_rows(detections()))
    with np.load(source) as stored:
        sound = dict(stored)
    results = folder / "results"

    def attack(random: Random) -> str:
        form = random.choice(("npz", "json"))
        path = results / f"runs/detections/found.{form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(mutant_archive(sound, random) if form == "npz" else mutant_text(random))
        found = read_predictions(path)
        require_same(found, rows_of_arrays(path) if form == "npz" else json.loads(path.read_bytes()))
        return f"{form}, {verified(found, record, path, annotations)}"

    return attack


def verified(found: Predictions, record: Record, path: Path, annotations: Path) -> str:
    """What `verify` makes of a record that names these detections by their true hash."""
    content = asdict(record)
    sha256 = result_sha256(found) if path.suffix == ".npz" else sha256_of(path)
    content["values"]["detections"] = {"file": path.name, "sha256": sha256, "count": len(found)}
    del content["schema"]
    written = write(Record(**content), path.parents[2])
    (outcome,) = verify(path.parents[2], [written], [annotations])
    written.unlink()
    assert str(outcome).isprintable() and "other detections" not in str(outcome), str(outcome)
    return outcome.word


def mutant_text(random: Random) -> bytes:
    """A result file with other values, or other bytes."""
    written = as_json(mutated(detections(), random) if random.random() < 0.7 else detections())
    return mutated_bytes(written, random) if random.random() < 0.5 else written


def mutant_archive(sound: Arrays, random: Random) -> bytes:
    """An archive of other arrays, other headers, other members, or other bytes."""
    arrays = {name: each.copy() for name, each in sound.items()}
    for _ in range(random.randint(0, 2)):
        change_array(arrays, random)
    members = {f"{name}.npy": array_bytes(each, random) for name, each in arrays.items()}
    method = zipfile.ZIP_DEFLATED if random.random() < 0.03 else zipfile.ZIP_STORED
    archive = zipped(members, method, twice=random.random() < 0.05)
    return mutated_bytes(archive, random) if random.random() < 0.2 else archive


def change_array(arrays: Arrays, random: Random) -> None:
    """One array with another value, type, shape or order, gone, or under another name."""
    name = random.choice(list(arrays))
    array, action = arrays[name], random.randrange(8)
    if action == 0:
        arrays[random.choice(("boxes_xyxy", "boxes_xywh", "extra", "scores"))] = arrays.pop(name)
    elif action == 1:
        arrays[name] = array[: random.randint(0, len(array))] if array.ndim else array
    elif action == 2:
        arrays[name] = np.asfortranarray(array) if random.random() < 0.5 else array[::-1]
    elif action == 3:
        with np.errstate(all="ignore"), suppress(ValueError, OverflowError):  # of text
            arrays[name] = array.astype(random.choice(TYPES))
    elif action == 4 and array.size:
        arrays[name] = array.reshape(random.choice(((-1, 1), (1, -1), (array.size,))))
    elif action in (5, 6) and array.size and array.dtype.kind in "iu":
        ends = np.iinfo(array.dtype)
        value = random.choice((*ENDS, int(random.choice(array.flat)), ends.min, ends.max))
        changed = array.copy()
        changed.flat[random.randrange(array.size)] = min(max(value, int(ends.min)), int(ends.max))
        arrays[name] = changed
    elif all(
        each in arrays and arrays[each].dtype.kind == "i" for each in ("boxes_xywh", "scores")
    ):  # as doubles, of any value
        numbers = [each for each in HOSTILE if type(each) is float]
        boxes = arrays.pop("boxes_xywh").astype(np.float64) / 1000
        if boxes.size:
            boxes.flat[random.randrange(boxes.size)] = random.choice(numbers)
        arrays["boxes_xyxy"], arrays["scores"] = boxes, arrays["scores"].astype(np.float64) / 1e5
        if arrays["scores"].size:
            arrays["scores"].flat[0] = random.choice(numbers)


def array_bytes(array: npt.NDArray[Any], random: Random) -> bytes:
    """An array as `numpy.save` writes it; sometimes with another shape in its header."""
    file = io.BytesIO()
    np.save(file, array)
    if random.random() > 0.03:
        return file.getvalue()
    text = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {random.choice(SHAPES)}, }}"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + array.tobytes()


def zipped(members: dict[str, bytes], method: int, twice: bool) -> bytes:
    """An archive, of which the first member may stand twice."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in [*members.items(), *(list(members.items())[:1] if twice else [])]:
            # A second one of the same name is what this is about.
            archive.NameToInfo.pop(name, None)
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def rows_of_arrays(path: Path) -> list[dict[str, Any]]:
    """The detections that the manual of the format says are in a file, one by one."""
    with np.load(path) as stored:
        arrays = {name: each.tolist() for name, each in stored.items()}
        are_units = stored["scores"].dtype == np.int32
    per_box = zip(arrays["image_ids"], arrays["counts"], strict=True)
    images = [image for image, count in per_box for _ in range(count)]
    scores = [each / 1e5 if are_units else each for each in arrays["scores"]]
    if "boxes_xyxy" in arrays:
        boxes = [[*map(float, corners), "corners"] for corners in arrays["boxes_xyxy"]]
    else:
        boxes = [[side / 1000 for side in box] for box in arrays["boxes_xywh"]]
    columns = zip(images, arrays["category_ids"], boxes, scores, strict=True)
    return [dict(zip(("image_id", "category_id", "bbox", "score"), each, strict=True)) for each in columns]


def require_same(found: Predictions, rows: list[dict[str, Any]]) -> None:
    """The detections are the rows, ordered by image; nothing was left out or put in."""
    expected = sorted(rows, key=lambda row: int(row["image_id"]))
    assert found.image_ids.tolist() == [row["image_id"] for row in expected]
    assert found.category_ids.tolist() == [row["category_id"] for row in expected]
    corners = []
    for row in expected:
        x, y, *ends = row["bbox"]
        corners.append([x, y, *ends[:2]] if "corners" in ends else [x, y, x + ends[0], y + ends[1]])
    assert not any(isinstance(each, bool) for row in expected for each in row.values())
    # NaN is equal to itself here.
    np.testing.assert_array_equal(found.boxes_xyxy, np.array(corners, np.float64).reshape(-1, 4))
    np.testing.assert_array_equal(found.scores, np.array([row["score"] for row in expected], np.float64))
