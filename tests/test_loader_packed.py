"""Flat arrays in place of an object an image: the same to the bit, and small to send to a worker."""

from multiprocessing import resource_sharer
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolov9bench.data.coco import read_coco
from yolov9bench.data.packed import bytes_of
from yolov9bench.data.packed import shared as in_shared_memory
from yolov9bench.data.polygons import Objects, objects_of
from yolov9bench.data.training_set import TrainingSet, pack_training_set, training_set

PIPE = 65536  # bytes that Linux keeps for a reader: a worker that dies before it reads more blocks its parent


def assert_same(found: Objects, expected: Objects) -> None:
    for one, other in ((found.boxes, expected.boxes), (found.labels, expected.labels)):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    assert found.left_out == expected.left_out
    for polygon, plain in zip(found.polygons, expected.polygons, strict=True):
        if polygon is None or plain is None:
            assert polygon is plain
        else:
            assert (polygon.dtype, polygon.shape) == (plain.dtype, plain.shape)
            assert polygon.tobytes() == plain.tobytes()


def random_objects(generator: np.random.Generator) -> Objects:
    """None to eight objects, half of them with a polygon of three to sixty points."""
    count = int(generator.integers(9))
    polygons = [
        generator.normal(size=(int(generator.integers(3, 61)), 2)).astype(np.float32)
        if generator.random() < 0.5
        else None
        for _ in range(count)
    ]
    reasons: Any = generator.choice(["crowd", "empty", "outside", "without polygon"], generator.integers(3))
    return Objects(
        boxes=generator.normal(size=(count, 4)).astype(np.float32),
        labels=generator.integers(80, size=count),
        polygons=tuple(polygons),
        left_out=tuple(reasons.tolist()),
    )


def random_set(count: int) -> tuple[TrainingSet, list[Path], list[tuple[int, int]], list[Objects]]:
    generator = np.random.default_rng(7)
    objects = [random_objects(generator) for _ in range(count)]
    paths = [Path(f"folder/bäckerei {number}.jpg") for number in range(count)]
    sizes = [(int(height), int(width)) for height, width in generator.integers(1, 9999, (count, 2))]
    return pack_training_set(paths, sizes, objects), paths, sizes, objects


@pytest.mark.parametrize("is_shared", [False, True])
def test_random_objects_come_out_as_they_went_in(is_shared: bool) -> None:
    packed, paths, sizes, objects = random_set(60)
    if is_shared:
        packed = in_shared_memory(packed)
    assert len(packed) == len(packed.objects) == 60
    assert list(packed.paths) == paths
    assert packed.sizes.tolist() == [list(size) for size in sizes]
    for found, expected in zip(packed.objects, objects, strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("mask_refine", [False, True])
def test_real_annotations_are_those_of_each_image(shared: Path, mask_refine: bool) -> None:
    dataset = read_coco(shared / "coco", "train2017", limit=80)
    packed = training_set(dataset, mask_refine)
    label_of = {number: label for label, (number, _) in enumerate(dataset.categories)}
    counted = 0
    for found, image, path in zip(packed.objects, dataset.images, packed.paths, strict=True):
        entries = [entry for entry in dataset.annotations if entry["image_id"] == image.id]
        assert_same(found, objects_of(entries, label_of, image.width, image.height, mask_refine))
        assert path == dataset.image_path(image)
        counted += len(found.labels)
    assert counted > 400


def test_nothing_may_be_written_over() -> None:
    packed = in_shared_memory(random_set(20)[0])
    objects = next(each for each in packed.objects if len(each.boxes))
    with pytest.raises(ValueError, match="read-only"):
        objects.boxes[0, 0] = 1


def test_thousands_of_images_are_a_small_pickle() -> None:
    """A tenth of the pipe, so that what DataLoader sends beside it fits as well."""
    packed = random_set(3000)[0]
    assert bytes_of(packed) > 2_000_000
    try:
        assert len(ForkingPickler.dumps(in_shared_memory(packed))) < PIPE / 10
    finally:
        resource_sharer.stop()  # it would wait for a worker that fetches them
