"""A real detector of one class: its best box on a real image, against what people have drawn there."""

from pathlib import Path

from torch import tensor
from torchvision.ops import box_iou

from yolov9bench.data.coco import read_coco
from yolov9bench.evaluation import run_network
from yolov9bench.predict.batches import Batches
from yolov9bench.predict.predictions import result_rows
from yolov9bench.weights import load
from yolov9bench.zoo.protocols import find_protocol

SPORTS_BALL = 37
IMAGE = 566282  # its one ball is 53 pixels wide


def test_one_class_detector_finds_the_ball(shared: Path) -> None:
    dataset = read_coco(shared / "coco", "val2017")
    dataset = dataset.restricted([each for each in dataset.images if each.id == IMAGE])
    detector = load(shared / "weights/yolov9t_one_class.pt").detector.deployed()
    predictions = run_network.run_inference(
        detector, Batches(dataset, find_protocol("ultralytics")), (SPORTS_BALL,), "cpu"
    )
    (truth,) = (entry["bbox"] for entry in dataset.annotations if entry["category_id"] == SPORTS_BALL)
    best = max(result_rows(predictions), key=lambda row: row["score"])
    assert (best["image_id"], best["category_id"]) == (IMAGE, SPORTS_BALL)
    assert best["score"] > 0.5
    corners = tensor([best["bbox"], truth])
    corners[:, 2:] += corners[:, :2]
    assert float(box_iou(corners[:1], corners[1:])) > 0.6
