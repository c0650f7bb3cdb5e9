"""Images as the references see them: decoding, resizing, letterboxing. Arrays are uint8 [H, W, 3], BGR."""

from __future__ import annotations

import io
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from yolov9bench.errors import DatasetError, shown

Pixels = NDArray[np.uint8]
Rounding = Literal["truncate", "ceil"]
Shrinking = Literal["area", "linear"]
GREY = 114
PNG = b"\x89PNG\r\n\x1a\n"
# What Pillow has for images that are damaged, or too large for it.
PILLOW_ERRORS = (Image.DecompressionBombError, MemoryError, OSError, SyntaxError, ValueError, struct.error)


@dataclass(frozen=True)
class LetterboxInfo:
    """Where an image lies in a network's input: sizes (height, width) and paddings, in pixels."""

    original: tuple[int, int]
    resized: tuple[int, int]
    input: tuple[int, int]
    left: int
    top: int


def read_image(path: Path, remedy: str = "fetch it again, or pass skip_corrupt to leave it out") -> Pixels:
    """Decode an image, EXIF orientation honoured; DatasetError for a missing, cut or undecodable file.

    So it is for one of more than 2**30 pixels, which OpenCV refuses by its header, and for one that does not
    fit into memory. remedy: what the error tells the user to do about a file that cannot be decoded.
    """
    name = shown(path.name)
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"image {name} cannot be read ({error.strerror}): restore it") from error
    if cut_short(encoded):
        raise DatasetError(f"image {name} is cut short: {remedy}")
    try:
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, MemoryError) as error:
        raise DatasetError(f"image {name} is too large to be decoded, or damaged: {remedy}") from error
    if pixels is None:
        raise DatasetError(f"image {name} cannot be decoded: {remedy}")
    return np.asarray(pixels, np.uint8)


def is_dim(path: Path, pixels: Pixels) -> bool:
    """Whether a PNG has 16 bits a sample of which at most 12 are in use, as cameras and scanners write it.

    Decoding keeps the upper eight, so that such an image has no value above 15.
    """
    return pixels.max(initial=0) < 16 and is_deep_png(path)


def is_deep_png(path: Path) -> bool:
    """Whether a file is a PNG with 16 bits a sample, by its first bytes."""
    if path.suffix.lower() != ".png":
        return False
    with path.open("rb") as file:
        header = file.read(25)
    return header.startswith(b"\x89PNG") and header[24:] == b"\x10"  # the bit depth, in the chunk IHDR


def cut_short(encoded: bytes) -> bool:
    """Whether a JPEG or PNG stops before its end.

    Of such a JPEG OpenCV decodes grey for the rest, without an error. One without an end is decoded to see;
    so it counts as cut as well if it is too large for that, by the limit of 179 million pixels that PIL has.
    For a part of a PNG that is longer than the file OpenCV takes up to 4 GB before it sees that.
    """
    if encoded.startswith(PNG):
        return not _has_png_end(encoded)
    if not encoded:
        return True
    if not encoded.startswith(b"\xff\xd8") or b"\xff\xd9" in encoded[-64:]:
        return False
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            image.load()
    except PILLOW_ERRORS:
        return True
    return False


def _has_png_end(encoded: bytes) -> bool:
    """Whether the parts of a PNG, each of the length that it states, lead to the last one."""
    place = len(PNG)
    while place + 12 <= len(encoded):
        length = int.from_bytes(encoded[place : place + 4], "big")
        is_last = encoded.startswith(b"IEND", place + 4)
        place += 12 + length  # with the length itself, the part's name and a checksum
        if is_last:
            return place <= len(encoded)
    return False


def resize_long_side(image: Pixels, size: int, rounding: Rounding, shrinking: Shrinking) -> Pixels:
    """Scale the long side to `size`, up or down, keeping the ratio; sides are truncated or rounded up.

    Truncation is that of `int(side * (size / long side))` in double precision, which yields 639 for a long
    side of 606; enlarging is always bilinear.
    """
    longest = max(image.shape[:2])
    if longest == size:
        return image
    height, width = resized_sides((image.shape[0], image.shape[1]), size, rounding)
    area = shrinking == "area" and size < longest
    method = cv2.INTER_AREA if area else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8)


def resized_sides(sides: tuple[int, int], size: int, rounding: Rounding) -> tuple[int, int]:
    """Height and width of an image of these sides once its long one is `size`, in pixels."""
    height, width = sides
    ratio = size / max(height, width)
    if rounding == "truncate":
        return max(int(height * ratio), 1), max(int(width * ratio), 1)
    return min(math.ceil(height * ratio), size), min(math.ceil(width * ratio), size)


def letterbox(
    image: Pixels,
    shape: tuple[int, int],
    scale_up: bool,
    original: tuple[int, int] | None = None,
    padding: int = GREY,
) -> tuple[Pixels, LetterboxInfo]:
    """Fit an image into `shape` (height, width), centred on grey `padding`, and say where it lies.

    Scaled bilinearly by the smaller ratio, by at most 1 unless `scale_up`; sides rounded to nearest; an odd
    pixel of padding goes to the bottom and the right. `original` is the size before an earlier resize.
    """
    height, width = image.shape[:2]
    ratio = min(shape[0] / height, shape[1] / width)
    ratio = ratio if scale_up else min(ratio, 1.0)
    resized = max(round(height * ratio), 1), max(round(width * ratio), 1)
    if resized != (height, width):
        image = np.asarray(cv2.resize(image, resized[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
    top, left = (shape[0] - resized[0]) // 2, (shape[1] - resized[1]) // 2
    canvas = np.full((*shape, 3), padding, np.uint8)
    canvas[top : top + resized[0], left : left + resized[1]] = image
    return canvas, LetterboxInfo(original or (height, width), resized, shape, left, top)
