"""A training's record held against what it names: the checkpoints in the run's folder, and its images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from yolov9bench.config import from_root
from yolov9bench.data.coco import image_list_sha256_of
from yolov9bench.errors import RecordError
from yolov9bench.io.files import sha256_of
from yolov9bench.records import Record, as_stored
from yolov9bench.records.training import DataFacts, TrainContents


def find_run(record: Record, folders: Iterable[Path]) -> Path | None:
    """The folder where the run of a record still stands as it ended; None if none does.

    A run that went on since, or began anew, has other parts in its run.json and other checkpoints.
    RecordError for a run.json that cannot be read.
    """
    parts = record.values.get("parts")
    for file in (folder / "run.json" for folder in folders):
        try:
            run = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except (OSError, ValueError) as error:
            raise RecordError(f"{from_root(file)} cannot be read ({error}): restore it") from error
        if parts and run.get("parts") == parts:
            return file.parent
    return None


def find_other_checkpoints(folder: Path, stated: TrainContents) -> list[str]:
    """Which checkpoints in the run's folder are not those of its record, by hash and by recipe."""
    faults = []
    for name, sha256 in (stated.values.checkpoints or {}).items():
        file = folder / name
        if not file.is_file():
            faults.append(f"{name} is gone from {folder.name}")
        elif (own := sha256_of(file)) != sha256:
            faults.append(f"{name} in {folder.name} is another one (sha256 {own[:8]}…) than the record names")
    if not faults and recipe_in(folder / "last.pt") != stated.settings.recipe:
        faults.append(f"last.pt in {folder.name} was trained by another recipe than the record states")
    return faults


def recipe_in(last: Path) -> Any:
    """The recipe that a checkpoint to resume from holds, as a record has it; no code from the file runs."""
    content = torch.load(last, map_location="cpu", weights_only=True, mmap=True)
    return as_stored(content["training"]["configuration"]["recipe"])


def find_other_images(data: DataFacts, images: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether the images of a split are the first ones of its annotations' `images`, by id."""
    used = sorted(images, key=lambda image: image["id"])[: data.images or 0]
    listed = image_list_sha256_of((image["id"], image["file_name"]) for image in used)
    if len(used) != data.images or listed != data.image_list_sha256:
        return [f"the images of {data.split} are not the first {data.images} of its annotations by id"]
    return []
