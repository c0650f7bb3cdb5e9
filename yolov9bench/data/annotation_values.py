"""Values of an annotation file in COCO's format with which nothing can be read, drawn, scored or learned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from yolov9bench.errors import shown_value

# What each entry needs to be read and scored; https://cocodataset.org/#format-data
REQUIRED_KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
    "categories": ("id", "name"),
}
SINGULAR = {"images": "image", "categories": "category", "annotations": "annotation"}
LARGEST_SIDE = 2**20  # pixels of an image; OpenCV decodes no larger one
LARGEST_ID = 2**63 - 1  # of an image or a category; the evaluators take no larger and no negative one
NUMBERS = frozenset((int, float))  # a bool is an int by inheritance alone
WITHOUT_PARENT = (None, "", "none")  # how tools write that a category has no supercategory
CROWD_FLAGS = {0: 0, 1: 1, "0": 0, "1": 1}  # False and True are equal to 0 and 1


class Fault(NamedTuple):
    """Something with which a file is refused: what kind it is, and a sentence on the one entry."""

    what: str
    sentence: str


def find_faults(file: Path, content: Any) -> Iterator[Fault]:
    """Everything with which a file is refused, entry by entry; what cannot be looked at for it is passed."""
    for kind in REQUIRED_KEYS:
        if not isinstance(content, dict) or not isinstance(content.get(kind), list):
            said = f"{file} is not in COCO's format, no list {kind!r}: convert the data set first."
            yield Fault(f"no list {kind!r}", said)
            return
    for kind, keys in REQUIRED_KEYS.items():
        yield from _find_missing_keys(file, kind, content[kind], keys)
        yield from _find_repeated(file, kind, "id", int, content[kind])
    root = find_root_category(content)  # whose name may be that of the only other one
    named = [entry for entry in content["categories"] if entry is not root]
    yield from _find_repeated(file, "categories", "name", str, named)
    if not content["images"]:
        yield Fault("no image", f"{file} lists no image: choose a split that has some.")
    yield from _find_values(file, content)
    yield from _find_strays(file, "image_id", content["annotations"], content["images"])
    yield from _find_strays(file, "category_id", content["annotations"], content["categories"])
    for entry in content["annotations"]:
        if isinstance(entry, dict) and "iscrowd" in entry and crowd_flag(entry["iscrowd"]) is None:
            faulty = f"annotation {_id_of(entry)} with iscrowd {shown_value(entry['iscrowd'])}"
            said = f"{file} has {faulty}: make it 0 or 1."
            yield Fault("iscrowd of an annotation is neither 0 nor 1", said)


def find_root_category(content: Mapping[str, Sequence[Any]]) -> dict[str, Any] | None:
    """The category that only groups all others, as annotation tools write one; None if there is none.

    It is the supercategory of every other one, has none itself, and nothing is annotated with it.
    """
    categories = [entry for entry in content["categories"] if isinstance(entry, dict)]
    for root in categories:
        others = [entry for entry in categories if entry is not root]
        if others and {"id", "name"} <= root.keys() and root.get("supercategory") in WITHOUT_PARENT:
            grouped = all(entry.get("supercategory", others) == root["name"] for entry in others)
            if grouped and not _is_annotated(root["id"], content["annotations"]):
                return root
    return None


def _is_annotated(category: Any, annotations: Sequence[Any]) -> bool:
    return any(isinstance(entry, dict) and entry.get("category_id") == category for entry in annotations)


def _find_missing_keys(file: Path, kind: str, entries: Sequence[Any], keys: Sequence[str]) -> Iterator[Fault]:
    for position, entry in enumerate(entries):
        for key in keys:
            if not isinstance(entry, dict) or key not in entry:
                said = f"{file} lacks {key!r} in entry {position} of {kind!r}: add it to the file."
                yield Fault(f"{SINGULAR[kind]} without {key}", said)
                break


def _find_repeated(file: Path, kind: str, key: str, form: type, entries: Sequence[Any]) -> Iterator[Fault]:
    seen = set()
    for entry in entries:
        if not isinstance(entry, dict) or key not in entry:
            continue
        value = entry[key]
        if type(value) is not form:  # a bool is an int by inheritance alone
            said = f"{file} has the {key} {shown_value(value)} in {kind!r}: it must be {form.__name__}."
            yield Fault(f"{key} of {SINGULAR[kind]} is not {form.__name__}", said)
        elif value in seen:
            said = f"{file} has the {key} {shown_value(value)} twice in {kind!r}: make them differ."
            yield Fault(f"{key} of {SINGULAR[kind]} is there twice", said)
        else:
            seen.add(value)


def _find_values(file: Path, content: Mapping[str, Sequence[Any]]) -> Iterator[Fault]:
    """Values with which nothing can be read, drawn or scored."""
    for kind, key, is_right, wanted in VALUE_CHECKS:
        for entry in content[kind]:
            if isinstance(entry, dict) and key in entry and not is_right(entry[key]):
                faulty = f"{SINGULAR[kind]} {_id_of(entry)} with {key} {shown_value(entry[key])}"
                said = f"{file} has {faulty}: make it {wanted}."
                yield Fault(f"{key} of {SINGULAR[kind]} is not {wanted}", said)


def _find_strays(file: Path, key: str, annotations: Sequence[Any], targets: Sequence[Any]) -> Iterator[Fault]:
    known = {target["id"] for target in targets if isinstance(target, dict) and type(target.get("id")) is int}
    for entry in annotations:
        if isinstance(entry, dict) and key in entry and not (type(entry[key]) is int and entry[key] in known):
            stray = f"annotation {_id_of(entry)} with {key} {shown_value(entry[key])}"
            said = f"{file} has {stray}, which it lacks: remove the annotation or add what it refers to."
            yield Fault(f"{key} of annotation refers to nothing", said)


def _is_usable_id(value: Any) -> bool:
    return type(value) is not int or 0 <= value <= LARGEST_ID  # of another type: told by `_find_repeated`


def _is_text(value: Any) -> bool:
    """Whether a text can be written; JSON may hold half of a surrogate pair, which cannot."""
    if type(value) is not str:
        return True  # told by `_find_repeated`
    try:
        return value.isascii() or bool(value.encode())
    except UnicodeEncodeError:
        return False


def plain_text(value: Any) -> str:
    """A text that can be written; empty for anything else, where nothing depends on it."""
    return value if type(value) is str and _is_text(value) else ""


def _is_file_name(value: Any) -> bool:
    return type(value) is str and value != "" and "\0" not in value and _is_text(value)


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= LARGEST_SIDE


def is_number(value: Any) -> bool:
    """Whether a value is finite for anything that reads it: no integer beyond the range of a float."""
    return (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) < 2**63)


def are_numbers(values: Sequence[Any]) -> bool:
    """Whether all are numbers as `is_number` has it; taken together, because a file has millions."""
    if not NUMBERS.issuperset(map(type, values)):
        return False
    try:
        return sum(map(abs, values)) < 2**63 or all(map(is_number, values))
    except OverflowError:  # an integer beyond the range of a float
        return False


def is_box(value: Any) -> bool:
    """Whether a value is a list of four finite numbers."""
    return type(value) is list and len(value) == 4 and are_numbers(value)


def _is_mask(value: Any) -> bool:
    """Polygons, a run-length mask, or null, which stands for no mask."""
    if type(value) is list:
        return all(type(part) is list and are_numbers(part) for part in value)
    return value is None or (type(value) is dict and _is_run_length(value))


def _is_run_length(mask: Mapping[str, Any]) -> bool:
    size, counts = mask.get("size"), mask.get("counts")
    if type(size) is not list or len(size) != 2 or not all(map(_is_side, size)):
        return False
    if type(counts) is str:  # compressed: six bits a character, from "0" on
        return counts != "" and all("0" <= character <= "o" for character in counts)
    if type(counts) is not list or not all(type(count) is int and count >= 0 for count in counts):
        return False
    return bool(sum(counts) == size[0] * size[1])


def _id_of(entry: Mapping[str, Any]) -> str:
    return shown_value(entry.get("id"))


def crowd_flag(value: Any) -> int | None:
    """`iscrowd` as the number 0 or 1, also from "0", "1", false and true; None for anything else."""
    try:
        return CROWD_FLAGS.get(value)
    except TypeError:  # a list or a dictionary
        return None


VALUE_CHECKS: tuple[tuple[str, str, Callable[[Any], bool], str], ...] = (
    ("images", "id", _is_usable_id, f"a whole number from 0 to {LARGEST_ID}"),
    ("images", "file_name", _is_file_name, "the name of a file"),
    ("images", "width", _is_side, f"a whole number of pixels from 1 up, at most {LARGEST_SIDE}"),
    ("images", "height", _is_side, f"a whole number of pixels from 1 up, at most {LARGEST_SIDE}"),
    ("categories", "id", _is_usable_id, f"a whole number from 0 to {LARGEST_ID}"),
    ("categories", "name", _is_text, "text that can be written as UTF-8"),
    ("annotations", "bbox", is_box, "four finite numbers: x, y, width, height"),
    ("annotations", "area", is_number, "a finite number of square pixels"),
    (
        "annotations",
        "segmentation",
        _is_mask,
        "lists of finite numbers x, y, x, y, ..., or a run-length mask whose counts add up to its size",
    ),
)
