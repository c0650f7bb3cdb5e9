"""The numbers of a checkpoint: where a file keeps each storage, and the tensors that are views of them.

Nothing is read, nor any memory taken, until a tensor is asked for; then no more than the file stores.
"""

from __future__ import annotations

import math
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, final

import torch
from torch import Tensor

from yolov9bench.errors import CheckpointError, shown

CHUNK = 1 << 20  # bytes read at once
MOST_AXES = 8
COUNT_BYTES = 8  # before each storage of an older stream
DTYPES: Mapping[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
}


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A row of numbers of one type, which several tensors may share, and the file that keeps it."""

    source: Source
    key: str
    dtype: torch.dtype
    numel: int

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """A view of a storage, as a file describes it; nothing says yet that the storage holds it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def numel(self) -> int:
        """How many numbers it claims."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """How many bytes it would take as a tensor of its own."""
        return self.numel * self.storage.dtype.itemsize

    def is_within_storage(self) -> bool:
        """Whether every number lies in the storage, and no more are claimed than it has."""
        if self.numel > self.storage.numel or max(self.shape, default=0) > self.storage.numel:
            return False
        steps = zip(self.shape, self.stride, strict=True)
        last = self.offset + sum((size - 1) * step for size, step in steps if size)
        return last < self.storage.numel or not self.numel

    def load(self) -> Tensor:
        """The tensor, a view of what the file stores. Ask `is_within_storage` before."""
        return self.storage.source.read(self.storage).as_strided(self.shape, self.stride, self.offset)


class Source(ABC):
    """A file's storages, each read once."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.storages: dict[str, Storage] = {}
        self._read: dict[str, Tensor] = {}

    def storage(self, kind: str, key: str, numel: int) -> Storage:
        """The storage of this key; CheckpointError if the file describes it in two ways, or impossibly."""
        dtype = DTYPES.get(kind)
        if dtype is None or not 0 <= numel < 2**48:
            raise CheckpointError(
                f"{self.file} has {numel} numbers in a {shown(kind, 40)}: save it again by torch.save"
            )
        known = self.storages.setdefault(key, Storage(self, key, dtype, numel))
        if (known.dtype, known.numel) != (dtype, numel):
            raise CheckpointError(
                f"{self.file} describes storage {shown(key, 40)} in two ways: save it again"
            )
        return known

    def read(self, storage: Storage) -> Tensor:
        """All numbers of a storage, in one row."""
        if storage.key not in self._read:
            data = self.read_bytes(storage)
            empty = torch.empty(0, dtype=storage.dtype)
            self._read[storage.key] = torch.frombuffer(data, dtype=storage.dtype) if data else empty
        return self._read[storage.key]

    @abstractmethod
    def read_bytes(self, storage: Storage) -> bytearray:
        """The bytes of a storage; CheckpointError if the file has another number of them."""


@final
class ZipSource(Source):
    """The members `data/KEY` of an archive, whose checksums are compared."""

    def __init__(self, file: str, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self.archive = archive
        self.folder = folder
        self.members = {info.filename: info for info in archive.infolist()}

    def read_bytes(self, storage: Storage) -> bytearray:
        name = f"{self.folder}data/{storage.key}"
        info = self.members.get(name)
        if info is None or info.file_size != storage.nbytes:
            has = "no" if info is None else info.file_size
            raise CheckpointError(
                f"{self.file} has {has} bytes in {shown(name, 60)}, where {storage.nbytes} are described: "
                "it is damaged; fetch it again"
            )
        with self.archive.open(info) as member:
            return read_exactly(self.file, member, storage.nbytes)


@final
class StreamSource(Source):
    """The storages behind the pickles of an older stream, in the order of their list of keys."""

    def __init__(self, file: str, stream: IO[bytes]) -> None:
        super().__init__(file)
        self.stream = stream
        self.places: dict[str, int] = {}

    def locate(self, keys: object, size: int) -> None:
        """Find where each storage lies, from here to the end of the file of `size` bytes.

        CheckpointError unless the list names every storage once and they fill the file.
        """
        listed = [str(key) for key in keys] if isinstance(keys, list) else []
        if len(set(listed)) != len(listed) or set(listed) != set(self.storages):
            raise CheckpointError(f"{self.file} does not list the storages that it uses: fetch it again")
        for key in listed:
            storage = self.storages[key]
            if int.from_bytes(self.stream.read(COUNT_BYTES), "little") != storage.numel:
                raise CheckpointError(
                    f"{self.file} has another number of values in storage {shown(key, 40)} than it "
                    "describes, or is cut short there: fetch it again"
                )
            self.places[key] = self.stream.tell()
            self.stream.seek(storage.nbytes, 1)
        if self.stream.tell() != size:
            more = self.stream.tell() - size
            what = f"is cut short by {more} bytes" if more > 0 else f"has {-more} bytes behind its storages"
            raise CheckpointError(f"{self.file} {what}: fetch it again")

    def read_bytes(self, storage: Storage) -> bytearray:
        self.stream.seek(self.places[storage.key])
        return read_exactly(self.file, self.stream, storage.nbytes)


def read_exactly(file: str, stream: IO[bytes], count: int) -> bytearray:
    """So many bytes, held once; CheckpointError where the stream ends before.

    `count` must be known to be no more than the file has.
    """
    data = bytearray(count)
    view = memoryview(data)
    for begin in range(0, count, CHUNK):
        chunk = stream.read(min(CHUNK, count - begin))
        if len(chunk) != min(CHUNK, count - begin):
            raise CheckpointError(f"{file} is cut short within its numbers: fetch it again")
        view[begin : begin + len(chunk)] = chunk
    return data
