"""Pixels: decoding, resizing and letterboxing against the references' own pixels, and by hand."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from comparisons import Compare
from numpy.typing import NDArray
from PIL import Image

from yolov9bench.errors import DatasetError
from yolov9bench.ops.images import (
    GREY,
    LetterboxInfo,
    Pixels,
    Rounding,
    letterbox,
    read_image,
    resize_long_side,
)

Array = NDArray[Any]
LEAST_FACTOR = 1e-3  # by which an image is scaled


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(height * 10_000 + width).integers(0, 256, (height, width, 3), np.uint8)


def arrays_of(path: Path) -> dict[str, Array]:
    with np.load(path) as arrays:
        return dict(arrays)


def smallest_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """The smallest multiples of 32 that hold an image with its long side scaled to `size`: `auto`."""
    ratio = size / max(height, width)
    tall, wide = (-(-max(round(side * ratio), 1) // 32) * 32 for side in (height, width))
    return tall, wide


@pytest.fixture(scope="module")
def official(shared: Path) -> dict[str, Array]:
    return arrays_of(shared / "facts/yolov9/goldens/letterbox.npz")


@pytest.fixture(scope="module")
def ultralytics(shared: Path) -> dict[str, Array]:
    return arrays_of(shared / "facts/more_formats/goldens/predict_pixels.npz")


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize("kind", ["square", "noscaleup", "rect96x160", "auto"])
def test_official_letterbox(official: dict[str, Array], kind: str, index: int, parity: Compare) -> None:
    image = official[f"im{index}"]
    height, width = image.shape[:2]
    shapes = {"auto": smallest_shape(height, width, 160), "rect96x160": (96, 160)}
    found, info = letterbox(image, shapes.get(kind, (160, 160)), scale_up=kind != "noscaleup")
    held = parity("yolov9", "pre-processing")
    held.require_close("pixels", "grey levels", found, official[f"im{index}_{kind}"])
    ratio, _, half_width, half_height = official[f"im{index}_{kind}_ratio_pad"]
    assert info.resized == (round(height * ratio), round(width * ratio))
    assert (info.left, info.top) == (int(half_width), int(half_height))
    assert (info.original, info.input) == ((height, width), found.shape[:2])


@pytest.mark.parametrize("index", range(5))
def test_official_validation_images(official: dict[str, Array], index: int, parity: Compare) -> None:
    """Truncated sides and area averages; two of these do not fit their rectangle and are scaled once more."""
    held = parity("yolov9", "pre-processing")
    image = official[f"im{index}"]
    resized = resize_long_side(image, 160, "truncate", "area")
    held.require_close("resized pixels", "grey levels", resized, official[f"val{index}_resized"])
    expected = official[f"val{index}_letterboxed"]
    shape = (expected.shape[0], expected.shape[1])
    found, info = letterbox(resized, shape, scale_up=False, original=image.shape[:2])
    held.require_close("pixels", "grey levels", found, expected)
    height, width, _, _, half_width, half_height, ratio, _ = official[f"val{index}_shapes"]
    assert info.original == (height, width)
    assert info.resized == tuple(round(side * ratio) for side in resized.shape[:2])
    assert (info.left, info.top) == (int(half_width), int(half_height))


@pytest.mark.parametrize("rectangular", [0, 1])
def test_ultralytics_validation_images(
    ultralytics: dict[str, Array], rectangular: int, parity: Compare
) -> None:
    held = parity("ultralytics", "pre-processing")
    rows, gains = ultralytics[f"rows_rect{rectangular}"], ultralytics[f"gains_rect{rectangular}"]
    for row, gain in zip(rows.tolist(), gains, strict=True):
        _, index, *original, height, width, tall, wide, left, top = row
        image = ultralytics[f"img{index}"]
        resized = resize_long_side(image, 96, "ceil", "linear")
        found, info = letterbox(resized, (tall, wide), scale_up=False, original=image.shape[:2])
        assert info == LetterboxInfo(tuple(original), (height, width), (tall, wide), left, top)
        theirs = ultralytics[f"out{index}_rect{rectangular}"]
        held.require_close("pixels", "grey levels", found[:, :, ::-1].transpose(2, 0, 1), theirs)
        assert np.allclose(np.divide(info.resized, info.original), gain)


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("kind", ["square", "auto"])
def test_ultralytics_prediction_images(
    ultralytics: dict[str, Array], kind: str, index: int, parity: Compare
) -> None:
    held = parity("ultralytics", "pre-processing")
    image = ultralytics[f"img{index}"]
    shape = (96, 96) if kind == "square" else smallest_shape(image.shape[0], image.shape[1], 96)
    found, _ = letterbox(image, shape, scale_up=True)
    held.require_close("pixels", "grey levels", found, ultralytics[f"pred_{kind}{index}"])


def test_ultralytics_geometry_of_many_sizes(shared: Path, parity: Compare) -> None:
    held = parity("ultralytics", "pre-processing")
    text = (shared / "facts/more_formats/goldens/predict_numbers.json").read_text(encoding="utf-8")
    rows = json.loads(text)["predict_letterbox"]
    assert len(rows) == 64
    for row in rows:
        height, width = row["hw"]
        shape = smallest_shape(height, width, 640) if row["auto"] else (640, 640)
        _, info = letterbox(np.zeros((height, width, 3), np.uint8), shape, scale_up=True)
        top, bottom, left, right = row["top_bottom_left_right"]
        ours = [*info.resized[::-1], info.top, info.left, *info.input]
        theirs = [*row["new_unpad_wh"], top, left, *row["final_hw"]]
        held.require_close("resized sides, padding, input", "px", ours, theirs)
        assert info.input == (top + info.resized[0] + bottom, left + info.resized[1] + right)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("demo", (640, 640)),
        ("demo_bs480x672", (480, 672)),
        ("demo_rot90", (640, 640)),
        ("dog", (640, 640)),
        ("dog_bs512x672", (512, 672)),
        ("dog_crop_333x499", (640, 640)),
        ("dog_crop_606", (640, 640)),
    ],
)
def test_mmyolo_images(shared: Path, name: str, shape: tuple[int, int], parity: Compare) -> None:
    held = parity("mmyolo", "pre-processing")
    golden = arrays_of(shared / f"facts/mmyolo/goldens/predict_n_{name}.npz")
    stem = name.partition("_bs")[0]
    image = read_image(next((shared / "facts/mmyolo/img").glob(f"{stem}.*")))
    if "ori_bgr" in golden:
        held.require_close("decoded pixels", "grey levels", image, golden["ori_bgr"])
    assert image.shape[:2] == tuple(golden["ori_shape"])
    resized = resize_long_side(image, 640, "truncate", "area")
    found, info = letterbox(resized, shape, scale_up=False, original=image.shape[:2])
    held.require_close("pixels", "grey levels", found, golden["letterboxed_bgr"])
    factors = np.divide(info.resized, info.original)[::-1]  # width first
    held.require_relative("scale factors", factors, golden["scale_factor"], 1e-12, LEAST_FACTOR)
    bottom = info.input[0] - info.resized[0] - info.top
    right = info.input[1] - info.resized[1] - info.left
    held.require_close("padding", "px", [info.top, bottom, info.left, right], golden["pad_param"])


@pytest.mark.parametrize("side", [77, 154, 303, 308, 319, 581, 606, 616, 623, 638, 1077])
def test_truncation_loses_a_pixel_of_these_sides(side: int) -> None:
    """side * (640 / side) falls short of 640 in double precision; the sides are mmyolo's own."""
    assert resize_long_side(noise(4, side), 640, "truncate", "area").shape[1] == 639
    assert resize_long_side(noise(4, side), 640, "ceil", "linear").shape[1] == 640


@pytest.mark.parametrize(
    ("original", "rounding", "expected"),
    [
        ((333, 500), "truncate", (426, 640)),
        ((333, 500), "ceil", (427, 640)),
        ((160, 213), "ceil", (481, 640)),
        ((640, 427), "ceil", (640, 427)),
        ((1080, 1920), "truncate", (360, 640)),
        ((1, 1000), "truncate", (1, 640)),
        ((1000, 1), "ceil", (640, 1)),
    ],
)
def test_sides_after_resizing(
    original: tuple[int, int], rounding: Rounding, expected: tuple[int, int]
) -> None:
    assert resize_long_side(noise(*original), 640, rounding, "area").shape[:2] == expected


def test_an_image_of_the_right_size_is_left_alone() -> None:
    image = noise(40, 64)
    assert resize_long_side(image, 64, "truncate", "area") is image


def test_shrinking_by_area_averages_blocks() -> None:
    image = noise(20, 32)
    blocks = image.reshape(10, 2, 16, 2, 3).mean(axis=(1, 3))
    found = resize_long_side(image, 16, "truncate", "area")
    assert np.abs(found - blocks).max() <= 0.5
    coarser = resize_long_side(noise(40, 64), 16, "truncate", "linear")
    assert not np.array_equal(coarser, resize_long_side(noise(40, 64), 16, "truncate", "area"))


def test_enlarging_is_bilinear_whatever_the_shrinking() -> None:
    """Twice as wide, a pixel between two of one row is a mixture of 3:1."""
    image = np.array([[[0, 0, 0], [80, 160, 240]]], np.uint8)
    found = [resize_long_side(image, 4, "truncate", shrinking) for shrinking in ("area", "linear")]
    assert np.array_equal(found[0], found[1])
    assert found[0][0].tolist() == [[0, 0, 0], [20, 40, 60], [60, 120, 180], [80, 160, 240]]


def test_padding_is_grey_and_its_odd_pixel_lies_below_and_right() -> None:
    image = noise(5, 6)
    found, info = letterbox(image, (8, 9), scale_up=False)
    assert info == LetterboxInfo((5, 6), (5, 6), (8, 9), left=1, top=1)
    assert np.array_equal(found[1:6, 1:7], image)
    found[1:6, 1:7] = GREY
    assert (found == 114).all()


@pytest.mark.parametrize(
    ("scale_up", "resized"), [(True, (6, 12)), (False, (4, 8))], ids=["scaled up", "not scaled up"]
)
def test_small_images_grow_only_if_told(scale_up: bool, resized: tuple[int, int]) -> None:
    _, info = letterbox(noise(4, 8), (8, 12), scale_up)
    assert info.resized == resized


def test_a_strip_keeps_a_row() -> None:
    _, info = letterbox(noise(1, 1000), (64, 64), scale_up=False)
    assert info.resized == (1, 64)


def test_the_size_before_an_earlier_resize_is_kept() -> None:
    _, info = letterbox(noise(4, 8), (8, 8), scale_up=False, original=(40, 80))
    assert (info.original, info.resized) == ((40, 80), (4, 8))


def test_reading_gives_blue_first(tmp_path: Path) -> None:
    for name, mode in (("colour.png", "RGB"), ("clear.png", "RGBA")):
        Image.new(mode, (3, 2), (10, 20, 30, 40)[: len(mode)]).save(tmp_path / name)
        assert np.array_equal(read_image(tmp_path / name), np.full((2, 3, 3), (30, 20, 10), np.uint8))
    Image.new("L", (3, 2), 7).save(tmp_path / "grey.png")
    assert np.array_equal(read_image(tmp_path / "grey.png"), np.full((2, 3, 3), 7, np.uint8))


def test_reading_turns_an_image_as_it_was_taken(tmp_path: Path) -> None:
    """EXIF orientation 6: the camera was turned, the image is to be turned by 90 degrees clockwise."""
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (0, 0, 20, 20))  # the left half
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    found = read_image(tmp_path / "turned.jpg")
    assert found.shape == (40, 20, 3)
    assert found[:18].min() > 200 > 50 > found[22:].max()


def encoded(ending: str) -> bytes:
    done, buffer = cv2.imencode(ending, noise(60, 80))
    assert done
    return bytes(buffer)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is cut short"),
        (encoded(".jpg")[:3000], "is cut short"),
        (encoded(".png")[:40], "is cut short"),
        (b"not an image at all", "cannot be decoded"),
    ],
    ids=["empty", "half a jpeg", "half a png", "text"],
)
def test_what_is_no_whole_image_is_refused(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"^image bad\.jpg " + expected):
        read_image(path)


@pytest.mark.parametrize(
    "tail", [b"", b"\n", bytes(60), b"a note " * 50], ids=["none", "line end", "zeros", "a note"]
)
def test_a_whole_jpeg_may_have_more_behind_it(tmp_path: Path, tail: bytes) -> None:
    (tmp_path / "whole.jpg").write_bytes(encoded(".jpg") + tail)
    assert read_image(tmp_path / "whole.jpg").shape == (60, 80, 3)


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"image gone\.jpg cannot be read"):
        read_image(tmp_path / "gone.jpg")


def test_real_images_are_whole(shared: Path) -> None:
    paths = sorted((shared / "coco/val2017").glob("*.jpg"))
    assert len(paths) == 100
    text = (shared / "coco/annotations/instances_val2017.json").read_text(encoding="utf-8")
    sizes = {entry["file_name"]: (entry["height"], entry["width"]) for entry in json.loads(text)["images"]}
    assert {path.name: read_image(path).shape[:2] for path in paths} == sizes
