"""Rows of different lengths in one array: what every worker reads is there once and travels as a handle.

A tensor in shared memory is pickled as a few bytes that name it, while a list of arrays is pickled whole: for
COCO with polygons that would be some 268 MB to every worker.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolov9bench.data.outlines import Polygon
from yolov9bench.data.polygons import Objects, Reason

T = TypeVar("T")

REASONS: tuple[Reason, ...] = get_args(Reason)


class Storage(Protocol):
    """What holds the rows: a tensor, or a file that is mapped into memory."""

    def numpy(self) -> NDArray[Any]:
        """All rows one after another, not copied."""


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows one after another: `values` [total, ...], and `bounds` [rows + 1], where each begins and ends."""

    values: Storage
    bounds: Tensor

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        """A read-only view of one row, counted from 0."""
        first, last = self.span(row)
        found = self.values.numpy()[first:last]
        found.flags.writeable = False  # every process sees the same memory
        return found

    def rows(self, first: int, last: int) -> list[NDArray[Any]]:
        """Read-only views of the rows from `first` up to, and without, `last`."""
        begin, *ends = self.bounds.numpy()[first : last + 1].tolist()
        values, found = self.values.numpy(), []
        for end in ends:
            found.append(values[begin:end])
            found[-1].flags.writeable = False
            begin = end
        return found

    def span(self, row: int) -> tuple[int, int]:
        """Where a row begins and ends among the values."""
        first, last = self.bounds.numpy()[row : row + 2].tolist()
        return first, last


def bounds_of(lengths: Iterable[int]) -> Tensor:
    """Lengths of rows -> their bounds [rows + 1], int64."""
    return torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int64))


def pack(rows: Sequence[NDArray[Any]], empty: NDArray[Any]) -> Ragged:
    """Rows of one type, copied one after another; `empty` has the shape and type of a row of nothing."""
    values = np.concatenate([empty, *rows])
    return Ragged(torch.from_numpy(values), bounds_of(map(len, rows)))


@dataclass(frozen=True, eq=False)
class PackedPaths:
    """The paths of all images, by their number."""

    characters: Ragged  # uint8, as the file system has them

    def __len__(self) -> int:
        return len(self.characters)

    def __iter__(self) -> Iterator[Path]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> Path:
        return Path(os.fsdecode(self.characters[index].tobytes()))


def pack_paths(paths: Iterable[Path]) -> PackedPaths:
    """Paths in order -> packed."""
    return PackedPaths(
        pack([np.frombuffer(os.fsencode(path), np.uint8) for path in paths], np.empty(0, np.uint8))
    )


@dataclass(frozen=True, eq=False)
class PackedObjects:
    """The Objects of all images, by the number of the image."""

    boxes: Ragged  # of each image [n, 4]
    labels: Ragged  # of each image [n]
    polygons: Ragged  # of each object [k, 2]; no point at all where it has no polygon
    left_out: Ragged  # of each image, as places in REASONS

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int) -> Objects:
        return Objects(
            boxes=self.boxes[index],
            labels=self.labels[index],
            polygons=self._polygons(*self.boxes.span(index)),
            left_out=tuple(REASONS[place] for place in self.left_out[index]),
        )

    def __iter__(self) -> Iterator[Objects]:
        return map(self.__getitem__, range(len(self)))

    def _polygons(self, first: int, last: int) -> tuple[Polygon | None, ...]:
        found = self.polygons.rows(first, last)
        return tuple(polygon if len(polygon) else None for polygon in found)


def pack_objects(objects: Sequence[Objects]) -> PackedObjects:
    """Objects of image after image -> packed; a polygon has at least a point."""
    none = np.empty((0, 2), np.float32)
    polygons = chain.from_iterable(each.polygons for each in objects)
    reasons = [np.array([REASONS.index(one) for one in each.left_out], np.uint8) for each in objects]
    return PackedObjects(
        boxes=pack([each.boxes for each in objects], np.empty((0, 4), np.float32)),
        labels=pack([each.labels for each in objects], np.empty(0, np.int64)),
        polygons=pack([none if polygon is None else polygon for polygon in polygons], none),
        left_out=pack(reasons, np.empty(0, np.uint8)),
    )


def shared(packed: T) -> T:
    """The same numbers in memory that other processes can have without a copy.

    packed: a tensor, or a dataclass of tensors and of such dataclasses; anything else stays what it is.
    """
    if isinstance(packed, Tensor):
        # A copy, as share_memory_ moves a tensor's numbers away from under the arrays that look at them.
        copied: Any = packed.clone()
        return cast(T, copied.share_memory_())
    if is_dataclass(packed) and not isinstance(packed, type):
        return replace(packed, **{each.name: shared(getattr(packed, each.name)) for each in fields(packed)})
    return packed


def empty_bytes(count: int, in_shared_memory: bool) -> Tensor:
    """uint8 [count], not initialised; in shared memory from the start, where `share_memory_` would copy."""
    if not in_shared_memory:
        return torch.empty(count, dtype=torch.uint8)
    storage: Any = torch.UntypedStorage
    return torch.empty(0, dtype=torch.uint8).set_(storage._new_shared(count))


def bytes_of(packed: object) -> int:
    """Bytes of all tensors that `shared` shares."""
    if isinstance(packed, Tensor):
        return packed.nbytes
    if is_dataclass(packed):
        return sum(bytes_of(getattr(packed, each.name)) for each in fields(packed))
    return 0
