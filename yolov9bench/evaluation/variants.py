"""The network's inputs by a procedure: what `predict.batches` does by a protocol, with other settings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from yolov9bench.data.coco import CocoImage
from yolov9bench.evaluation.departures import Procedure
from yolov9bench.ops.images import LetterboxInfo, Pixels, letterbox, resize_long_side, resized_sides
from yolov9bench.predict.batches import MakeInput, Shape
from yolov9bench.zoo.protocols import Protocol


def shuffle_ties(images: Sequence[CocoImage], seed: int | None) -> list[CocoImage]:
    """The images in a random order, so that sorting them by height / width leaves ties in that order.

    None leaves them as they are. The order depends on the seed and on how many images there are alone.
    """
    if seed is None:
        return list(images)
    return [images[place] for place in np.random.default_rng(seed).permutation(len(images))]


def input_maker(procedure: Procedure) -> MakeInput:
    """What makes a network's input by a procedure; the same bytes as the protocol's own where they agree."""

    def make(
        pixels: Pixels, image_size: int, shape: Shape, protocol: Protocol
    ) -> tuple[Pixels, LetterboxInfo]:
        resized = resize(pixels, image_size, protocol, procedure)
        original = (pixels.shape[0], pixels.shape[1])
        return letterbox(resized, shape, scale_up=False, original=original, padding=procedure.padding)

    return make


def resize(pixels: Pixels, image_size: int, protocol: Protocol, procedure: Procedure) -> Pixels:
    """A decoded image [H, W, 3] with its long side at `image_size` px, or smaller without scale-up."""
    longest = max(pixels.shape[:2])
    if longest < image_size and not procedure.scale_up:
        return pixels
    if procedure.resizing == "opencv" or longest == image_size:
        return resize_long_side(pixels, image_size, protocol.rounding, protocol.shrinking)
    height, width = resized_sides((pixels.shape[0], pixels.shape[1]), image_size, protocol.rounding)
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized, np.uint8)
