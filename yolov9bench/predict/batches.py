"""Images of a data set as network inputs: grouped, resized and letterboxed by the settings of a protocol."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from yolov9bench.data.coco import CocoDataset, CocoImage
from yolov9bench.errors import DatasetError
from yolov9bench.ops.images import LetterboxInfo, Pixels, is_dim, letterbox, read_image, resize_long_side
from yolov9bench.ops.ranks import ALONE, Ranks
from yolov9bench.predict.postprocess import Counts
from yolov9bench.zoo.protocols import Protocol

Shape: TypeAlias = tuple[int, int]  # height, width
Prepared: TypeAlias = dict[int, tuple[Pixels, LetterboxInfo]]  # by image size
# A decoded image, its long side in the input, the input's shape and the protocol, as `make_input` takes them.
MakeInput: TypeAlias = Callable[[Pixels, int, Shape, Protocol], tuple[Pixels, LetterboxInfo]]

BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Inputs:
    """Network inputs uint8 [B, 3, H, W] in RGB, and where the images lie in them."""

    pixels: Tensor
    letterboxes: tuple[LetterboxInfo, ...]


@dataclass(frozen=True)
class Batch:
    """Images with their inputs at each image size that the views of the protocol have."""

    images: tuple[CocoImage, ...]
    inputs: dict[int, Inputs]

    def split(self, chunk: int | None) -> Iterator[Batch]:
        """Batches of at most `chunk` images, in their order and padded as here; None: this one."""
        if chunk is None:
            yield self
            return
        for start in range(0, len(self.images), chunk):
            end = start + chunk
            inputs = {
                size: Inputs(each.pixels[start:end], each.letterboxes[start:end])
                for size, each in self.inputs.items()
            }
            yield Batch(self.images[start:end], inputs)


class Batches:
    """Iterate over a data set in batches; images are decoded in threads, a few batches ahead, each once.

    The shape of an input depends on the protocol's groups alone, never on `batch_size`. A file that cannot be
    decoded raises DatasetError, or with `skip_corrupt` goes into `skipped`. `other_size` collects the files
    whose decoded size is not the annotated one; the decoded size counts. `dim` has those of 12 bits. `counts`
    are for who detects on the batches. Each of several processes has its share of the batches, so that every
    image is in one of them. `make` makes an input, `make_input` if it is None.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        protocol: Protocol,
        batch_size: int = 16,
        skip_corrupt: bool = False,
        ranks: Ranks = ALONE,
        make: MakeInput | None = None,
    ) -> None:
        self.dataset, self.protocol, self.skip_corrupt = dataset, protocol, skip_corrupt
        self.make = make or make_input
        self.batch_size, self.counts = batch_size, Counts()
        self.skipped: list[str] = []
        self.other_size: list[str] = []
        self.dim: list[str] = []
        chunks = [
            (group[start : start + batch_size], shapes)
            for group, shapes in group_images(dataset.images, protocol)
            for start in range(0, len(group), batch_size)
        ]
        self.chunks = chunks[ranks.rank :: ranks.world_size]

    def __len__(self) -> int:
        return len(self.chunks)

    def leave_out(self, is_known: Callable[[CocoImage, Shape], bool]) -> None:
        """Drop the images whose input of this shape is known already; of a protocol with one view."""
        kept: list[tuple[Sequence[CocoImage], dict[int, Shape]]] = []
        for images, shapes in self.chunks:
            (shape,) = shapes.values()
            wanted = [image for image in images if not is_known(image, shape)]
            if wanted:
                kept.append((wanted, shapes))
        self.chunks = kept

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
            waiting: deque[tuple[Sequence[CocoImage], list[Future[Prepared | DatasetError]]]] = deque()
            for images, shapes in self.chunks:
                waiting.append((images, [pool.submit(self._prepare, image, shapes) for image in images]))
                if len(waiting) > BATCHES_AHEAD:
                    yield from self._collect(*waiting.popleft())
            while waiting:
                yield from self._collect(*waiting.popleft())

    def _prepare(self, image: CocoImage, shapes: dict[int, Shape]) -> Prepared | DatasetError:
        try:
            pixels = read_image(self.dataset.image_path(image))
        except DatasetError as error:
            return error
        if is_dim(self.dataset.image_path(image), pixels):
            self.dim.append(image.file_name)  # of several threads, whose order means nothing
        return {size: self.make(pixels, size, shape, self.protocol) for size, shape in shapes.items()}

    def _collect(
        self, images: Sequence[CocoImage], futures: list[Future[Prepared | DatasetError]]
    ) -> Iterator[Batch]:
        """The batch of what could be decoded; none if nothing could."""
        kept: list[tuple[CocoImage, Prepared]] = []
        for image, future in zip(images, futures, strict=True):
            prepared = future.result()
            if isinstance(prepared, DatasetError):
                if not self.skip_corrupt:
                    raise prepared
                self.skipped.append(image.file_name)
                continue
            _, info = next(iter(prepared.values()))
            if info.original != (image.height, image.width):
                self.other_size.append(image.file_name)
            kept.append((image, prepared))
        if kept:
            sizes = kept[0][1].keys()
            inputs = {size: stack_inputs([prepared[size] for _, prepared in kept]) for size in sizes}
            yield Batch(tuple(image for image, _ in kept), inputs)


def make_input(
    pixels: Pixels, image_size: int, shape: Shape, protocol: Protocol
) -> tuple[Pixels, LetterboxInfo]:
    """One decoded image [H, W, 3], BGR -> the padded input of a shape, BGR, and where the image lies in it.

    image_size: pixels of the image's long side.
    """
    resized = resize_long_side(pixels, image_size, protocol.rounding, protocol.shrinking)
    return letterbox(resized, shape, scale_up=False, original=(pixels.shape[0], pixels.shape[1]))


def stack_inputs(parts: Sequence[tuple[Pixels, LetterboxInfo]]) -> Inputs:
    """Padded images [H, W, 3], BGR, of one shape -> Inputs, RGB and channels first."""
    tensors = [
        torch.from_numpy(np.ascontiguousarray(pixels[:, :, ::-1].transpose(2, 0, 1))) for pixels, _ in parts
    ]
    return Inputs(torch.stack(tensors), tuple(info for _, info in parts))


def group_images(
    images: Sequence[CocoImage], protocol: Protocol
) -> list[tuple[Sequence[CocoImage], dict[int, Shape]]]:
    """Images that share their input shapes, by the image sizes of the views: all, or by height / width."""
    sizes = list(dict.fromkeys(protocol.view_sizes))
    if not protocol.rectangular:
        return [(images, {size: (size, size) for size in sizes})]
    ordered = sorted(images, key=lambda image: image.height / image.width)
    groups = [
        ordered[start : start + protocol.group_size] for start in range(0, len(ordered), protocol.group_size)
    ]
    return [
        (group, {size: group_shape(ratios, size, protocol) for size in sizes})
        for group in groups
        for ratios in [[image.height / image.width for image in group]]
    ]


def group_shape(ratios: Sequence[float], image_size: int, protocol: Protocol) -> Shape:
    """The input shape that holds images of these heights / widths when their long side is `image_size` px."""
    tall = max(ratios) if max(ratios) < 1 else 1.0
    wide = 1 / min(ratios) if min(ratios) > 1 else 1.0

    def side(share: float) -> int:
        return math.ceil(share * image_size / protocol.stride + protocol.margin) * protocol.stride

    return side(tall), side(wide)
