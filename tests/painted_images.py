"""Images with objects, for tests of augmentation: those of the goldens, and painted blobs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from comparisons import Comparisons
from numpy.typing import NDArray

from yolov9bench.data.mosaic import (
    CopyPaste,
    Mosaic,
    lay_out,
    paint,
    paste_objects,
    paste_pixels,
    tile,
    tile_pixels,
)
from yolov9bench.data.outlines import Polygon
from yolov9bench.data.transforms import Part, Sample
from yolov9bench.ops.images import Pixels

Recorded = Mapping[str, NDArray[Any]]
BOX_CLOSE = 3e-4  # px: a few of the last digits of float32


def load(shared: Path, name: str) -> Recorded:
    with np.load(shared / f"facts/mmyolo/goldens/{name}.npz") as golden:
        return dict(golden)


def corners(numbers: NDArray[Any]) -> Polygon:
    return numbers.reshape(-1, 2).astype(np.float32)


def refine_sample(golden: Recorded) -> Sample:
    """The reference's four objects; the second has two polygons, of which this sample takes the first."""
    polygons = tuple(corners(golden[f"poly{number}_0"]) for number in range(4))
    return Sample(golden["img"], golden["boxes"], golden["labels"], polygons)


def outlines(sample: Sample) -> list[Polygon]:
    return [polygon for polygon in sample.polygons if polygon is not None]


def whole_tile(sample: Sample, size: int) -> Sample:
    """An image as part of a mosaic, with its pixels."""
    return replace(tile(sample, size), pixels=tile_pixels(sample.pixels, size))


def whole_mosaic(tiles: Sequence[Sample], mosaic: Mosaic) -> Sample:
    """Four tiles on a canvas that is painted all over."""
    laid_out = lay_out(tiles, mosaic)
    height, width = laid_out.shape
    return replace(laid_out, pixels=paint([each.pixels for each in tiles], mosaic, Part(0, 0, width, height)))


def copy_pasted(sample: Sample, copy_paste: CopyPaste) -> Sample:
    """Chosen objects, which have polygons, pasted on a copy of the sample."""
    pixels = sample.pixels.copy()
    chosen = [sample.polygons[number] for number in copy_paste.chosen]
    paste_pixels(pixels, [polygon for polygon in chosen if polygon is not None])
    return replace(paste_objects(sample, copy_paste), pixels=pixels)


def painted(generator: np.random.Generator, shape: tuple[int, int], count: int = 3) -> Sample:
    """Ellipses side by side on black, each label in a colour channel of its own."""
    pixels = np.zeros((*shape, 3), np.uint8)
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    boxes, polygons = [], []
    for label in range(count):
        part = shape[1] / count
        radii = generator.uniform(0.2, 0.45, 2) * (part, shape[0])
        centre = (part * (label + 0.5), shape[0] * generator.uniform(0.45, 0.55))
        inside = ((columns - centre[0]) / radii[0]) ** 2 + ((rows - centre[1]) / radii[1]) ** 2 <= 1
        pixels[inside, label] = 255
        angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
        outline = centre + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        boxes.append([*outline.min(axis=0), *outline.max(axis=0)])
        polygons.append(outline.astype(np.float32))
    return Sample(pixels, np.array(boxes, np.float32).reshape(-1, 4), np.arange(count), tuple(polygons))


def seen(pixels: Pixels, label: int) -> NDArray[np.int64] | None:
    """The box of the pixels that are at least half in the label's colour, None if there is none."""
    rows, columns = np.nonzero(pixels[..., label] >= 128)  # more than the grey of a border
    if not len(rows):
        return None
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def require_agreement(held: Comparisons, sample: Sample, boxes: NDArray[Any], labels: NDArray[Any]) -> None:
    assert sample.labels.tolist() == labels.tolist()
    held.require_close("boxes", "px", sample.boxes, boxes.reshape(-1, 4), BOX_CLOSE)
