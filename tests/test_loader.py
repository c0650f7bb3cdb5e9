"""Training batches: the same on every run, every image once, and what is painted red stays in a red box."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import with_numbers
from torch import Tensor

from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.data.loader import TrainingBatches
from yolov9bench.data.loading import Loading
from yolov9bench.data.training_sample import training_sample
from yolov9bench.data.training_set import training_set
from yolov9bench.data.transforms import Sample
from yolov9bench.errors import DatasetError
from yolov9bench.zoo.recipe import Recipe
from yolov9bench.zoo.recipes import RECIPES, YOLOV8_N, YOLOV9

SMALL = YOLOV9.varied(augmentation={"image_size": 64})
PLAIN = YOLOV8_N.varied(
    augmentation={"image_size": 64, "rare_filter_prob": 0.0}
)  # no mixup, and colours that stay what they are
# Leaves nothing to chance but the mosaic.
CALM = PLAIN.varied(
    augmentation={
        "scale_range": (1.0, 1.0),
        "translate": 0.0,
        "hsv_gains": (0.0, 0.0, 0.0),
        "hflip_prob": 0.0,
    }
)
CLOSING = YOLOV9.run.epochs - YOLOV9.augmentation.close_mosaic


@pytest.fixture
def dataset(tiny: Path) -> CocoDataset:
    return read_coco(tiny, "val")


def equal(one: Sample, other: Sample) -> bool:
    return (
        np.array_equal(one.pixels, other.pixels)
        and np.array_equal(one.boxes, other.boxes)
        and np.array_equal(one.labels, other.labels)
    )


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(images, others) and torch.equal(targets, other_targets)
        for (images, targets), (others, other_targets) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("epoch", [0, CLOSING])
def test_a_sample_depends_on_seed_epoch_and_image_alone(dataset: CocoDataset, epoch: int) -> None:
    source = training_set(dataset, SMALL.augmentation.mask_refine)
    first = training_sample(source, 2, SMALL, 5, epoch)
    training_sample(source, 3, SMALL, 5, epoch)
    assert equal(first, training_sample(source, 2, SMALL, 5, epoch))
    for index, seed, other in ((3, 5, epoch), (2, 6, epoch), (2, 5, epoch + 1)):
        assert not equal(first, training_sample(source, index, SMALL, seed, other))


def test_batches_hold_the_samples_in_rgb(dataset: CocoDataset) -> None:
    batches = TrainingBatches(dataset, SMALL, 4, seed=1, epoch=3)
    source = training_set(dataset, SMALL.augmentation.mask_refine)
    samples = [training_sample(source, index, SMALL, 1, 3) for index in range(6)]
    found = []
    for images, targets in batches:
        assert images.dtype == torch.uint8 and targets.dtype == torch.float32
        for number, image in enumerate(images):
            bgr = image.numpy().transpose(1, 2, 0)[..., ::-1]
            (index,) = (i for i, sample in enumerate(samples) if np.array_equal(sample.pixels, bgr))
            rows = targets[targets[:, 0] == number].numpy()
            assert np.array_equal(rows[:, 1], samples[index].labels)
            assert np.array_equal(rows[:, 2:], samples[index].boxes)
            found.append(index)
    assert sorted(found) == list(range(6)) and found != sorted(found)
    assert len(batches) == 2


def test_the_order_is_shuffled_anew_in_each_epoch(dataset: CocoDataset) -> None:
    still = with_numbers(CALM, mosaic_prob=0.0)  # an image looks the same in every epoch
    epochs = [list(TrainingBatches(dataset, still, 1, seed=1, epoch=epoch)) for epoch in range(3)]
    seen = [[images.numpy().tobytes() for images, _ in epoch] for epoch in epochs]
    assert len(set(seen[0])) == 6
    assert sorted(seen[0]) == sorted(seen[1]) == sorted(seen[2])
    assert len({tuple(order) for order in seen}) == 3


def test_every_step_of_the_recipe_takes_part(tiny: Path) -> None:
    path = tiny / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        entry["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]
    path.write_text(json.dumps(content))
    source = training_set(read_coco(tiny, "val"), YOLOV9.augmentation.mask_refine)
    calm = with_numbers(CALM, mask_refine=True, scale_range=(0.5, 0.5), copy_paste_overlap=2.0)

    def samples(**changed: Any) -> list[Sample]:
        return [training_sample(source, index, with_numbers(calm, **changed), 0, 0) for index in range(6)]

    before = samples()
    assert all(len(sample.labels) <= 4 for sample in before)  # four tiles with an object each
    assert any(len(sample.labels) > 4 for sample in samples(copy_paste=1.0))
    assert any(len(sample.labels) > 4 for sample in samples(mixup_prob=1.0))
    assert all(np.ptp(sample.pixels, axis=2).max() <= 3 for sample in samples(rare_filter_prob=1.0))
    assert all((sample.pixels == 114).all(axis=2).any() for sample in before)
    assert not any((sample.pixels == 114).all(axis=2).any() for sample in samples(hsv_gains=(0, 0, 0.9)))
    for old, new in zip(before, samples(hflip_prob=1.0), strict=True):
        assert np.array_equal(old.pixels[:, ::-1], new.pixels)
        x1, y1, x2, y2 = old.boxes.T
        np.testing.assert_allclose(new.boxes.T, np.stack([64 - x2, y1, 64 - x1, y2]))


def test_orders_differ_from_epoch_to_epoch(dataset: CocoDataset) -> None:
    batches = TrainingBatches(dataset, SMALL, 4, seed=1)
    first = list(batches)
    assert [len(images) for images, _ in first] == [4, 2]  # the rest is not dropped
    assert same(first, list(batches))
    batches.set_epoch(1)
    second = list(batches)
    assert not same(first, second)
    assert same(second, list(TrainingBatches(dataset, SMALL, 4, seed=1, epoch=1)))
    assert not same(first, list(TrainingBatches(dataset, SMALL, 4, seed=2)))


@pytest.mark.slow
def test_workers_and_a_later_start_change_nothing(dataset: CocoDataset) -> None:
    alone = {epoch: list(TrainingBatches(dataset, SMALL, 2, seed=1, epoch=epoch)) for epoch in (0, CLOSING)}
    batches = TrainingBatches(dataset, SMALL, 2, seed=1, loading=Loading(workers=2))
    state = torch.random.get_rng_state()
    assert same(list(batches), alone[0])
    batches.set_epoch(CLOSING)
    assert same(list(batches), alone[CLOSING])
    next(iter(batches))  # and given up
    batches.set_epoch(0, start=1)
    assert len(batches) == 2
    assert same(list(batches), alone[0][1:])
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4])
def test_a_resumed_epoch_is_the_rest_of_it(dataset: CocoDataset, start: int) -> None:
    whole = list(TrainingBatches(dataset, SMALL, 2, seed=0, epoch=7))
    batches = TrainingBatches(dataset, SMALL, 2, seed=0, epoch=7, start=start)
    assert len(batches) == max(3 - start, 0)
    assert same(list(batches), whole[start:])


@pytest.mark.parametrize("name", RECIPES)
def test_boxes_alone_serve_every_recipe(dataset: CocoDataset, name: str) -> None:
    recipe = RECIPES[name].varied(augmentation={"image_size": 64})
    for epoch in (0, recipe.run.epochs - 1):
        ((images, targets),) = TrainingBatches(dataset, recipe, 6, seed=0, epoch=epoch)
        assert images.shape == (6, 3, 64, 64)
        assert len(targets) >= 4
        boxes = targets[:, 2:]
        assert (boxes[:, 2:] - boxes[:, :2] > 2).all() and (boxes >= 0).all() and (boxes <= 64).all()


@pytest.mark.parametrize("epoch", [0, CLOSING + 5])
def test_red_boxes_hold_red_and_blue_ones_blue(dataset: CocoDataset, epoch: int) -> None:
    checked = 0
    for seed in range(6):
        for images, targets in TrainingBatches(dataset, PLAIN, 3, seed=seed, epoch=epoch):
            for image, label, x1, y1, x2, y2 in targets.tolist():
                centre = images[int(image), :, int((y1 + y2) / 2), int((x1 + x2) / 2)].tolist()
                red, _, blue = centre
                assert (red > blue + 50) if label == 0 else (blue > red + 50), (label, centre)
                checked += 1
    assert checked > 30


def test_the_last_epochs_show_single_images(dataset: CocoDataset) -> None:
    source = training_set(dataset, PLAIN.augmentation.mask_refine)

    def most(epoch: int) -> int:
        return max(len(training_sample(source, index, PLAIN, 0, epoch).labels) for index in range(6))

    assert most(489) > 1
    assert most(490) == 1
    last = training_sample(source, 5, CALM, 0, 499)  # 88 high, 60 wide: padded at the sides
    assert last.pixels[32, 2].tolist() == [114, 0, 0]
    # left 24, top 18, side 20, scaled by 64 / 88 and moved by half of 64 - int(60 * 64 / 88)
    x, y, side = 24 * 43 / 60 + 10, 18 * 64 / 88, 20 * 64 / 88
    np.testing.assert_allclose(last.boxes, [[x, y, x + 20 * 43 / 60, y + side]], atol=1e-3)


def test_without_mosaic_every_epoch_shows_single_images(dataset: CocoDataset) -> None:
    recipe = PLAIN.varied(augmentation={"mosaic_prob": 0.0})
    source = training_set(dataset, recipe.augmentation.mask_refine)
    assert all(len(training_sample(source, index, recipe, 0, 0).labels) <= 1 for index in range(6))


def test_labels_follow_ascending_category_and_bare_images_stay(tiny: Path) -> None:
    path = tiny / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    content["categories"] = [{"id": 90, "name": "blue"}, {"id": 7, "name": "red"}]
    for entry in content["annotations"]:
        entry["category_id"] = {1: 7, 2: 90}[entry["category_id"]]
    content["annotations"] = content["annotations"][1:]
    path.write_text(json.dumps(content))
    source = training_set(read_coco(tiny, "val"), SMALL.augmentation.mask_refine)
    assert [objects.labels.tolist() for objects in source.objects] == [[], [0], [1], [0], [1], [0]]
    assert len(source) == 6


@pytest.mark.parametrize("epoch", [0, CLOSING])
def test_a_batch_without_objects_has_no_rows(tiny: Path, epoch: int) -> None:
    path = tiny / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "annotations": content["annotations"][:1]}))
    single = SMALL.varied(augmentation={"mosaic_prob": 0.0})  # so that the one object is on one image
    batches = list(TrainingBatches(read_coco(tiny, "val"), single, 1, seed=0, epoch=epoch))
    bare = [targets for _, targets in batches if not len(targets)]
    assert len(batches) == 6 and len(bare) == 5
    for targets in bare:
        assert targets.shape == (0, 6) and targets.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_one_sentence(tiny: Path, dataset: CocoDataset, workers: int) -> None:
    (tiny / "val/000003.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"^image 000003\.png cannot be decoded: [^\n]*$"):
        list(TrainingBatches(dataset, SMALL, 6, seed=0, loading=Loading(workers=workers)))


def test_an_image_of_another_size_than_annotated_is_refused(tiny: Path, dataset: CocoDataset) -> None:
    (tiny / "val/000003.png").write_bytes((tiny / "val/000004.png").read_bytes())
    with pytest.raises(DatasetError, match=r"000003\.png is 72 x 72, but annotated as 78 x 64, so its boxes"):
        list(TrainingBatches(dataset, SMALL, 6, seed=0))


@pytest.mark.parametrize("recipe", [YOLOV8_N, RECIPES["yolov8-l-mask-refine"], YOLOV9])
def test_real_images_become_batches(shared: Path, recipe: Recipe) -> None:
    dataset = read_coco(shared / "coco", "train2017", limit=12)
    for epoch in (0, recipe.run.epochs - 1):
        ((images, targets),) = TrainingBatches(
            dataset, recipe.varied(augmentation={"image_size": 128}), 12, 0, epoch
        )
        assert images.shape == (12, 3, 128, 128)
        assert len(targets) > 20
        assert targets[:, 1].max() < 80
        assert targets[:, 2:].min() >= 0 and targets[:, 2:].max() <= 128
