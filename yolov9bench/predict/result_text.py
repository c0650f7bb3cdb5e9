"""The text of a COCO result file from arrays, byte for byte what `json.dumps` writes; needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Texts = npt.NDArray[np.bytes_]  # shorter ones end in NUL, which is taken out of finished rows

BOX_DECIMALS, SCORE_DECIMALS = 3, 5
ROWS = 2**13  # of a part: its buffers stay in a processor's cache
SIDES_BELOW = 100_000  # px; rows with larger numbers are left to `json.dumps`
SCORES_BELOW = 1 + 10.0**-SCORE_DECIMALS
SIDE = np.dtype([("comma", "S1"), ("sign", "S1"), ("whole", "S5"), ("fraction", "S4")])


def format_rows(image_ids: Integers, category_ids: Integers, boxes_xywh: Floats, scores: Floats) -> bytes:
    """The objects of detections, [N] ids, [N, 4] boxes and [N] scores, a comma before each and no blanks.

    Numbers are what Python's `repr` makes of the doubles: the shortest text that gives them back. Where all
    have at most the decimals that `predictions_of` leaves them, their digits are looked up, else every row is
    written by itself.
    """
    sides = units_of(boxes_xywh, BOX_DECIMALS, SIDES_BELOW)
    points = units_of(scores, SCORE_DECIMALS, SCORES_BELOW)
    if sides is None or points is None or np.signbit(scores).any():
        return plain_rows(image_ids, category_ids, boxes_xywh, scores)
    images, categories = _id_texts(image_ids), _id_texts(category_ids)
    rows = _blank_rows(len(scores), images.dtype, categories.dtype)
    wholes = sides // 10**BOX_DECIMALS
    rows["image"], rows["category"] = images, categories
    rows["sides"]["sign"] = (np.signbit(boxes_xywh) * np.uint8(ord("-"))).view("S1")
    rows["sides"]["whole"] = _whole_texts().take(wholes)
    rows["sides"]["fraction"] = _fraction_texts().take(sides - wholes * 10**BOX_DECIMALS)
    rows["score"] = _score_texts().take(points)
    return rows.tobytes().translate(None, b"\0")


def parts_of(count: int) -> Iterator[slice]:
    """So many detections in parts of ROWS."""
    return (slice(first, first + ROWS) for first in range(0, count, ROWS))


def plain_rows(image_ids: Integers, category_ids: Integers, boxes_xywh: Floats, scores: Floats) -> bytes:
    """As `format_rows`, object by object, of numbers of any size and with any decimals."""
    rows = result_entries(image_ids, category_ids, boxes_xywh, scores)
    return "".join("," + json.dumps(row, separators=(",", ":")) for row in rows).encode()


def result_entries(
    image_ids: Integers, category_ids: Integers, boxes_xywh: Floats, scores: Floats
) -> Iterator[dict[str, Any]]:
    """The entries of a COCO result file, one detection each."""
    columns = (each.tolist() for each in (image_ids, category_ids, boxes_xywh, scores))
    for image_id, category_id, bbox, score in zip(*columns, strict=True):
        yield {"image_id": image_id, "category_id": category_id, "bbox": bbox, "score": score}


def units_of(values: Floats, decimals: int, below: float) -> npt.NDArray[np.int32] | None:
    """The sizes of values in units of their last decimal; None if one has further decimals or is too large.

    A quotient of whole numbers is the double nearest to the decimal, so that equal doubles have equal text.
    """
    sizes = np.abs(values)
    if not (sizes < below).all():  # NaN neither
        return None
    units = np.rint(sizes * 10**decimals)
    return units.astype(np.int32) if (units / 10**decimals == sizes).all() else None


def _blank_rows(count: int, image: np.dtype[Any], category: np.dtype[Any]) -> npt.NDArray[np.void]:
    """Rows [N] with all that is equal in each."""
    parts = {
        "image": (b',{"image_id":', image),
        "category": (b',"category_id":', category),
        "sides": (b',"bbox":[', np.dtype((SIDE, 4))),
        "score": (b'],"score":', _score_texts().dtype),
    }
    fields: list[tuple[str, Any]] = []
    for name, (text, kind) in parts.items():
        fields += [(f"before {name}", f"S{len(text)}"), (name, kind)]
    row = np.zeros(1, np.dtype([*fields, ("end", "S1")]))
    for name, (text, _) in parts.items():
        row[f"before {name}"] = text
    row["sides"]["comma"][0, 1:] = b","
    row["end"] = b"}"
    return np.frombuffer(bytearray(row.tobytes()) * count, row.dtype)


def _id_texts(ids: Integers) -> Texts:
    known = np.unique(ids)
    return np.array([str(each) for each in known.tolist()], np.bytes_).take(np.searchsorted(known, ids))


@cache
def _whole_texts() -> Texts:
    return np.arange(SIDES_BELOW).astype(SIDE["whole"])


@cache
def _fraction_texts() -> Texts:
    """.0, .001, .002 ... .01 ... .999"""
    return np.array([repr(each / 10**BOX_DECIMALS)[1:] for each in range(10**BOX_DECIMALS)], SIDE["fraction"])


@cache
def _score_texts() -> Texts:
    """0.0, 1e-05 ... 0.0001 ... 1.0"""
    return np.array([repr(each / 10**SCORE_DECIMALS) for each in range(10**SCORE_DECIMALS + 1)], np.bytes_)
