"""What a training learns on: counted by reason, said, and refused where nothing is left."""

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.data.loader import TrainingBatches
from yolov9bench.data.polygons import objects_of
from yolov9bench.data.training_set import training_set
from yolov9bench.errors import DatasetError
from yolov9bench.train import trainer
from yolov9bench.train.job import Job, recipe_for
from yolov9bench.zoo import ROWS
from yolov9bench.zoo.recipes import YOLOV8_N, YOLOV9

BOXES = YOLOV8_N.varied(augmentation={"image_size": 64})
MASKS = YOLOV9.varied(augmentation={"image_size": 64})
SQUARE = [[5, 5, 15, 5, 15, 15, 5, 15]]

# What becomes of each of tiny's six objects of 20 x 20 pixels, worked out by hand.
CHANGES: dict[str, dict[str, Any]] = {
    "crowd": {"iscrowd": 1},
    "crowd as text": {"iscrowd": "1"},
    "crowd outside": {"iscrowd": 1, "bbox": [500, 5, 20, 20]},
    "no area": {"area": 0},
    "negative area": {"area": -400},
    "negative sides": {"bbox": [30, 30, -20, -20]},
    "under a pixel": {"bbox": [5, 5, 0.9, 20]},
    "right of it": {"bbox": [500, 5, 20, 20]},
    "above it": {"bbox": [5, -20, 20, 20]},
    "over the edge": {"bbox": [-5, -5, 20, 20]},
    "kept": {},
}


def changed(root: Path, *changes: str | dict[str, Any]) -> CocoDataset:
    """`tiny` with one change after the other to its annotations, the rest as they are."""
    path = root / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    for entry, change in zip(content["annotations"], changes, strict=False):
        entry |= CHANGES[change] if isinstance(change, str) else change
    path.write_text(json.dumps(content))
    return read_coco(root, "val")


def said(caplog: pytest.LogCaptureFixture, dataset: CocoDataset, recipe: Any = BOXES) -> str:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        training_set(dataset, recipe.augmentation.mask_refine)
    (line,) = [record.getMessage() for record in caplog.records if "learning on" in record.getMessage()]
    return line


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ((), "learning on 6 of 6 objects"),
        (("over the edge", "kept"), "learning on 6 of 6 objects"),
        (("crowd", "crowd as text", "crowd outside"), "learning on 3 of 6 objects (3 crowd)"),
        (("no area", "negative area", "under a pixel"), "learning on 3 of 6 objects (3 empty)"),
        (("negative sides",), "learning on 5 of 6 objects (1 empty)"),
        (("right of it", "above it"), "learning on 4 of 6 objects (2 outside)"),
        (
            ("crowd", "no area", "above it", "under a pixel"),
            "learning on 2 of 6 objects (1 crowd, 2 empty, 1 outside)",
        ),
    ],
)
def test_what_is_left_out_is_counted_by_reason(
    tiny: Path, changes: tuple[str, ...], sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert said(caplog, changed(tiny, *changes)) == sentence


def test_objects_without_a_polygon_are_counted_where_masks_make_the_boxes(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An image loses only the objects beside one with a polygon, as polygons.objects_of says."""
    shared_image = {"image_id": 1, "bbox": [5, 5, 10, 10]}
    dataset = changed(tiny, {"segmentation": SQUARE}, shared_image, shared_image, "crowd")
    assert said(caplog, dataset, MASKS) == "learning on 3 of 6 objects (1 crowd, 2 without polygon)"
    assert said(caplog, dataset, BOXES) == "learning on 5 of 6 objects (1 crowd)"


def test_every_annotation_is_learned_or_has_a_reason(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    """On the slice of train2017: 17 crowds, counted with a condition of its own."""
    dataset = read_coco(shared / "coco", "train2017")
    crowds = sum(entry["iscrowd"] for entry in dataset.annotations)
    assert crowds == 17
    for recipe in (BOXES, MASKS):
        images = training_set(dataset, recipe.augmentation.mask_refine)
        learned = sum(len(objects.labels) for objects in images.objects)
        left_out = [reason for objects in images.objects for reason in objects.left_out]
        assert learned + len(left_out) == len(dataset.annotations) == 1794
        assert left_out.count("crowd") == crowds


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("no area", "6 empty"),
        ("negative sides", "6 empty"),
        ("crowd", "6 crowd"),
        ("crowd as text", "6 crowd"),
        ("right of it", "6 outside"),
    ],
)
@pytest.mark.parametrize(
    "learn",
    [
        lambda data: training_set(data, BOXES.augmentation.mask_refine),
        lambda data: TrainingBatches(data, MASKS, 2, seed=0),
    ],
)
def test_a_set_that_teaches_nothing_is_refused(
    tiny: Path, learn: Callable[[CocoDataset], object], change: str, reason: str
) -> None:
    dataset = changed(tiny, *[change] * 6)
    with pytest.raises(DatasetError, match=rf"the split val of .* learning on 0 of 6 objects \({reason}\)"):
        learn(dataset)


def test_iscrowd_as_a_text_is_learned_on_as_the_number(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert said(caplog, changed(tiny, *[{"iscrowd": "0"}] * 6)) == "learning on 6 of 6 objects"


def test_no_step_is_taken_on_nothing(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validation = read_coco(tiny, "val")
    nothing = changed(tiny, *["no area"] * 6)
    steps: list[object] = []
    monkeypatch.setattr(trainer, "fit", lambda *given, **named: steps.append(given))
    row = ROWS["yolov8-n"]
    recipe = recipe_for(row, "demo", epochs=1, image_size=64)
    job = Job(row, recipe, nothing, validation, tmp_path / "run")
    with pytest.raises(DatasetError, match="learning on 0 of 6 objects"):
        trainer.train(job)
    assert not steps and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "segmentation",
    [
        [[5, 5, 15, 5, 15, math.nan]],
        [[5, 5, 15, 5, 15, None]],
        [[5, 5, 15, 5, 15, 1e39]],  # infinite in float32
        [["a", "b", "c", "d", "e", "f"]],
        [5, 5, 15, 5, 15, 15],
        [[5, 5, 15, 5, 15, 10**400]],
    ],
)
def test_a_polygon_of_anything_but_finite_numbers_is_refused_by_its_annotation(segmentation: Any) -> None:
    right = {"bbox": [5, 5, 10, 10], "area": 100, "iscrowd": 0, "category_id": 1, "segmentation": SQUARE}
    wrong = right | {"id": 12, "segmentation": segmentation}
    with pytest.raises(DatasetError, match="annotation 12 has a"):
        objects_of([right, wrong], {1: 0}, 64, 48, mask_refine=True)
    assert len(objects_of([right, wrong], {1: 0}, 64, 48, mask_refine=False).labels) == 2


def test_a_box_that_is_infinite_in_float32_is_refused() -> None:
    entry = {"id": 12, "bbox": [5, 5, 1e39, 10], "area": 100, "iscrowd": 0, "category_id": 1}
    with pytest.raises(DatasetError, match=r"annotation 12 has .* not finite in float32"):
        objects_of([entry], {1: 0}, 64, 48, mask_refine=False)
