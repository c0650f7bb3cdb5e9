"""Mutants of annotation files and of image files, and what is done with those that are taken."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
from mutations import as_json, mutated, mutated_bytes
from PIL import Image

from yolov9bench.data.check import check_data
from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.data.training_sample import training_sample
from yolov9bench.data.training_set import training_set
from yolov9bench.errors import DatasetError
from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.ops.images import read_image
from yolov9bench.predict.batches import Batches
from yolov9bench.predict.predictions import Predictions
from yolov9bench.zoo.protocols import PROTOCOLS
from yolov9bench.zoo.recipe import Recipe
from yolov9bench.zoo.recipes import YOLOV8_MASK_REFINE, YOLOV9

HEIGHT, WIDTH, IMAGES = 24, 32, 3
RECIPES = [each.varied(augmentation={"image_size": 64}) for each in (YOLOV9, YOLOV8_MASK_REFINE[0])]


def annotations_in(folder: Path) -> Any:
    """An attack on the annotation parser: a set of three images, with every form of mask."""
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    (folder / "val").mkdir()
    for number in range(1, IMAGES + 1):
        cv2.imwrite(str(folder / f"val/{number}.png"), pixels)
    file, content = folder / "annotations/instances_val.json", valid_content()
    file.parent.mkdir()

    def attack(random: Random) -> str:
        if random.random() < 0.15:
            file.write_bytes(mutated_bytes(as_json(content), random))
        else:
            file.write_bytes(as_json(mutated(content, random)))
        if random.random() < 0.1:
            check_data(folder, "val")
        dataset = read_coco(folder, "val", limit=random.choice((None, 1, 2)))
        use(dataset, random)
        return "taken and used"

    return attack


def valid_content() -> dict[str, Any]:
    """An annotation file with polygons, run-length masks and crowds, and what tools write beside them."""
    masks: list[Any] = [
        [[2, 2, 12, 2, 12, 12, 2, 12]],
        [[2.5, 2.5, 8, 2.5, 8, 8], [10, 10, 14, 10, 14, 14, 10, 14]],
        {"size": [HEIGHT, WIDTH], "counts": [100, 40, HEIGHT * WIDTH - 140]},
        {"size": [HEIGHT, WIDTH], "counts": "PP3"},
        [],
        None,
    ]
    annotations = [
        {
            "id": number,
            "image_id": 1 + number % IMAGES,
            "category_id": (1, 3)[number % 2],
            "bbox": [2 + number, 3, 10.5, 9],
            "area": 94.5,
            "iscrowd": int(isinstance(mask, dict)),
            "segmentation": mask,
        }
        for number, mask in enumerate(masks, start=1)
    ]
    images = [
        {
            "id": number,
            "file_name": f"{number}.png",
            "width": WIDTH,
            "height": HEIGHT,
            "license": 1,
            "flickr_url": "http://host/1",
        }
        for number in range(1, IMAGES + 1)
    ]
    categories = [{"id": 1, "name": "red", "supercategory": "colour"}, {"id": 3, "name": "blue"}]
    return {
        "info": {"description": "three images", "seed": 0},
        "licenses": [{"id": 1, "name": "by", "url": "http://host/by"}],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def use(dataset: CocoDataset, random: Random) -> None:
    """Score detections against a set, learn on it, batch it; only errors of our own may come of that."""
    ids = np.sort(np.array([image.id for image in dataset.images], np.int64))
    categories = np.array([number for number, _ in dataset.categories] or [0], np.int64)
    boxes = np.tile(np.array([[3.0, 3, 13, 12]]), (len(ids), 1))
    found = Predictions(ids, boxes, np.full(len(ids), 0.5), np.resize(categories, len(ids)))
    epoch = random.choice((0, RECIPES[0].run.epochs - 1))  # with mosaics, or without
    attempts: list[Callable[[], object]] = [
        lambda: coco_metrics(dataset.ground_truth(), found, judge=random.random() < 0.2),
        lambda: learn(dataset, RECIPES[0], epoch),
        lambda: learn(dataset, RECIPES[1], epoch),
        lambda: [batch.images for batch in Batches(dataset, PROTOCOLS["yolov9"], 2, skip_corrupt=True)],
    ]
    for attempt in attempts:
        try:
            attempt()
        except DatasetError as error:
            assert str(error)
    str(dataset)
    repr([dataset.credits, dataset.description]).encode()


def learn(dataset: CocoDataset, recipe: Recipe, epoch: int) -> None:
    """One augmented sample, whose boxes lie in it."""
    learned = training_set(dataset, recipe.augmentation.mask_refine)
    sample = training_sample(learned, 0, recipe, seed=0, epoch=epoch)
    assert sample.pixels.shape == (64, 64, 3) and np.isfinite(sample.boxes).all()
    assert len(sample.boxes) == 0 or (sample.boxes.min() >= 0 and sample.boxes.max() <= 64)


def images_in(folder: Path) -> Any:
    """An attack on the image reader, in every format that it knows."""
    sources, file = [*encoded_images().values()], folder / "image.png"

    def attack(random: Random) -> str:
        file.write_bytes(mutated_bytes(random.choice(sources), random))
        pixels = read_image(file)
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size > 0
        return "decoded"

    return attack


def encoded_images() -> dict[str, bytes]:
    """One small image in many formats and variants."""
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    image, found = Image.fromarray(pixels), {}
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was turned by a quarter
    frames = [Image.fromarray(np.roll(pixels, shift, axis=1)) for shift in (8, 16)]
    variants: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "jpeg": (image, "JPEG", {}),
        "progressive jpeg": (image, "JPEG", {"progressive": True}),
        "cmyk jpeg": (image.convert("CMYK"), "JPEG", {}),
        "grey jpeg": (image.convert("L"), "JPEG", {}),
        "turned jpeg": (image, "JPEG", {"exif": turned}),
        "png": (image, "PNG", {}),
        "palette png": (image.convert("P"), "PNG", {}),
        "alpha png": (image.convert("RGBA"), "PNG", {}),
        "one bit png": (image.convert("1"), "PNG", {}),
        "animated png": (image, "PNG", {"save_all": True, "append_images": frames}),
        "animated gif": (image, "GIF", {"save_all": True, "append_images": frames}),
        "webp": (image, "WEBP", {}),
        "animated webp": (image, "WEBP", {"save_all": True, "append_images": frames}),
        "bmp": (image, "BMP", {}),
        "tiff": (image, "TIFF", {"compression": "tiff_lzw"}),
    }
    for name, (source, form, options) in variants.items():
        written = io.BytesIO()
        source.save(written, form, **options)
        found[name] = written.getvalue()
    found["deep png"] = cv2.imencode(".png", pixels.astype(np.uint16) * 257)[1].tobytes()
    found["jpeg 2000"] = cv2.imencode(".jp2", np.tile(pixels, (4, 3, 1)))[1].tobytes()
    return found
