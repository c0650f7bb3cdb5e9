"""Evaluation with detections that are known beforehand: AP in closed form, the judge, what is left out."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from synthetic import small_file

from yolov9bench.data.coco import CocoDataset, CocoImage, read_coco
from yolov9bench.errors import DatasetError, MetricsError, SettingsError
from yolov9bench.evaluation import coco_metrics, evaluate, images_used, run_network, settings
from yolov9bench.evaluation.settings import EvaluationSettings, choose_protocol, row_id
from yolov9bench.evaluation.truth import Array, Truth
from yolov9bench.predict.batches import Batch, Batches
from yolov9bench.predict.postprocess import Detections
from yolov9bench.predict.predictions import result_rows
from yolov9bench.records.contents import METRICS
from yolov9bench.weights import load
from yolov9bench.zoo import ROWS
from yolov9bench.zoo.protocols import PROTOCOLS, Protocol

# Image ids, boxes xyxy, scores and labels of a detector that is made up.
Found = Callable[[CocoImage, list[dict[str, Any]]], list[tuple[list[float], float, int]]]


def everything(image: CocoImage, objects: list[dict[str, Any]]) -> list[tuple[list[float], float, int]]:
    """Every object of an image, by the labels of a detector for the categories 1 and 2."""
    found = []
    for each in objects:
        x, y, width, height = each["bbox"]
        found.append(([x, y, x + width, y + height], 0.75, each["category_id"] - 1))
    return found


class Pretended:
    """Stands for the network: reads every image as it does, and finds what it is told to."""

    def __init__(self, annotation_file: Path, find: Found = everything) -> None:
        self.annotation_file, self.find = annotation_file, find
        self.sizes: list[int] = []  # of the batches
        self.detector: Any = None
        self.matmul = self.convolution = ""

    def __call__(self, detector: Any, batch: Batch, protocol: Protocol, device: str) -> list[Detections]:
        cudnn: Any = torch.backends.cudnn
        cuda: Any = torch.backends.cuda
        self.detector = detector
        self.matmul, self.convolution = cuda.matmul.fp32_precision, cudnn.conv.fp32_precision
        self.sizes.append(len(batch.images))
        annotations = json.loads(self.annotation_file.read_text())["annotations"]
        return [self.detections(image, annotations) for image in batch.images]

    def detections(self, image: CocoImage, annotations: list[dict[str, Any]]) -> Detections:
        objects = [each for each in annotations if each["image_id"] == image.id]
        found = self.find(image, objects)
        boxes, scores, labels = ([each[part] for each in found] for part in range(3))
        return Detections(
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            torch.tensor(scores, dtype=torch.float32),
            torch.tensor(labels, dtype=torch.int64),
        )


@pytest.fixture(scope="module")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network for the classes of `tiny`, for tests that do not look at what it detects."""
    return small_file(tmp_path_factory.mktemp("small") / "weights.pt")


@pytest.fixture
def pretended(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Pretended:
    """In place of the network."""
    stand_in = Pretended(tiny / "annotations/instances_val.json")
    monkeypatch.setattr(run_network, "detect_batch", stand_in)
    return stand_in


def of_one_class(image: CocoImage, objects: list[dict[str, Any]]) -> list[tuple[list[float], float, int]]:
    return [each for each in everything(image, objects) if each[2] == 0]


def behind_alarms(image: CocoImage, objects: list[dict[str, Any]]) -> list[tuple[list[float], float, int]]:
    """Before every object a surer detection of its class where nothing is."""
    return [([0.0, 0.0, 3.0, 3.0], 0.9, label) for _, _, label in everything(image, objects)] + everything(
        image, objects
    )


@pytest.mark.parametrize(
    ("find", "count", "ap"),
    [
        (everything, 6, 1.0),
        (of_one_class, 3, 0.5),  # the mean of 1 and 0
        (behind_alarms, 12, 0.5),  # with three alarms first, precision grows to 3 of 6 at the last object
        (lambda image, objects: [], 0, 0.0),
    ],
)
def test_ap_of_known_detections(
    tiny: Path, small_weights: Path, pretended: Pretended, find: Found, count: int, ap: float
) -> None:
    """From image files to the record: an evaluator of zeros fails here."""
    pretended.find = find
    record = evaluate.evaluate(small_weights, tiny, "yolov9", "val", image_size=64, judge=True)
    assert record.values["AP"] == pytest.approx(ap, abs=1e-9)
    assert record.values["AP50"] == pytest.approx(ap, abs=1e-9)
    assert record.values["detections"]["count"] == count


def test_what_a_network_finds_best_is_found_again(tiny: Path, tiny_weights: Path, tmp_path: Path) -> None:
    """The whole way without a stand-in: the objects are moved to where the network is surest.

    Its best detection of each class in each image that is no mere line is then an object, so that all are
    found, at every overlap.
    """
    first = evaluate.evaluate(
        tiny_weights, tiny, "mmyolo", "val", image_size=64, detections=tmp_path / "first.json"
    )
    best: dict[tuple[int, int], dict[str, Any]] = {}
    for row in json.loads((tmp_path / first.values["detections"]["file"]).read_text()):
        if min(row["bbox"][2:]) > 1:
            best.setdefault((row["image_id"], row["category_id"]), row)
    assert len(best) == 12
    path = tiny / "annotations/instances_val.json"
    objects = [
        {key: row[key] for key in ("image_id", "category_id", "bbox")}
        | {"id": number, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]}
        for number, row in enumerate(best.values())
    ]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotations": objects}))
    again = evaluate.evaluate(tiny_weights, tiny, "mmyolo", "val", image_size=64, judge=True)
    assert again.values["detections"]["sha256"] == first.values["detections"]["sha256"]
    assert again.values["AR100"] == pytest.approx(1, abs=1e-9)
    assert again.values["AP"] > first.values["AP"]
    assert first.values["AR100"] < 0.5


def test_a_one_class_detector_finds_the_ball(shared: Path) -> None:
    """COCO's annotators drew one sports ball into these images, and the surest detection is that ball."""
    coco = read_coco(shared / "coco")
    (ball,) = [number for number, name in coco.categories if name == "sports ball"]
    drawn = [each for each in coco.annotations if each["category_id"] == ball]
    (image,) = [each for each in coco.images if each.id in {each["image_id"] for each in drawn}]
    dataset = replace(coco.restricted([image]), annotations=drawn, categories=((ball, "ball"),))
    checkpoint = load(shared / "weights/yolov9t_one_class.pt")
    found = evaluate.evaluate_loaded(
        checkpoint, dataset, EvaluationSettings("ultralytics-square", judge=True)
    )
    assert found.record.values["AP50"] == pytest.approx(1, abs=1e-9)
    best = next(result_rows(found.predictions))
    assert best["category_id"] == ball and best["score"] > 0.5
    assert best["bbox"] == pytest.approx(drawn[0]["bbox"], abs=3)


@pytest.mark.parametrize("off", [float("nan"), 0.25])
def test_the_judge_is_asked_where_the_record_says_so(
    tiny: Path, small_weights: Path, pretended: Pretended, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    """A record that says `judge: true` of numbers no judge has seen would be a lie."""
    asked = []

    def other(truth: Truth, rows: Array) -> dict[str, float]:
        asked.append(len(rows))
        return dict.fromkeys(METRICS, off)

    monkeypatch.setattr(coco_metrics, "_judged", other)
    unjudged = evaluate.evaluate(small_weights, tiny, "yolov9", "val", image_size=64)
    assert (unjudged.settings["judge"], asked) == (False, [])
    with pytest.raises(MetricsError, match=r"^AP is 1\.0|^AP is 0\.9999"):
        evaluate.evaluate(small_weights, tiny, "yolov9", "val", image_size=64, judge=True)
    assert asked == [6]
    loaded, data = load(small_weights), read_coco(tiny, "val")
    with pytest.raises(MetricsError, match=r"^AP is "):
        evaluate.evaluate_loaded(loaded, data, EvaluationSettings("yolov9", image_size=64, judge=True))


def turned(root: Path) -> None:
    """Number the images backwards, so that the ids fall where height / width grows."""
    path = root / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["id"] = 7 - image["id"]
    for annotation in content["annotations"]:
        annotation["image_id"] = 7 - annotation["image_id"]
    path.write_text(json.dumps(content))


def test_detections_come_by_image_id_whatever_order_rectangles_take(
    tiny: Path, small_weights: Path, pretended: Pretended
) -> None:
    """AP of equal scores depends on the order, as does the hash of the detections."""
    turned(tiny)
    dataset = read_coco(tiny, "val")
    protocol = replace(PROTOCOLS["yolov9"], image_size=64)
    assert protocol.rectangular
    batches = Batches(dataset, protocol, batch_size=2)
    assert [image.id for images, _ in batches.chunks for image in images] == [6, 5, 4, 3, 2, 1]
    rows = list(result_rows(run_network.run_inference(load(small_weights).detector, batches, (1, 2), "cpu")))
    assert [row["image_id"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["bbox"] for row in rows] == [
        each["bbox"] for each in sorted(dataset.annotations, key=lambda each: int(each["image_id"]))
    ]


def test_labels_become_the_categories_they_are_mapped_to(
    tiny: Path, small_weights: Path, pretended: Pretended
) -> None:
    batches = Batches(read_coco(tiny, "val"), replace(PROTOCOLS["mmyolo"], image_size=64))
    predictions = run_network.run_inference(load(small_weights).detector, batches, (9, 4), "cpu")
    assert predictions.category_ids.tolist() == [4, 9, 4, 9, 4, 9]  # image n has the class 1 + n % 2


def test_objects_on_images_that_were_left_out_are_not_missed(
    tiny: Path, small_weights: Path, pretended: Pretended
) -> None:
    """All objects of the five readable images are found, so AP is 1; with six to be found it is not."""
    (tiny / "val/000003.png").write_bytes(b"no image")
    record = evaluate.evaluate(small_weights, tiny, "yolov9", "val", image_size=64, skip_corrupt=True)
    assert record.values["AP"] == pytest.approx(1, abs=1e-9)
    assert record.values["AR100"] == pytest.approx(1, abs=1e-9)
    lines = "\n".join(f"{number} {number:06}.png" for number in (1, 2, 4, 5, 6))
    assert record.inputs["image_list_sha256"] == hashlib.sha256(lines.encode()).hexdigest()
    assert (record.inputs["images"], record.inputs["images_skipped"]) == (5, ["000003.png"])


def test_a_data_set_without_its_skipped_images() -> None:
    images = tuple(CocoImage(number, f"{number}.jpg", 8, 8) for number in (1, 2, 3))
    objects = [{"id": number, "image_id": 1 + number % 3} for number in range(9)]
    dataset = CocoDataset(Path("set"), "val", images, objects, ((1, "one"),), "", "")
    assert images_used.without_skipped(dataset, []) is dataset
    kept = images_used.without_skipped(dataset, ["2.jpg"])
    assert [image.id for image in kept.images] == [1, 3]
    assert [each["id"] for each in kept.annotations] == [0, 2, 3, 5, 6, 8]
    with pytest.raises(DatasetError, match="none of the 3 images in set"):
        images_used.without_skipped(dataset, ["1.jpg", "2.jpg", "3.jpg"])


def test_the_record_says_what_ran(
    tiny: Path, small_weights: Path, pretended: Pretended, tmp_path: Path
) -> None:
    """Every fact against the files, the network that was handed on, and the batches that were read."""
    loaded, data = load(small_weights), read_coco(tiny, "val")
    settings = EvaluationSettings(
        "mmyolo", 4, image_size=64, detections=tmp_path / "found.json", skip_corrupt=True, backend="plain"
    )
    found = evaluate.evaluate_loaded(loaded, data, settings, seed=5).record
    assert pretended.sizes == [4, 2]
    assert (found.settings["batch_size"], found.settings["judge"], found.seed) == (4, False, 5)
    assert found.settings["skip_corrupt"] is True
    assert not [each for each in pretended.detector.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    assert (found.settings["fused"], found.settings["dtype"]) == (True, "float32")
    stored = (tmp_path / found.values["detections"]["file"]).read_bytes()
    assert found.values["detections"]["sha256"] == hashlib.sha256(stored).hexdigest()
    assert found.values["detections"]["count"] == len(json.loads(stored)) == 6
    assert found.inputs["weights_sha256"] == hashlib.sha256(small_weights.read_bytes()).hexdigest()
    annotations = (tiny / "annotations/instances_val.json").read_bytes()
    assert found.inputs["annotations_sha256"] == hashlib.sha256(annotations).hexdigest()
    listed = "\n".join(f"{number} {number:06}.png" for number in range(1, 7))
    assert found.inputs["image_list_sha256"] == hashlib.sha256(listed.encode()).hexdigest()
    assert (found.inputs["demo"], found.inputs["images_of_other_size"]) == (False, 0)


def test_the_demo_set_is_marked_and_images_of_another_size_are_counted(
    tiny: Path, small_weights: Path, pretended: Pretended
) -> None:
    path = tiny / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"info": {"description": "yolov9bench-demo"}}))
    for name in ("000002.png", "000005.png"):
        cv2.imwrite(str(tiny / "val" / name), np.zeros((40, 40, 3), np.uint8))
    record = evaluate.evaluate(small_weights, tiny, "yolov9", "val", image_size=64)
    assert record.inputs["demo"] is True
    assert record.inputs["images_of_other_size"] == 2


@pytest.fixture
def lowered() -> Iterator[tuple[Any, Any]]:
    """torch's switches for products and convolutions on a GPU, both set to round float32 to TF32."""
    backends: Any = torch.backends
    switches = backends.cuda.matmul, backends.cudnn.conv
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "tf32"
    yield switches
    for switch, precision in zip(switches, before, strict=True):
        switch.fp32_precision = precision


def test_detection_runs_in_full_float32(
    tiny: Path, small_weights: Path, pretended: Pretended, lowered: tuple[Any, Any]
) -> None:
    """Both switches are off while the network runs, and on again afterwards."""
    evaluate.evaluate_loaded(
        load(small_weights), read_coco(tiny, "val"), EvaluationSettings("yolov9", image_size=64)
    )
    assert (pretended.matmul, pretended.convolution) == ("ieee", "ieee")
    assert [switch.fp32_precision for switch in lowered] == ["tf32", "tf32"]


def test_no_batch_of_no_images(tiny: Path, small_weights: Path, pretended: Pretended) -> None:
    with pytest.raises(SettingsError, match="batch_size is 0: give 1 or more"):
        evaluate.evaluate(small_weights, tiny, "yolov9", "val", batch_size=0)
    assert pretended.sizes == []


def checkpoint(**facts: Any) -> Any:
    """What is asked of a checkpoint for its row and protocol."""
    return SimpleNamespace(**{"format": "yolov9bench", "sha256": "0" * 64, "row": None} | facts)


@pytest.mark.parametrize(
    ("row", "name"),
    [("yolov8-n-mask-refine", "mmyolo"), ("gelan-c", "yolov9"), ("ultralytics-yolov9t", "ultralytics")],
)
def test_our_own_file_is_evaluated_as_its_row_is(row: str, name: str) -> None:
    own = checkpoint(row=row)
    assert choose_protocol(own, "auto", None, tta=False) == PROTOCOLS[name]
    assert choose_protocol(own, "ultralytics-square", 320, tta=False) == replace(
        PROTOCOLS["ultralytics-square"], image_size=320
    )


def test_a_file_of_no_row_has_no_protocol() -> None:
    with pytest.raises(SettingsError, match="names no row"):
        choose_protocol(checkpoint(), "auto", None, tta=False)


def test_the_row_of_a_published_file_is_known_by_its_hash() -> None:
    """Whatever the file says of itself; our own files know their row themselves."""
    published = ROWS["yolov9-c"].download.sha256[0]
    assert row_id(checkpoint(sha256=published, format="official")) == "yolov9-c"
    assert row_id(checkpoint(sha256=published, row="yolov9-t")) == "yolov9-c"
    assert row_id(checkpoint(row="yolov9-t")) == "yolov9-t"
    assert row_id(checkpoint()) is None


def test_the_record_has_the_row_of_a_published_file(
    tiny: Path, small_weights: Path, pretended: Pretended, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that says "yolov9-t" of itself, and whose hash is that of another row."""
    assert load(small_weights).row == "yolov9-t"
    monkeypatch.setattr(settings, "row_of_file", lambda sha256: (ROWS["yolov9-c"], ROWS["yolov9-c"].download))
    assert evaluate.evaluate(small_weights, tiny, "yolov9", "val", image_size=64).row == "yolov9-c"


@pytest.mark.parametrize(("name", "image_size"), [("yolov9", None), ("ultralytics", None), ("auto", 640)])
def test_views_of_another_protocol_or_size_are_refused(name: str, image_size: int | None) -> None:
    with pytest.raises(SettingsError, match=r"test-time augmentation is defined|cannot go with tta"):
        choose_protocol(checkpoint(row="yolov9-t"), name, image_size, tta=True)
    assert choose_protocol(checkpoint(), "auto", None, tta=True).name == "mmyolo+tta"
