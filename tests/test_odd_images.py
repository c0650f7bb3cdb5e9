"""Images of unusual make: decoded to the pixels that they show, or refused in a sentence."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from yolov9bench.errors import DatasetError
from yolov9bench.ops.images import Pixels, cut_short, read_image

RED, BLUE = (0, 0, 255), (255, 0, 0)  # BGR


def halves() -> Image.Image:
    """Red on the left, blue on the right, 32 x 16."""
    image = Image.new("RGB", (32, 16), "red")
    image.paste("blue", (16, 0, 32, 16))
    return image


def require_halves(pixels: Pixels) -> None:
    assert pixels.shape == (16, 32, 3)
    assert np.abs(pixels[4:12, 3:13].astype(int) - RED).max() < 12
    assert np.abs(pixels[4:12, 19:29].astype(int) - BLUE).max() < 12


def saved(path: Path, image: Image.Image, form: str, **options: object) -> Path:
    image.save(path, form, **options)
    return path


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP"])
def test_the_first_frame_of_an_animation_is_read(tmp_path: Path, form: str) -> None:
    later = Image.new("RGB", (32, 16), "green")
    path = saved(tmp_path / "animated", halves(), form, save_all=True, append_images=[later, later])
    require_halves(read_image(path))


def test_four_colours_of_ink_are_read(tmp_path: Path) -> None:
    require_halves(read_image(saved(tmp_path / "ink.jpg", halves().convert("CMYK"), "JPEG", quality=95)))


def test_the_upper_eight_of_sixteen_bits_are_read(tmp_path: Path) -> None:
    deep = np.array(halves())[..., ::-1].astype(np.uint16) * 257
    path = tmp_path / "deep.png"
    path.write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    require_halves(read_image(path))


@pytest.mark.parametrize(("orientation", "turn"), [(3, 180), (6, 90), (8, 270)])
def test_a_turned_image_is_turned_back(tmp_path: Path, orientation: int, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = halves().rotate(turn, expand=True)
    require_halves(read_image(saved(tmp_path / "turned.jpg", turned, "JPEG", exif=exif, quality=95)))


@pytest.mark.parametrize(
    "content", [b"", b"\0", bytes(100), b"\xff\xd8", b"\xff\xd8\xff\xd9", b"GIF89a", b"BM"]
)
def test_zero_bytes_and_bare_beginnings_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "image.jpg").write_bytes(content)
    with pytest.raises(DatasetError, match=r"image image\.jpg (is cut short|cannot be decoded|is too large)"):
        read_image(tmp_path / "image.jpg")


def png_of(width: int, height: int) -> bytes:
    """A PNG of so many pixels of which the data has a hundred; every checksum is right."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height"), [(40_000, 40_000), (2**20 + 1, 1), (2**31 - 1, 2**31 - 1), (0, 5)]
)
def test_a_picture_larger_than_can_be_decoded_is_refused_by_its_header(
    tmp_path: Path, width: int, height: int
) -> None:
    (tmp_path / "bomb.png").write_bytes(png_of(width, height))
    with pytest.raises(DatasetError, match=r"image bomb\.png (is too large to be decoded|cannot be decoded)"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("length", [13, 26, 100_000, 2**31 - 1, 2**32 - 1])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_part_of_a_png_that_is_longer_than_the_file_takes_no_memory(
    tmp_path: Path, length: int, place: int
) -> None:
    """OpenCV makes room for what a part says, 4 GB at most, and then refuses it; here it is never asked."""
    content = bytearray(png_of(8, 8))
    starts = [content.index(kind) - 4 for kind in (b"IHDR", b"IDAT", b"IEND")]
    before = struct.unpack_from(">I", content, starts[place])[0]
    struct.pack_into(">I", content, starts[place], length)
    (tmp_path / "bomb.png").write_bytes(content)
    if length == before:
        assert not cut_short(bytes(content))
    else:
        with pytest.raises(DatasetError, match=r"image bomb\.png is cut short"):
            read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("options", [{}, {"save_all": True, "append_images": [halves(), halves()]}])
def test_a_png_is_cut_short_wherever_it_is_cut(tmp_path: Path, options: dict[str, Any]) -> None:
    content = saved(tmp_path / "whole.png", halves(), "PNG", **options).read_bytes()
    assert not cut_short(content) and not cut_short(content + b"more")
    assert all(cut_short(content[:count]) for count in range(8, len(content)))
    (tmp_path / "cut.png").write_bytes(content[:-5])
    with pytest.raises(DatasetError, match=r"image cut\.png is cut short"):
        read_image(tmp_path / "cut.png")


def test_a_large_jpeg_without_its_end_is_cut_short(tmp_path: Path) -> None:
    """Its header states 65,500 x 65,500 pixels; PIL, which looks for the end, decodes no such image."""
    written = io.BytesIO()
    halves().save(written, "JPEG")
    content = bytearray(written.getvalue()[:-2])
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", 65_500, 65_500)
    (tmp_path / "bomb.jpg").write_bytes(content)
    with pytest.raises(DatasetError, match=r"image bomb\.jpg is cut short"):
        read_image(tmp_path / "bomb.jpg")


def test_memory_that_does_not_suffice_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "image.png", halves(), "PNG")

    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cv2, "imdecode", refuse)
    with pytest.raises(DatasetError, match=r"image image\.png is too large to be decoded, or damaged"):
        read_image(path)


def test_a_name_that_is_no_text_is_shown_escaped(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff\n.png")
    path.write_bytes(b"no image")
    with pytest.raises(DatasetError) as refused:
        read_image(path)
    assert r"image \udcff\n.png cannot be decoded" in str(refused.value)
    saved(path, halves(), "PNG")
    require_halves(read_image(path))
