"""A data set as Ultralytics reads one, beside COCO's own layout: a YAML file, and a text file an image."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolov9bench.data.coco import CocoDataset, CocoImage
from yolov9bench.io.files import write_json, write_text

DESCRIPTION = "peer.yaml"


def write_peer_data(dataset: CocoDataset, folder: Path) -> Path:
    """Link and write a data set below an empty folder, for COCO's readers and Ultralytics'; its YAML file.

    Images are named by their ids, as Ultralytics names them in its result files. Crowds are in COCO's file
    alone: Ultralytics has no word for them.
    """
    by_image: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for annotation in dataset.annotations:
        by_image[annotation["image_id"]].append(annotation)
    labels = {number: place for place, (number, _) in enumerate(dataset.categories)}
    for name in ("val2017", "images/val", "labels/val", "annotations"):
        (folder / name).mkdir(parents=True)
    images = []
    for image in dataset.images:
        source = dataset.image_path(image).absolute()
        name = f"{image.id:012d}{source.suffix}"
        for place in ("val2017", "images/val"):
            (folder / place / name).symlink_to(source)
        lines = [_label_line(each, image, labels) for each in by_image[image.id] if not each["iscrowd"]]
        write_text(folder / "labels/val" / f"{image.id:012d}.txt", "".join(lines))
        images.append(dict(vars(image)) | {"file_name": name})
    write_json(folder / "annotations/instances_val2017.json", dataset.ground_truth() | {"images": images})
    names = dict(enumerate(dataset.names))
    description = {"path": str(folder), "train": "images/val", "val": "images/val", "names": names}
    write_text(folder / DESCRIPTION, json.dumps(description))  # JSON is YAML
    return folder / DESCRIPTION


def _label_line(annotation: Mapping[str, Any], image: CocoImage, labels: Mapping[int, int]) -> str:
    """A box as Ultralytics reads it: label, centre and size as shares of the image.

    It is cut at the image's border: Ultralytics leaves out an image with a box beyond it.
    """
    x, y, width, height = annotation["bbox"]
    left, right = (min(max(each / image.width, 0.0), 1.0) for each in (x, x + width))
    top, bottom = (min(max(each / image.height, 0.0), 1.0) for each in (y, y + height))
    shares = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return " ".join([str(labels[annotation["category_id"]]), *(f"{each:.6f}" for each in shares)]) + "\n"
