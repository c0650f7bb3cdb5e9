"""Data sets in COCO's format: boxes and images of a split, wherever `layouts` finds them."""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from yolov9bench.data.annotation_values import REQUIRED_KEYS, plain_text
from yolov9bench.data.annotations import read_annotations
from yolov9bench.data.credits import Credit, read_credits
from yolov9bench.data.image_files import explain_missing, find_image_files, find_roots
from yolov9bench.data.layouts import find_annotations, find_image_folder
from yolov9bench.data.suspects import find_suspect_boxes
from yolov9bench.errors import DatasetError
from yolov9bench.io.collection import without_collection
from yolov9bench.io.files import sha256_of
from yolov9bench.io.progress import counted

SHOWN_NAMES = 5  # of a long list in an error

logger = logging.getLogger("yolov9bench")


@dataclass(frozen=True)
class CocoImage:
    """One image as the annotation file describes it; width and height in pixels."""

    id: int
    file_name: str
    width: int
    height: int


@dataclass(frozen=True, repr=False)
class CocoDataset:
    """The images in use, in ascending id, with the annotations on them and all categories in ascending id.

    `description` is what the file says of itself, often nothing. `annotations` are COCO's own dictionaries in
    the file's order, crowds and their masks included; boxes are [x, y, width, height] in pixels, all numbers
    are finite, and `iscrowd` is the number 0 or 1.
    `image_folder` has the images, but for those that `moved` places elsewhere by their file name. `credits`
    has the photographers' pages and licences that the file states, by image id.
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
    image_folder: Path | None = None
    moved: Mapping[str, Path] = field(default_factory=dict)
    credits: Mapping[int, Credit] = field(default_factory=dict)

    def __repr__(self) -> str:
        parts = {"images": self.images, "annotations": self.annotations, "classes": self.categories}
        counts = ", ".join(counted(len(each), unit) for unit, each in parts.items())
        return f"<{self.split} of {self.root}: {counts}>"

    @property
    def folder(self) -> Path:
        """Where the images lie."""
        return self.root / self.split if self.image_folder is None else self.image_folder

    @property
    def names(self) -> tuple[str, ...]:
        """The categories' names in ascending category id."""
        return tuple(name for _, name in self.categories)

    @property
    def has_objects(self) -> bool:
        """Whether anything but crowds is annotated."""
        return not all(entry["iscrowd"] for entry in self.annotations)

    def image_path(self, image: CocoImage) -> Path:
        """Where one image lies."""
        return self.moved.get(image.file_name, self.folder / image.file_name)

    def restricted(self, images: Sequence[CocoImage]) -> "CocoDataset":
        """The same data set with only these of its images, in their order, and what is annotated on them."""
        used = {image.id for image in images}
        return replace(
            self,
            images=tuple(images),
            annotations=[entry for entry in self.annotations if entry["image_id"] in used],
            image_list_sha256=image_list_sha256_of((image.id, image.file_name) for image in images),
        )

    def ground_truth(self) -> dict[str, Any]:
        """The images in use as a COCO dictionary of their own, as a metric reads it."""
        return {
            "info": {},
            "licenses": [],
            "images": [dict(vars(image)) for image in self.images],
            "annotations": self.annotations,
            "categories": [{"id": number, "name": name} for number, name in self.categories],
        }


def read_coco(
    root: Path,
    split: str = "val2017",
    limit: int | None = None,
    annotations: Path | None = None,
    images_in: Path | None = None,
) -> CocoDataset:
    """Read a COCO-format folder, with `limit` only its first images in ascending id.

    annotations, images_in: the file of boxes and the folder of images, where `layouts` would not find them.
    What is filled in, read in another spelling or suspect is told, each in one warning that counts.
    DatasetError: a missing folder, file or image, another format, a value of another type or not finite, a
    number that is used twice or refers to nothing, or a limit below 1.
    """
    dataset, missing = read_lists(root, split, limit, annotations, images_in)
    if missing:
        raise DatasetError(describe_missing(dataset, missing))
    return dataset


@without_collection()
def read_lists(
    root: Path,
    split: str = "val2017",
    limit: int | None = None,
    annotations: Path | None = None,
    images_in: Path | None = None,
) -> tuple[CocoDataset, list[str]]:
    """As `read_coco`, with the names of the images that are missing instead of an error for them."""
    if limit is not None and limit < 1:
        raise DatasetError(f"limit is {limit}: give a number of images from 1 up, or none for all.")
    file, found = find_annotations(root, split) if annotations is None else (annotations, split)
    if found != split:
        logger.warning("%s: split %s is read from %s, which this folder has instead", root, split, found)
    content = read_annotations(file)
    entries = sorted(content["images"], key=lambda entry: entry["id"])[:limit]
    images = tuple(CocoImage(*(entry[key] for key in REQUIRED_KEYS["images"])) for entry in entries)
    names = [image.file_name for image in images]
    folder = find_image_folder(root, found, file, names) if images_in is None else images_in
    moved, missing = find_image_files(find_roots(root, folder), folder, names)
    sizes = {image.id: (image.width, image.height) for image in images}
    for warning in (*_describe_moved(moved), *find_suspect_boxes(content["annotations"], sizes)):
        logger.warning("%s: %s", file.name, warning)
    dataset = CocoDataset(
        root=root,
        split=found,
        images=images,
        annotations=[entry for entry in content["annotations"] if entry["image_id"] in sizes],
        categories=tuple(sorted((entry["id"], entry["name"]) for entry in content["categories"])),
        annotations_sha256=sha256_of(file),
        image_list_sha256=image_list_sha256_of((image.id, image.file_name) for image in images),
        description=plain_text(content["info"].get("description", "")),
        image_folder=folder,
        moved=moved,
        credits=read_credits(entries, content["licenses"]),
    )
    return dataset, missing


def _describe_moved(moved: Mapping[str, Path]) -> list[str]:
    if not moved:
        return []
    name, place = next(iter(moved.items()))
    return [
        f"{len(moved):,} file names are not simply below the images' folder, first {name}, read as {place}"
    ]


def describe_missing(dataset: CocoDataset, missing: Sequence[str]) -> str:
    """The sentence on images of a data set that were not found."""
    why = explain_missing(find_roots(dataset.root, dataset.folder), dataset.folder, missing[0])
    counts = f"{len(missing)} of {len(dataset.images)} images"
    return f"{dataset.folder} lacks {counts}, first {missing[0]}: {why}."


def label_categories(
    dataset: CocoDataset,
    names: Mapping[int, str] | None,
    num_classes: int,
    remedy: str = "use a data set with the detector's classes",
) -> tuple[int, ...]:
    """The category id of each detector label 0..num_classes-1.

    With `names` (label -> name) each name must have its category and each category its name: exactly, else
    without regard to case and outer blanks. Without names the count must agree, and labels follow ascending
    category id. DatasetError, with `remedy`, when detector and data set do not fit.
    """
    if names is None:
        if num_classes != len(dataset.categories):
            raise DatasetError(
                f"The detector has {num_classes} unnamed classes and {dataset.root} has "
                f"{len(dataset.categories)} categories: {remedy}."
            )
        return tuple(number for number, _ in dataset.categories)
    if sorted(names) != list(range(num_classes)):
        raise DatasetError(
            f"The detector names {len(names)} of its {num_classes} classes: name each from 0 up."
        )
    exact = {name: number for number, name in dataset.categories}
    folded = {fold_class_name(name): number for number, name in dataset.categories}
    found = [
        exact.get(names[label], folded.get(fold_class_name(names[label]))) for label in range(num_classes)
    ]
    unknown = [names[label] for label, number in enumerate(found) if number is None]
    missing = [name for number, name in dataset.categories if number not in found]
    categories = tuple(number for number in found if number is not None)
    if unknown or missing or len(set(categories)) < num_classes:
        raise DatasetError(f"{_misfit(dataset, num_classes, unknown, missing)}: {remedy}.")
    return categories


def _misfit(dataset: CocoDataset, num_classes: int, unknown: Sequence[str], missing: Sequence[str]) -> str:
    lacks = [f"the data set lacks {_listed(unknown)}"] if unknown else []
    lacks += [f"the detector lacks {_listed(missing)}"] if missing else []
    reason = " and ".join(lacks) or "two classes have one name"
    return (
        f"The detector's {num_classes} classes are not the {len(dataset.categories)} categories of "
        f"{dataset.root} ({reason})"
    )


def fold_class_name(name: str) -> str:
    """A class's name without regard to case and outer blanks."""
    return name.strip().casefold()


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:SHOWN_NAMES])
    return shown + (f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else "")


def image_list_sha256_of(names: Iterable[tuple[int, str]]) -> str:
    """The hash of one line "id file_name" an image, joined by newlines."""
    return hashlib.sha256("\n".join(f"{number} {name}" for number, name in names).encode()).hexdigest()
