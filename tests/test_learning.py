"""Training learns: a few real images by heart, from scratch."""

from pathlib import Path

import pytest

from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.evaluation.evaluate import evaluate_loaded
from yolov9bench.evaluation.settings import EvaluationSettings
from yolov9bench.train import trainer
from yolov9bench.train.job import Job
from yolov9bench.train.trainer import train
from yolov9bench.weights import load
from yolov9bench.zoo import RECIPES, ROWS

IMAGES, SIZE, STEPS = 8, 320, 240
SMALL_SIZE = 160  # pixels: a quarter of the work, for every run of the tests
SMALLEST = 8  # pixels at the size of the training: the finest stride of the networks
BATCH = 2

# The images as they are: nothing to learn but them.
BY_HEART = RECIPES["small"].varied(
    run={
        "epochs": STEPS * BATCH // IMAGES,
        "validation_interval": STEPS * BATCH // IMAGES,
        "images_per_gpu": BATCH,
    },
    augmentation={
        "image_size": SIZE,
        "mosaic_prob": 0.0,
        "scale_range": (1.0, 1.0),
        "translate": 0.0,
        "rare_filter_prob": 0.0,
        "hsv_gains": (0.0, 0.0, 0.0),
        "hflip_prob": 0.0,
        "close_mosaic": 0,
    },
    optimizer={"nominal_batch": BATCH, "warmup_epochs": 1.0, "warmup_minimum_iterations": 10},
    ema={"decay": 0.9, "tau": 10},
)


def clear_images(dataset: CocoDataset, size: int) -> CocoDataset:
    """The first images that have objects, none of them smaller than a cell of the finest level."""
    sides: dict[int, list[float]] = {image.id: [] for image in dataset.images}
    for annotation in dataset.annotations:
        sides[annotation["image_id"]].append(min(annotation["bbox"][2:]))
    clear = [
        image
        for image in dataset.images
        if sides[image.id] and min(sides[image.id]) * size / max(image.width, image.height) >= SMALLEST
    ]
    return dataset.restricted(tuple(clear[:IMAGES]))


def learn_by_heart(shared: Path, out: Path, row: str, size: int) -> float:
    """AP50 on the very images that were trained on."""
    images = clear_images(read_coco(shared / "coco", "train2017"), size)
    assert len(images.images) == IMAGES
    assert len(images.annotations) >= 2 * IMAGES
    job = Job(
        ROWS[row], BY_HEART.varied(augmentation={"image_size": size}), images, images, out, batch_size=BATCH
    )
    settings = EvaluationSettings("yolov9", image_size=size)
    return evaluate_loaded(load(train(job)), images, settings).result.metrics["AP50"]


@pytest.fixture
def _no_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """An epoch is four steps: no checkpoint after each."""
    monkeypatch.setattr(trainer, "save_checkpoint", lambda *_: None)


@pytest.mark.accuracy
@pytest.mark.slow(60)
@pytest.mark.usefixtures("_no_checkpoints")
def test_eight_real_images_are_learnt_by_heart(shared: Path, tmp_path: Path) -> None:
    assert learn_by_heart(shared, tmp_path / "run", "yolov8-n", SMALL_SIZE) >= 0.8


@pytest.mark.accuracy
@pytest.mark.slow(300)
@pytest.mark.usefixtures("_no_checkpoints")
@pytest.mark.parametrize("row", ["yolov8-n", "yolov9-t"])
def test_eight_real_images_are_learnt_by_heart_at_full_size(shared: Path, tmp_path: Path, row: str) -> None:
    assert learn_by_heart(shared, tmp_path / "run", row, SIZE) >= 0.8
