"""Where a data set's boxes and images lie: COCO's own folders, Roboflow's, CVAT's; how files are named."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlparse

from yolov9bench.errors import DatasetError, exists

ROBOFLOW = "_annotations.coco.json"  # beside the images of its split
PREFIX = "instances_"


def annotation_path(root: Path, split: str) -> Path:
    """Where COCO has the boxes of a split."""
    return root / "annotations" / f"{PREFIX}{split}.json"


def find_annotations(root: Path, split: str) -> Path:
    """The annotation file of a split, in COCO's folder or beside its images; DatasetError for none."""
    if not exists("dataset", root) or not root.is_dir():
        raise DatasetError(f"There is no data set folder {root}: give one with annotations/ and {split}/.")
    for file in (annotation_path(root, split), root / split / ROBOFLOW):
        if exists("split", file) and file.is_file():
            return file
    if is_yolo_text(root):
        raise DatasetError(
            f"{root} has YOLO's text labels (labels/*.txt or data.yaml), not COCO's JSON: convert them to "
            f"annotations/{PREFIX}{split}.json first, boxes as x, y, width, height in pixels."
        )
    there = [file.name for file in sorted(root.glob(f"annotations/{PREFIX}*.json"))]
    there += [f"{file.parent.name}/{file.name}" for file in sorted(root.glob(f"*/{ROBOFLOW}"))]
    raise DatasetError(
        f"There is no {annotation_path(root, split)} (found beside it: "
        f"{', '.join(there) or f'no {PREFIX}*.json'}): choose another split or put the file there."
    )


def is_yolo_text(root: Path) -> bool:
    """Whether a folder has labels as text files, or the description that goes with them."""
    described = any((root / name).is_file() for name in ("data.yaml", "data.yml", "dataset.yaml"))
    return described or (root / "labels").is_dir()


def find_image_folder(root: Path, split: str, annotations: Path, names: Iterable[str]) -> Path:
    """The folder with a split's images: root/split, images/split, images, or that of the annotation file.

    The first one that has the first image; if none has, the first one that is there, else root/split.
    """
    places = [root / split, root / "images" / split, root / "images"]
    if annotations.name == ROBOFLOW:
        places = [annotations.parent, *places]
    first = next(iter(names), "")
    there = [place for place in places if place.is_dir()]
    holding = (place for place in there if locate(root, place, first) is not None)
    return next(holding, there[0] if there else root / split)


def locate(root: Path, folder: Path, name: str) -> Path | None:
    """The file that an annotation file names, where there is one sensible reading; None if there is none.

    As it is; with / for a backslash; a web address's last part; from the data set's folder instead of the
    images'. Nothing outside the data set's folder is read, links inside it aside.
    """
    plain = name.replace("\\", "/")
    if urlparse(plain).scheme in ("http", "https", "file", "s3", "gs"):
        plain = unquote(PurePosixPath(urlparse(plain).path).name)
    for place in dict.fromkeys((folder / name, folder / plain, root / plain)):
        inside = Path(os.path.normpath(place.absolute()))
        if inside.is_relative_to(Path(os.path.normpath(root.absolute()))) and place.is_file():
            return place
    return None


def locate_all(root: Path, folder: Path, names: Iterable[str]) -> dict[str, Path]:
    """The place of every image that is not simply `folder`/name; DatasetError if some are missing."""
    moved, missing, count = {}, [], 0
    for name in names:
        count += 1
        if is_plain(name) and (folder / name).is_file():
            continue
        place = locate(root, folder, name)
        if place is None:
            missing.append(name)
        else:
            moved[name] = place
    if missing:
        raise DatasetError(
            f"{folder} lacks {len(missing)} of {count} images, first {missing[0]}: "
            f"{explain_missing(root, folder, missing[0])}."
        )
    return moved


def is_plain(name: str) -> bool:
    """Whether a name is a relative path without a way out of its folder."""
    return "\\" not in name and not name.startswith("/") and ".." not in name.split("/")


def explain_missing(root: Path, folder: Path, name: str) -> str:
    """Why an image is not found, as far as its folder tells, and what to do."""
    place = Path(os.path.normpath((folder / name).absolute()))
    if not place.is_relative_to(Path(os.path.normpath(root.absolute()))):
        return f"it lies outside {root}, where nothing is read: copy the images there, or link their folder"
    base = PurePosixPath(name.replace("\\", "/")).name
    beside = sorted(folder.iterdir()) if folder.is_dir() else []
    for other in beside:
        if other.name == base:
            return f"it is there as {base}; take the folder out of its file_name"
        if other.name.lower() == base.lower():
            return f"it is there as {other.name}; upper and lower case must agree"
    for other in beside:
        if other.stem == Path(base).stem:
            return f"it is there as {other.name}; correct file_name or the file's extension"
    return "put them there"
