"""What must not change detections: order, threads, batch size, half-precision boxes, a mirrored data set."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.evaluation.run_network import run_inference
from yolov9bench.nn.detector import Detector
from yolov9bench.predict.batches import Batches
from yolov9bench.predict.postprocess import nms
from yolov9bench.predict.predictions import Predictions
from yolov9bench.weights import load
from yolov9bench.zoo.protocols import MMYOLO, PROTOCOLS, ULTRALYTICS_SQUARE, Protocol, View

PIXELS, SCORES, SHARE = 0.01, 1e-4, 0.999  # of detections, under batch size and threads


@pytest.fixture(scope="module")
def detector(tiny_weights: Path) -> Detector:
    return load(tiny_weights).detector.deployed()


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def detect(detector: Detector, data: CocoDataset, protocol: Protocol, batch_size: int = 2) -> Predictions:
    categories = [number for number, _ in data.categories]
    return run_inference(detector, Batches(data, protocol, batch_size), categories, "cpu")


def arrays(found: Predictions) -> list[Any]:
    return [part.tolist() for part in vars(found).values()]


def same_share(one: Predictions, other: Predictions) -> float:
    """The share of detections that the other has too, image by image."""
    common = 0
    for image in np.unique(one.image_ids):
        left, right = one.of_images([image]), other.of_images([image])
        same = left.category_ids[:, None] == right.category_ids[None]
        same &= np.abs(left.scores[:, None] - right.scores[None]) <= SCORES
        same &= np.abs(left.boxes_xyxy[:, None] - right.boxes_xyxy[None]).max(axis=2) <= PIXELS
        common += int(min(same.any(axis=0).sum(), same.any(axis=1).sum()))
    return 2 * common / (len(one) + len(other))


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_the_order_of_the_images_changes_no_bit(
    detector: Detector, painted: Path, protocol: Protocol
) -> None:
    data = read_coco(painted, "val")
    backwards = replace(data, images=data.images[::-1])
    small = protocol.at_image_size(64)
    found = detect(detector, data, small, batch_size=1)
    assert len(found) > 100
    assert arrays(detect(detector, backwards, small, batch_size=1)) == arrays(found)


@pytest.mark.parametrize("cores", [1, 3, None])
def test_the_number_of_decoding_threads_changes_no_bit(
    detector: Detector, painted: Path, cores: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, small = read_coco(painted, "val"), MMYOLO.at_image_size(64)
    found = detect(detector, data, small)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert arrays(detect(detector, data, small)) == arrays(found)


@pytest.mark.slow(12)
def test_batch_size_and_threads_change_next_to_nothing(shared: Path, threads: None) -> None:
    data = read_coco(shared / "coco", limit=6)
    published = load(shared / "weights/yolov8n.pt").detector.deployed()
    one = detect(published, data, ULTRALYTICS_SQUARE, batch_size=1)
    assert len(one) > 500
    assert same_share(one, detect(published, data, ULTRALYTICS_SQUARE, batch_size=6)) >= SHARE
    torch.set_num_threads(3)
    assert same_share(one, detect(published, data, ULTRALYTICS_SQUARE, batch_size=4)) >= SHARE


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_boxes_are_suppressed_in_float32(protocol: Protocol, dtype: torch.dtype) -> None:
    """What a network in half precision gives is suppressed as the same numbers in float32 are."""
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(400, 2, generator=generator) * 600
    boxes = torch.cat([low, low + 20 + torch.rand(400, 2, generator=generator) * 60], dim=1)
    scores = torch.rand(400, 80, generator=generator) ** 8
    half = nms(boxes.to(dtype), scores.to(dtype), protocol)
    full = nms(boxes.to(dtype).float(), scores.to(dtype).float(), protocol)
    assert len(half.scores) == 300
    assert all(torch.equal(one, other) for one, other in zip(half, full, strict=True))
    assert half.boxes_xyxy.dtype == torch.float32


def mirrored_set(data: CocoDataset, folder: Path) -> CocoDataset:
    """The same images and boxes seen in a mirror, losslessly stored."""
    widths = {image.id: image.width for image in data.images}
    moved = {}
    for image in data.images:
        pixels = cv2.imread(str(data.image_path(image)), cv2.IMREAD_COLOR)
        assert pixels is not None
        moved[image.file_name] = folder / f"{image.id}.png"
        cv2.imwrite(str(moved[image.file_name]), np.ascontiguousarray(pixels[:, ::-1]))
    annotations = [
        entry
        | {"bbox": [widths[entry["image_id"]] - entry["bbox"][0] - entry["bbox"][2], *entry["bbox"][1:]]}
        for entry in data.annotations
    ]
    return replace(data, annotations=annotations, moved=moved)


@pytest.mark.slow(8)
def test_a_mirrored_data_set_in_a_mirrored_view_gives_mirrored_detections(
    shared: Path, tmp_path: Path
) -> None:
    """The network sees the pixels that it saw; images with an even border alone, the odd pixel lies right."""
    whole = read_coco(shared / "coco", limit=40)
    even = [each for each in whole.images if max(each.width, each.height) == 640 and each.width % 2 == 0]
    data = whole.restricted(even[:5])
    published = load(shared / "weights/yolov8n.pt").detector.deployed()
    plain = detect(published, data, ULTRALYTICS_SQUARE)
    other = mirrored_set(data, tmp_path)
    flipped = replace(ULTRALYTICS_SQUARE, views=(View(flipped=True),))
    found = detect(published, other, flipped)
    widths = np.array([{image.id: image.width for image in data.images}[each] for each in found.image_ids])
    boxes = found.boxes_xyxy.copy()
    boxes[:, [0, 2]] = widths[:, None] - boxes[:, [2, 0]]
    assert same_share(plain, replace(found, boxes_xyxy=boxes)) >= SHARE
    one, two = (coco_metrics(each.ground_truth(), own) for each, own in ((data, plain), (other, found)))
    assert two == pytest.approx(one, abs=1e-4)


def test_metrics_do_not_know_left_from_right() -> None:
    """Boxes of whole pixels, so that mirroring is exact, and so are the metrics to 1e-12."""
    generator = np.random.default_rng(0)
    count, width = 60, 200
    boxes = np.concatenate(
        [generator.integers(0, 120, (count, 2)), generator.integers(8, 80, (count, 2))], axis=1
    )
    images = np.sort(generator.integers(1, 11, count))
    truth: dict[str, Any] = {
        "images": [{"id": number} for number in range(1, 11)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [],
    }
    for place, (box, image) in enumerate(zip(boxes.tolist(), images.tolist(), strict=True), 1):
        entry = {"id": place, "image_id": image, "category_id": 1 + place % 2, "bbox": box}
        truth["annotations"].append(entry | {"area": box[2] * box[3], "iscrowd": 0})
    near = boxes + generator.integers(-4, 5, boxes.shape)
    corners = np.concatenate([near[:, :2], near[:, :2] + np.maximum(near[:, 2:], 1)], axis=1)
    scores = np.round(generator.random(count), 5)
    labels = 1 + np.arange(1, count + 1) % 2
    found = Predictions(images, corners.astype(float), scores, labels)
    back = corners.astype(float)
    back[:, [0, 2]] = width - back[:, [2, 0]]
    other = truth | {
        "annotations": [
            entry | {"bbox": [width - entry["bbox"][0] - entry["bbox"][2], *entry["bbox"][1:]]}
            for entry in truth["annotations"]
        ]
    }
    one, two = coco_metrics(truth, found), coco_metrics(other, Predictions(images, back, scores, labels))
    assert 0.1 < one["AP"] < 0.9
    assert two == pytest.approx(one, abs=1e-12)
