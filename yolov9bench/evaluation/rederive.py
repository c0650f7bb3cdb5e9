"""The metrics of a record computed again, from the detections that it names and their annotations."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from yolov9bench.data.annotations import read_annotations
from yolov9bench.data.coco import image_list_sha256_of
from yolov9bench.errors import RecordError
from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.predict.predictions import Predictions, predictions_from_rows
from yolov9bench.records.contents import METRICS, EvaluateContents
from yolov9bench.records.detections import path_of_detections, read_detections

METRIC_TOLERANCE = 1e-12  # of a metric that is computed again from the same detections
SCORE_STEP = 1e-5  # of stored scores


def find_detections(
    sha256: str, path: Path, results_dir: Path, stated: EvaluateContents
) -> Predictions | None:
    """The detections that a record names; RecordError if a file that should be them is not."""
    name = (stated.values.detections or {}).get("file")
    places = [path_of_detections(results_dir, sha256)]
    places += [path.parent / str(name), results_dir / "runs" / "detections" / str(name)] if name else []
    place = next((each for each in places if each.is_file()), None)
    if place is None:
        return None
    text = read_detections(place)
    own = hashlib.sha256(text.encode()).hexdigest()
    if own != sha256:
        raise RecordError(f"{place.name} are other detections (sha256 {own[:8]}…) than the record names")
    return predictions_from_rows(json.loads(text))


def find_contradictions(detections: Predictions, stated: EvaluateContents) -> list[str]:
    """What the stored detections contradict: count, threshold, most detections of an image."""
    protocol, faults = stated.settings.protocol or {}, []
    count = (stated.values.detections or {}).get("count")
    if count != len(detections):
        faults.append(f"{count} detections are stated and {len(detections)} stored")
    counts = stated.values.counts or {}
    if counts and counts.get("images") != stated.inputs.images:
        faults.append(f"{counts.get('images')} images were run and {stated.inputs.images} are stated")
    if counts and not stated.settings.classes and counts.get("detections") != len(detections):
        faults.append(f"{counts.get('detections')} detections were kept and {len(detections)} are stored")
    lowest = float(detections.scores.min()) if len(detections) else None
    threshold = protocol.get("score_threshold")
    if lowest is not None and isinstance(threshold, float | int) and lowest < threshold - SCORE_STEP:
        faults.append(f"the lowest score is {lowest}, below the stated threshold {threshold}")
    return faults


def find_wrong_metrics(detections: Predictions, source: Path, stated: EvaluateContents) -> list[str]:
    """Which of the twelve metrics are not those of the detections on the images that the record states."""
    content = read_annotations(source)
    skipped, images = stated.inputs.images_skipped or [], stated.inputs.images or 0
    ordered = sorted(content["images"], key=lambda image: image["id"])
    used = [image for image in ordered[: images + len(skipped)] if image["file_name"] not in skipped]
    if len(used) != images:
        return [f"{images:,} images are stated, and the annotations have {len(ordered):,}"]
    listed = image_list_sha256_of((image["id"], image["file_name"]) for image in used)
    if listed != stated.inputs.image_list_sha256:
        return ["the images are not the first ones of the annotations by id"]
    ids = {image["id"] for image in used}
    kept = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    classes = content["categories"]
    if stated.settings.classes:  # of other categories no object counts
        classes = [each for each in classes if each["name"] in stated.settings.classes.values()]
    found = coco_metrics({"images": used, "annotations": kept, "categories": classes}, detections)
    return [
        f"{name} is {value!r}, its detections give {found[name]!r}"
        for name in METRICS
        for value in [getattr(stated.values, name)]
        if value is None or abs(value - found[name]) > METRIC_TOLERANCE
    ]
