"""Data sets in COCO's format: boxes in annotations/instances_<split>.json, images in <split>/."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from yolov9bench.errors import DatasetError
from yolov9bench.io.files import sha256_of

# What each entry needs to be read and scored; https://cocodataset.org/#format-data
REQUIRED_KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
    "categories": ("id", "name"),
}
SHOWN_NAMES = 5  # of a long list in an error
SHOWN_CHARACTERS = 60  # of a value in an error
LARGEST_ID = 2**63 - 1  # of an image or a category; the evaluators take no larger and no negative one
CROWD_FLAGS = {0: 0, 1: 1, "0": 0, "1": 1}  # False and True are equal to 0 and 1

logger = logging.getLogger("yolov9bench")


@dataclass(frozen=True)
class CocoImage:
    """One image as the annotation file describes it; width and height in pixels."""

    id: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True)
class CocoDataset:
    """The images in use, in ascending id, with the annotations on them and all categories in ascending id.

    `description` is what the file says of itself, often nothing. `annotations` are COCO's own dictionaries in
    the file's order, crowds and their masks included; boxes are [x, y, width, height] in pixels, all numbers
    are finite, and `iscrowd` is the number 0 or 1.
    `annotations_sha256` is the hash of the whole annotation file, `image_list_sha256` that of one line
    "id file_name" per image in use, joined by newlines.
    """

    root: Path
    split: str
    images: tuple[CocoImage, ...]
    annotations: list[dict[str, Any]]
    categories: tuple[tuple[int, str], ...]
    annotations_sha256: str
    image_list_sha256: str
    description: str = ""

    @property
    def folder(self) -> Path:
        """Where the images lie."""
        return self.root / self.split

    @property
    def names(self) -> tuple[str, ...]:
        """The categories' names in ascending category id."""
        return tuple(name for _, name in self.categories)

    def image_path(self, image: CocoImage) -> Path:
        """Where one image lies."""
        return self.folder / image.file_name

    def restricted(self, images: Sequence[CocoImage]) -> "CocoDataset":
        """The same data set with only these of its images, in their order, and what is annotated on them."""
        used = {image.id for image in images}
        return replace(
            self,
            images=tuple(images),
            annotations=[entry for entry in self.annotations if entry["image_id"] in used],
            image_list_sha256=_image_list_sha256(images),
        )

    def ground_truth(self) -> dict[str, Any]:
        """The images in use as a COCO dictionary of their own, as a metric reads it."""
        return {
            "info": {},
            "licenses": [],
            "images": [asdict(image) for image in self.images],
            "annotations": self.annotations,
            "categories": [{"id": number, "name": name} for number, name in self.categories],
        }


def annotation_path(root: Path, split: str) -> Path:
    """Where the boxes of a split are written."""
    return root / "annotations" / f"instances_{split}.json"


def read_coco(root: Path, split: str = "val2017", limit: int | None = None) -> CocoDataset:
    """Read a COCO-format folder, with `limit` only its first images in ascending id.

    An `iscrowd` that is written as a text or a truth value is taken, with one warning that counts them.
    DatasetError: a missing folder, file or image, another format, a value of another type or not finite, a
    number that is used twice or refers to nothing, or a limit below 1.
    """
    if limit is not None and limit < 1:
        raise DatasetError(f"limit is {limit}: give a number of images from 1 up, or none for all.")
    file = _annotation_file(root, split)
    content = _content(file)
    entries = sorted(content["images"], key=lambda entry: entry["id"])[:limit]
    images = tuple(CocoImage(*(entry[key] for key in REQUIRED_KEYS["images"])) for entry in entries)
    used = {image.id for image in images}
    dataset = CocoDataset(
        root=root,
        split=split,
        images=images,
        annotations=[entry for entry in content["annotations"] if entry["image_id"] in used],
        categories=tuple(sorted((entry["id"], entry["name"]) for entry in content["categories"])),
        annotations_sha256=sha256_of(file),
        image_list_sha256=_image_list_sha256(images),
        description=str(content["info"].get("description", "")),
    )
    _require_images(dataset)
    return dataset


def label_categories(dataset: CocoDataset, names: dict[int, str] | None, num_classes: int) -> tuple[int, ...]:
    """The category id of each detector label 0..num_classes-1.

    With `names` (label -> name) each name must have its category and each category its name: exactly, else
    without regard to case and outer blanks. Without names the count must agree, and labels follow ascending
    category id. DatasetError when detector and data set do not fit.
    """
    if names is None:
        if num_classes != len(dataset.categories):
            raise DatasetError(
                f"The detector has {num_classes} unnamed classes and {dataset.root} has "
                f"{len(dataset.categories)} categories: use a data set with the detector's classes."
            )
        return tuple(number for number, _ in dataset.categories)
    if sorted(names) != list(range(num_classes)):
        raise DatasetError(
            f"The detector names {len(names)} of its {num_classes} classes: name each from 0 up."
        )
    exact = {name: number for number, name in dataset.categories}
    folded = {_folded(name): number for number, name in dataset.categories}
    found = [exact.get(names[label], folded.get(_folded(names[label]))) for label in range(num_classes)]
    unknown = [names[label] for label, number in enumerate(found) if number is None]
    missing = [name for number, name in dataset.categories if number not in found]
    categories = tuple(number for number in found if number is not None)
    if unknown or missing or len(set(categories)) < num_classes:
        raise DatasetError(_misfit(dataset, num_classes, unknown, missing))
    return categories


def _misfit(dataset: CocoDataset, num_classes: int, unknown: Sequence[str], missing: Sequence[str]) -> str:
    lacks = [f"the data set lacks {_listed(unknown)}"] if unknown else []
    lacks += [f"the detector lacks {_listed(missing)}"] if missing else []
    reason = " and ".join(lacks) or "two classes have one name"
    return (
        f"The detector's {num_classes} classes are not the {len(dataset.categories)} categories of "
        f"{dataset.root} ({reason}): use a data set with the detector's classes."
    )


def _folded(name: str) -> str:
    return name.strip().casefold()


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:SHOWN_NAMES])
    return shown + (f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else "")


def _annotation_file(root: Path, split: str) -> Path:
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


def _content(file: Path) -> dict[str, Any]:
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


def _image_list_sha256(images: Iterable[CocoImage]) -> str:
    return hashlib.sha256("\n".join(f"{image.id} {image.file_name}" for image in images).encode()).hexdigest()


def _require_images(dataset: CocoDataset) -> None:
    missing = [image.file_name for image in dataset.images if not dataset.image_path(image).is_file()]
    if missing:
        raise DatasetError(
            f"{dataset.folder} lacks {len(missing)} of {len(dataset.images)} images, first {missing[0]}: "
            "put them there."
        )
