"""Annotation files in COCO's format: read, every value checked, and filled in what follows from the rest."""

from __future__ import annotations

import gc
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from yolov9bench.errors import DatasetError

# What each entry needs to be read and scored; https://cocodataset.org/#format-data
REQUIRED_KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
    "categories": ("id", "name"),
}
SINGULAR = {"images": "image", "categories": "category", "annotations": "annotation"}
SHOWN_CHARACTERS = 60  # of a value in an error
LARGEST_ID = 2**63 - 1  # of an image or a category; the evaluators take no larger and no negative one
CROWD_FLAGS = {0: 0, 1: 1, "0": 0, "1": 1}  # False and True are equal to 0 and 1

logger = logging.getLogger("yolov9bench")


class Fault(NamedTuple):
    """Something with which a file is refused: what kind it is, and a sentence on the one entry."""

    what: str
    sentence: str


def read_annotations(file: Path) -> dict[str, Any]:
    """The file's lists, each entry with its keys, each number once, no reference to nothing; its info.

    What an annotation lacks and what follows from the rest is filled in, with one notice that counts: `area`
    is width x height, `iscrowd` is 0, `id` the next free number. A category without annotations that is all
    others' supercategory, as annotation tools write it, is left out with a notice.
    DatasetError names the file, the first entry that cannot be used, its field and value.
    """
    content = load_json(file)
    filled = fill_in(content)
    fault = next(find_faults(file, content), None)
    if fault is not None:
        raise DatasetError(fault.sentence)
    for notice in (*filled, *unify_crowd_flags(content["annotations"]), *drop_root_category(content)):
        logger.warning("%s: %s", file.name, notice)
    info = content.get("info")
    return {kind: content[kind] for kind in REQUIRED_KEYS} | {"info": info if isinstance(info, dict) else {}}


def load_json(file: Path) -> Any:
    """What a JSON file holds, a byte-order mark left aside; DatasetError for anything else."""
    try:
        with _without_collection():
            return json.loads(file.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} is not UTF-8 ({error.reason}): save it in that encoding.") from error
    except OSError as error:
        raise DatasetError(f"{file} cannot be read ({error.strerror}): check its rights.") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{file} is not JSON ({error}): put COCO's annotation file in its place."
        ) from error


@contextmanager
def _without_collection() -> Iterator[None]:
    """Without garbage collection, which takes half the time while millions of entries are made."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


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


def find_faults(file: Path, content: Any) -> Iterator[Fault]:
    """Everything with which a file is refused, entry by entry; what cannot be looked at for it is passed."""
    for kind in REQUIRED_KEYS:
        if not isinstance(content, dict) or not _is_list(content.get(kind)):
            said = f"{file} is not in COCO's format, no list {kind!r}: convert the data set first."
            yield Fault(f"no list {kind!r}", said)
            return
    for kind, keys in REQUIRED_KEYS.items():
        yield from _find_missing_keys(file, kind, content[kind], keys)
        yield from _find_repeated(file, kind, "id", int, content[kind])
    yield from _find_repeated(file, "categories", "name", str, content["categories"])
    if not content["images"]:
        yield Fault("no image", f"{file} lists no image: choose a split that has some.")
    yield from _find_values(file, content)
    yield from _find_strays(file, "image_id", content["annotations"], content["images"])
    yield from _find_strays(file, "category_id", content["annotations"], content["categories"])
    for entry in content["annotations"]:
        if isinstance(entry, dict) and "iscrowd" in entry and crowd_flag(entry["iscrowd"]) is None:
            shown = f"iscrowd {_shown(entry['iscrowd'])}"
            said = f"{file} has annotation {_id_of(entry)} with {shown}: make it 0 or 1."
            yield Fault("iscrowd of an annotation is neither 0 nor 1", said)


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
            said = f"{file} has the {key} {_shown(value)} in {kind!r}: it must be {form.__name__}."
            yield Fault(f"{key} of {SINGULAR[kind]} is not {form.__name__}", said)
        elif value in seen:
            said = f"{file} has the {key} {_shown(value)} twice in {kind!r}: make them differ."
            yield Fault(f"{key} of {SINGULAR[kind]} is there twice", said)
        else:
            seen.add(value)


def _find_values(file: Path, content: Mapping[str, Sequence[Any]]) -> Iterator[Fault]:
    """Values with which nothing can be read, drawn or scored."""
    checks: tuple[tuple[str, str, Callable[[Any], bool], str], ...] = (
        ("images", "id", _is_usable_id, f"a whole number from 0 to {LARGEST_ID}"),
        ("images", "file_name", _is_file_name, "the name of a file"),
        ("images", "width", _is_side, "a whole number of pixels from 1 up"),
        ("images", "height", _is_side, "a whole number of pixels from 1 up"),
        ("categories", "id", _is_usable_id, f"a whole number from 0 to {LARGEST_ID}"),
        ("annotations", "bbox", is_box, "four finite numbers: x, y, width, height"),
        ("annotations", "area", is_number, "a finite number of square pixels"),
    )
    for kind, key, is_right, wanted in checks:
        for entry in content[kind]:
            if isinstance(entry, dict) and key in entry and not is_right(entry[key]):
                shown = f"{SINGULAR[kind]} {_id_of(entry)} with {key} {_shown(entry[key])}"
                said = f"{file} has {shown}: make it {wanted}."
                yield Fault(f"{key} of {SINGULAR[kind]} is not {wanted}", said)


def _find_strays(file: Path, key: str, annotations: Sequence[Any], targets: Sequence[Any]) -> Iterator[Fault]:
    known = {target["id"] for target in targets if isinstance(target, dict) and type(target.get("id")) is int}
    for entry in annotations:
        if isinstance(entry, dict) and key in entry and not (type(entry[key]) is int and entry[key] in known):
            said = (
                f"{file} has annotation {_id_of(entry)} with {key} {_shown(entry[key])}, which it lacks: "
                "remove the annotation or add what it refers to."
            )
            yield Fault(f"{key} of annotation refers to nothing", said)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_usable_id(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST_ID


def _is_file_name(value: Any) -> bool:
    return type(value) is str and value != "" and "\0" not in value


def _is_side(value: Any) -> bool:
    return type(value) is int and value > 0


def is_number(value: Any) -> bool:
    """Whether a value is finite for anything that reads it: no integer beyond the range of a float."""
    return (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) < 2**63)


def is_box(value: Any) -> bool:
    """Whether a value is a list of four finite numbers."""
    return type(value) is list and len(value) == 4 and all(map(is_number, value))


def _id_of(entry: Mapping[str, Any]) -> str:
    return _shown(entry.get("id"))


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
    """Leave out a category that nothing is annotated with and all others have as supercategory; a notice."""
    categories = content["categories"]
    used = {entry["category_id"] for entry in content["annotations"]}
    for root in categories:
        others = {each.get("supercategory") for each in categories if each is not root}
        if len(categories) > 1 and others == {root["name"]} and root["id"] not in used:
            content["categories"] = [each for each in categories if each is not root]
            return [f"the category {_shown(root['name'])}, which only groups the others, is left out"]
    return []
