"""Training learns: a few real pictures by heart, from scratch."""

from dataclasses import replace
from pathlib import Path

import pytest

from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.evaluation.evaluate import EvaluationSettings, evaluate_loaded
from yolov9bench.train import trainer
from yolov9bench.train.trainer import Job, train
from yolov9bench.weights import load
from yolov9bench.zoo import RECIPES, ROWS

IMAGES, SIZE, STEPS = 8, 320, 240
SMALLEST = 8  # pixels at SIZE: the finest stride of the networks
BATCH = 2

# The pictures as they are: nothing to learn but them.
BY_HEART = replace(
    RECIPES["small"],
    epochs=STEPS * BATCH // IMAGES,
    validation_interval=STEPS * BATCH // IMAGES,
    image_size=SIZE,
    images_per_gpu=BATCH,
    nominal_batch=BATCH,
    warmup_epochs=1.0,
    warmup_minimum_iterations=10,
    ema_decay=0.9,
    ema_ramp_updates=10,
    mosaic=0.0,
    scale_range=(1.0, 1.0),
    translate=0.0,
    rare_filter=0.0,
    hsv_gains=(0.0, 0.0, 0.0),
    flip=0.0,
    closing_epochs=0,
)


def clear_pictures(dataset: CocoDataset) -> CocoDataset:
    """The first pictures that have objects, none of them smaller than a cell of the finest level."""
    sides: dict[int, list[float]] = {image.id: [] for image in dataset.images}
    for annotation in dataset.annotations:
        sides[annotation["image_id"]].append(min(annotation["bbox"][2:]))
    clear = [
        image
        for image in dataset.images
        if sides[image.id] and min(sides[image.id]) * SIZE / max(image.width, image.height) >= SMALLEST
    ]
    return dataset.restricted(tuple(clear[:IMAGES]))


@pytest.mark.slow(70)
@pytest.mark.parametrize("row", ["yolov8-n", "yolov9-t"])
def test_eight_real_pictures_are_learnt_by_heart(
    shared: Path, tmp_path: Path, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "keep", lambda *_: None)  # an epoch is four steps: no checkpoint after each
    pictures = clear_pictures(read_coco(shared / "coco", "train2017"))
    assert len(pictures.images) == IMAGES
    assert len(pictures.annotations) >= 2 * IMAGES
    best = train(Job(ROWS[row], BY_HEART, pictures, pictures, tmp_path / "run", batch_size=BATCH))
    found = evaluate_loaded(
        load(best), pictures, EvaluationSettings("yolov9", image_size=SIZE)
    ).result.metrics
    assert found["AP50"] >= 0.8
