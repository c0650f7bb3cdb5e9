"""Images of a data set as network inputs: grouped, resized and letterboxed by the rules of a protocol."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from yolov9bench.data.coco import CocoDataset, CocoImage
from yolov9bench.errors import DatasetError
from yolov9bench.ops.images import Pixels, Placement, letterbox, read_image, resize_long_side
from yolov9bench.zoo.protocols import Protocol

Shape = tuple[int, int]
Prepared = tuple[Pixels, Placement] | DatasetError


@dataclass(frozen=True)
class Batch:
    """Network inputs uint8 [B, 3, H, W] in RGB, with the images they show and where these lie in them."""

    inputs: Tensor
    images: tuple[CocoImage, ...]
    placements: tuple[Placement, ...]


class Batches:
    """Iterate over a data set in batches; decoding runs in threads, a few batches ahead.

    The shape of an input depends on the protocol's groups alone, never on `batch_size`. A file that cannot be
    decoded raises DatasetError, or with `skip_corrupt` goes into `skipped`. `other_size` collects the files
    whose decoded size is not the annotated one; the decoded size counts.
    """

    def __init__(
        self, dataset: CocoDataset, protocol: Protocol, batch_size: int = 16, skip_corrupt: bool = False
    ) -> None:
        self.dataset, self.protocol, self.skip_corrupt = dataset, protocol, skip_corrupt
        self.skipped: list[str] = []
        self.other_size: list[str] = []
        self.chunks = [
            (group[start : start + batch_size], shape)
            for group, shape in groups(dataset.images, protocol)
            for start in range(0, len(group), batch_size)
        ]

    def __len__(self) -> int:
        return len(self.chunks)

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
            waiting: deque[tuple[Sequence[CocoImage], list[Future[Prepared]]]] = deque()
            for images, shape in self.chunks:
                waiting.append((images, [pool.submit(self._prepared, image, shape) for image in images]))
                if len(waiting) > 2:
                    yield from self._finished(*waiting.popleft())
            while waiting:
                yield from self._finished(*waiting.popleft())

    def _prepared(self, image: CocoImage, shape: Shape) -> Prepared:
        try:
            pixels = read_image(self.dataset.image_path(image))
        except DatasetError as error:
            return error
        return network_input(pixels, shape, self.protocol)

    def _finished(self, images: Sequence[CocoImage], futures: list[Future[Prepared]]) -> Iterator[Batch]:
        kept, inputs, placements = [], [], []
        for image, future in zip(images, futures, strict=True):
            prepared = future.result()
            if isinstance(prepared, DatasetError):
                if not self.skip_corrupt:
                    raise prepared
                self.skipped.append(image.file_name)
                continue
            pixels, placement = prepared
            if placement.original != (image.height, image.width):
                self.other_size.append(image.file_name)
            kept.append(image)
            inputs.append(torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1))))
            placements.append(placement)
        if kept:
            yield Batch(torch.stack(inputs), tuple(kept), tuple(placements))


def network_input(pixels: Pixels, shape: Shape, protocol: Protocol) -> tuple[Pixels, Placement]:
    """One decoded image [H, W, 3], BGR -> the padded input of a shape (height, width), BGR, and its place."""
    resized = resize_long_side(pixels, protocol.image_size, protocol.rounding, protocol.shrinking)
    return letterbox(resized, shape, scale_up=False, original=(pixels.shape[0], pixels.shape[1]))


def groups(images: Sequence[CocoImage], protocol: Protocol) -> list[tuple[Sequence[CocoImage], Shape]]:
    """Images that share an input shape (height, width): all of them in a square, or by height / width."""
    if not protocol.rectangular:
        return [(images, (protocol.image_size, protocol.image_size))]
    ordered = sorted(images, key=lambda image: image.height / image.width)
    return [
        (group, group_shape([image.height / image.width for image in group], protocol))
        for start in range(0, len(ordered), protocol.group_size)
        for group in [ordered[start : start + protocol.group_size]]
    ]


def group_shape(ratios: Sequence[float], protocol: Protocol) -> Shape:
    """The input shape that holds images of these heights / widths when their long side is `image_size`."""
    tall = max(ratios) if max(ratios) < 1 else 1.0
    wide = 1 / min(ratios) if min(ratios) > 1 else 1.0

    def side(share: float) -> int:
        return math.ceil(share * protocol.image_size / protocol.stride + protocol.margin) * protocol.stride

    return side(tall), side(wide)
