"""The self-check: each planted fault is named, real detectors pass, and what cannot be told is said."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from planted_faults import FAULTS

from yolov9bench import reproduce
from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.errors import SelfCheckError, SettingsError
from yolov9bench.evaluation import evaluate as evaluation
from yolov9bench.evaluation import run_network
from yolov9bench.evaluation.plain_detections import (
    Departure,
    bring_back,
    count_common,
    decode_plainly,
    detect_plainly,
    place_image,
)
from yolov9bench.evaluation.self_check import choose_images
from yolov9bench.evaluation.self_check_data import _mean_colour, find_class_fault, find_metric_fault
from yolov9bench.evaluation.settings import EvaluationSettings
from yolov9bench.ops.ranks import Ranks
from yolov9bench.predict.predictions import predictions_from_rows
from yolov9bench.weights import Checkpoint, load
from yolov9bench.zoo.protocols import MMYOLO, PROTOCOLS, ULTRALYTICS_SQUARE, YOLOV9


@pytest.fixture(scope="module")
def real(shared: Path) -> tuple[Checkpoint, CocoDataset]:
    """A published detector, and some images of which two have crowds."""
    whole = read_coco(shared / "coco")
    crowds = {entry["image_id"] for entry in whole.annotations if entry["iscrowd"]}
    chosen = [image for image in whole.images if image.id in crowds][:2] + list(whole.images[:2])
    return load(shared / "weights/yolov8n.pt"), whole.restricted(sorted(chosen, key=lambda each: each.id))


def run(checkpoint: Checkpoint, dataset: CocoDataset, **settings: Any) -> None:
    given = EvaluationSettings(self_check=True, **settings)
    evaluation.evaluate_loaded(checkpoint, dataset, given, command=[])


@pytest.mark.slow(20)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(
    real: tuple[Checkpoint, CocoDataset], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant, name = FAULTS[fault]
    detector = copy.deepcopy(real[0].detector)  # one in train mode changes its statistics
    plant(monkeypatch)
    with pytest.raises(SelfCheckError, match=f"{name}: .*--no-self-check"):
        run(replace(real[0], detector=detector), real[1])


@pytest.mark.slow(8)
@pytest.mark.parametrize("protocol", [*PROTOCOLS, "mmyolo+tta"])
def test_a_published_detector_passes(
    real: tuple[Checkpoint, CocoDataset], protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="yolov9bench")
    tta = protocol == "mmyolo+tta"
    run(*real, protocol="auto" if tta else protocol, tta=tta)
    said = [line for line in caplog.messages if line.startswith("self-check")]
    views = ["self-check: merging of views could not be told: the plain view alone was looked at"]
    assert said == (views if tta else []) + ["self-check: 4 images as the protocol says"]


def test_a_detector_of_one_class_passes(shared: Path, tmp_path: Path) -> None:
    """Its classes cannot be shifted."""
    folder = write_set(tmp_path, [[(20, 20, 40, 40)]], ["ball"])
    run(load(shared / "weights/yolov9t_one_class.pt"), read_coco(folder, "val"), protocol="yolov9")


@pytest.mark.parametrize("fault", ["float16", "class-agnostic", "letterboxed", "BGR", "BatchNorm"])
def test_what_needs_no_skill_is_told_of_an_untrained_detector(
    tiny: Path, tiny_weights: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant, name = FAULTS[fault]
    checkpoint, dataset = load(tiny_weights), read_coco(tiny, "val")
    plant(monkeypatch)
    with pytest.raises(SelfCheckError, match=f"{name}: "):
        run(checkpoint, dataset, image_size=64)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_untrained_detector_passes_and_its_classes_cannot_be_told(
    tiny: Path, tiny_weights: Path, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="yolov9bench")
    run(load(tiny_weights), read_coco(tiny, "val"), image_size=64, protocol=protocol)
    assert "self-check: crowds could not be told: there is none" in caplog.messages
    assert any("self-check: classes could not be told: only" in each for each in caplog.messages)


def test_grey_pictures_tell_nothing_of_channels(
    tiny: Path, tiny_weights: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (tiny / "val").iterdir():
        pixels = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        assert pixels is not None
        cv2.imwrite(str(file), pixels)
    FAULTS["BGR"][0](monkeypatch)
    caplog.set_level("INFO", logger="yolov9bench")
    run(load(tiny_weights), read_coco(tiny, "val"), image_size=64)
    assert (
        "self-check: channels could not be told: no image at hand has a colour that shows it"
        in caplog.messages
    )


def test_reproduce_asks_unless_told_otherwise(
    tiny: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"checkpoint": str(tiny_weights), "dataset": str(tiny), "split": "val"}
    given |= {"judge": False, "results_dir": str(tmp_path / "out"), "image_size": 64}
    FAULTS["class-agnostic"][0](monkeypatch)
    with pytest.raises(SelfCheckError, match="class-agnostic NMS"):
        reproduce.reproduce(**given)
    assert not (tmp_path / "out/records").exists()
    assert reproduce.reproduce(**given, self_check=False).values["AP"] >= 0


def test_a_function_of_ones_own_has_no_protocol_to_check(tiny: Path) -> None:
    with pytest.raises(SettingsError, match="self_check is True, but a function detects in its own way"):
        evaluation.evaluate(detector="painted_detector:detect", dataset=tiny, split="val", self_check=True)


def test_several_processes_are_refused(
    tiny: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, dataset = load(tiny_weights), read_coco(tiny, "val")
    monkeypatch.setattr(run_network, "current_ranks", lambda: Ranks(0, 2, 0))
    with pytest.raises(SettingsError, match="self_check is for one process"):
        run(checkpoint, dataset, image_size=64)


def test_images_with_crowds_come_first_then_those_with_the_most_objects(tmp_path: Path) -> None:
    """Objects 1, 3, 2, 5, 4, 1 on images 1 to 6; crowds on 1, 3 and 6."""
    counts = (1, 3, 2, 5, 4, 1)
    folder = write_set(tmp_path, [[(5, 5, 10, 10)] * count for count in counts], ["a"], crowded=(1, 3, 6))
    assert [image.id for image in choose_images(read_coco(folder, "val")).images] == [1, 3, 4, 5]


def write_set(
    folder: Path,
    boxes: list[list[tuple[int, int, int, int]]],
    names: list[str],
    crowded: tuple[int, ...] = (),
) -> Path:
    """Grey images of 100 px with these boxes, the first of a crowded image being a crowd."""
    (folder / "val").mkdir(parents=True)
    (folder / "annotations").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, own in enumerate(boxes, 1):
        cv2.imwrite(str(folder / f"val/{number}.png"), np.full((100, 100, 3), 90, np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "width": 100, "height": 100})
        for place, (x, y, width, height) in enumerate(own):
            crowd = int(number in crowded and place == 0)
            entry = {"image_id": number, "bbox": [x, y, width, height], "iscrowd": crowd}
            entry |= {
                "id": len(annotations) + 1,
                "category_id": 1 + place % len(names),
                "area": width * height,
            }
            mask = {"size": [100, 100], "counts": [0, 10_000]}
            annotations.append(entry | ({"segmentation": mask} if crowd else {}))
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
    }
    (folder / "annotations/instances_val.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("shift", "answer"), [(0, None), (1, ("shifted labels", "+1")), (-1, ("shifted labels", "-1")), (2, None)]
)
def test_classes_beside_those_of_the_objects_are_told(
    tmp_path: Path, shift: int, answer: tuple[str, str] | None
) -> None:
    """Twelve objects of four classes, each found exactly, as the class so many further on, if any."""
    places = [(20 * place, 10 * place, 15, 15) for place in range(4)]
    dataset = read_coco(write_set(tmp_path, [places] * 3, ["a", "b", "c", "d"]), "val")
    rows = [
        {
            "image_id": image,
            "category_id": min(max(1 + place + shift, 1), 4),
            "bbox": list(box),
            "score": 0.9,
        }
        for image in (1, 2, 3)
        for place, box in enumerate(places)
    ]
    found = find_class_fault(dataset, predictions_from_rows(rows))
    if answer is None:
        assert found is None
    else:
        assert isinstance(found, tuple) and found[0] == answer[0] and answer[1] in found[1]
    assert find_class_fault(dataset, predictions_from_rows(rows[:4])) == "only 4 objects are found"


def test_the_metrics_are_held_against_the_file_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A detection on a crowd counts for nothing; were the crowd dropped, it would be a false alarm."""
    folder = write_set(tmp_path, [[(0, 0, 60, 60), (70, 70, 20, 20)]], ["a"], crowded=(1,))
    dataset = read_coco(folder, "val")
    rows = [
        {"image_id": 1, "category_id": 1, "bbox": [5, 5, 40, 40], "score": 0.9},
        {"image_id": 1, "category_id": 1, "bbox": [70, 70, 20, 20], "score": 0.5},
    ]
    assert find_metric_fault(dataset, predictions_from_rows(rows)) is None
    FAULTS["crowds in the metrics"][0](monkeypatch)
    found = find_metric_fault(dataset, predictions_from_rows(rows))
    assert found == ("dropped crowds", "AP 0.50000 is that without the crowds, 1.00000 that with them")
    moved = dataset.root / "annotations/instances_val.json"
    moved.rename(moved.with_name("elsewhere.json"))
    assert find_metric_fault(dataset, predictions_from_rows(rows)) == (
        "the annotation file is not where the data set's layout has it"
    )


class TestPlainDetections:
    def test_an_image_is_placed_by_hand(self) -> None:
        """480 x 640 at 640 in a square: 80 px above and below; 606 px truncated to 639."""
        square = place_image((480, 640), (640, 640), ULTRALYTICS_SQUARE, 640)
        assert (square.resized, square.padding) == ((480, 640), (80, 0))
        odd = place_image((606, 300), (640, 640), YOLOV9, 640)
        assert (odd.resized, odd.padding) == ((639, 316), (0.5, 162.0))
        shrunk = place_image((1000, 500), (320, 320), ULTRALYTICS_SQUARE, 320)
        assert (shrunk.resized, shrunk.padding) == ((320, 160), (0, 80))

    def test_boxes_are_brought_back_by_hand(self) -> None:
        """A box of 32 px at twice the size, 80 px down."""
        place = place_image((240, 320), (640, 640), ULTRALYTICS_SQUARE, 640)
        boxes = bring_back(np.array([[64, 80 + 32, 96, 80 + 64]], np.float32), place, ULTRALYTICS_SQUARE)
        assert boxes.tolist() == [[32, 16, 48, 32]]

    def test_maps_are_decoded_by_hand(self) -> None:
        """One cell of stride 8 whose sides lie surely 1, 2, 3 and 4 cells from its centre."""
        box = np.full((4, 16), -50.0)
        box[range(4), [1, 2, 3, 4]] = 50.0
        boxes, scores = decode_plainly([(box.reshape(64, 1, 1), np.array([[[0.0]], [[2.0]]]))], [8])
        assert boxes.tolist() == [[-4, -12, 28, 36]]
        assert scores == pytest.approx(np.array([[0.5, 1 / (1 + np.exp(-2))]]))

    @pytest.mark.parametrize(
        ("departure", "kept"),
        [
            (Departure("none"), [(0, 0.9), (1, 0.8), (0, 0.6)]),
            (Departure("agnostic", shared_classes=True), [(0, 0.9), (0, 0.6)]),
            (Departure("shift", label_shift=1), [(1, 0.9), (2, 0.8), (1, 0.6)]),
            (Departure("half", half_shift=7680.0), [(0, 0.9), (1, 0.8), (0, 0.6)]),
        ],
    )
    def test_suppression_by_hand(self, departure: Departure, kept: list[tuple[int, float]]) -> None:
        """Two boxes on one place, of three candidates; one elsewhere; one below the threshold."""
        boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 70, 70], [0, 0, 5, 5]], np.float32)
        scores = np.array([[0.9, 0], [0.7, 0.8], [0.6, 0], [0.0005, 0]], np.float32)
        place = place_image((640, 640), (640, 640), MMYOLO, 640)
        found = detect_plainly(boxes, scores, place, ULTRALYTICS_SQUARE, departure)
        assert [
            (label, round(score, 4))
            for label, score in zip(found[2].tolist(), found[1].tolist(), strict=True)
        ] == kept

    def test_half_precision_overflows_from_the_ninth_class(self) -> None:
        """Two equal boxes of class 9, shifted to infinity, overlap by what is not a number."""
        boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10]], np.float32)
        scores = np.zeros((2, 10), np.float32)
        scores[:, 9] = 0.9, 0.8
        place = place_image((640, 640), (640, 640), MMYOLO, 640)
        right, half = (
            detect_plainly(boxes, scores, place, ULTRALYTICS_SQUARE, each)
            for each in (Departure("none"), Departure("half", half_shift=7680.0))
        )
        assert (len(right[1]), len(half[1])) == (1, 2)

    def test_common_detections_are_counted(self) -> None:
        one = (np.array([[0.0, 0, 1, 1], [5, 5, 9, 9]]), np.array([0.5, 0.4]), np.array([1, 2]))
        near = (one[0] + 0.04, one[1] + 0.00005, one[2])
        assert count_common(one, near) == 2
        assert count_common(one, (one[0] + 0.06, one[1], one[2])) == 0
        assert count_common(one, (one[0], one[1] + 0.001, one[2])) == 0
        assert count_common(one, (one[0], one[1], np.array([1, 3]))) == 1
        assert count_common(one, (np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))) == 0


def test_an_image_alone_and_in_a_batch_are_told_apart_only_in_train_mode(
    tiny_weights: Path,
) -> None:
    """What the check rests on: evaluation mode gives an image the same maps whatever is beside it."""
    detector = load(tiny_weights).detector.eval()
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        alone, beside = detector(image).main[0], detector(torch.cat([image, 1 - image])).main[0]
        assert (alone.box_logits[0] - beside.box_logits[0]).abs().max() < 1e-4
        detector.train()
        alone, beside = detector(image).main[0], detector(torch.cat([image, 1 - image])).main[0]
        assert (alone.box_logits[0] - beside.box_logits[0]).abs().max() > 1e-2


def test_a_photograph_beyond_pillows_limit_has_no_colour_to_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV decodes up to six times as many pixels, so that such an image may well be evaluated."""
    path, pixels = tmp_path / "image.png", np.zeros((30, 40, 3), np.uint8)
    pixels[:10] = (30, 60, 240)
    cv2.imwrite(str(path), pixels)
    assert _mean_colour(path) == pytest.approx([80, 20, 10])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30 * 40 // 2 - 1)
    assert _mean_colour(path) is None
