"""Evaluating some of a detector's classes, under a data set's own names."""

import io
import json
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yolov9bench import records
from yolov9bench.config import EvaluateConfig, ReproduceConfig, parse_classes
from yolov9bench.data.classes import choose_classes
from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.errors import DatasetError, SettingsError
from yolov9bench.evaluation import evaluate
from yolov9bench.records import Record
from yolov9bench.records.contents import METRICS
from yolov9bench.verify import verify
from yolov9bench.zoo import ROWS

NAMES = {0: "person", 1: "Car", 2: "bus", 3: "fork"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), {}),
        (("person", "car"), {"person": "person", "car": "car"}),
        ("person, traffic light", {"person": "person", "traffic light": "traffic light"}),
        (("bicycle=bike", "car = motor car"), {"bicycle": "bike", "car": "motor car"}),
        (
            (("car=vehicle",), ("bus=vehicle,person",)),
            {"car": "vehicle", "bus": "vehicle", "person": "person"},
        ),
    ],
)
def test_words_name_classes(words: Any, expected: dict[str, str]) -> None:
    assert parse_classes(words) == expected


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("car=",), "classes has 'car=': give a class's name, or DETECTOR_NAME=DATASET_NAME"),
        (("=car",), "classes has '=car'"),
        ("person,,car", "classes has ''"),
        ("", "classes has ''"),
        (("car", "car=bus"), "classes names 'car' twice"),
        (((),), "classes is empty: give the names"),
    ],
)
def test_words_that_name_none_are_refused(words: Any, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        parse_classes(words)


def test_commands_refuse_them_before_anything_is_read() -> None:
    with pytest.raises(SettingsError, match="classes has 'car='"):
        EvaluateConfig("weights.pt", dataset=Path("set"), classes=(("car=",),))
    with pytest.raises(SettingsError, match="classes has 'car='"):
        ReproduceConfig(classes="car=")


@pytest.fixture(scope="module")
def street(painted: Path) -> CocoDataset:
    """The painted images, with objects of the categories car (7) and forklift (9)."""
    dataset = read_coco(painted, "val")
    new = {1: 7, 2: 9}
    annotations = [entry | {"category_id": new[entry["category_id"]]} for entry in dataset.annotations]
    return replace(dataset, categories=((7, "car"), (9, "forklift")), annotations=annotations)


def test_chosen_classes_alone_have_categories_and_objects(street: CocoDataset) -> None:
    chosen = choose_classes(street, NAMES, 4, {"CAR": "car"})
    assert chosen.names == {"Car": "car"}
    assert chosen.categories == (None, 7, None, None)
    assert chosen.dataset.categories == ((7, "car"),)
    assert {entry["category_id"] for entry in chosen.dataset.annotations} == {7}
    assert len(chosen.dataset.annotations) == 3
    assert chosen.dataset.images == street.images
    assert chosen.dataset.image_list_sha256 == street.image_list_sha256


def test_several_classes_become_one_category(street: CocoDataset) -> None:
    chosen = choose_classes(street, NAMES, 4, {"bus": "car", "car": "car", "person": "Forklift "})
    assert chosen.categories == (9, 7, 7, None)
    assert chosen.names == {"bus": "car", "Car": "car", "person": "forklift"}


@pytest.mark.parametrize(
    ("names", "asked", "sentence"),
    [
        (NAMES, {"forklift": "forklift"}, r"no class of the detector 'forklift'; did you mean 'fork'\?"),
        (NAMES, {"bus": "bus"}, "no category of tiny 'bus'; choose one of car, forklift"),
        (NAMES, {"car": "car", "Car": "forklift"}, "classes names 'Car' twice"),
        (None, {"car": "car"}, "the detector's 4 classes have no names to choose them by: leave out classes"),
    ],
)
def test_unknown_classes_are_refused(
    street: CocoDataset, names: Mapping[int, str] | None, asked: dict[str, str], sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence):
        choose_classes(street, names, 4, asked)


def test_two_categories_of_one_name_are_no_choice(street: CocoDataset) -> None:
    twice = replace(street, categories=((7, "car"), (9, "car")))
    with pytest.raises(DatasetError, match="names 2 categories 'car': give each a name of its own"):
        choose_classes(twice, NAMES, 4, {"car": "car"})


def test_a_misfit_names_the_flag_and_what_both_have(street: CocoDataset) -> None:
    with pytest.raises(DatasetError, match=r"lacks 'forklift'\): use .*, or choose with --classes Car\.$"):
        choose_classes(street, NAMES, 4, {})
    other = replace(street, categories=((7, "wheel loader"),))
    with pytest.raises(DatasetError, match=r"or choose with --classes DETECTOR_NAME=DATASET_NAME\.$"):
        choose_classes(other, NAMES, 4, {})
    with pytest.raises(DatasetError, match=r'choose with --classes "Wheel Loader"\.$'):
        choose_classes(other, {0: "Wheel Loader", 1: "car"}, 2, {})


def rename(folder: Path, names: dict[int, str]) -> None:
    """Other names of the categories, some of which may be new and have no objects."""
    path = folder / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    content["categories"] = [{"id": number, "name": name} for number, name in names.items()]
    path.write_text(json.dumps(content))


def move_objects(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Each object to where its class was detected best on its image; one without a detection stays."""
    path = folder / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        place = (entry["image_id"], entry["category_id"])
        found = [row for row in rows if (row["image_id"], row["category_id"]) == place]
        if found:
            box = max(found, key=lambda row: row["score"])["bbox"]
            entry |= {"bbox": box, "area": box[2] * box[3]}
    path.write_text(json.dumps(content))


def judged(folder: Path, rows: list[dict[str, Any]], category: int) -> list[float]:
    """The twelve metrics of one category by pycocotools, on detections and objects of all of them."""
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "annotations/instances_val.json"))
        evaluator = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluator.params.catIds = [category]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    found: list[float] = evaluator.stats.tolist()
    return found


def run(folder: Path, weights: Path, out: Path, most: int = 300, **given: Any) -> tuple[Record, list[Any]]:
    """The record and the stored detections, by a protocol that keeps `most` of an image."""
    own = ROWS["yolov9-t"]
    row = replace(own, protocol=replace(own.protocol, max_detections=most))
    record = evaluate.evaluate(
        weights, folder, split="val", image_size=64, device="cpu", detections=out, row=row, **given
    )
    return record, json.loads(out.read_text())


@pytest.mark.parametrize("most", [300, 4])
def test_metrics_of_a_class_are_pycocotools_own(
    tiny: Path, tiny_weights: Path, tmp_path: Path, most: int
) -> None:
    """A chosen class has the very detections of an evaluation of all, also where their number is limited."""
    _, rows = run(tiny, tiny_weights, tmp_path / "all.json", most)
    expected = [row for row in rows if row["category_id"] == 2]
    assert 0 < len(expected) < len(rows)
    move_objects(tiny, rows)
    rename(tiny, {1: "red", 2: "azure", 3: "forklift"})
    record, found = run(tiny, tiny_weights, tmp_path / "some.json", most, classes="blue=azure", judge=True)
    assert found == expected
    metrics = [record.values[name] for name in METRICS]
    assert metrics == pytest.approx(judged(tiny, rows, category=2), abs=1e-12)
    assert metrics[0] > 0
    assert record.settings["classes"] == {"blue": "azure"}
    assert record.inputs["images"] == 6


def test_the_record_of_a_choice_is_verified_and_a_changed_choice_is_not(
    tiny: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    move_objects(tiny, run(tiny, tiny_weights, tmp_path / "all.json")[1])
    rename(tiny, {1: "red", 2: "azure"})
    record, _ = run(tiny, tiny_weights, tmp_path / "results/runs/detections/one.json", classes=["blue=azure"])
    annotations = [tiny / "annotations/instances_val.json"]
    for each, word in ((record, "verified"), (without_choice(record), "false")):
        path = records.write(each, tmp_path / "results")
        (outcome,) = verify(tmp_path / "results", [path], annotations)
        assert outcome.word == word, outcome


def without_choice(record: Record) -> Record:
    return replace(
        record, settings={key: value for key, value in record.settings.items() if key != "classes"}
    )


def test_all_classes_leave_an_empty_choice(tiny: Path, tiny_weights: Path, tmp_path: Path) -> None:
    record, _ = run(tiny, tiny_weights, tmp_path / "all.json")
    assert record.settings["classes"] == {}


@pytest.mark.slow(8)
def test_a_coco_detector_on_people_cars_and_forklifts(shared: Path, tmp_path: Path) -> None:
    """Four real images; pycocotools on all 80 classes' detections, over the two categories."""
    content = json.loads((shared / "coco/annotations/instances_val2017.json").read_text())
    kept = {each["id"]: each["name"] for each in content["categories"] if each["name"] in ("person", "car")}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val").symlink_to(shared / "coco/val2017")
    path = tmp_path / "annotations/instances_val.json"
    path.write_text(
        json.dumps(
            content
            | {
                "annotations": [each for each in content["annotations"] if each["category_id"] in kept],
                "categories": [
                    {"id": number, "name": name} for number, name in (kept | {500: "forklift"}).items()
                ],
            }
        )
    )
    given: dict[str, Any] = {"limit": 4, "image_size": 320, "device": "cpu"}
    weights = shared / "weights/yolov8n.pt"
    record = evaluate.evaluate(weights, tmp_path, split="val", classes=("person", "car"), **given)
    evaluate.evaluate(weights, shared / "coco", detections=tmp_path / "all.json", **given)
    rows = [row for row in json.loads((tmp_path / "all.json").read_text()) if row["category_id"] in kept]
    with redirect_stdout(io.StringIO()):
        truth = COCO(str(shared / "coco/annotations/instances_val2017.json"))
        evaluator = COCOeval(truth, truth.loadRes(rows), "bbox")
        evaluator.params.catIds = list(kept)
        evaluator.params.imgIds = sorted(truth.getImgIds())[:4]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    assert [record.values[name] for name in METRICS] == pytest.approx(evaluator.stats.tolist(), abs=1e-12)
    assert record.values["AP"] > 0.1
