"""Which data set a name means, and which split a training learns on."""

from __future__ import annotations

import os
from pathlib import Path

from yolov9bench.data import download
from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.data.demo import make_demo
from yolov9bench.data.layouts import find_annotations
from yolov9bench.errors import DatasetError, SettingsError

VALIDATION_PREFIXES = ("validation", "valid", "val")


def resolve_dataset(dataset: str, split: str, data_folder: Path, seed: int = 0) -> tuple[Path, str]:
    """The folder and the split of a data set, fetched or drawn if need be.

    dataset: "demo", whose splits are train and val; "auto" or "coco" for COCO 2017; else a folder. seed: of
    the demo set. DownloadError and DatasetError as `download.coco`.
    """
    if dataset == "demo":
        return make_demo(data_folder / "demo", seed), "train" if split == "train" else "val"
    if dataset in ("auto", "coco"):
        return download.coco(data_folder, split), split
    return Path(dataset), split


def require_split(dataset: str, split: str) -> None:
    """DatasetError for a split that the data set will not have, before anything is fetched or drawn."""
    if dataset in ("auto", "coco"):
        download.require_known(split)
    elif dataset != "demo":
        find_annotations(Path(dataset), split)


def read_dataset(
    dataset: str, split: str, data_folder: Path, limit: int | None = None, seed: int = 0
) -> CocoDataset:
    """One split of a data set as `resolve_dataset` finds it; `limit` keeps the first image ids only."""
    root, known_split = resolve_dataset(dataset, split, data_folder, seed)
    return read_coco(root, known_split, limit)


def choose_training_split(dataset: str, split: str, train_split: str) -> str:
    """The split to train on; SettingsError if it is the one to validate on, or if "auto" cannot find it.

    "auto" is "train" on the demo set, else the split's own name with "train" for the "val", "valid" or
    "validation" that it begins with.
    """
    if dataset == "demo":
        if train_split not in ("auto", "train"):
            raise SettingsError(f"train_split is {train_split!r}: on the demo set give 'auto' or 'train'")
        return "train"
    if train_split == split:
        raise SettingsError(
            f"train_split and split are both {split!r}, so that all images to validate on would be trained "
            "on: give train_split another split"
        )
    if train_split != "auto":
        return train_split
    prefix = next((each for each in VALIDATION_PREFIXES if split.startswith(each)), None)
    if prefix is None:
        raise SettingsError(
            f"no split to train on follows from split {split!r}, which does not begin with 'val': "
            "give train_split"
        )
    return "train" + split.removeprefix(prefix)


def require_apart(training: CocoDataset, validation: CocoDataset) -> None:
    """DatasetError if an image file is in both sets, under whatever path, link or name.

    Ids and file names may agree: many tools number the images of each split again.
    """
    shared = len(_files_of(training) & _files_of(validation))
    if shared:
        raise DatasetError(
            f"the splits {training.split!r} to train on and {validation.split!r} to validate on share "
            f"{shared} of {len(validation.images)} images of {validation.root}: give train_split a split "
            "without them"
        )


def _files_of(dataset: CocoDataset) -> set[tuple[int, int]]:
    """Device and inode of every image in use, which all links to a file share."""
    return {(each.st_dev, each.st_ino) for each in map(os.stat, map(dataset.image_path, dataset.images))}
