"""Annotation files in COCO's format: read, every value checked, and filled in what follows from the rest."""

from __future__ import annotations

import json
import logging
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolov9bench.data.annotation_values import (
    REQUIRED_KEYS,
    crowd_flag,
    find_faults,
    find_root_category,
    is_box,
)
from yolov9bench.errors import DatasetError, shown_value
from yolov9bench.io.collection import without_collection

logger = logging.getLogger("yolov9bench")


def read_annotations(file: Path) -> dict[str, Any]:
    """The file's lists, each entry with its keys, each number once and known; its info and licences.

    What an annotation lacks and what follows from the rest is filled in, with one notice that counts: `area`
    is width x height, `iscrowd` is 0, `id` the next free number. A category without annotations that is all
    others' supercategory, as annotation tools write it, is left out with a notice.
    DatasetError names the file, the first entry that cannot be used, its field and value.
    """
    content = load_json(file)
    filled = [*find_byte_order_mark(file), *fill_in(content)]
    fault = next(find_faults(file, content), None)
    if fault is not None:
        raise DatasetError(fault.sentence)
    annotations = content["annotations"]
    changed = (*unify_crowd_flags(annotations), *find_null_masks(annotations), *drop_root_category(content))
    for notice in (*filled, *changed):
        logger.warning("%s: %s", file.name, notice)
    info, licences = content.get("info"), content.get("licenses")
    return {kind: content[kind] for kind in REQUIRED_KEYS} | {
        "info": info if isinstance(info, dict) else {},
        "licenses": licences if isinstance(licences, list) else [],
    }


def load_json(file: Path) -> Any:
    """What a JSON file holds, a byte-order mark left aside; DatasetError for anything else."""
    try:
        with without_collection():
            return json.loads(file.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} is not UTF-8 ({error.reason}): save it in that encoding.") from error
    except OSError as error:
        raise DatasetError(f"{file} cannot be read ({error.strerror}): give a file that can.") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{file} is not JSON ({error}): put COCO's annotation file in its place."
        ) from error


def find_byte_order_mark(file: Path) -> list[str]:
    """A notice on the mark with which some editors begin a file."""
    with file.open("rb") as opened:
        marked = opened.read(len(BOM_UTF8)) == BOM_UTF8
    return ["a byte order mark is passed over"] if marked else []


def fill_in(content: Any) -> list[str]:
    """Give annotations what follows from the rest of them, in place; a notice that counts, if anything."""
    annotations = content.get("annotations") if isinstance(content, dict) else None
    entries = [each for each in annotations if isinstance(each, dict)] if type(annotations) is list else []
    counts: Counter[str] = Counter()
    numbers = [entry["id"] for entry in entries if type(entry.get("id")) is int]
    following = iter(range(max(numbers, default=0) + 1, max(numbers, default=0) + 1 + len(entries)))
    for entry in entries:
        if "id" not in entry:
            entry["id"] = next(following)
            counts["id"] += 1
        if "area" not in entry and is_box(entry.get("bbox")):
            entry["area"] = max(entry["bbox"][2], 0) * max(entry["bbox"][3], 0)
            counts["area"] += 1
        if "iscrowd" not in entry:
            entry["iscrowd"] = 0
            counts["iscrowd"] += 1
    if not counts:
        return []
    taken = {"id": "the next number", "area": "width x height", "iscrowd": "0"}
    said = ", ".join(f"{key} of {count:,} is {taken[key]}" for key, count in counts.items())
    return [f"what annotations lack is filled in: {said}"]


def unify_crowd_flags(annotations: Sequence[dict[str, Any]]) -> list[str]:
    """Give every annotation the number 0 or 1 for `iscrowd`, in place; a notice that counts, if any."""
    others = [entry for entry in annotations if type(entry["iscrowd"]) is not int]
    if not others:
        return []
    first = others[0]["iscrowd"]
    for entry in others:
        entry["iscrowd"] = crowd_flag(entry["iscrowd"])
    return [f"iscrowd of {len(others):,} annotations as {first!r} or the like is read as the number 0 or 1"]


def drop_root_category(content: dict[str, Any]) -> list[str]:
    """Leave out the category that only groups all others, if there is one; a notice."""
    root = find_root_category(content)
    if root is None:
        return []
    content["categories"] = [entry for entry in content["categories"] if entry is not root]
    return [f"the category {shown_value(root['name'])}, which only groups the others, is left out"]


def find_null_masks(annotations: Sequence[dict[str, Any]]) -> list[str]:
    """A notice that counts annotations whose segmentation is null, if there are any."""
    count = sum("segmentation" in entry and entry["segmentation"] is None for entry in annotations)
    return [f"segmentation of {count:,} annotations is null, which is read as no mask"] if count else []
