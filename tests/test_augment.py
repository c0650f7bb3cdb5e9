"""Augmentation of one image: recorded output of the reference, painted blobs, filters by brute force."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import Compare
from numpy.random import default_rng
from painted_images import (
    BOX_CLOSE,
    Recorded,
    corners,
    load,
    outlines,
    painted,
    refine_sample,
    require_agreement,
    seen,
)

from yolov9bench.data.transforms import (
    BLUR_KERNELS,
    Affine,
    RareFilters,
    Sample,
    apply_affine,
    apply_hsv,
    apply_rare_filters,
    draw_affine,
    draw_flip,
    draw_hsv,
    draw_rare_filters,
    letterboxed,
)
from yolov9bench.ops.images import Pixels
from yolov9bench.zoo.recipes import YOLOV8_N, YOLOV9

CASES = ("scale_shift", "down", "rotshear", "mosaic_border", "far")
NO_LIMITS = {
    "min_area_ratio": -1.0,
    "min_area_ratio_of_boxes": -1.0,
    "min_box_side": -1.0,
    "max_aspect": np.inf,
}
# The share without polygons, here of no effect, is one that nothing would reach.
YOLO_LIMITS = {"min_box_side": 2.0, "max_aspect": 100.0, "min_area_ratio_of_boxes": 2.0}


def refine_affine(golden: Recorded, case: str, mask_refine: bool, limits: Mapping[str, float]) -> Affine:
    height, width = golden[f"{case}_dst_hw"].tolist()
    matrix = golden[f"{case}_M_total"][:2].astype(np.float64)
    scale = float(golden[f"{case}_scale"])
    return Affine(matrix, scale, (height, width), mask_refine, **limits)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("name", "ratio"), [("plain", 0.1), ("plain_mar001", 0.01)])
def test_plain_affine_agrees_with_the_reference(
    shared: Path, case: str, name: str, ratio: float, parity: Compare
) -> None:
    held = parity("mmyolo", "augmentations")
    golden = load(shared, "mask_refine_affine")
    affine = refine_affine(golden, case, False, {"min_area_ratio": ratio, **YOLO_LIMITS})
    warped = apply_affine(refine_sample(golden), affine)
    require_agreement(held, warped, golden[f"{case}_{name}_boxes"], golden[f"{case}_{name}_labels"])
    held.require_close("pixels", "grey levels", warped.pixels, golden[f"{case}_img"], 1)
    assert warped.polygons == (None,) * len(warped.boxes)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("name", "ratio"), [("refine", 0.01), ("refine_mar01", 0.1)])
def test_mask_refine_agrees_with_the_reference(
    shared: Path, case: str, name: str, ratio: float, parity: Compare
) -> None:
    """But for the object of two polygons, which a loaded sample never has: see the next test."""
    golden = load(shared, "mask_refine_affine")
    affine = refine_affine(golden, case, True, {"min_area_ratio": ratio, **YOLO_LIMITS})
    warped = apply_affine(refine_sample(golden), affine)
    ours, theirs = warped.labels != 7, golden[f"{case}_{name}_labels"] != 7
    expected = golden[f"{case}_{name}_boxes"].reshape(-1, 4)[theirs]
    require_agreement(
        parity("mmyolo", "augmentations"),
        replace(warped, boxes=warped.boxes[ours], labels=warped.labels[ours]),
        expected,
        golden[f"{case}_{name}_labels"][theirs],
    )


@pytest.mark.parametrize("case", CASES)
def test_refined_boxes_agree_before_the_filter(shared: Path, case: str, parity: Compare) -> None:
    golden = load(shared, "mask_refine_affine")
    whole = refine_sample(golden)
    both = Sample(  # the second polygon of the second object as one more object
        whole.pixels,
        np.concatenate([whole.boxes, whole.boxes[1:2]]),
        np.append(whole.labels, 7),
        (*whole.polygons, corners(golden["poly1_1"])),
    )
    boxes = apply_affine(both, refine_affine(golden, case, True, NO_LIMITS)).boxes
    parts = np.array([box for box in boxes[[1, 4]] if box.any()] or [np.zeros(4)])
    boxes[1] = [*parts[:, :2].min(axis=0), *parts[:, 2:].max(axis=0)]
    theirs = golden[f"{case}_refine_boxes_before_filter"]
    parity("mmyolo", "augmentations").require_close(
        "boxes before the filter", "px", boxes[:4], theirs, BOX_CLOSE
    )


def test_hsv_agrees_with_the_reference(shared: Path, parity: Compare) -> None:
    held = parity("mmyolo", "augmentations")
    golden = load(shared, "hsv")
    sample = Sample(golden["img"], np.zeros((0, 4), np.float32), np.zeros(0, np.int64), ())
    for seed in range(3):
        hue, saturation, value = golden[f"gains{seed}"].tolist()
        changed = apply_hsv(sample, (hue, saturation, value)).pixels
        held.require_close("pixels of other colours", "grey levels", changed, golden[f"out{seed}"], 1)


@pytest.mark.parametrize("seed", range(30))
def test_refined_boxes_lie_in_the_plain_ones_and_cover_what_is_seen(seed: int) -> None:
    generator = default_rng(seed)
    # No blob spans the frame: of one that did, only the outline inside would count.
    sample = painted(generator, (100, 240))
    recipe = YOLOV8_N.varied(augmentation={"image_size": 160, "translate": 0.4})
    drawn = draw_affine(generator, sample.shape, recipe.augmentation, closing=False)
    plain, refined = (
        apply_affine(sample, Affine(drawn.matrix, drawn.scale, drawn.shape, mask_refine, **NO_LIMITS))
        for mask_refine in (False, True)
    )
    assert np.array_equal(plain.pixels, refined.pixels)
    for label in range(3):
        box, outer, visible = refined.boxes[label], plain.boxes[label], seen(plain.pixels, label)
        if visible is None:
            continue
        assert (box[:2] >= outer[:2] - 0.01).all() and (box[2:] <= outer[2:] + 0.01).all()
        if visible[2] - visible[0] > 3 and visible[3] - visible[1] > 3:  # not just a sliver at the border
            assert (np.abs(box - visible) <= 1 + drawn.scale / 2).all(), (box, visible)


def test_the_letterbox_shrinks_by_averaging_or_from_the_nearest_four() -> None:
    sample = painted(default_rng(0), (320, 640), count=0)
    noise = default_rng(0).integers(0, 256, (320, 640, 3), dtype=np.uint8)
    shrunk = {
        shrinking: letterboxed(replace(sample, pixels=noise), 160, (0, 0, 0), shrinking).pixels[40:120]
        for shrinking in (YOLOV8_N.augmentation.closing_shrinking, YOLOV9.augmentation.closing_shrinking)
    }
    parts = noise.reshape(80, 4, 160, 4, 3).astype(float)
    assert np.abs(shrunk["area"] - parts.mean(axis=(1, 3))).max() <= 0.5 + 1e-6
    nearest = parts[:, 1:3, :, 1:3].mean(
        axis=(1, 3)
    )  # the centre of 4 x 4 pixels lies between its inner four
    assert np.abs(shrunk["linear"] - nearest).max() <= 1


def test_limits_drop_small_thin_and_cut_boxes() -> None:
    boxes = [[10, 10, 30, 30], [10, 10, 13, 50], [-95, 0, 5, 40], [0, 0, 99, 3], [60, 0, 62.2, 60]]
    sample = Sample(np.zeros((60, 100, 3), np.uint8), np.array(boxes, np.float32), np.arange(5), (None,) * 5)
    halving = Affine(np.array([[0.5, 0, 0], [0, 0.5, 0]]), 0.5, (60, 100), False, 0.1, 0.1, 2.0, 25.0)
    kept = apply_affine(sample, halving)
    assert kept.labels.tolist() == [0]  # 1, 3 and 4 are less than 2 px wide or high, 2 keeps 5 %
    assert kept.boxes.tolist() == [[5, 5, 15, 15]]
    lax = replace(halving, min_area_ratio_of_boxes=0.04, min_box_side=1.0)
    assert apply_affine(sample, lax).labels.tolist() == [
        0,
        1,
        2,
    ]  # 3 is 33 times as wide as high, 4 is 27 times as high
    assert apply_affine(sample, replace(lax, max_aspect=34.0)).labels.tolist() == [0, 1, 2, 3, 4]


def test_the_share_to_keep_hangs_on_whether_there_are_polygons() -> None:
    boxes = np.array([[-95, 0, 5, 40]], np.float32)  # keeps 5 %
    outline = np.array([[-95, 0], [5, 0], [5, 40], [-95, 40]], np.float32)
    bare = Sample(np.zeros((60, 100, 3), np.uint8), boxes, np.arange(1), (None,))
    warp = Affine(np.eye(2, 3), 1.0, (60, 100), False, 0.01, 0.1, 2.0, 25.0)
    assert len(apply_affine(bare, warp).labels) == 0
    assert len(apply_affine(replace(bare, polygons=(outline,)), warp).labels) == 1


def test_a_drawn_warp_follows_the_recipe() -> None:
    generator = default_rng(0)
    warps = [draw_affine(generator, (120, 200), YOLOV9.augmentation, closing=False) for _ in range(300)]
    centres = np.array([warp.matrix @ (100, 60, 1) for warp in warps])
    scales = np.array([warp.scale for warp in warps])
    assert np.array_equal(scales, [warp.matrix[0, 0] for warp in warps])
    for values, low, high in ((centres, 0.4 * 640, 0.6 * 640), (scales, 0.1, 1.9)):
        assert values.min() >= low and values.max() <= high
        assert values.max() - values.min() > 0.95 * (high - low)
    assert (warps[0].mask_refine, warps[0].min_area_ratio, warps[0].min_area_ratio_of_boxes) == (
        True,
        0.01,
        0.1,
    )
    closing = draw_affine(generator, (640, 640), YOLOV9.augmentation, closing=True)
    assert (closing.mask_refine, closing.min_area_ratio) == (False, 0.1)


@pytest.mark.parametrize(
    "colour", [YOLOV8_N.augmentation.closing_pad_bgr, YOLOV9.augmentation.closing_pad_bgr]
)
@pytest.mark.parametrize(("shape", "inner"), [((60, 90), (106, 160)), ((400, 300), (160, 120))])
def test_the_letterbox_keeps_blobs_in_their_boxes(
    shape: tuple[int, int], inner: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    sample = letterboxed(painted(default_rng(1), shape), 160, colour, "linear")
    top, left = ((160 - side) // 2 for side in inner)
    is_pad = np.ones((160, 160), bool)
    is_pad[top : top + inner[0], left : left + inner[1]] = False
    assert sample.shape == (160, 160)
    assert (sample.pixels[is_pad] == colour).all()
    assert (sample.pixels[top, left : left + inner[1]] == 0).all()
    for label in range(3):
        visible, outline = seen(sample.pixels, label), outlines(sample)[label]
        assert visible is not None
        assert np.abs(sample.boxes[label] - visible).max() <= 2
        assert np.abs([*outline.min(axis=0), *outline.max(axis=0)] - visible).max() <= 2


def filtered(pixels: Pixels, **filters: Any) -> Pixels:
    sample = Sample(pixels, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), ())
    chosen = {"blur": None, "median": None, "grey": False, "contrast": None, **filters}
    return apply_rare_filters(sample, RareFilters(**chosen)).pixels


@pytest.mark.parametrize("side", BLUR_KERNELS)
def test_blurs_agree_with_brute_force(side: int) -> None:
    pixels = default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (side, side), axis=(0, 1))
    inner = slice(side // 2, -(side // 2)), slice(side // 2, -(side // 2))
    mean = filtered(pixels, blur=side)[inner].astype(float)
    assert np.abs(mean - windows.mean(axis=(-2, -1))).max() <= 0.5 + 1e-6
    assert np.array_equal(filtered(pixels, median=side)[inner], np.median(windows, axis=(-2, -1)))


def test_grey_weighs_blue_as_red() -> None:
    pixels = default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    grey = filtered(pixels, grey=True)
    assert np.abs(grey - (pixels @ [0.299, 0.587, 0.114])[..., None]).max() <= 1


def test_local_equalisation_spreads_the_lightness_and_spares_the_colour() -> None:
    generator = default_rng(0)
    pixels = generator.integers(110, 130, (256, 256, 1), dtype=np.uint8).repeat(3, axis=2)
    spread = filtered(pixels, contrast=4.0)
    little = filtered(pixels, contrast=1.0)
    assert spread.std() > 1.5 * pixels.std() and spread.std() > little.std()
    assert np.ptp(spread.astype(int), axis=2).max() <= 2  # still grey


def test_filters_are_rare_and_of_the_stated_strength() -> None:
    generator = default_rng(0)
    drawn = [draw_rare_filters(generator, YOLOV8_N.augmentation) for _ in range(8000)]
    blurs = [one.blur for one in drawn if one.blur]
    medians = [one.median for one in drawn if one.median]
    limits = [one.contrast for one in drawn if one.contrast]
    greys = [one for one in drawn if one.grey]
    for found in (blurs, medians, limits, greys):
        assert len(found) / 8000 == pytest.approx(0.01, abs=0.005)
    assert set(blurs) == set(medians) == {3, 5, 7}
    assert min(limits) >= 1 and max(limits) <= 4
    nothing = RareFilters(blur=None, median=None, grey=False, contrast=None)
    assert drawn[0] == nothing
    sample = painted(generator, (40, 60))
    assert np.array_equal(apply_rare_filters(sample, nothing).pixels, sample.pixels)


def test_hue_goes_round() -> None:
    sample = painted(default_rng(0), (8, 8), count=0)
    red = replace(sample, pixels=np.full((8, 8, 3), (17, 0, 255), np.uint8))  # hue 178 of 180
    assert (apply_hsv(red, (1.0, 1.0, 1.0)).pixels[0, 0] == (17, 0, 255)).all()
    blue, green, _ = apply_hsv(red, (1.015, 1.0, 1.0)).pixels[0, 0].tolist()  # 180.67, which is 0: pure red
    assert blue == green == 0


def test_colours_and_flips_are_drawn_from_the_recipe() -> None:
    generator = default_rng(0)
    factors = np.array([draw_hsv(generator, YOLOV8_N.augmentation) for _ in range(1000)])
    assert (np.abs(factors - 1).max(axis=0) <= YOLOV8_N.augmentation.hsv_gains).all()
    assert (np.ptp(factors, axis=0) > 1.9 * np.array(YOLOV8_N.augmentation.hsv_gains)).all()
    flips = [draw_flip(generator, YOLOV8_N.augmentation) for _ in range(1000)]
    assert np.mean(flips) == pytest.approx(0.5, abs=0.06)
