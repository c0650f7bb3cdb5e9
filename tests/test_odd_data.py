"""Odd annotation files and names: nothing ends in a traceback, nothing is read outside, all is told."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yolov9bench import __main__ as door
from yolov9bench.config import ReproduceConfig
from yolov9bench.data.check import check_data
from yolov9bench.data.coco import read_coco
from yolov9bench.data.training_set import training_set
from yolov9bench.errors import DatasetError, MetricsError
from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.predict.predictions import predictions_from_rows
from yolov9bench.reproduce import build_job, make_plan

Entry = dict[str, Any]
SQUARE = [5, 5, 15, 5, 15, 15, 5, 15]


def rewrite(root: Path, change: Callable[[Entry], object]) -> Path:
    file = root / "annotations/instances_val.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return root


def update(root: Path, kind: str, position: int = 2, **values: Any) -> Path:
    return rewrite(root, lambda content: content[kind][position].update(values))


def rename(root: Path, to: Callable[[str], str]) -> Path:
    def change(content: Entry) -> None:
        for image in content["images"]:
            image["file_name"] = to(image["file_name"])

    return rewrite(root, change)


def refusal(root: Path) -> str:
    with pytest.raises(DatasetError) as refused:
        read_coco(root, "val")
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    "mask",
    [
        3,
        "polygon",
        [3],
        SQUARE,
        [["5", "5", "15", "5", "15", "15"]],
        [[[5, 5], [15, 5], [15, 15]]],
        [[5, 5, 15, 5, 15, None]],
        [[5, 5, 15, 5, 15, float("nan")]],
        [[5, 5, 15, 5, 15, 10**400]],
        [[5, 5, 15, 5, 15, True]],
        {},
        {"size": [4, 3]},
        {"size": [4, 3], "counts": [3, 5]},
        {"size": [4, 3], "counts": [3, -5, 14]},
        {"size": [4, 3], "counts": [3, 5, "4"]},
        {"size": [4, 3], "counts": ""},
        {"size": [4, 3], "counts": "ÿ"},
        {"size": [4], "counts": [4]},
        {"size": [-4, -3], "counts": [12]},
        {"size": "4 x 3", "counts": [12]},
    ],
)
def test_a_mask_of_another_form_is_refused_on_reading(tiny: Path, mask: Any) -> None:
    said = refusal(update(tiny, "annotations", segmentation=mask))
    assert f"instances_val.json has annotation 3 with segmentation {repr(mask)[:40]}" in said


@pytest.mark.parametrize(
    "mask",
    [
        [],
        [SQUARE, [1, 1, 5, 5]],
        [[1e300] * 8],
        {"size": [4, 3], "counts": [3, 5, 4]},
        {"size": [4, 3], "counts": "354"},
    ],
)
def test_a_mask_in_cocos_form_is_read(tiny: Path, mask: Any, caplog: pytest.LogCaptureFixture) -> None:
    assert read_coco(update(tiny, "annotations", segmentation=mask), "val").annotations[2][
        "segmentation"
    ] == (mask)
    assert not caplog.messages


def test_a_null_mask_is_none_with_a_counted_notice(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    update(update(tiny, "annotations", segmentation=None), "annotations", 4, segmentation=None)
    with caplog.at_level(logging.INFO):
        training_set(read_coco(tiny, "val"), mask_refine=True)
    assert "segmentation of 2 annotations is null, which is read as no mask" in caplog.messages[0]
    assert caplog.messages[-1] == "learning on 6 of 6 objects"


DEEP = json.loads("[" * 900 + "]" * 900)


@pytest.mark.parametrize(
    ("kind", "values", "named"),
    [
        ("images", {"file_name": "\ud800.png"}, r"image 3 with file_name '\ud800.png'"),
        ("categories", {"name": "\ud800"}, r"category 2 with name '\ud800'"),
        ("images", {"width": 10**400}, "image 3 with width 1000"),
        ("images", {"height": 2**20 + 1}, "image 3 with height 1048577"),
        ("images", {"id": {}}, "the id {} in 'images'"),
        ("annotations", {"image_id": {}}, "annotation 3 with image_id {}"),
        ("annotations", {"category_id": [1]}, "annotation 3 with category_id [1]"),
        ("annotations", {"bbox": DEEP}, "annotation 3 with bbox [[[["),
        ("annotations", {"iscrowd": DEEP}, "annotation 3 with iscrowd [[[["),
    ],
)
def test_a_value_that_nothing_can_use_is_named(tiny: Path, kind: str, values: Entry, named: str) -> None:
    assert named in refusal(update(tiny, kind, 1 if kind == "categories" else 2, **values))


def test_a_supercategory_of_any_type_changes_nothing(tiny: Path) -> None:
    update(update(tiny, "categories", 0, supercategory=[1]), "categories", 1, supercategory={"a": 1})
    assert read_coco(tiny, "val").names == ("red", "blue")


def test_a_root_may_have_the_name_of_its_only_class(tiny: Path) -> None:
    """As Roboflow writes a project of one class."""

    def one_class(content: Entry) -> None:
        content["categories"] = [
            {"id": 0, "name": "ball", "supercategory": "none"},
            {"id": 1, "name": "ball", "supercategory": "ball"},
        ]
        for entry in content["annotations"]:
            entry["category_id"] = 1

    assert read_coco(rewrite(tiny, one_class), "val").categories == ((1, "ball"),)


def test_a_class_that_has_a_supercategory_itself_is_no_root(tiny: Path) -> None:
    """Nothing is annotated as blue, and red is of the supercategory blue; yet blue is a colour like red."""

    def as_classes(content: Entry) -> None:
        content["categories"] = [
            {"id": 1, "name": "red", "supercategory": "blue"},
            {"id": 2, "name": "blue", "supercategory": "colour"},
        ]
        for entry in content["annotations"]:
            entry["category_id"] = 1

    assert read_coco(rewrite(tiny, as_classes), "val").names == ("red", "blue")


def test_a_byte_order_mark_is_told(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tiny / "annotations/instances_val.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    read_coco(tiny, "val")
    assert caplog.messages == ["instances_val.json: a byte order mark is passed over"]


def test_a_name_through_a_link_and_up_again_stays_inside(tiny: Path, tmp_path: Path) -> None:
    """The system follows the link before `..`: val/link/../secret.png would be elsewhere/secret.png."""
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    shutil.copy(tiny / "val/000001.png", tmp_path / "elsewhere/secret.png")
    (tiny / "val/link").symlink_to(tmp_path / "elsewhere/deep")
    assert (tiny / "val/link/../secret.png").is_file()
    said = refusal(update(tiny, "images", 0, file_name="link/../secret.png"))
    assert "lacks 1 of 6 images, first link/../secret.png: put them there" in said


@pytest.mark.parametrize("name", ["x" * 300, "http://[x", "http://host/%00", "..", "/", "C:\\"])
def test_a_name_that_the_system_cannot_take_is_a_missing_image(tiny: Path, name: str) -> None:
    assert "lacks 1 of 6 images, first " in refusal(update(tiny, "images", 0, file_name=name))


@pytest.mark.parametrize(
    "to",
    [
        lambda name: f"C:\\data\\set\\val\\{name}",
        lambda name: f"/nowhere/of/another/machine/{name}",
        lambda name: f"https://host/a/b/{name}?width=640",
        lambda name: f"images/val/{name}",
        lambda name: f"val\\{name}",
    ],
)
def test_folders_of_another_place_are_read_past(
    tiny: Path, to: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    """COCO's layout with images/, so that a name's own folders may begin at either of two."""
    (tiny / "images").mkdir()
    (tiny / "val").rename(tiny / "images/val")
    dataset = read_coco(rename(tiny, to), "val")
    places = [dataset.image_path(image) for image in dataset.images]
    assert places == sorted((tiny / "images/val").glob("*.png"))
    (notice,) = caplog.messages
    assert "6 file names are not simply below the images' folder" in notice


def test_an_address_keeps_the_folders_that_are_there(tiny: Path) -> None:
    for folder in ("a", "b"):
        shutil.copytree(tiny / "val", tiny / "val" / folder, ignore=shutil.ignore_patterns("a", "b"))
    update(tiny, "images", 0, file_name="http://host/val/a/000001.png")
    dataset = read_coco(update(tiny, "images", 1, file_name="http://host/val/b/000001.png"), "val")
    places = [dataset.image_path(image) for image in dataset.images[:2]]
    assert places == [tiny / "val/a/000001.png", tiny / "val/b/000001.png"]


def test_an_absolute_name_of_a_file_elsewhere_is_not_another_file(tiny: Path, tmp_path: Path) -> None:
    shutil.copy(tiny / "val/000002.png", tmp_path / "000001.png")
    said = refusal(update(tiny, "images", 0, file_name=str(tmp_path / "000001.png")))
    assert "it lies outside" in said


@pytest.mark.parametrize("linked", ["the data set", "its images"])
def test_an_absolute_name_may_go_past_a_link(tiny: Path, tmp_path: Path, linked: str) -> None:
    """It states in full where the link leads; what lies beside that place stays outside."""
    shutil.copy(tiny / "val/000002.png", tmp_path / "beside.png")
    place = tmp_path / "place"
    if linked == "the data set":
        tiny.rename(place)
        tiny.symlink_to(place)
        images = place / "val"
    else:
        (tiny / "val").rename(place)
        (tiny / "val").symlink_to(place)
        images = place
    dataset = read_coco(rename(tiny, lambda name: str(images / name)), "val")
    assert [dataset.image_path(image) for image in dataset.images] == sorted(images.glob("*.png"))
    said = refusal(update(tiny, "images", 0, file_name=str(tmp_path / "beside.png")))
    assert "lacks 1 of 6 images" in said and "it lies outside" in said


@pytest.mark.parametrize("target", ["nowhere.png", "000001.png"])
def test_a_broken_link_is_called_that(tiny: Path, target: str) -> None:
    (tiny / "val/000001.png").unlink()
    (tiny / "val/000001.png").symlink_to(target)
    assert "000001.png is there as a broken link or no plain file; put the image" in refusal(tiny)


def test_a_folder_in_the_place_of_annotations_is_not_a_file_beside_it(tiny: Path) -> None:
    file = tiny / "annotations/instances_val.json"
    file.unlink()
    file.mkdir()
    assert "found beside it: no instances_*.json" in refusal(tiny)
    with pytest.raises(
        DatasetError, match=r"instances_val\.json cannot be read \(Is a directory\): give a file"
    ):
        read_coco(tiny, "val", annotations=file)


def test_two_addresses_that_would_be_one_file_are_neither(tiny: Path) -> None:
    update(tiny, "images", 0, file_name="http://host/a/000001.png")
    assert "lacks 2 of 6 images" in refusal(update(tiny, "images", 1, file_name="http://host/b/000001.png"))


def test_an_image_in_a_folder_that_the_name_lacks_is_told(tiny: Path) -> None:
    (tiny / "val/sub").mkdir()
    (tiny / "val/000001.png").rename(tiny / "val/sub/000001.png")
    assert "it is there as sub/000001.png; put that folder into its file_name" in refusal(tiny)


def roboflow(root: Path, split: str, name: str) -> None:
    """A split as Roboflow writes it, with files of its own."""
    (root / name).mkdir()
    for image in (root / "val").glob("*.png"):
        (root / name / image.name).write_bytes(image.read_bytes())
    shutil.copy(root / f"annotations/instances_{split}.json", root / name / "_annotations.coco.json")


@pytest.mark.parametrize("split", ["val", "val2017", "valid", "validation"])
def test_roboflows_folder_is_validated_and_trained_on(
    tiny: Path, split: str, caplog: pytest.LogCaptureFixture
) -> None:
    roboflow(tiny, "val", "valid")
    roboflow(tiny, "val", "train")
    shutil.rmtree(tiny / "val")
    shutil.rmtree(tiny / "annotations")
    config = ReproduceConfig(size="t", checkpoint="train", dataset=str(tiny), split=split, device="cpu")
    job = build_job(make_plan(config))
    assert (job.train.folder, job.validation.folder) == (tiny / "train", tiny / "valid")
    assert (job.train.split, job.validation.split) == ("train", "valid")
    assert (f"split {split} is read from valid" in caplog.text) == (split != "valid")


def test_a_set_without_splits_is_not_trained_and_validated_on_at_once(tiny: Path) -> None:
    (tiny / "annotations/instances_val.json").rename(tiny / "annotations/instances_default.json")
    (tiny / "val").rename(tiny / "images")
    assert read_coco(tiny, "val2017").split == "default"
    config = ReproduceConfig(size="t", checkpoint="train", dataset=str(tiny), device="cpu")
    with pytest.raises(DatasetError, match="share 6 of 6 images"):
        build_job(make_plan(config))


def make_dim(path: Path) -> None:
    pixels = cv2.imread(str(path))
    assert pixels is not None
    cv2.imwrite(str(path), pixels.astype(np.uint16) * 15)  # up to 3,825 of 65,535


def test_training_says_when_its_images_are_almost_black(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    training_set(read_coco(tiny, "val"), mask_refine=False)
    assert not caplog.messages
    for path in (tiny / "val").glob("*.png"):
        make_dim(path)
    training_set(read_coco(tiny, "val"), mask_refine=False)
    assert "all 6 of 6 PNGs that were looked at have 16 bits a pixel with 12 in use" in caplog.text


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"bbox": [30, 30, -20, -20]}, "6 of 6 boxes are smaller .*; a width or height is negative"),
        ({"bbox": [1000, 1000, 50, 50]}, "6 of 6 boxes reach .*; they may be of images of another size"),
        ({"area": 0}, "6 of 6 boxes have the area 0 or less.*training leaves them out"),
    ],
)
def test_boxes_that_teach_nothing_are_counted_with_a_cause(
    tiny: Path, values: Entry, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    rewrite(tiny, lambda content: [entry.update(values) for entry in content["annotations"]])
    read_coco(tiny, "val")
    (warning,) = caplog.messages
    assert re.search(sentence, warning), warning


def test_one_odd_box_does_not_hide_how_the_others_are_written(
    shared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The slice of val2017 with corners, of which one is without extent."""
    source = shared / "coco"
    content = json.loads((source / "annotations/instances_val2017.json").read_text())
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x, y, x + width, y + height]
    content["annotations"][0]["bbox"] = [5, 5, 5, 5]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_val2017.json").write_text(json.dumps(content))
    (tmp_path / "val2017").symlink_to(source / "val2017")
    read_coco(tmp_path)
    (warning,) = caplog.messages
    assert warning.endswith("they may be x1, y1, x2, y2 instead of x, y, width, height")


@pytest.mark.parametrize(("key", "value"), [("image_id", "1"), ("category_id", None), ("image_id", 1.5)])
def test_a_ground_truth_whose_ids_are_no_numbers_is_not_scored(key: str, value: Any) -> None:
    truth: Entry = {"id": 11, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25} | {
        key: value
    }
    content = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "one"}], "annotations": [truth]}
    found = predictions_from_rows([{"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.9}])
    with pytest.raises(MetricsError, match=f"Annotation 11 has {key} {value!r}: make it a whole number"):
        coco_metrics(content, found)


def test_check_data_goes_on_past_missing_images_and_finds_copies(tiny: Path) -> None:
    (tiny / "val/000002.png").unlink()

    def repeat(content: Entry) -> None:
        content["annotations"].append(content["annotations"][0] | {"id": 99})
        content["images"].append(content["images"][3] | {"id": 99})

    found = check_data(rewrite(tiny, repeat), "val")
    told = {each.what: (each.level, each.count) for each in found}
    assert told["an object is annotated twice with one box"] == ("warning", 1)
    assert told["several images have one file"] == ("warning", 1)
    assert told["learning on 7 of 7 objects"] == ("note", 1)
    (refused,) = [each for each in found if each.level == "refused"]
    assert "lacks 1 of 7 images, first 000002.png" in refused.what


def test_check_data_takes_named_places_and_refuses_a_set_without_objects(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(tiny, lambda content: content.update(annotations=[]))
    boxes = tmp_path / "boxes.json"
    shutil.move(tiny / "annotations/instances_val.json", boxes)
    shutil.move(tiny / "val", tmp_path / "elsewhere")
    words = ["check-data", str(tiny), "--annotations", str(boxes), "--images", str(tmp_path / "elsewhere")]
    monkeypatch.setattr("sys.argv", ["yolov9bench", *words])
    assert door.main() == 2
    assert "refused  no object is annotated, crowds apart" in capsys.readouterr().out
