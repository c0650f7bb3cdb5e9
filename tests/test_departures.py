"""Departures: which there are of a protocol, and what those of the inputs do to shapes and pixels."""

import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from yolov9bench.data.coco import CocoImage
from yolov9bench.errors import SettingsError
from yolov9bench.evaluation.departures import Departure, Procedure, list_departures
from yolov9bench.evaluation.variants import input_maker, shuffle_ties
from yolov9bench.ops.images import LetterboxInfo
from yolov9bench.predict.batches import Shape, group_images
from yolov9bench.zoo.protocols import (
    MMYOLO,
    MMYOLO_TTA,
    PROTOCOLS,
    ULTRALYTICS,
    ULTRALYTICS_SQUARE,
    YOLOV9,
    Protocol,
)

Pixels = NDArray[np.uint8]


def named(baseline: Protocol) -> dict[str, Departure]:
    return {each.name: each for each in list_departures(baseline)}


def made(pixels: Pixels, name: str, baseline: Protocol = ULTRALYTICS_SQUARE) -> tuple[Pixels, LetterboxInfo]:
    """The input of 64 x 64 px that a departure makes of an image; the baseline's for no name."""
    procedure = Procedure(replace(baseline, image_size=64))
    if name:
        procedure = procedure.changed(named(baseline)[name].changes[0])
    return input_maker(procedure)(pixels, 64, (64, 64), procedure.protocol)


def test_a_baseline_has_its_own_departures() -> None:
    of_ultralytics, of_yolov9, of_mmyolo = (list(named(each)) for each in (ULTRALYTICS, YOLOV9, MMYOLO))
    assert of_ultralytics[:5] == [
        "square inputs",
        "order of ties",
        "area resize",
        "PIL resize",
        "sides truncated",
    ]
    assert of_yolov9[:5] == [
        "square inputs",
        "order of ties",
        "linear resize",
        "PIL resize",
        "sides rounded up",
    ]
    assert of_mmyolo[:2] == ["rectangular inputs", "linear resize"]
    assert len(of_ultralytics) == len(of_yolov9) == len(of_mmyolo) + 1 == 18


@pytest.mark.parametrize("baseline", PROTOCOLS.values(), ids=PROTOCOLS)
def test_every_departure_changes_one_thing_and_names_what_it_explains(baseline: Protocol) -> None:
    for departure in list_departures(baseline):
        assert departure.reports and departure.sentence.endswith(".")
        assert all(re.fullmatch(r"[\w-]+/[\w-]+(#\d+|@[0-9a-f]{7})", each) for each in departure.reports)
        for changes in departure.changes:
            assert len(set(changes) - {"group_size"}) == 1
            assert Procedure(baseline).changed(changes) != Procedure(baseline)


def test_what_the_baseline_does_already_is_no_departure() -> None:
    changed = replace(ULTRALYTICS, nms_iou=0.65, multi_label=False, max_detections=100, class_shift=0.0)
    gone = set(named(ULTRALYTICS)) - set(named(changed))
    assert gone == {"NMS IoU .65", "single label", "100 boxes", "class-agnostic NMS"}
    assert "order of ties" not in {each.name for each in list_departures(ULTRALYTICS, orders=0)}
    assert len(list_departures(ULTRALYTICS, orders=3)[1].changes) == 3


def test_views_have_no_departures() -> None:
    with pytest.raises(SettingsError, match=r"mmyolo\+tta has several views, and a study needs one"):
        list_departures(MMYOLO_TTA)


def image(number: int, height: int, width: int) -> CocoImage:
    return CocoImage(number, f"{number}.png", width, height)


def shapes_of(images: list[CocoImage], procedure: Procedure) -> dict[int, Shape]:
    """The input shape of each image, by id."""
    ordered = shuffle_ties(images, procedure.tie_seed)
    groups = group_images(ordered, procedure.protocol)
    return {each.id: shapes[procedure.protocol.image_size] for group, shapes in groups for each in group}


def test_square_and_rectangular_inputs() -> None:
    """3/4 of 640 px are 15 strides and a half one more, rounded up to 16: 512 px; the width is 672."""
    images = [image(1, 480, 640)]
    assert shapes_of(images, Procedure(ULTRALYTICS)) == {1: (512, 672)}
    square = Procedure(ULTRALYTICS).changed(named(ULTRALYTICS)["square inputs"].changes[0])
    assert shapes_of(images, square) == {1: (640, 640)}
    shaped = Procedure(MMYOLO).changed(named(MMYOLO)["rectangular inputs"].changes[0])
    assert shapes_of(images, shaped) == {1: (512, 672)}


def test_the_order_of_ties_moves_images_between_groups() -> None:
    """Four images of height / width 1/2 and a flatter one, in pairs: any of the four may share its pair."""
    baseline = replace(ULTRALYTICS, group_size=2)
    images = [image(1, 160, 640), *(image(number, 320, 640) for number in (2, 3, 4, 5))]
    beside: set[int] = set()
    for seed in range(30):
        ordered = shuffle_ties(images, seed)
        assert ordered == shuffle_ties(images, seed)
        first, *_ = group_images(ordered, baseline)
        assert first[0][0].id == 1
        beside.add(first[0][1].id)
    assert beside == {2, 3, 4, 5}
    assert shuffle_ties(images, None) == images
    assert group_images(images, baseline)[0][0][1].id == 2


def test_area_averages_where_linear_picks_the_middle() -> None:
    """Blocks of 4 x 4 px, of which the middle 2 x 2 are 0 and the other twelve 160: a mean of 120."""
    block = np.full((4, 4, 3), 160, np.uint8)
    block[1:3, 1:3] = 0
    pixels = np.tile(block, (64, 64, 1))
    assert set(np.unique(made(pixels, "")[0])) == {0}
    assert set(np.unique(made(pixels, "area resize")[0])) == {120}
    assert set(np.unique(made(pixels, "", YOLOV9)[0])) == {120}
    assert set(np.unique(made(pixels, "linear resize", YOLOV9)[0])) == {0}


def test_pil_overshoots_at_an_edge() -> None:
    """Lanczos has negative weights, so that beside a step it exceeds both sides; interpolation never does."""
    pixels = np.full((32, 32, 3), 50, np.uint8)
    pixels[:, 16:] = 200
    linear, lanczos = made(pixels, "")[0], made(pixels, "PIL resize")[0]
    assert (linear.min(), linear.max()) == (50, 200)
    assert lanczos.min() < 45 and lanczos.max() > 205
    assert np.abs(lanczos.astype(int) - linear)[:, [8, 56]].max() <= 1  # far from the edge they agree
    unchanged = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    assert np.array_equal(made(unchanged, "PIL resize")[0], unchanged)


def test_sides_are_truncated_or_rounded_up() -> None:
    """31 x 60.6 (tenths of 310 x 606) at 64 px: 310 * 64 / 606 is 32.7."""
    pixels = np.zeros((310, 606, 3), np.uint8)
    assert made(pixels, "")[1].resized == (33, 64)
    assert made(pixels, "sides truncated")[1].resized == (32, 64)
    assert made(pixels, "", YOLOV9)[1].resized == (32, 64)
    assert made(pixels, "sides rounded up", YOLOV9)[1].resized == (33, 64)


def test_without_scale_up_small_images_keep_their_size() -> None:
    small, large = np.zeros((24, 32, 3), np.uint8), np.zeros((96, 128, 3), np.uint8)
    assert made(small, "")[1] == LetterboxInfo((24, 32), (48, 64), (64, 64), left=0, top=8)
    assert made(small, "no scale-up")[1] == LetterboxInfo((24, 32), (24, 32), (64, 64), left=16, top=20)
    assert made(large, "no scale-up")[1] == made(large, "")[1]


def test_padding_is_black_around_the_same_image() -> None:
    pixels = np.full((24, 32, 3), 77, np.uint8)
    usual, black = made(pixels, "")[0], made(pixels, "padding 0")[0]
    assert set(np.unique(usual[:8])) == set(np.unique(usual[56:])) == {114}
    assert set(np.unique(black[:8])) == set(np.unique(black[56:])) == {0}
    assert np.array_equal(usual[8:56], black[8:56])


def test_departures_that_share_a_run_of_the_network() -> None:
    """Only those of the inputs need one of their own; random orders need it for other shapes alone."""
    usual = Procedure(ULTRALYTICS)
    runs = [
        name
        for name, each in named(ULTRALYTICS).items()
        if usual.changed(each.changes[0]).inputs != usual.inputs
    ]
    assert runs == list(named(ULTRALYTICS))[:7]
    same = [
        name
        for name, each in named(ULTRALYTICS).items()
        if usual.changed(each.changes[0]).pixels == usual.pixels and name in runs
    ]
    assert same == ["square inputs", "order of ties"]
