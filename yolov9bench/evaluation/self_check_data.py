"""What a self-check asks of pictures and annotations: channels, classes, crowds."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from yolov9bench.data.annotation_values import crowd_flag
from yolov9bench.data.coco import CocoDataset, CocoImage
from yolov9bench.data.layouts import find_annotations
from yolov9bench.errors import DatasetError
from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.evaluation.plain_detections import Array
from yolov9bench.io.files import sha256_of
from yolov9bench.ops.images import PILLOW_ERRORS
from yolov9bench.predict.predictions import Predictions

Answer = tuple[str, str] | str | None  # a fault's name and sentence; why nothing is told; nothing wrong

COLOURFUL = 3.0  # grey levels between the means of red and blue, from which their order shows
FEWEST_MATCHES = 5  # objects that were found, from which a shift of their classes shows
SCORE, IOU = 0.25, 0.5  # of a detection that finds an object
SAME_METRIC = 1e-9


def find_channel_fault(dataset: CocoDataset, calls: Sequence[tuple[Tensor, Sequence[CocoImage]]]) -> Answer:
    """Whether the network was given blue, green, red: by each picture's mean colour, as Pillow decodes it.

    calls: inputs [B, 3, H, W], 0 to 1, and their images.
    """
    right = wrong = 0
    for inputs, images in calls:
        for tensor, image in zip(inputs, images, strict=True):
            colour = _mean_colour(dataset.image_path(image))
            if colour is None or abs(colour[0] - colour[2]) < COLOURFUL:
                continue
            given = _mean_without_border(255 * tensor.float().cpu().numpy())
            forth, back = (np.abs(given - each).sum() for each in (colour, colour[::-1]))
            right, wrong = right + (forth <= back), wrong + (forth > back)
    if not right and not wrong:
        return "no image at hand has a colour that shows it"
    if wrong > right:
        return "BGR input", f"{wrong} of {right + wrong} images reach the network as blue, green, red"
    return None


def _mean_colour(path: Path) -> Array | None:
    """Red, green and blue of a picture, 0 to 255; None if Pillow cannot decode it as it is."""
    try:
        with Image.open(path) as picture:
            upright = ImageOps.exif_transpose(picture).convert("RGB")
            return np.asarray(np.asarray(upright).mean(axis=(0, 1), dtype=np.float64))
    except PILLOW_ERRORS:
        return None


def _mean_without_border(pixels: Array) -> Array:
    """The mean of each channel [3] of an input [3, H, W], less the grey of its border."""
    inside = np.abs(pixels - 114).max(axis=0) > 0.5
    return np.asarray(pixels[:, inside].mean(axis=1) if inside.any() else pixels.mean(axis=(1, 2)))


def find_class_fault(dataset: CocoDataset, predictions: Predictions) -> Answer:
    """Whether detections that find objects have the class beside theirs, in the order of category ids."""
    place = {number: index for index, (number, _) in enumerate(dataset.categories)}
    if len(place) < 2:
        return "there is one class"
    shifts = []
    for entry in dataset.annotations:
        if entry["iscrowd"] or entry["category_id"] not in place:
            continue
        own = predictions.of_images([entry["image_id"]])
        own = own.select(own.scores >= SCORE)
        overlaps = _overlaps(own.boxes_xyxy, entry["bbox"])
        if len(overlaps) and overlaps.max() >= IOU:
            # Of several boxes on an object the surest one: others may be of another class.
            best = np.flatnonzero(overlaps >= IOU)[own.scores[overlaps >= IOU].argmax()]
            shifts.append(place[int(own.category_ids[best])] - place[entry["category_id"]])
    if len(shifts) < FEWEST_MATCHES:
        return f"only {len(shifts)} objects are found"
    right = np.mean(np.array(shifts) == 0)
    for shift in (1, -1):
        if np.mean(np.array(shifts) == shift) > max(right, 0.5):
            return "shifted labels", f"most of {len(shifts)} objects found have the class {shift:+d} beside"
    return None


def _overlaps(boxes: Array, bbox: Sequence[float]) -> Array:
    x1, y1, x2, y2 = bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1] + bbox[3]
    wide = np.minimum(boxes[:, 2], x2) - np.maximum(boxes[:, 0], x1)
    high = np.minimum(boxes[:, 3], y2) - np.maximum(boxes[:, 1], y1)
    shared = np.maximum(wide, 0) * np.maximum(high, 0)
    own = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.asarray(shared / np.maximum(own + bbox[2] * bbox[3] - shared, 1e-9))


def find_metric_fault(dataset: CocoDataset, predictions: Predictions) -> Answer:
    """Whether the metrics are pycocotools' on the annotation file as it is, crowds among them."""
    truth = _read_file(dataset)
    if truth is None:
        return "the annotation file is not where the data set's layout has it"
    crowds = [entry for entry in truth["annotations"] if entry["iscrowd"]]
    if not crowds:
        return "there is none"
    if all(entry["iscrowd"] for entry in truth["annotations"]):
        return "there is nothing but crowds"
    kept = sum(entry["iscrowd"] for entry in dataset.ground_truth()["annotations"])
    if kept < len(crowds):
        return "dropped crowds", f"the metrics get {kept} of the {len(crowds)} crowds of the annotation file"
    if not len(predictions):
        return "nothing was detected on these images"
    own = coco_metrics(dataset.ground_truth(), predictions)["AP"]
    plain = _judge(truth, predictions)
    if abs(own - plain) <= SAME_METRIC:
        return None
    without = [entry for entry in truth["annotations"] if not entry["iscrowd"]]
    if abs(own - _judge(truth | {"annotations": without}, predictions)) <= SAME_METRIC:
        return "dropped crowds", f"AP {own:.5f} is that without the crowds, {plain:.5f} that with them"
    return "metrics", f"AP is {own:.5f}, pycocotools gives {plain:.5f}"


def _read_file(dataset: CocoDataset) -> dict[str, Any] | None:
    """What the annotation file itself has on these images and classes, by the standard library; or None."""
    try:
        file, _ = find_annotations(dataset.root, dataset.split)
    except DatasetError:
        return None
    if not file.is_file() or sha256_of(file) != dataset.annotations_sha256:
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    images, classes = ({image.id for image in dataset.images}, {number for number, _ in dataset.categories})
    entries = [
        entry
        | {"id": place, "iscrowd": crowd_flag(entry.get("iscrowd", 0)) or 0}
        | {"area": entry.get("area", entry["bbox"][2] * entry["bbox"][3])}
        for place, entry in enumerate(content["annotations"], 1)
        if entry["image_id"] in images and entry["category_id"] in classes
    ]
    categories = [{"id": number, "name": name} for number, name in dataset.categories]
    kept = [image for image in content["images"] if image["id"] in images]
    return {"images": kept, "annotations": entries, "categories": categories}


def _judge(truth: dict[str, Any], predictions: Predictions) -> float:
    """AP as pycocotools has it."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco: Any = COCO()
        coco.dataset = truth
        coco.createIndex()
        boxes = predictions.boxes_xywh()
        rows = [
            {
                "image_id": int(image),
                "category_id": int(category),
                "bbox": box.tolist(),
                "score": float(score),
            }
            for image, category, box, score in zip(
                predictions.image_ids, predictions.category_ids, boxes, predictions.scores, strict=True
            )
        ]
        judge: Any = COCOeval(coco, coco.loadRes(rows), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0])
