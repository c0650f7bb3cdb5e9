"""Annotation files in COCO's format: read, and every value checked with which nothing could be scored."""

import json
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from yolov9bench.errors import DatasetError

# What each entry needs to be read and scored; https://cocodataset.org/#format-data
REQUIRED_KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
    "categories": ("id", "name"),
}
SHOWN_CHARACTERS = 60  # of a value in an error
LARGEST_ID = 2**63 - 1  # of an image or a category; the evaluators take no larger and no negative one
CROWD_FLAGS = {0: 0, 1: 1, "0": 0, "1": 1}  # False and True are equal to 0 and 1

logger = logging.getLogger("yolov9bench")


def annotation_path(root: Path, split: str) -> Path:
    """Where the boxes of a split are written."""
    return root / "annotations" / f"instances_{split}.json"


def find_annotations(root: Path, split: str) -> Path:
    """The annotation file of a split; DatasetError where the folder or the file is missing."""
    if not root.is_dir():
        raise DatasetError(f"There is no data set folder {root}: give one with annotations/ and {split}/.")
    file = annotation_path(root, split)
    if not file.is_file():
        there = sorted(other.name for other in file.parent.glob("instances_*.json"))
        raise DatasetError(
            f"There is no {file} (found beside it: {', '.join(there) or 'no instances_*.json'}): "
            "choose another split or put the file there."
        )
    return file


def read_annotations(file: Path) -> dict[str, Any]:
    """The file's lists, each entry with its keys, each number once, no reference to nothing; its info."""
    content: Any
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(
            f"{file} is not JSON ({error}): put COCO's annotation file in its place."
        ) from error
    for kind, keys in REQUIRED_KEYS.items():
        if not isinstance(content, dict) or not isinstance(content.get(kind), list):
            raise DatasetError(
                f"{file} is not in COCO's format, no list {kind!r}: convert the data set first."
            )
        _require_keys(file, kind, content[kind], keys)
        _require_unique(file, kind, "id", int, content[kind])
    _require_unique(file, "categories", "name", str, content["categories"])
    if not content["images"]:
        raise DatasetError(f"{file} lists no image: choose a split that has some.")
    _require_values(file, content)
    _require_known(file, "image_id", content["annotations"], content["images"])
    _require_known(file, "category_id", content["annotations"], content["categories"])
    _read_crowd_flags(file, content["annotations"])
    info = content.get("info")
    return {kind: content[kind] for kind in REQUIRED_KEYS} | {"info": info if isinstance(info, dict) else {}}


def _require_keys(file: Path, kind: str, entries: Iterable[Any], keys: Sequence[str]) -> None:
    for position, entry in enumerate(entries):
        lacking = [key for key in keys if not isinstance(entry, dict) or key not in entry]
        if lacking:
            raise DatasetError(
                f"{file} lacks {lacking[0]!r} in entry {position} of {kind!r}: add it to the file."
            )


def _require_unique(file: Path, kind: str, key: str, form: type, entries: Iterable[dict[str, Any]]) -> None:
    seen = set()
    for entry in entries:
        if type(entry[key]) is not form:  # a bool is an int by inheritance alone
            raise DatasetError(
                f"{file} has the {key} {_shown(entry[key])} in {kind!r}: it must be {form.__name__}."
            )
        if entry[key] in seen:
            raise DatasetError(f"{file} has the {key} {entry[key]!r} twice in {kind!r}: make them differ.")
        seen.add(entry[key])


def _require_values(file: Path, content: dict[str, list[dict[str, Any]]]) -> None:
    """Refuse the first value with which nothing can be read, drawn or scored."""
    checks: tuple[tuple[str, str, Callable[[Any], bool], str], ...] = (
        ("images", "id", _is_usable_id, f"a whole number from 0 to {LARGEST_ID}"),
        ("images", "file_name", _is_file_name, "the name of a file"),
        ("images", "width", _is_side, "a whole number of pixels from 1 up"),
        ("images", "height", _is_side, "a whole number of pixels from 1 up"),
        ("categories", "id", _is_usable_id, f"a whole number from 0 to {LARGEST_ID}"),
        ("annotations", "bbox", _is_box, "four finite numbers: x, y, width, height"),
        ("annotations", "area", _is_number, "a finite number of square pixels"),
    )
    singular = {"images": "image", "categories": "category", "annotations": "annotation"}
    for kind, key, is_right, wanted in checks:
        for entry in content[kind]:
            if not is_right(entry[key]):
                raise DatasetError(
                    f"{file} has {singular[kind]} {entry['id']} with {key} {_shown(entry[key])}: "
                    f"make it {wanted}."
                )


def _is_usable_id(value: int) -> bool:
    return 0 <= value <= LARGEST_ID


def _is_file_name(value: Any) -> bool:
    return type(value) is str and value != ""


def _is_side(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_number(value: Any) -> bool:
    # An integer beyond the range of a float is not finite for anything that reads it.
    return (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) < 2**63)


def _is_box(value: Any) -> bool:
    return type(value) is list and len(value) == 4 and all(map(_is_number, value))


def _shown(value: Any) -> str:
    """A value on one line, and not all of a long one."""
    text = " ".join(repr(value).split())
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def crowd_flag(value: Any) -> int | None:
    """`iscrowd` as the number 0 or 1, also from "0", "1", false and true; None for anything else."""
    try:
        return CROWD_FLAGS.get(value)
    except TypeError:  # a list or a dictionary
        return None


def _read_crowd_flags(file: Path, annotations: Iterable[dict[str, Any]]) -> None:
    """Give every annotation the number 0 or 1 for `iscrowd`, in place."""
    converted, first = 0, None
    for entry in annotations:
        given = entry["iscrowd"]
        flag = crowd_flag(given)
        if flag is None:
            raise DatasetError(
                f"{file} has annotation {entry['id']} with iscrowd {_shown(given)}: make it 0 or 1."
            )
        if type(given) is not int:
            converted, first = converted + 1, given if first is None else first
            entry["iscrowd"] = flag
    if converted:
        logger.warning(
            "%s writes iscrowd of %d annotations as %r or the like: read as the number 0 or 1",
            file.name,
            converted,
            first,
        )


def _require_known(
    file: Path, key: str, annotations: Iterable[dict[str, Any]], targets: Iterable[dict[str, Any]]
) -> None:
    known = {target["id"] for target in targets}
    for annotation in annotations:
        if type(annotation[key]) is not int or annotation[key] not in known:
            raise DatasetError(
                f"{file} has annotation {annotation['id']} with {key} {_shown(annotation[key])}, which it "
                "lacks: "
                "remove the annotation or add what it refers to."
            )
