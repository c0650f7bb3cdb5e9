"""Data sets as annotation tools and users write them: each guise reads the same, or says why not."""

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

from yolov9bench.data.check import Finding, check_data
from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.errors import DatasetError
from yolov9bench.evaluation.evaluate import evaluate

Entry = dict[str, Any]


def file_of(root: Path) -> Path:
    return root / "annotations/instances_val.json"


def rewrite(root: Path, change: Callable[[Entry], object]) -> Path:
    """The annotation file after a change to all of it."""
    content = json.loads(file_of(root).read_text())
    change(content)
    file_of(root).write_text(json.dumps(content))
    return root


def each(kind: str, change: Callable[[Entry], object]) -> Callable[[Entry], object]:
    return lambda content: [change(entry) for entry in content[kind]]


def scored(dataset: CocoDataset) -> list[tuple[Any, ...]]:
    """All that a metric reads."""
    keys = ("image_id", "category_id", "bbox", "area", "iscrowd")
    return [tuple(entry[key] for key in keys) for entry in dataset.annotations]


LACKING = {
    "area": lambda entry: entry.pop("area"),
    "iscrowd": lambda entry: entry.pop("iscrowd"),
    "id": lambda entry: entry.pop("id"),
}


@pytest.mark.parametrize("key", LACKING)
def test_what_follows_from_the_rest_is_filled_in(
    tiny: Path, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain = read_coco(tiny, "val")
    rewrite(tiny, each("annotations", LACKING[key]))
    with caplog.at_level(logging.WARNING):
        found = read_coco(tiny, "val")
    assert scored(found) == scored(plain)
    assert len({entry["id"] for entry in found.annotations}) == 6
    (notice,) = caplog.messages
    assert f"{key} of 6 is " in notice


def test_a_number_that_is_filled_in_is_a_free_one(tiny: Path) -> None:
    rewrite(tiny, lambda content: [entry.pop("id") for entry in content["annotations"][:2]])
    assert [entry["id"] for entry in read_coco(tiny, "val").annotations] == [7, 8, 3, 4, 5, 6]


def test_a_byte_order_mark_is_left_aside(tiny: Path) -> None:
    plain = read_coco(tiny, "val")
    file_of(tiny).write_bytes(b"\xef\xbb\xbf" + file_of(tiny).read_bytes())
    assert scored(read_coco(tiny, "val")) == scored(plain)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("Prüfung".encode("latin-1"), "is not UTF-8"),
        (b"[" * 100_000, "is not JSON"),
        (b"<html>", "is not JSON"),
        (b'{"images": [1], "annotations": [], "categories": []}', "lacks 'id' in entry 0 of 'images'"),
        (b'{"images": 3}', "no list 'images'"),
        (b"null", "no list 'images'"),
    ],
)
def test_what_is_no_annotation_file_is_said(tiny: Path, content: bytes, sentence: str) -> None:
    file_of(tiny).write_bytes(content)
    with pytest.raises(DatasetError, match=sentence):
        read_coco(tiny, "val")


def roboflow(root: Path) -> str:
    shutil.move(file_of(root), root / "val/_annotations.coco.json")
    (root / "val").rename(root / "valid")
    return "valid"


def cvat(root: Path) -> str:
    file_of(root).rename(root / "annotations/instances_default.json")
    (root / "val").rename(root / "images")
    return "default"


def coco_images(root: Path) -> str:
    (root / "images").mkdir()
    (root / "val").rename(root / "images/val")
    return "val"


@pytest.mark.parametrize("layout", [roboflow, cvat, coco_images])
def test_other_layouts_are_found(tiny: Path, tiny_weights: Path, layout: Callable[[Path], str]) -> None:
    """The witness is the record of the plain set: the same images, the same detections."""
    given: Entry = {"protocol": "ultralytics", "image_size": 64}
    plain = evaluate(tiny_weights, tiny, split="val", **given)
    found = evaluate(tiny_weights, tiny, split=layout(tiny), **given)
    assert found.values == plain.values
    assert found.inputs["image_list_sha256"] == plain.inputs["image_list_sha256"]


def test_boxes_and_images_can_be_named(tiny: Path, tiny_weights: Path, tmp_path: Path) -> None:
    given: Entry = {"protocol": "ultralytics", "image_size": 64}
    plain = evaluate(tiny_weights, tiny, split="val", **given)
    boxes, images = tmp_path / "boxes.json", tmp_path / "elsewhere"
    shutil.move(file_of(tiny), boxes)
    shutil.move(tiny / "val", images)
    found = evaluate(tiny_weights, tiny, split="val", annotations=boxes, images=images, **given)
    assert found.values == plain.values


def test_yolos_text_labels_are_called_that(tiny: Path) -> None:
    shutil.rmtree(tiny / "annotations")
    (tiny / "labels").mkdir()
    with pytest.raises(DatasetError, match=r"has YOLO's text labels .* convert them to annotations/inst"):
        read_coco(tiny, "val")


def test_splits_of_every_layout_are_listed(tiny: Path) -> None:
    (tiny / "train").mkdir()
    (tiny / "train/_annotations.coco.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"instances_val\.json, train/_annotations\.coco\.json"):
        read_coco(tiny, "test")


READINGS: dict[str, Callable[[Path, str], str]] = {
    "backslash": lambda root, name: f"sub\\{name}",
    "web address": lambda root, name: f"http://images.cocodataset.org/val2017/{name.replace('0', '%30', 1)}",
    "split in the name": lambda root, name: f"val/{name}",
    "up and down": lambda root, name: f"../val/{name}",
    "absolute, inside": lambda root, name: str(root / "val" / name),
}


@pytest.mark.parametrize("reading", READINGS)
def test_names_with_one_sensible_reading_are_found(tiny: Path, reading: str) -> None:
    if reading == "backslash":
        (tiny / "val").rename(tiny / "sub")
        (tiny / "val").mkdir()
        (tiny / "sub").rename(tiny / "val/sub")
    plain = {path.name: path.read_bytes() for path in tiny.rglob("*.png")}

    def rename(entry: Entry) -> None:
        entry["file_name"] = READINGS[reading](tiny, entry["file_name"])

    dataset = read_coco(rewrite(tiny, each("images", rename)), "val")
    found = [dataset.image_path(image).read_bytes() for image in dataset.images]
    assert found == [plain[name] for name in sorted(plain)]


def test_a_linked_folder_of_images_is_read(tiny: Path, tmp_path: Path) -> None:
    shutil.move(tiny / "val", tmp_path / "elsewhere")
    (tiny / "val").symlink_to(tmp_path / "elsewhere")
    assert len(read_coco(tiny, "val").images) == 6


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("000001.PNG", "it is there as 000001.png; upper and lower case must agree"),
        ("train/000001.png", "it is there as 000001.png; take the folder out of its file_name"),
        ("000001.jpg", "it is there as 000001.png; correct file_name or the file's extension"),
        ("nothing.png", "put them there"),
        ("../../outside.png", "it lies outside .*, where nothing is read"),
        ("/etc/hostname", "it lies outside .*, where nothing is read"),
    ],
)
def test_names_without_a_file_say_what_is_there(tiny: Path, name: str, sentence: str) -> None:
    (tiny.parent / "outside.png").write_bytes((tiny / "val/000001.png").read_bytes())
    rewrite(tiny, lambda content: content["images"][0].update(file_name=name))
    with pytest.raises(DatasetError, match=f"lacks 1 of 6 images, first {name}: {sentence}"):
        read_coco(tiny, "val")


def test_a_category_that_only_groups_the_others_is_left_out(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def group(content: Entry) -> None:
        content["categories"] = [{"id": 0, "name": "colours", "supercategory": "none"}] + [
            entry | {"supercategory": "colours"} for entry in content["categories"]
        ]

    rewrite(tiny, group)
    assert read_coco(tiny, "val").names == ("red", "blue")
    assert "the category 'colours', which only groups the others, is left out" in caplog.text
    rewrite(tiny, lambda content: content["annotations"][0].update(category_id=0))
    assert read_coco(tiny, "val").names == ("colours", "red", "blue")


def to_corners(entry: Entry) -> None:
    x, y, width, height = entry["bbox"]
    entry["bbox"] = [x, y, x + width, y + height]


def to_fractions(entry: Entry) -> None:
    entry["bbox"] = [value / 100 for value in entry["bbox"]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (to_corners, "1 of 6 boxes reach over their image, .* 6; they may be x1, y1, x2, y2"),
        (
            to_fractions,
            "6 of 6 boxes are smaller than a pixel, .*; they may be fractions of the image's sides",
        ),
    ],
)
def test_many_boxes_of_another_form_are_a_counted_warning(
    tiny: Path, change: Callable[[Entry], None], sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    read_coco(tiny, "val")
    assert not caplog.messages
    read_coco(rewrite(tiny, each("annotations", change)), "val")
    (warning,) = caplog.messages
    assert re.search(sentence, warning), warning


def test_a_set_without_objects_is_not_scored(tiny: Path, tiny_weights: Path) -> None:
    rewrite(tiny, each("annotations", lambda entry: entry.update(iscrowd=1)))
    with pytest.raises(DatasetError, match=r"no object is annotated on the 6 images .* \(6 crowds\)"):
        evaluate(tiny_weights, tiny, "ultralytics", "val", image_size=64)


def make_dim(path: Path) -> None:
    pixels = cv2.imread(str(path))
    assert pixels is not None
    cv2.imwrite(str(path), pixels.astype(np.uint16) * 15)  # up to 3,825 of 65,535


def test_twelve_bits_in_sixteen_are_a_counted_warning(
    tiny: Path, tiny_weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("000002.png", "000005.png"):
        make_dim(tiny / "val" / name)
    evaluate(tiny_weights, tiny, "ultralytics", "val", image_size=64)
    assert "2 images have 16 bits a pixel with 12 in use" in caplog.text
    assert "first 000002.png" in caplog.text


def levels(findings: list[Finding]) -> list[str]:
    return [each.level for each in findings]


def test_check_data_of_a_good_set_has_notes_alone(tiny: Path) -> None:
    findings = check_data(tiny, "val")
    assert levels(findings) == ["note", "note"]
    assert findings[0].what.startswith("6 images, 6 annotations, 2 classes in ")
    assert findings[1].what == "learning on 6 of 6 objects"


def test_check_data_counts_every_kind_with_its_first_example(tiny: Path) -> None:
    def spoil(content: Entry) -> None:
        for number, entry in enumerate(content["annotations"]):
            entry["bbox"] = None if number % 2 else entry["bbox"]
        content["annotations"][0]["iscrowd"] = "perhaps"
        content["images"][3].pop("width")
        content["annotations"][4]["category_id"] = 9

    findings = check_data(rewrite(tiny, spoil), "val")
    assert {(each.what.partition(":")[0], each.count) for each in findings} == {
        ("image without width", 1),
        ("bbox of annotation is not four finite numbers", 3),
        ("category_id of annotation refers to nothing", 1),
        ("iscrowd of an annotation is neither 0 nor 1", 1),
    }
    assert set(levels(findings)) == {"refused"}
    (boxes,) = [each for each in findings if each.count == 3]
    assert "annotation 2 with bbox None" in boxes.example and "(3 times)" in str(boxes)


def test_check_data_decodes_every_image(tiny: Path) -> None:
    (tiny / "val/000001.png").write_bytes(b"no image")
    make_dim(tiny / "val/000002.png")
    shutil.copy(tiny / "val/000004.png", tiny / "val/000003.png")
    found = {each.what.partition(";")[0]: each for each in check_data(tiny, "val")}
    assert found["an image cannot be decoded"].level == "refused"
    assert (
        "000003.png is 72 x 72, annotated as 78 x 64"
        in found["an image has another size than annotated"].example
    )
    assert "16 bits a pixel with 12 in use, so that an image is almost black" in found


def test_check_data_tells_what_training_refuses(tiny: Path) -> None:
    rewrite(tiny, each("annotations", lambda entry: entry.update(iscrowd=1)))
    refused = [each.what for each in check_data(tiny, "val") if each.level == "warning"]
    assert "learning on 0 of 6 objects (6 crowd)" in refused[0]


@pytest.mark.parametrize(("spoilt", "status"), [(False, 0), (True, 2)])
def test_the_command_ends_by_what_it_found(
    tiny: Path, tmp_path: Path, spoilt: bool, status: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from yolov9bench import __main__ as door

    if spoilt:
        rewrite(tiny, each("annotations", lambda entry: entry.update(bbox=[1])))
    out = tmp_path / "findings.json"
    monkeypatch.setattr(
        "sys.argv", ["yolov9bench", "check-data", str(tiny), "--split", "val", "--json", str(out)]
    )
    assert door.main() == status
    assert [each["level"] for each in json.loads(out.read_text())] == (
        ["refused"] if spoilt else ["note"] * 2
    )
    said = capsys.readouterr()
    assert ("cannot be used as it is" in said.err) == spoilt
