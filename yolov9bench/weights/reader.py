"""Read a checkpoint of torch.save as plain data: an archive of a pickle and storages, or an older stream.

torch's own reader is not used. It makes storages and arrays as large as a file claims before anything can be
checked, and what it lets a file call is torch's choice, which changes. Here a file is data: see `pickled`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yolov9bench.errors import CheckpointError
from yolov9bench.weights.archive import PICKLED, folder_of, open_archive, require_plain_members
from yolov9bench.weights.kinds import Kind
from yolov9bench.weights.known import require_known
from yolov9bench.weights.objects import Budget
from yolov9bench.weights.pickled import PickleReader
from yolov9bench.weights.stored import StreamSource, ZipSource

MAGIC = 0x1950A86A20F9469CFC6C  # of the older stream, and the version that follows
STREAM_VERSION = 1001
# Steps for the objects of a file. A yolov9-t with every module pickled takes 190,000, in 8 MB.
STEPS = 200_000
BYTES_A_STEP = 16  # of the file, for each further step
MOST_STEPS = 800_000  # a training of yolov9-e and its average, both pickled as modules, would take 500,000


@contextmanager
def read_inert(path: Path, kind: Kind) -> Iterator[Any]:
    """What `torch.save` wrote (zip or older stream), every foreign object as an Inert, for as long as needed.

    Tensors come as StoredTensor, which can be loaded within the block. Raises CheckpointError for a file that
    is cut short or damaged, or that names anything unknown; other errors of damaged files are made one by
    `load.reading`.
    """
    size = path.stat().st_size
    budget = Budget(path.name, min(STEPS + size // BYTES_A_STEP, MOST_STEPS))
    if kind == "zip":
        with open_archive(path) as archive:
            require_plain_members(path, archive)
            folder = folder_of(archive)
            source = ZipSource(path.name, archive, folder)
            require_byte_order(path, source)
            yield read_pickle(source, budget)
        return
    with path.open("rb") as stream:
        numbers = StreamSource(path.name, stream)
        reader = PickleReader(stream, numbers, budget)
        if kind == "pickle":
            reader.read()
            require_known(path.name, reader.names)
            raise CheckpointError(
                f"{path.name} is a pickle that torch.save did not write: save the state dict by torch.save"
            )
        yield read_stream(path, reader, numbers, size)


def read_pickle(source: ZipSource, budget: Budget) -> Any:
    """What the one pickle of an archive holds; its checksum is compared."""
    with source.archive.open(f"{source.folder}{PICKLED}") as member:
        stream = io.BufferedReader(member)  # type: ignore[type-var]
        reader = PickleReader(stream, source, budget)
        content = reader.read()
        if stream.read(1):
            raise reader.foreign("bytes behind the objects")
    require_known(source.file, reader.names)
    return content


def require_byte_order(path: Path, source: ZipSource) -> None:
    """CheckpointError for numbers that begin with their largest byte."""
    info = source.members.get(f"{source.folder}byteorder")
    if info is not None and info.file_size < 10 and source.archive.read(info) != b"little":
        raise CheckpointError(f"{path.name} was saved on a big-endian machine: convert it there")


def read_stream(path: Path, reader: PickleReader, source: StreamSource, size: int) -> Any:
    """What an older stream holds: five pickles, of which the fourth is the content, then the storages."""
    magic, version, machine = reader.read(), reader.read(), reader.read()
    little = isinstance(machine, dict) and machine.get("little_endian") is True
    if magic != MAGIC or version != STREAM_VERSION or not little:
        raise CheckpointError(f"{path.name} is a stream of an unknown version or byte order: save it again")
    content, keys = reader.read(), reader.read()
    require_known(path.name, reader.names)
    source.locate(keys, size)
    return content
