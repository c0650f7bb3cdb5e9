"""Where a data set's boxes and images lie: COCO's own folders, Roboflow's, CVAT's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from yolov9bench.data.image_files import find_image_file
from yolov9bench.errors import DatasetError, exists

ROBOFLOW = "_annotations.coco.json"  # beside the images of its split
PREFIX = "instances_"
WITHOUT_SPLITS = "default"  # what CVAT calls the one split of a set that has none
SAME_SPLITS = (("val", "valid", "validation"), ("train",))  # names of one split, with 2017 or without


def annotation_path(root: Path, split: str) -> Path:
    """Where COCO has the boxes of a split."""
    return root / "annotations" / f"{PREFIX}{split}.json"


def find_annotations(root: Path, split: str) -> tuple[Path, str]:
    """The annotation file of a split and what the folder calls the split; DatasetError for none.

    It is in COCO's folder, or beside its images as Roboflow has it, where `valid` is val's name too; or
    CVAT's one file of a set without splits.
    """
    if not exists("dataset", root) or not root.is_dir():
        raise DatasetError(f"There is no data set folder {root}: give one with annotations/ and {split}/.")
    if exists("split", annotation_path(root, split)) and annotation_path(root, split).is_file():
        return annotation_path(root, split), split
    for name in _names_of(split):
        if exists("split", root / name) and (root / name / ROBOFLOW).is_file():
            return root / name / ROBOFLOW, name
    found = sorted(file for file in root.glob(f"annotations/{PREFIX}*.json") if file.is_file())
    if found == [annotation_path(root, WITHOUT_SPLITS)]:
        return found[0], WITHOUT_SPLITS
    there = [file.name for file in found]
    there += [f"{file.parent.name}/{file.name}" for file in sorted(root.glob(f"*/{ROBOFLOW}"))]
    if not there and is_yolo_text(root):
        raise DatasetError(
            f"{root} has YOLO's text labels (labels/*.txt or data.yaml), not COCO's JSON: convert them to "
            f"annotations/{PREFIX}{split}.json first, each line 'class cx cy w h' of a W x H image "
            "to an annotation with bbox [(cx - w/2) W, (cy - h/2) H, w W, h H] and its class's category_id."
        )
    raise DatasetError(
        f"There is no {annotation_path(root, split)} (found beside it: "
        f"{', '.join(there) or f'no {PREFIX}*.json'}): choose another split or put the file there."
    )


def _names_of(split: str) -> list[str]:
    """The split's own name first, then the other names of the same."""
    plain = split.removesuffix("2017")
    others = next((names for names in SAME_SPLITS if plain in names), ())
    return list(dict.fromkeys((split, *others)))


def is_yolo_text(root: Path) -> bool:
    """Whether a folder has labels as text files, or the description that goes with them."""
    described = any((root / name).is_file() for name in ("data.yaml", "data.yml", "dataset.yaml"))
    return described or any(folder.is_dir() for folder in (root / "labels", *root.glob("*/labels")))


def find_image_folder(root: Path, split: str, annotations: Path, names: Iterable[str]) -> Path:
    """The folder with a split's images: root/split, images/split, images, or that of the annotation file.

    The first one that has the first image; if none has, the first one that is there, else root/split.
    """
    places = [root / split, root / "images" / split, root / "images"]
    if annotations.name == ROBOFLOW:
        places = [annotations.parent, *places]
    first = next(iter(names), "")
    there = [place for place in places if place.is_dir()]
    holding = (place for place in there if find_image_file((root,), place, first) is not None)
    return next(holding, there[0] if there else root / split)
