"""Detections in files, as arrays or as a COCO result file, whichever a name asks for; needs no torch.

Arrays take a quarter of the text's space, and numpy reads them (`numpy.load`): `image_ids` [I] and `counts`
[I] of their detections, best first, `category_ids` [N], `boxes_xywh` [N, 4] in thousandths of a pixel and
`scores` [N] in hundred-thousandths. Where whole units would not give the very detections back, as far beyond
any image, they are doubles: `boxes_xyxy` [N, 4] in pixels, and `scores`.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from yolov9bench.errors import RecordError, shown
from yolov9bench.io.files import atomic_path
from yolov9bench.predict.predictions import (
    Predictions,
    predictions_from_json,
    result_parts,
)
from yolov9bench.predict.result_text import BOX_DECIMALS, SCORE_DECIMALS, Floats, Integers, parts_of

ARRAYS = ".npz"  # the suffix of files of arrays

IDS = ("image_ids", "counts", "category_ids")  # whole numbers of any width
COLUMNS = {"boxes_xyxy": (np.float64,), "boxes_xywh": (np.int32,), "scores": (np.int32, np.float64)}
NAMES = [{*IDS, boxes, "scores"} for boxes in ("boxes_xyxy", "boxes_xywh")]  # of the arrays of a file
MOST_MEMBERS = 100  # that are listed: a list takes ten times its bytes in memory
LISTED = b"PK\x01\x02"  # where a member is in an archive's list
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

Header = tuple[tuple[int, ...], np.dtype[Any]]
Units = npt.NDArray[np.int32]


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write detections, whole or not at all: arrays to a name that ends in .npz, else COCO's JSON.

    Equal detections give equal files, since no time is in them.
    """
    with atomic_path(path) as fresh, fresh.open("wb") as file:
        if path.suffix == ARRAYS:
            np.savez(file, allow_pickle=False, **_packed(predictions))
        else:
            file.writelines(result_parts(predictions))


def read_predictions(path: Path) -> Predictions:
    """The detections of a file that `write_predictions` wrote, or of any COCO result file.

    RecordError for what cannot be read, or holds no detections. Arrays are held against the file's own size
    before one is read, and take at most three times that size.
    """
    try:
        if path.suffix != ARRAYS:
            return predictions_from_json(path.read_text(encoding="utf-8"))
        with path.open("rb") as file:
            _require_short_list(file)
            _require_detections(_read_headers(zipfile.ZipFile(file)))
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return _unpacked(arrays)
    except Exception as error:  # numpy, zipfile, struct and tokenize have many for damaged files
        raise RecordError(
            f"{path.name} cannot be read ({shown(error)}): restore it, or evaluate again"
        ) from error


def _require_short_list(file: BinaryIO) -> None:
    """ValueError for an archive that lists many members, all of which `zipfile` would take up at once."""
    listed = sum(part.count(LISTED) for part in iter(partial(file.read, 2**20), b""))
    if listed > MOST_MEMBERS:
        raise ValueError(f"it lists {listed:,} members")
    file.seek(0)


def _read_headers(archive: zipfile.ZipFile) -> dict[str, Header]:
    """Shape and type of each array by its name.

    ValueError for a member that is compressed, that has not the bytes for the values that it states, or that
    stands twice, or in the place of another.
    """
    found: dict[str, Header] = {}
    for member in archive.infolist():
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ValueError(f"{member.filename} is compressed")
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read_header = HEADERS.get(version)
            if read_header is None:
                raise ValueError(f"{member.filename} is of another version")
            shape, _, kind = read_header(file)
            if kind.hasobject or math.prod(shape) * kind.itemsize != member.file_size - file.tell():
                raise ValueError(f"{member.filename} is not of the size that it states")
        found[member.filename.removesuffix(".npy")] = shape, kind
    ends = sum(member.file_size for member in archive.infolist())
    if len(found) != len(archive.infolist()) or ends > archive.start_dir:
        raise ValueError("its members stand twice")
    return found


def _require_detections(arrays: dict[str, Header]) -> None:
    """ValueError unless there are ids, boxes and scores, of one length and of the types that are written."""
    if set(arrays) not in NAMES:
        raise ValueError(f"its arrays are {', '.join(sorted(arrays))}")
    shapes = {name: shape for name, (shape, _) in arrays.items()}
    kinds = {name: kind for name, (_, kind) in arrays.items()}
    count = math.prod(shapes["scores"])
    boxes = next(shape for name, shape in shapes.items() if name.startswith("boxes"))
    if (shapes["scores"], shapes["category_ids"], boxes) != ((count,), (count,), (count, 4)):
        raise ValueError("its arrays are not of one length")
    if shapes["image_ids"] != shapes["counts"] or len(shapes["counts"]) != 1 or shapes["counts"] > (count,):
        raise ValueError("its images have no counts")
    if any(kinds[name].kind not in "iu" for name in IDS):
        raise ValueError("its ids are no whole numbers")
    if any(kind not in COLUMNS[name] for name, kind in kinds.items() if name not in IDS):
        raise ValueError("its boxes or scores are of another type than is written")


def _packed(predictions: Predictions) -> dict[str, npt.NDArray[Any]]:
    image_ids, counts = np.unique(predictions.image_ids, return_counts=True)
    boxes = _boxes_in_units(predictions)
    scores = _in_units(predictions.scores, SCORE_DECIMALS)
    return {
        "image_ids": image_ids,
        "counts": counts,
        "category_ids": _narrowed(predictions.category_ids),
        **({"boxes_xyxy": predictions.boxes_xyxy} if boxes is None else {"boxes_xywh": boxes}),
        "scores": predictions.scores if scores is None else scores,
    }


def _unpacked(arrays: Mapping[str, npt.NDArray[Any]]) -> Predictions:
    """The detections of arrays, each of which is read when it is asked for, the largest first."""
    if "boxes_xyxy" in arrays:
        boxes = np.ascontiguousarray(arrays["boxes_xyxy"])
    else:
        boxes = _in_full(arrays["boxes_xywh"], BOX_DECIMALS)
        boxes[:, 2:] += boxes[:, :2]
    scores = _in_full(arrays["scores"], SCORE_DECIMALS)
    counts = arrays["counts"]
    # Of numbers from 1 to this many, of which there are no more, no sum is beyond 64 bits.
    if ((counts < 1) | (counts > len(scores))).any() or counts.sum(dtype=np.int64) != len(scores):
        raise ValueError(f"its counts are not of {len(scores)} detections")
    image_ids = np.repeat(_in_64_bits(arrays["image_ids"]), counts)
    return Predictions(image_ids, boxes, scores, _in_64_bits(arrays["category_ids"]))


def _boxes_in_units(predictions: Predictions) -> Units | None:
    """As `_in_units`, of x y width height; part by part, since each takes several arrays of its size."""
    found = [np.zeros((0, 4), np.int32)]
    for part in parts_of(len(predictions)):
        units = _in_units(predictions.select(part).boxes_xywh(), BOX_DECIMALS)
        if units is None:
            return None
        found.append(units)
    return np.concatenate(found)


def _in_units(values: Floats, decimals: int) -> Units | None:
    """Values in units of their last decimal; None unless these give every one back, to the sign of zero."""
    with np.errstate(invalid="ignore"):  # of what is not finite, or beyond 32 bits
        units = np.rint(values * 10**decimals).astype(np.int32)
    same = (units / 10**decimals).view(np.int64) == np.ascontiguousarray(values).view(np.int64)
    return units if same.all() else None


def _in_full(stored: npt.NDArray[Any], decimals: int) -> Floats:
    return np.divide(stored, 10**decimals, order="C") if stored.dtype == np.int32 else stored


def _in_64_bits(ids: npt.NDArray[Any]) -> Integers:
    if ids.max(initial=0) > np.iinfo(np.int64).max:
        raise ValueError("its ids are beyond 64 bits")
    return ids.astype(np.int64, copy=False)


def _narrowed(ids: Integers) -> npt.NDArray[Any]:
    """The ids in the shortest whole numbers that hold them."""
    ends = (np.min_scalar_type(int(end)) for end in (ids.min(initial=0), ids.max(initial=0)))
    kind = np.result_type(*ends)  # floating point for small negative and large positive ones together
    return ids.astype(kind if kind.kind in "iu" else np.int64)
