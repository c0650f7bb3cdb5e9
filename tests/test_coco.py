"""Reading COCO-format folders: a tiny one made here, and the real slice of the shared material."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yolov9bench.data.coco import label_categories, read_coco
from yolov9bench.errors import DatasetError

CROWD = {"counts": [3, 5, 4], "size": [4, 3]}


def image(number: int, file_name: str) -> dict[str, Any]:
    return {"id": number, "file_name": file_name, "width": 3, "height": 4, "licence": 1}


def box(number: int, image_id: int, category_id: int, **more: Any) -> dict[str, Any]:
    plain = {"bbox": [0, 1, 2, 3], "area": 6, "iscrowd": 0}
    return {"id": number, "image_id": image_id, "category_id": category_id, **plain, **more}


def tiny() -> dict[str, Any]:
    """Three images and three categories, both out of order, one image in a subfolder."""
    return {
        "images": [image(30, "c.jpg"), image(4, "deep/a.jpg"), image(7, "b.jpg")],
        "annotations": [box(1, 30, 90), box(2, 4, 18, iscrowd=1, segmentation=CROWD), box(3, 7, 90)],
        "categories": [{"id": 90, "name": "bat"}, {"id": 18, "name": "Dog"}, {"id": 21, "name": "cow "}],
    }


def write(root: Path, content: Any) -> Path:
    for name in ("deep/a.jpg", "b.jpg", "c.jpg"):
        image = root / "val" / name
        image.parent.mkdir(parents=True, exist_ok=True)
        image.touch()
    (root / "annotations").mkdir()
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "annotations" / "instances_val.json").write_text(text)
    return root


def test_images_and_categories_come_in_ascending_id(tmp_path: Path) -> None:
    dataset = read_coco(write(tmp_path, tiny()), "val")
    assert [(entry.id, entry.file_name) for entry in dataset.images] == [
        (4, "deep/a.jpg"),
        (7, "b.jpg"),
        (30, "c.jpg"),
    ]
    assert dataset.categories == ((18, "Dog"), (21, "cow "), (90, "bat"))
    assert dataset.names == ("Dog", "cow ", "bat")
    assert dataset.image_path(dataset.images[0]) == tmp_path / "val" / "deep" / "a.jpg"
    assert dataset.annotations == tiny()["annotations"]
    content = (tmp_path / "annotations" / "instances_val.json").read_bytes()
    assert dataset.annotations_sha256 == hashlib.sha256(content).hexdigest()
    assert dataset.image_list_sha256 == hashlib.sha256(b"4 deep/a.jpg\n7 b.jpg\n30 c.jpg").hexdigest()


def test_a_limit_takes_the_first_ids_and_their_boxes(tmp_path: Path) -> None:
    dataset = read_coco(write(tmp_path, tiny()), "val", limit=2)
    assert [entry.id for entry in dataset.images] == [4, 7]
    assert dataset.image_list_sha256 == hashlib.sha256(b"4 deep/a.jpg\n7 b.jpg").hexdigest()
    truth = dataset.ground_truth()
    assert [entry["id"] for entry in truth["annotations"]] == [2, 3]
    assert truth["annotations"][0]["segmentation"] == CROWD
    assert truth["images"][1] == {"id": 7, "file_name": "b.jpg", "width": 3, "height": 4}
    assert truth["categories"][0] == {"id": 18, "name": "Dog"}
    (tmp_path / "val" / "c.jpg").unlink()  # not in use
    assert read_coco(tmp_path, "val", limit=2) == dataset


def change(content: dict[str, Any], kind: str, position: int, **values: Any) -> dict[str, Any]:
    content[kind][position].update(values)
    return content


def without(content: dict[str, Any], kind: str, key: str | None = None) -> dict[str, Any]:
    if key is None:
        del content[kind]
    else:
        del content[kind][1][key]
    return content


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"images": ', "instances_val.json is not JSON"),
        ("[]", "no list 'images'"),
        (without(tiny(), "categories"), "no list 'categories'"),
        (without(tiny(), "images", "width"), "lacks 'width' in entry 1 of 'images'"),
        (without(tiny(), "annotations", "bbox"), "lacks 'bbox' in entry 1 of 'annotations'"),
        ({**tiny(), "images": [3]}, "lacks 'id' in entry 0 of 'images'"),
        ({**tiny(), "images": [], "annotations": []}, "lists no image"),
        (change(tiny(), "images", 0, id=7), "has the id 7 twice in 'images'"),
        (change(tiny(), "images", 0, id="7"), "has the id '7' in 'images': it must be int"),
        (change(tiny(), "annotations", 0, id=2), "has the id 2 twice in 'annotations'"),
        (change(tiny(), "categories", 0, name="Dog"), "has the name 'Dog' twice in 'categories'"),
        (change(tiny(), "annotations", 2, image_id=8), "has annotation 3 with image_id 8, which it lacks"),
        (change(tiny(), "annotations", 2, category_id=8), "has annotation 3 with category_id 8, which"),
    ],
)
def test_a_file_in_another_format_is_refused(tmp_path: Path, content: Any, sentence: str) -> None:
    with pytest.raises(DatasetError) as refusal:
        read_coco(write(tmp_path, content), "val")
    assert sentence in str(refusal.value)


def remove_images(root: Path) -> None:
    (root / "val" / "b.jpg").unlink()
    (root / "val" / "c.jpg").unlink()


@pytest.mark.parametrize(
    ("arguments", "spoil", "sentence"),
    [
        ({"limit": 0}, None, "limit is 0"),
        (
            {"split": "train"},
            None,
            "instances_train.json (found beside it: instances_val.json): choose another",
        ),
        ({}, lambda root: (root / "annotations" / "instances_val.json").unlink(), "no instances_*.json"),
        ({}, remove_images, "lacks 2 of 3 images, first b.jpg"),
        ({"root": Path("/nowhere/coco")}, None, "There is no data set folder /nowhere/coco"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, arguments: dict[str, Any], spoil: Callable[[Path], None] | None, sentence: str
) -> None:
    root = write(tmp_path, tiny())
    if spoil:
        spoil(root)
    with pytest.raises(DatasetError) as refusal:
        read_coco(**{"root": root, "split": "val", **arguments})
    assert sentence in str(refusal.value)


def test_labels_find_their_category_by_name_or_by_order(tmp_path: Path) -> None:
    dataset = read_coco(write(tmp_path, tiny()), "val")
    assert label_categories(dataset, None, 3) == (18, 21, 90)
    assert label_categories(dataset, {0: "bat", 1: "Dog", 2: "cow "}, 3) == (90, 18, 21)
    assert label_categories(dataset, {2: "BAT", 0: "dog", 1: " Cow"}, 3) == (18, 21, 90)


def test_an_exact_name_goes_before_a_like_one(tmp_path: Path) -> None:
    content = change(tiny(), "categories", 0, name="dog")
    dataset = read_coco(write(tmp_path, content), "val")
    assert label_categories(dataset, {0: "dog", 1: "Dog", 2: "cow"}, 3) == (90, 18, 21)


@pytest.mark.parametrize(
    ("names", "num_classes", "sentence"),
    [
        (None, 80, "has 80 unnamed classes"),
        ({0: "ball"}, 1, "(the data set lacks 'ball' and the detector lacks 'Dog', 'cow ', 'bat')"),
        ({0: "bat", 1: "dog"}, 2, "(the detector lacks 'cow ')"),
        ({0: "bat", 1: "dog", 2: "cow", 3: "Cow"}, 4, "(two classes have one name)"),
        ({0: "bat", 1: "dog"}, 3, "names 2 of its 3 classes"),
        ({1: "bat", 2: "dog", 3: "cow"}, 3, "name each from 0 up"),
    ],
)
def test_another_detector_is_refused(
    tmp_path: Path, names: dict[int, str] | None, num_classes: int, sentence: str
) -> None:
    dataset = read_coco(write(tmp_path, tiny()), "val")
    with pytest.raises(DatasetError) as refusal:
        label_categories(dataset, names, num_classes)
    assert sentence in str(refusal.value)


def test_a_ball_detector_does_not_fit_coco(shared: Path) -> None:
    dataset = read_coco(shared / "coco")
    with pytest.raises(DatasetError, match=r"lacks 'ball' and .*'person', .* and 75 more") as refusal:
        label_categories(dataset, {0: "ball"}, 1)
    assert "80 categories" in str(refusal.value)


@pytest.mark.parametrize(
    ("split", "images", "annotations", "crowds"), [("val2017", 100, 785, 7), ("train2017", 200, 1794, 17)]
)
def test_the_real_slice(shared: Path, split: str, images: int, annotations: int, crowds: int) -> None:
    dataset = read_coco(shared / "coco", split)
    assert (len(dataset.images), len(dataset.annotations)) == (images, annotations)
    masks = [entry["segmentation"] for entry in dataset.annotations if entry["iscrowd"]]
    assert len(masks) == crowds
    assert all(isinstance(mask["counts"], list) for mask in masks)
    assert dataset.categories[0] == (1, "person")
    assert dataset.categories[-1] == (90, "toothbrush")
    assert label_categories(dataset, dict(enumerate(dataset.names)), 80)[11] == 13  # COCO has no category 12


def test_a_limit_on_the_real_slice(shared: Path) -> None:
    dataset = read_coco(shared / "coco", limit=10)
    expected = [802, 6818, 17627, 18575, 22192, 25560, 25603, 30213, 47112, 55299]
    assert [entry.id for entry in dataset.images] == expected
    assert len(dataset.annotations) == 99
    assert {entry["image_id"] for entry in dataset.annotations} <= set(expected)
