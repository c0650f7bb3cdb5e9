"""Detections in files, as arrays or as a COCO result file, whichever a name asks for; needs no torch.

Arrays take a quarter of the text's space, and numpy reads them (`numpy.load`): `image_ids` [I] and `counts`
[I] of their detections, best first, `category_ids` [N], `boxes_xywh` [N, 4] in thousandths of a pixel and
`scores` [N] in hundred-thousandths. Where whole units would not give the very detections back, as far beyond
any image, they are doubles: `boxes_xyxy` [N, 4] in pixels, and `scores`.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolov9bench.errors import RecordError, shown
from yolov9bench.io.files import atomic_path
from yolov9bench.predict.predictions import (
    Predictions,
    from_columns,
    predictions_from_json,
    result_parts,
)
from yolov9bench.predict.result_text import BOX_DECIMALS, SCORE_DECIMALS, Floats, Integers, parts_of

ARRAYS = ".npz"  # the suffix of files of arrays

NAMES = ("image_ids", "counts", "category_ids", "boxes_xyxy", "boxes_xywh", "scores")
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}

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

    RecordError for arrays that cannot be read, or are no detections: nothing is allocated that the file's own
    size does not hold.
    """
    if path.suffix != ARRAYS:
        return predictions_from_json(path.read_text(encoding="utf-8"))
    try:
        with path.open("rb") as file:
            _require_stored(zipfile.ZipFile(file))
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return _unpacked({name: arrays[name] for name in NAMES if name in arrays})
    except Exception as error:  # numpy, zipfile, struct and tokenize have many for damaged files
        raise RecordError(
            f"{path.name} cannot be read ({shown(error)}): restore it, or evaluate again"
        ) from error


def _require_stored(archive: zipfile.ZipFile) -> None:
    """ValueError for a member that is compressed, or that has not the bytes for the values that it states."""
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


def _packed(predictions: Predictions) -> dict[str, npt.NDArray[Any]]:
    starts = np.flatnonzero(np.diff(predictions.image_ids, prepend=np.iinfo(np.int64).min))
    boxes = _boxes_in_units(predictions)
    scores = _in_units(predictions.scores, SCORE_DECIMALS)
    return {
        "image_ids": predictions.image_ids[starts],
        "counts": np.diff(starts, append=len(predictions)),
        "category_ids": _narrowed(predictions.category_ids),
        **({"boxes_xyxy": predictions.boxes_xyxy} if boxes is None else {"boxes_xywh": boxes}),
        "scores": predictions.scores if scores is None else scores,
    }


def _unpacked(arrays: dict[str, npt.NDArray[Any]]) -> Predictions:
    _require_detections(arrays)
    image_ids = np.repeat(arrays["image_ids"].astype(np.int64), arrays["counts"])
    category_ids = arrays["category_ids"].astype(np.int64)
    scores = _in_full(arrays["scores"], SCORE_DECIMALS)
    if "boxes_xyxy" in arrays:
        return Predictions(image_ids, arrays["boxes_xyxy"].astype(np.float64), scores, category_ids)
    return from_columns(image_ids, category_ids, _in_full(arrays["boxes_xywh"], BOX_DECIMALS), scores)


def _require_detections(arrays: dict[str, npt.NDArray[Any]]) -> None:
    """ValueError unless there are ids, boxes and scores of as many detections as the counts say."""
    count, integers = len(arrays["scores"]), ("image_ids", "counts", "category_ids")
    shapes = {name: each.shape for name, each in arrays.items()}
    boxes = [shape for name, shape in shapes.items() if name.startswith("boxes")]
    if [shapes["scores"], shapes["category_ids"], *boxes] != [(count,), (count,), (count, 4)]:
        raise ValueError("its arrays are not of one length")
    if any(arrays[name].dtype.kind not in "iu" for name in integers):
        raise ValueError("its ids are no whole numbers")
    if any(arrays[name].dtype not in (np.int32, np.float64) for name in arrays if name not in integers):
        raise ValueError("its boxes or scores are of another type than is written")
    counts = arrays["counts"]
    if shapes["image_ids"] != shapes["counts"] or counts.ndim != 1 or (counts < 0).any():
        raise ValueError("its images have no counts")
    if sum(counts.tolist()) != count:  # of any size, where numpy's sum would overflow
        raise ValueError(f"its counts are not of {count} detections")


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
    return stored / 10**decimals if stored.dtype == np.int32 else stored.astype(np.float64)


def _narrowed(ids: Integers) -> npt.NDArray[Any]:
    """The ids in the shortest whole numbers that hold them."""
    ends = (np.min_scalar_type(int(end)) for end in (ids.min(initial=0), ids.max(initial=0)))
    return ids.astype(np.result_type(*ends))
