"""Mosaic, copy-paste and mixup: recorded output of the reference, painted blobs, arithmetic by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from comparisons import Compare
from numpy.random import default_rng
from painted_images import (
    BOX_CLOSE,
    copy_pasted,
    corners,
    load,
    outlines,
    painted,
    refine_sample,
    require_agreement,
    seen,
    whole_mosaic,
    whole_tile,
)

from yolov9bench.data.mosaic import (
    CopyPaste,
    MixUp,
    Mosaic,
    apply_mixup,
    covered_share,
    draw_copy_paste,
    draw_mixup,
    draw_mosaic,
    find_seen,
    paint,
    paste_pixels,
)
from yolov9bench.data.outlines import filled
from yolov9bench.data.transforms import (
    Part,
    RareFilters,
    Sample,
    apply_affine,
    apply_flip,
    apply_hsv,
    apply_rare_filters,
    draw_affine,
    letterboxed,
    part_seen,
)
from yolov9bench.zoo.recipes import RECIPES, YOLOV8_N, YOLOV9


def test_mosaic_agrees_with_the_reference(shared: Path, parity: Compare) -> None:
    held = parity("mmyolo", "augmentations")
    golden = load(shared, "mosaic")
    images = [
        Sample(
            golden[f"in{number}"],
            golden[f"in{number}_boxes"],
            np.array([number, 10 + number]),
            tuple(corners(golden[f"in{number}_poly{one}"]) for one in (0, 1)),
        )
        for number in range(4)
    ]
    for seed in range(3):
        x, y = golden[f"s{seed}_center"].tolist()
        sample = whole_mosaic([whole_tile(image, 160) for image in images], Mosaic((1, 2, 3), (x, y), 160))
        held.require_close("pixels", "grey levels", sample.pixels, golden[f"s{seed}_img"])
        require_agreement(held, sample, golden[f"s{seed}_boxes"], golden[f"s{seed}_labels"])
        extents = [[*outline.min(axis=0), *outline.max(axis=0)] for outline in outlines(sample)]
        held.require_close("extents of outlines", "px", extents, golden[f"s{seed}_polyboxes"], BOX_CLOSE)


@pytest.mark.parametrize("painted_tile", range(4))
@pytest.mark.parametrize("seed", range(5))
def test_mosaics_and_flips_move_blobs_with_their_boxes(seed: int, painted_tile: int) -> None:
    generator = default_rng(seed)
    parts = []
    for number in range(4):
        height, width = generator.integers(80, 240, 2).tolist()
        part = painted(generator, (height, width), count=3 if number == painted_tile else 0)
        parts.append(whole_tile(part, 160))
    recipe = YOLOV8_N.varied(augmentation={"image_size": 160, "mosaic_shuffled": True})
    mosaic = draw_mosaic(generator, 9, recipe.augmentation)
    whole = whole_mosaic(parts, mosaic)
    for sample in (whole, apply_flip(whole, True), apply_flip(apply_flip(whole, True), True)):
        assert sample.shape == (320, 320)
        for label, box, outline in zip(sample.labels, sample.boxes, outlines(sample), strict=True):
            visible = seen(sample.pixels, label)
            assert np.allclose(box, [*outline.min(axis=0), *outline.max(axis=0)], atol=1)
            if visible is not None:
                assert (box[:2] <= visible[:2] + 2).all() and (box[2:] >= visible[2:] - 2).all()
                is_whole = (box > 0).all() and (box < 320).all()
                assert not is_whole or (np.abs(box - visible) <= 2).all(), (label, box, visible)
    twice = apply_flip(apply_flip(whole, True), True)
    assert np.array_equal(twice.pixels, whole.pixels) and apply_flip(whole, False) is whole


def test_a_drawn_mosaic_takes_any_images_and_any_centre() -> None:
    generator = default_rng(0)
    drawn = [
        draw_mosaic(generator, 9, YOLOV8_N.varied(augmentation={"image_size": 160}).augmentation)
        for _ in range(500)
    ]
    centres, others = np.array([one.centre for one in drawn]), np.array([one.others for one in drawn])
    assert centres.min(axis=0).tolist() == [80, 80] and centres.max(axis=0).tolist() == [239, 239]
    assert all(set(column) == set(range(9)) for column in others.T.tolist())
    assert any(len(set(one)) < 3 for one in others.tolist())
    assert {one.places for one in drawn} == {(0, 1, 2, 3)}


def test_the_official_mosaic_shuffles_the_places() -> None:
    recipe = YOLOV9.varied(augmentation={"image_size": 32})
    drawn = [draw_mosaic(default_rng(seed), 9, recipe.augmentation) for seed in range(500)]
    assert len({one.places for one in drawn}) == 24
    bare = painted(default_rng(0), (32, 32), count=0)
    shades = [replace(bare, pixels=np.full((32, 32, 3), 10 * shade, np.uint8)) for shade in range(1, 5)]
    pixels = whole_mosaic(shades, replace(drawn[0], centre=(32, 32), places=(2, 0, 3, 1))).pixels
    assert pixels[::32, ::32, 0].tolist() == [[20, 40], [10, 30]]


def test_a_tile_fills_its_long_side_and_no_more() -> None:
    sample = Sample(
        np.zeros((30, 61, 3), np.uint8), np.array([[0, 0, 61, 30]], np.float32), np.arange(1), (None,)
    )
    assert whole_tile(sample, 160).shape == (78, 160)  # 30 * 160 / 61 = 78.7
    np.testing.assert_allclose(whole_tile(sample, 160).boxes, [[0, 0, 160, 30 * 160 / 61]], rtol=1e-6)


def test_copy_paste_agrees_with_the_reference(shared: Path, parity: Compare) -> None:
    held = parity("mmyolo", "augmentations")
    golden = load(shared, "copypaste")
    sample = replace(refine_sample(load(shared, "mask_refine_affine")), pixels=golden["img"])
    share = covered_share(apply_flip(sample, True).boxes, sample.boxes)
    held.require_close("covered shares", "share", share, golden["ioa"], 1e-6)
    for seed in range(4):
        pasted = golden[f"seed{seed}_labels"][-1]
        chosen = CopyPaste((sample.labels.tolist().index(pasted),))
        result = copy_pasted(sample, chosen)
        held.require_close("pixels", "grey levels", result.pixels, golden[f"seed{seed}_img"])
        require_agreement(held, result, golden[f"seed{seed}_boxes"], golden[f"seed{seed}_labels"])
    half = YOLOV9.varied(augmentation={"copy_paste": 0.5})
    drawn = {draw_copy_paste(default_rng(seed), sample, half.augmentation).chosen for seed in range(20)}
    assert drawn == {(0,), (2,)}  # of two admissible objects one


def test_copy_paste_adds_painted_objects_at_the_mirrored_place() -> None:
    sample = painted(default_rng(3), (120, 200))
    left = Sample(  # the right half free, so that everything in the left one may be pasted
        np.ascontiguousarray(np.pad(sample.pixels, ((0, 0), (0, 200), (0, 0)))),
        sample.boxes,
        sample.labels,
        (None, *sample.polygons[1:]),
    )
    assert set(
        draw_copy_paste(
            default_rng(0), left, YOLOV9.varied(augmentation={"copy_paste": 1.0}).augmentation
        ).chosen
    ) == {1, 2}
    drawn = draw_copy_paste(
        default_rng(0), left, YOLOV9.varied(augmentation={"copy_paste": 0.5}).augmentation
    )
    assert drawn.chosen in {(1,), (2,)}  # one of the two with a polygon
    result = copy_pasted(left, drawn)
    assert result.labels.tolist() == [0, 1, 2, *drawn.chosen]
    for label in range(3):
        visible = seen(result.pixels[:, 200:], label)
        assert (visible is not None) == (label in drawn.chosen)
        if visible is not None:
            assert np.abs(result.boxes[3] - (200, 0, 200, 0) - visible).max() <= 2
    assert np.array_equal(result.pixels[:, :200], left.pixels[:, :200])
    assert draw_copy_paste(default_rng(0), left, YOLOV8_N.augmentation).chosen == ()


def test_what_is_pasted_beside_its_mirror_image_and_the_border() -> None:
    """Polygons that reach the border, cross the middle and lie over one another, beside whole masks."""
    generator = default_rng(0)
    for _ in range(200):
        canvas = generator.integers(0, 256, (90, 80, 3), dtype=np.uint8)
        corners = generator.uniform(-20, 100, (int(generator.integers(1, 4)), 5, 2))
        corners[0] += generator.choice([0, 0, 0, 100, -100], 2)  # now and then wholly beyond the border
        polygons = list(corners.clip(0, (80, 90)).astype(np.float32))
        mask = filled(polygons, (90, 80))[:, ::-1, None] > 0
        expected = np.where(mask, canvas[:, ::-1], canvas)
        paste_pixels(canvas, polygons)
        assert np.array_equal(canvas, expected)


@pytest.mark.parametrize("name", ["yolov8-n", "yolov9"])
def test_a_warp_looks_at_nothing_but_the_part_that_is_painted(name: str) -> None:
    """Everything else is another colour, whatever the scale; and some tile is not needed now and then."""
    recipe, generator = RECIPES[name].varied(augmentation={"image_size": 96}), default_rng(0)
    shapes, unseen = [(96, 64), (96, 96), (40, 96), (72, 96)], 0
    for _ in range(300):
        mosaic = draw_mosaic(generator, 4, recipe.augmentation)
        tiles = [generator.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]
        affine = draw_affine(generator, (192, 192), recipe.augmentation, closing=False)
        part = part_seen(affine, (192, 192))
        needed = find_seen(shapes, mosaic, part)
        unseen += needed.count(False)
        painted_part = paint(
            [pixels if is_seen else None for pixels, is_seen in zip(tiles, needed, strict=True)], mosaic, part
        )
        canvas = generator.integers(0, 256, (192, 192, 3), dtype=np.uint8)
        inside = np.s_[part.top : part.bottom, part.left : part.right]
        canvas[inside] = painted_part[inside]
        whole = paint(tiles, mosaic, Part(0, 0, 192, 192))
        bare = Sample(whole, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), ())
        expected = apply_affine(bare, affine).pixels
        assert np.array_equal(apply_affine(replace(bare, pixels=canvas), affine).pixels, expected)
    assert 60 < unseen < 300


def test_mixup_blends_pixels_and_keeps_all_objects() -> None:
    one, other = painted(default_rng(0), (40, 60)), painted(default_rng(1), (40, 60), count=2)
    blend = apply_mixup(one, other, MixUp(other=5, share=0.25))
    expected = np.floor(one.pixels * 0.25 + other.pixels * 0.75)
    assert np.array_equal(blend.pixels, expected)
    assert blend.labels.tolist() == [0, 1, 2, 0, 1]
    assert blend.polygons == one.polygons + other.polygons
    assert np.array_equal(blend.boxes, np.concatenate([one.boxes, other.boxes]))
    draws = [draw_mixup(default_rng(seed), 7, YOLOV9.augmentation) for seed in range(2000)]
    drawn = [mixup for mixup in draws if mixup is not None]
    assert len(drawn) / 2000 == pytest.approx(0.15, abs=0.03)
    assert {mixup.other for mixup in drawn} == set(range(7))
    # A Beta(32, 32) has the mean 1/2 and the variance 1 / (4 * 65).
    shares = np.array([mixup.share for mixup in drawn])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.std() == pytest.approx(65**-0.5 / 2, abs=0.01)
    assert draw_mixup(default_rng(0), 7, YOLOV8_N.augmentation) is None


@pytest.mark.parametrize("name", RECIPES)
def test_images_without_objects_pass_every_step(name: str) -> None:
    recipe, generator = RECIPES[name].varied(augmentation={"image_size": 64}), default_rng(0)
    pixels = generator.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    bare = Sample(pixels, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), ())
    sample = whole_mosaic([whole_tile(bare, 64)] * 4, draw_mosaic(generator, 4, recipe.augmentation))
    sample = copy_pasted(sample, draw_copy_paste(generator, sample, recipe.augmentation))
    sample = apply_affine(sample, draw_affine(generator, sample.shape, recipe.augmentation, closing=False))
    closing = letterboxed(
        bare, 64, recipe.augmentation.closing_pad_bgr, recipe.augmentation.closing_shrinking
    )
    closing = apply_affine(closing, draw_affine(generator, closing.shape, recipe.augmentation, closing=True))
    sample = apply_flip(apply_hsv(apply_mixup(sample, closing, MixUp(0, 0.5)), (1.0, 1.2, 0.8)), True)
    assert sample.shape == (64, 64)
    assert sample.boxes.shape == (0, 4) and sample.boxes.dtype == np.float32
    assert sample.labels.shape == (0,) and sample.polygons == ()


def test_no_step_changes_what_it_is_given() -> None:
    sample = painted(default_rng(0), (64, 64))
    before = sample.pixels.copy(), sample.boxes.copy(), [outline.copy() for outline in outlines(sample)]
    whole_mosaic([whole_tile(sample, 64)] * 4, Mosaic((0, 0, 0), (50, 70), 64))
    copy_pasted(sample, CopyPaste((0, 2)))
    apply_affine(
        sample,
        draw_affine(
            default_rng(0), sample.shape, YOLOV9.varied(augmentation={"image_size": 64}).augmentation, False
        ),
    )
    letterboxed(sample, 64, (0, 0, 0), "area")
    apply_mixup(sample, sample, MixUp(0, 0.3))
    apply_rare_filters(sample, RareFilters(blur=3, median=3, grey=True, contrast=2.0))
    apply_hsv(sample, (1.01, 1.5, 0.7))
    apply_flip(sample, True)
    assert np.array_equal(sample.pixels, before[0]) and np.array_equal(sample.boxes, before[1])
    assert all(map(np.array_equal, outlines(sample), before[2]))
