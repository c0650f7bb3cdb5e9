"""A record of six detections, with all that it is derived from: annotations, detections, metrics."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from record_parts import EMPTY

from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.io.files import sha256_of
from yolov9bench.predict.predictions import predictions_from_rows, result_json
from yolov9bench.records import Record, as_stored
from yolov9bench.zoo.protocols import PROTOCOLS


def truth() -> dict[str, Any]:
    """Six images with one object each, of two classes."""
    box = {"bbox": [10.0, 10.0, 20.0, 20.0], "area": 400.0, "iscrowd": 0}
    return {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": 64, "height": 64} for number in range(1, 7)
        ],
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1 + number % 2, **box} for number in range(1, 7)
        ],
    }


def detections() -> list[dict[str, Any]]:
    """One detection an image, each a little further off its object than the one before."""
    return [
        {
            "image_id": number,
            "category_id": 1 + number % 2,
            "bbox": [10.0 + number, 10.0, 20.0, 20.0],
            "score": round(1 - number / 10, 5),
        }
        for number in range(1, 7)
    ]


def make_record(annotations: Path, rows: list[dict[str, Any]]) -> tuple[Record, str]:
    """What an evaluation of these detections states, and their text."""
    content = json.loads(annotations.read_text())
    found = predictions_from_rows(rows)
    text = result_json(found)
    listed = "\n".join(f"{image['id']} {image['file_name']}" for image in content["images"])
    stored = {"file": None, "sha256": hashlib.sha256(text.encode()).hexdigest(), "count": len(rows)}
    record = replace(
        EMPTY,
        row=None,
        values=coco_metrics(content, found, judge=True) | {"AP_interval": None, "detections": stored},
        settings={
            "protocol": as_stored(PROTOCOLS["ultralytics"]),
            "batch_size": 16,
            "dtype": "float32",
            "fused": True,
            "judge": True,
            "skip_corrupt": False,
        },
        inputs={
            "demo": False,
            "images": len(content["images"]),
            "images_skipped": [],
            "annotations_sha256": sha256_of(annotations),
            "image_list_sha256": hashlib.sha256(listed.encode()).hexdigest(),
        },
        environment={"commit": None, "dirty": False},
    )
    return record, text
