"""Protocols as they run: input shapes, batches, and boxes brought back to the image."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from comparisons import Compare
from numpy.typing import NDArray
from torch import Tensor

from yolov9bench.data.coco import CocoDataset, CocoImage
from yolov9bench.errors import DatasetError, SettingsError
from yolov9bench.nn import Detector
from yolov9bench.ops.images import LetterboxInfo, letterbox, read_image, resize_long_side
from yolov9bench.predict.batches import Batches, group_images, group_shape, make_input
from yolov9bench.predict.detect import clipped, detect, select_detections, to_original
from yolov9bench.predict.postprocess import Detections
from yolov9bench.weights import load
from yolov9bench.zoo.protocols import PROTOCOL_OF_FORMAT, PROTOCOLS, Protocol, find_protocol

Array = NDArray[Any]
YOLOV9, ULTRALYTICS, MMYOLO = (PROTOCOLS[name] for name in ("yolov9", "ultralytics", "mmyolo"))
MMYOLO_FILE = "facts/mmyolo/ckpt/yolov8_n_synthetic_with_message_hub.pth"


def described(sizes: Sequence[tuple[int, int]]) -> list[CocoImage]:
    """Images of these (height, width), numbered from 0."""
    return [CocoImage(index, f"{index}.png", width, height) for index, (height, width) in enumerate(sizes)]


def arrays_of(path: Path) -> dict[str, Array]:
    with np.load(path) as arrays:
        return dict(arrays)


def ratio(image: CocoImage) -> float:
    return image.height / image.width


def test_what_all_protocols_share() -> None:
    """Every figure of the tables was taken with these."""
    for name, protocol in PROTOCOLS.items():
        found = asdict(protocol)
        expected = {
            "name": name,
            "image_size": 640,
            "score_threshold": 0.001,
            "nms_iou": 0.7,
            "multi_label": True,
        }
        expected |= {"max_candidates": 30_000, "max_detections": 300}
        assert {key: found[key] for key in expected} == expected
    assert set(PROTOCOL_OF_FORMAT.values()) <= PROTOCOLS.keys()


def test_protocols_are_found_by_name() -> None:
    assert find_protocol("mmyolo") is MMYOLO
    assert find_protocol("yolov9", image_size=1280) == replace(YOLOV9, image_size=1280)
    with pytest.raises(SettingsError, match="no protocol 'mmyola'; did you mean 'mmyolo'"):
        find_protocol("mmyola")
    with pytest.raises(SettingsError, match="choose one of yolov9, ultralytics, ultralytics-square, mmyolo"):
        find_protocol("?")


@pytest.mark.parametrize(
    ("size", "hint"), [(650, "take 640 or 672"), (10, "take 32 or 64"), (0, "take 32 or 64")]
)
def test_sides_that_no_network_takes(size: int, hint: str) -> None:
    with pytest.raises(SettingsError, match=f"image_size {size} is not a multiple of 32: {hint}"):
        find_protocol("yolov9", image_size=size)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([1.0], (672, 672)),
        ([0.75], (512, 672)),
        ([4 / 3], (672, 512)),
        ([0.5, 0.794], (544, 672)),
        ([0.5, 2.0], (672, 672)),
        ([1.5, 3.0], (672, 448)),
        ([0.001], (32, 672)),
    ],
)
def test_shapes_of_groups_by_hand(ratios: list[float], expected: tuple[int, int]) -> None:
    """Strides that the tallest or the widest needs, and half a stride more, rounded up."""
    assert group_shape(ratios, 640, YOLOV9) == expected


def test_without_a_margin_square_images_stay_at_their_size() -> None:
    assert group_shape([1.0], 640, replace(YOLOV9, margin=0.0)) == (640, 640)
    assert group_shape([0.75], 640, replace(YOLOV9, margin=0.0)) == (480, 640)


def test_square_protocols_have_one_group() -> None:
    images = described([(480, 640), (640, 480)])
    assert group_images(images, MMYOLO) == [(images, {640: (640, 640)})]


def test_groups_go_by_ratio_and_keep_the_order_of_equals() -> None:
    images = described([(640, 480), (480, 640), (100, 100), (240, 320), (50, 50)])
    found = group_images(images, replace(YOLOV9, group_size=2))
    assert [[image.id for image in group] for group, _ in found] == [[1, 3], [2, 4], [0]]
    assert [shapes[640] for _, shapes in found] == [(512, 672), (672, 672), (672, 512)]


@pytest.mark.parametrize("margin", [0.0, 0.5])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_official_groups(shared: Path, size: int, margin: float, parity: Compare) -> None:
    """The reference sorts unstably: images of one ratio may change places, which no shape depends on."""
    golden = arrays_of(shared / "facts/yolov9/goldens/letterbox.npz")
    images = described([(int(height), int(width)) for width, height in golden["rect_wh"]])
    protocol = replace(YOLOV9, image_size=160, group_size=size, margin=margin)
    found = group_images(images, protocol)
    theirs = golden[f"rect_shapes_bs{size}_pad{margin}"]
    held = parity("yolov9", "pre-processing")
    held.require_close("shapes of groups", "px", [shapes[160] for _, shapes in found], theirs)
    order = [image for group, _ in found for image in group]
    assert [ratio(image) for image in order] == [ratio(images[index]) for index in golden["rect_order"]]
    assert sorted(image.id for image in order) == list(range(len(images)))


@pytest.mark.parametrize("rectangular", [True, False])
def test_ultralytics_geometry_of_many_sizes(shared: Path, rectangular: bool, parity: Compare) -> None:
    """Sizes after loading, input shapes, paddings and both ratios; equal ratios may change places."""
    held = parity("ultralytics", "pre-processing")
    text = (shared / "facts/more_formats/goldens/predict_numbers.json").read_text(encoding="utf-8")
    golden = json.loads(text)[f"val_rect_{str(rectangular).lower()}"]
    protocol = replace(ULTRALYTICS, rectangular=rectangular, group_size=golden["batch"])
    assert golden["imgsz"] == protocol.image_size
    rows = sorted(golden["rows"], key=lambda row: int(row["image"]))
    images = described([tuple(row["h0w0"]) for row in rows])
    expected = {row["image"]: row for row in rows}
    numbers = [row["image"] for row in rows]  # the reference drops one image of 1 px and keeps its number
    compared = 0
    for group, shapes in group_images(images, protocol):
        for image in group:
            row = expected[numbers[image.id]]
            pixels = np.zeros((image.height, image.width, 3), np.uint8)
            found, info = make_input(pixels, 640, shapes[640], protocol)
            assert info.original == tuple(row["h0w0"])
            ours = [*info.resized, info.left, info.top, *found.shape[:2]]
            theirs = [*row["loaded_hw"], *row["pad_lt"], *row["final_hw"]]
            held.require_close("resized sides, padding, input", "px", ours, theirs)
            assert np.divide(info.resized, info.original).tolist() == row["gain_hw"]
            compared += 1
    assert compared == len(golden["rows"]) == 31


@pytest.mark.parametrize("index", [0, 1, 4])
def test_official_scaling_back(shared: Path, index: int, parity: Compare) -> None:
    """One ratio for both axes and half pixels of padding.

    Images 2 and 3 of the golden do not fit the rectangle it gives them, as no group of a protocol does; the
    reference then leaves the second scaling out of its account.
    """
    golden = arrays_of(shared / "facts/yolov9/goldens/letterbox.npz")
    image, shape = golden[f"im{index}"], golden[f"val{index}_letterboxed"].shape[:2]
    _, info = make_input(image, 160, shape, YOLOV9)
    boxes = to_original(torch.from_numpy(golden[f"val{index}_boxes_in"]), info, YOLOV9)
    expected = torch.from_numpy(golden[f"val{index}_boxes_ratio_pad"])
    held = parity("yolov9", "post-processing")
    held.require_close("boxes scaled back", "px", clipped(boxes, info.original), expected, 1e-4)


def test_ultralytics_scaling_back(shared: Path, parity: Compare) -> None:
    held = parity("ultralytics", "post-processing")
    text = (shared / "facts/more_formats/goldens/predict_numbers.json").read_text(encoding="utf-8")
    boxes = torch.tensor([[10.0, 20.0, 200.0, 300.0], [-5.0, -5.0, 700.0, 700.0]])
    rows = json.loads(text)["predict_letterbox"]
    assert len(rows) == 64
    for row in rows:
        height, width = row["hw"]
        image = np.zeros((height, width, 3), np.uint8)
        _, info = letterbox(image, tuple(row["final_hw"]), scale_up=True)
        found = clipped(to_original(boxes, info, ULTRALYTICS), info.original)
        held.require_close("boxes scaled back", "px", found, row["scaled_back"], 1e-4)


def test_scaling_back_by_hand() -> None:
    """An image 30 x 100 scaled to 19 x 64, between 6 and 7 rows of padding in an input of 32 x 64."""
    info = LetterboxInfo((30, 100), (19, 64), (32, 64), left=0, top=6)
    box = torch.tensor([[32.0, 25.0, 64.0, 12.0]], dtype=torch.float64)
    axes = to_original(box, info, ULTRALYTICS)
    assert torch.allclose(axes, torch.tensor([[50.0, 30.0, 100.0, 180 / 19]], dtype=torch.float64))
    height = to_original(box, info, YOLOV9)
    expected = [32 * 30 / 19, 18.5 * 30 / 19, 64 * 30 / 19, 5.5 * 30 / 19]
    assert torch.allclose(height, torch.tensor([expected], dtype=torch.float64))


def test_boxes_are_clipped_to_the_image() -> None:
    boxes = torch.tensor([[-3.0, -4.0, 150.0, 50.0], [20.0, 10.0, 30.0, 25.0]])
    expected = torch.tensor([[0.0, 0.0, 100.0, 30.0], [20.0, 10.0, 30.0, 25.0]])
    assert torch.equal(clipped(boxes, (30, 100)), expected)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_detections_lie_in_the_image(protocol: Protocol) -> None:
    info = LetterboxInfo((50, 100), (32, 64), (64, 64), left=0, top=16)
    boxes = torch.tensor([[0.0, 0.0, 64.0, 64.0], [8.0, 24.0, 16.0, 32.0]])
    found = select_detections(boxes, torch.tensor([[0.9], [0.8]]), info, protocol)
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    expected = torch.tensor([[0.0, 0.0, 100.0, 50.0], [12.5, 12.5, 25.0, 25.0]])
    assert torch.allclose(found.boxes_xyxy, expected)


def test_mmyolo_suppresses_in_the_image() -> None:
    """Behind the padding lie negative coordinates, where one class meets the next; in the input none do."""
    info = LetterboxInfo((32, 64), (32, 64), (64, 64), left=0, top=16)
    boxes = torch.tensor([[0.0, 16.0, 10.0, 26.0], [-11.0, 5.0, -1.0, 15.0]])
    scores = torch.tensor([[0.9, 0.0], [0.0, 0.8]])
    assert select_detections(boxes, scores, info, MMYOLO).labels.tolist() == [0]
    in_input = replace(MMYOLO, nms_coordinates="input")
    assert select_detections(boxes, scores, info, in_input).labels.tolist() == [0, 1]


def matched(found: Detections, boxes: Array, scores: Array, labels: Array) -> float:
    """The largest deviation in pixels of recorded detections from ours of their label and score."""
    far = 0.0
    for box, score, label in zip(boxes, scores, labels, strict=True):
        near = (found.labels == int(label)) & ((found.scores - float(score)).abs() <= 1e-3 * float(score))
        assert bool(near.any()), f"no detection of class {label} with a score of {score}"
        far = max(far, float((found.boxes_xyxy[near] - torch.from_numpy(box)).abs().amax(dim=1).min()))
    return far


@pytest.fixture(scope="module")
def mmyolo_detector(shared: Path) -> Detector:
    return load(shared / MMYOLO_FILE).detector


@pytest.mark.parametrize(
    "name",
    ["demo", "demo_bs480x672", "demo_rot90", "dog", "dog_bs512x672", "dog_crop_333x499", "dog_crop_606"],
)
def test_mmyolo_detections(shared: Path, mmyolo_detector: Detector, name: str, parity: Compare) -> None:
    """As sets: scores that nearly tie change places between float32 and float64 already."""
    held = parity("mmyolo", "post-processing")
    golden = arrays_of(shared / f"facts/mmyolo/goldens/predict_n_{name}.npz")
    image = read_image(next((shared / "facts/mmyolo/img").glob(f"{name.partition('_bs')[0]}.*")))
    shape = (int(golden["img_shape"][0]), int(golden["img_shape"][1]))
    pixels, info = make_input(image, 640, shape, MMYOLO)
    inputs = torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1)))[None].float() / 255
    (found,) = detect(mmyolo_detector, inputs, [info], MMYOLO)
    assert len(found.scores) == len(golden["scores"]) == 300
    assert bool((found.scores.diff() <= 0).all())
    for ending in ("", "_f64"):
        far = matched(found, *(golden[part + ending] for part in ("bboxes", "scores", "labels")))
        held.require("boxes of detections", "px", far, 0.05, golden["bboxes" + ending].size)


class Painted:
    """A folder of small images, each of one grey of its own."""

    def __init__(self, root: Path, sizes: Sequence[tuple[int, int]]) -> None:
        (root / "val").mkdir()
        for image in described(sizes):
            cv2.imwrite(
                str(root / "val" / image.file_name),
                np.full((image.height, image.width, 3), image.id, np.uint8),
            )
        self.dataset = CocoDataset(root, "val", tuple(described(sizes)), [], ((1, "thing"),), "", "")


SIZES = [(30, 40), (40, 30), (20, 20), (33, 44), (64, 64), (10, 60), (44, 33)]


def small(name: str) -> Protocol:
    return find_protocol(name, image_size=64)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batches_hold_every_image_once(tmp_path: Path, protocol: str, batch_size: int) -> None:
    dataset = Painted(tmp_path, SIZES).dataset
    batches = Batches(dataset, replace(small(protocol), group_size=4), batch_size)
    found = list(batches)
    assert len(batches) == len(found)
    assert sorted(image.id for batch in found for image in batch.images) == list(range(len(SIZES)))
    for batch in found:
        assert batch.inputs[64].pixels.dtype == torch.uint8
        assert batch.inputs[64].pixels.shape == (len(batch.images), 3, *batch.inputs[64].letterboxes[0].input)
        assert len(batch.images) <= batch_size
        for image, pixels, info in zip(
            batch.images, batch.inputs[64].pixels, batch.inputs[64].letterboxes, strict=True
        ):
            assert info.original == (image.height, image.width)
            require_placed(pixels, info, image.id)


def require_placed(pixels: Tensor, info: LetterboxInfo, grey: int) -> None:
    """The image fills its place and nothing else."""
    top, left = info.top, info.left
    expected = torch.full_like(pixels, 114)
    expected[:, top : top + info.resized[0], left : left + info.resized[1]] = grey
    assert torch.equal(pixels, expected)


def test_shapes_do_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    dataset = Painted(tmp_path, SIZES).dataset
    shapes = [
        {
            image.id: place.input
            for batch in batches
            for image, place in zip(batch.images, batch.inputs[64].letterboxes, strict=True)
        }
        for batches in (Batches(dataset, replace(small("yolov9"), group_size=3), size) for size in (1, 2, 7))
    ]
    assert shapes[0] == shapes[1] == shapes[2]
    assert len(set(shapes[0].values())) > 1


def test_inputs_are_red_first(tmp_path: Path) -> None:
    dataset = Painted(tmp_path, [(64, 64)]).dataset
    cv2.imwrite(str(tmp_path / "val/0.png"), np.full((64, 64, 3), (10, 20, 30), np.uint8))  # blue first
    (batch,) = Batches(dataset, small("mmyolo"))
    assert batch.inputs[64].pixels[0, :, 5, 5].tolist() == [30, 20, 10]


def test_a_broken_image_stops_or_is_named(tmp_path: Path) -> None:
    dataset = Painted(tmp_path, SIZES).dataset
    (tmp_path / "val/2.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"2\.png cannot be decoded"):
        list(Batches(dataset, small("yolov9")))
    batches = Batches(dataset, small("yolov9"), batch_size=1, skip_corrupt=True)
    found = [image.id for batch in batches for image in batch.images]
    assert sorted(found) == [0, 1, 3, 4, 5, 6]
    assert batches.skipped == ["2.png"]


def test_an_image_of_another_size_counts_as_it_is(tmp_path: Path) -> None:
    dataset = Painted(tmp_path, SIZES).dataset
    cv2.imwrite(str(tmp_path / "val/4.png"), np.zeros((32, 64, 3), np.uint8))
    batches = Batches(dataset, small("mmyolo"))
    (batch,) = batches
    assert batch.inputs[64].letterboxes[4].original == (32, 64)
    assert batches.other_size == ["4.png"]


def test_resizing_is_the_protocols_own() -> None:
    """Official: truncated and averaged; Ultralytics: rounded up and linear."""
    image = np.random.default_rng(0).integers(0, 256, (75, 100, 3), np.uint8)
    for protocol, rounding, shrinking in ((YOLOV9, "truncate", "area"), (ULTRALYTICS, "ceil", "linear")):
        found, info = make_input(image, 64, (64, 64), protocol)
        height, width = info.resized
        part = found[info.top : info.top + height, info.left : info.left + width]
        assert np.array_equal(part, resize_long_side(image, 64, rounding, shrinking))  # type: ignore[arg-type]
