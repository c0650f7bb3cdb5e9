"""Test-time augmentation: against mmyolo's views, merge and metrics, by hand, and by brute force."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from comparisons import Compare, Comparisons
from numpy.typing import NDArray
from test_evaluate import matched_share, reference, reference_sample, require_matched, require_metrics
from torch import Tensor, nn
from torchvision.ops import box_convert

from yolov9bench import __main__ as door
from yolov9bench import records
from yolov9bench.data.coco import CocoImage, read_coco
from yolov9bench.errors import DatasetError, SettingsError
from yolov9bench.evaluation import evaluate, run_network
from yolov9bench.nn import Detector, Level
from yolov9bench.nn.detector import Outputs
from yolov9bench.ops.images import Pixels, read_image
from yolov9bench.predict import batches
from yolov9bench.predict.batches import Batch, Batches, make_input, stack_inputs
from yolov9bench.predict.detect import detect_batch, detect_view, merge_views
from yolov9bench.predict.postprocess import Detections
from yolov9bench.predict.predictions import result_rows
from yolov9bench.weights import load
from yolov9bench.zoo.protocols import MMYOLO_TTA, PROTOCOLS, Protocol, View

Array = NDArray[Any]
MMYOLO_FILE = "facts/mmyolo/ckpt/yolov8_n_synthetic_with_message_hub.pth"
SMALL = replace(MMYOLO_TTA, image_size=64)  # views of 64, 32 and 96 px


def batch_of(pixels: Pixels, sizes: Sequence[int]) -> Batch:
    """One image, BGR, in squares of these sides by mmyolo's rules."""
    inputs = {
        size: stack_inputs([make_input(pixels, size, (size, size), PROTOCOLS["mmyolo"])]) for size in sizes
    }
    return Batch((CocoImage(1, "1.png", pixels.shape[1], pixels.shape[0]),), inputs)


def require_same_set(
    held: Comparisons, found: Detections, boxes: Array, scores: Array, labels: Array
) -> None:
    """Each of one side has one of the other: its label, within 0.05 px and a thousandth of its score.

    Scores that nearly tie change places between float32 and float64 already.
    """
    assert len(found.scores) == len(scores)
    box, score, label = (torch.from_numpy(part) for part in (boxes, scores, labels))
    near = (found.scores[:, None] - score[None]).abs() <= 1e-3 * score
    near &= found.labels[:, None] == label[None]
    far = (found.boxes_xyxy[:, None] - box[None]).abs().amax(dim=2).where(near, torch.inf)
    for nearest in (far.amin(dim=0), far.amin(dim=1)):  # of theirs, of ours
        held.require("boxes of views and of their merge", "px", float(nearest.max()), 0.05, boxes.size)


def test_the_views_and_numbers_of_mmyolo() -> None:
    expected = [(640, True), (640, False), (320, True), (320, False), (960, True), (960, False)]
    flipped = [view.flipped for view in MMYOLO_TTA.views]
    assert list(zip(MMYOLO_TTA.view_sizes, flipped, strict=True)) == expected
    merging = MMYOLO_TTA.merge_iou, MMYOLO_TTA.merge_max_detections, MMYOLO_TTA.mirror_padding
    assert merging == (0.65, 300, False)
    assert replace(MMYOLO_TTA, name="mmyolo", views=(View(1.0, False),)) == PROTOCOLS["mmyolo"]
    for protocol in PROTOCOLS.values():
        assert protocol.views == (View(1.0, False),) and protocol.view_sizes == (640,)


def test_views_of_a_size_that_no_network_takes_are_refused() -> None:
    with pytest.raises(SettingsError, match="image_size 48 is not a multiple of 32: take 32 or 64"):
        replace(MMYOLO_TTA, image_size=96)


@pytest.fixture(scope="module")
def mmyolo_detector(shared: Path) -> Detector:
    return load(shared / MMYOLO_FILE).detector


@pytest.mark.parametrize("name", ["demo", "dog", "demo_rot90"])
def test_views_and_merge_as_mmyolo(
    shared: Path, mmyolo_detector: Detector, name: str, parity: Compare
) -> None:
    """The views, which the goldens hold not yet mirrored back, and the result; demo_rot90 is padded oddly."""
    held = parity("mmyolo", "post-processing")
    with np.load(shared / f"facts/mmyolo/goldens/tta_n_{name}.npz") as arrays:
        golden = dict(arrays)
    pixels = read_image(next((shared / "facts/mmyolo/img").glob(f"{name}.*")))
    batch = batch_of(pixels, (640, 320, 960))
    views = []
    for number, view in enumerate(MMYOLO_TTA.views):
        (found,) = detect_view(mmyolo_detector, batch, view, MMYOLO_TTA, "cpu")
        boxes, scores, labels = (golden[f"v{number}_{part}"] for part in ("bboxes", "scores", "labels"))
        if view.flipped:
            width = pixels.shape[1]
            boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
        require_same_set(held, found, boxes, scores, labels)
        views.append(found)
    result = merge_views(views, MMYOLO_TTA)
    require_same_set(held, result, *(golden[part] for part in ("bboxes", "scores", "labels")))
    assert bool((result.scores.diff() <= 0).all())


class SquareFinder(nn.Module):
    """In place of a detector: one box, exactly around the white pixels of an input, with label 0."""

    def forward(self, images: Tensor) -> Outputs:
        first, *others = (self.empty(images, stride) for stride in (8, 16, 32))
        for number, image in enumerate(images):
            rows, columns = (image[0] > 0.9).nonzero(as_tuple=True)
            x1, y1 = int(columns.min()), int(rows.min())
            x2, y2 = int(columns.max()) + 1, int(rows.max()) + 1
            column, row = (x1 + x2) // 16, (y1 + y2) // 16
            x, y = 8 * column + 4, 8 * row + 4
            for side, pixels in enumerate((x - x1, y - y1, x2 - x, y2 - y)):
                bins, share = divmod(pixels / 8, 1)
                logits = first.box_logits[number, 16 * side : 16 * side + 16, row, column]
                logits[int(bins)], logits[int(bins) + 1] = math.log(1 - share), math.log(share or 1e-30)
            first.class_logits[number, 0, row, column] = 2.0
        return Outputs((first, others[0], others[1]), None)

    @staticmethod
    def empty(images: Tensor, stride: int) -> Level:
        cells = images.shape[2] // stride, images.shape[3] // stride
        return Level(
            torch.full((len(images), 64, *cells), -1000.0), torch.full((len(images), 1, *cells), -20.0)
        )


SQUARE = [8.0, 20.0, 24.0, 40.0]


def with_square(width: int) -> Pixels:
    """A black image, 64 px high, with a white square on its left."""
    pixels = np.zeros((64, width, 3), np.uint8)
    pixels[20:40, 8:24] = 255
    return pixels


@pytest.mark.parametrize(
    ("width", "mirror_padding", "flipped_x1"),
    [
        (43, False, 7.0),  # 10 px left, 11 right: flipped, the content begins at 11, but 10 is subtracted
        (43, True, 8.0),
        (44, False, 8.0),  # 10 px on both sides
        (44, True, 8.0),
    ],
)
def test_odd_padding_by_hand(width: int, mirror_padding: bool, flipped_x1: float) -> None:
    settings = replace(SMALL, mirror_padding=mirror_padding)
    batch, detector = batch_of(with_square(width), (64,)), cast(Detector, SquareFinder())
    (plain,) = detect_view(detector, batch, View(1.0, False), settings, "cpu")
    (flipped,) = detect_view(detector, batch, View(1.0, True), settings, "cpu")
    assert plain.boxes_xyxy[0].tolist() == pytest.approx(SQUARE, abs=1e-4)
    expected = [flipped_x1, SQUARE[1], flipped_x1 + 16, SQUARE[3]]
    assert flipped.boxes_xyxy[0].tolist() == pytest.approx(expected, abs=1e-4)


def test_equal_views_merge_to_one_box() -> None:
    """Twice as large, half as large, mirrored: the square is where it is."""
    batch = batch_of(with_square(64), (64, 32, 96))
    (found,) = detect_batch(cast(Detector, SquareFinder()), batch, SMALL, "cpu")
    assert found.boxes_xyxy.shape == (1, 4)
    assert found.boxes_xyxy[0].tolist() == pytest.approx(SQUARE, abs=0.7)  # blurred edges of 96 px
    assert found.labels.tolist() == [0]


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    across = max(min(first[2], second[2]) - max(first[0], second[0]), 0.0)
    down = max(min(first[3], second[3]) - max(first[1], second[1]), 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return across * down / (sum(areas) - across * down)


def brute_force(views: Sequence[Detections], settings: Protocol) -> list[tuple[float, int]]:
    """(score, label) of what stays, best first: each box against all kept ones of its class."""
    every = [
        (float(score), int(label), box.tolist())
        for view in views
        for box, score, label in zip(*view, strict=True)
    ]
    kept: list[tuple[float, int, list[float]]] = []
    for score, label, box in sorted(every, key=lambda one: -one[0]):
        if all(label != other or overlap(box, rival) <= settings.merge_iou for _, other, rival in kept):
            kept.append((score, label, box))
    return [(score, label) for score, label, _ in kept[: settings.merge_max_detections]]


def clustered_views(seed: int) -> list[Detections]:
    """Six views of 40 boxes around few places, three classes, all scores different."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(4, 2, dtype=torch.float64, generator=generator) * 200 + 80
    centres = places[torch.randint(4, (240,), generator=generator)]
    centres = centres + torch.randn(240, 2, dtype=torch.float64, generator=generator) * 6
    sizes = 30 + torch.rand(240, 2, dtype=torch.float64, generator=generator) * 30
    boxes = box_convert(torch.cat([centres, sizes], dim=1), "cxcywh", "xyxy")
    scores = (torch.randperm(240, generator=generator).double() + 1) / 241
    labels = torch.randint(3, (240,), generator=generator)
    return [Detections(boxes[part], scores[part], labels[part]) for part in torch.arange(240).reshape(6, 40)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("changes", [{}, {"merge_iou": 0.3}, {"merge_max_detections": 7}], ids=str)
def test_merge_against_brute_force(seed: int, changes: dict[str, Any]) -> None:
    settings = replace(MMYOLO_TTA, **changes)
    views = clustered_views(seed)
    found = merge_views(views, settings)
    expected = brute_force(views, settings)
    assert list(zip(found.scores.tolist(), found.labels.tolist(), strict=True)) == expected
    assert 0 < len(expected) < 240


def test_nothing_in_any_view() -> None:
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert [tuple(part.shape) for part in merge_views([nothing] * 6, MMYOLO_TTA)] == [(0, 4), (0,), (0,)]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_batches_show_the_same_images_at_every_size(tiny: Path, batch_size: int) -> None:
    """Also when one of them cannot be decoded, and with batches that then hold nothing."""
    (tiny / "val/000003.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"000003\.png"):
        list(Batches(read_coco(tiny, "val"), SMALL, batch_size))
    skipping = Batches(read_coco(tiny, "val"), SMALL, batch_size, skip_corrupt=True)
    found = list(skipping)
    for batch in found:
        assert batch.inputs.keys() == {64, 32, 96}
        for size, inputs in batch.inputs.items():
            assert inputs.pixels.shape == (len(batch.images), 3, size, size)
            assert [info.original for info in inputs.letterboxes] == [
                (image.height, image.width) for image in batch.images
            ]
    assert [image.id for batch in found for image in batch.images] == [1, 2, 4, 5, 6]
    assert skipping.skipped == ["000003.png"]


def test_detections_do_not_depend_on_batch_size(tiny: Path, tiny_weights: Path) -> None:
    """With a YOLOv9 detector: the protocol is mmyolo's, the network any."""
    detector, dataset = load(tiny_weights).detector.deployed(), read_coco(tiny, "val")
    one, five = (
        run_network.run_inference(detector, Batches(dataset, SMALL, size), (1, 2), "cpu") for size in (1, 5)
    )
    assert set(one.image_ids.tolist()) == {1, 2, 3, 4, 5, 6}
    rows = list(result_rows(one)), list(result_rows(five))
    assert matched_share(*rows) == matched_share(*rows[::-1]) == 1.0


def test_an_image_is_decoded_once_for_all_its_views(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []

    def reading(path: Path) -> Pixels:
        decoded.append(path.name)
        return read_image(path)

    monkeypatch.setattr(batches, "read_image", reading)
    assert len(list(Batches(read_coco(tiny, "val"), SMALL, batch_size=4))) == 2
    assert sorted(decoded) == [f"{number:06}.png" for number in range(1, 7)]


def test_rectangles_of_several_sizes(tiny: Path) -> None:
    """Each size has the shape that it has alone, of the same groups."""
    dataset = read_coco(tiny, "val")
    protocol = replace(PROTOCOLS["yolov9"], image_size=64, group_size=2, views=SMALL.views)
    together = Batches(dataset, protocol).chunks
    for size in (64, 32, 96):
        alone = Batches(dataset, replace(PROTOCOLS["yolov9"], image_size=size, group_size=2)).chunks
        assert [(list(images), shapes[size]) for images, shapes in together] == [
            (list(images), shapes[size]) for images, shapes in alone
        ]


def test_record_is_what_ran(tiny: Path, tiny_weights: Path, tmp_path: Path) -> None:
    record = evaluate.evaluate(tiny_weights, tiny, split="val", limit=1, tta=True)
    assert record.settings["protocol"] == json.loads(json.dumps(asdict(MMYOLO_TTA)))
    assert record.settings["protocol"]["name"] == "mmyolo+tta"
    assert record.values.keys() >= {"AP", "AP_interval", "detections"}
    written = records.write(record, tmp_path)
    assert records.canonical(records.read(written)) == records.canonical(record)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"protocol": "yolov9"}, "for protocol mmyolo, not 'yolov9': take mmyolo or auto, or leave tta out"),
        (
            {"image_size": 320},
            "image_size 320 cannot go with tta, whose views are 640, 320, 960 px: leave one",
        ),
    ],
)
def test_what_does_not_go_with_tta(
    tiny: Path, tiny_weights: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SettingsError, match=sentence):
        evaluate.evaluate(tiny_weights, tiny, split="val", tta=True, **changes)


def test_the_command_line_refuses_in_a_sentence(
    tiny: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--checkpoint", str(tiny_weights), "--dataset", str(tiny), "--split", "val"]
    monkeypatch.setattr(
        sys, "argv", ["yolov9bench", "evaluate", *flags, "--tta", "--protocol", "ultralytics"]
    )
    assert door.main() == 2
    said = capsys.readouterr().err
    assert "not 'ultralytics'" in said
    assert said.count("\n") == 1


@pytest.mark.slow(8)
def test_real_weights_on_a_sample_as_mmyolo(shared: Path, tmp_path: Path) -> None:
    stored = tmp_path / "detections.json"
    weights, folder = shared / "weights/yolov8n.pt", shared / "coco"
    record = evaluate.evaluate(weights, folder, "mmyolo", limit=2, detections=stored, tta=True)
    ap, theirs = reference_sample(shared, "mmyolo+tta", read_coco(folder, limit=2))
    assert len(theirs) > 30
    assert abs(record.values["AP"] - ap) <= 1e-3
    assert matched_share(json.loads(stored.read_text()), theirs) >= 0.999


@pytest.mark.accuracy
@pytest.mark.slow(170)
def test_real_weights_on_real_images_as_mmyolo(shared: Path, tmp_path: Path, parity: Compare) -> None:
    """A few minutes on one core of a CPU."""
    held = parity("mmyolo", "TTA AP")
    stored = tmp_path / "detections.json"
    weights, dataset = shared / "weights/yolov8n.pt", shared / "coco"
    record = evaluate.evaluate(weights, dataset, "mmyolo", detections=stored, tta=True)
    metrics, theirs = reference(shared, "mmyolo+tta")
    require_matched(held, json.loads(stored.read_text()), theirs)
    require_metrics(held, record.values, metrics)
    assert record.row == "ultralytics-yolov8n"
