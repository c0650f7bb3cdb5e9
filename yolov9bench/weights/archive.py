"""Open the zip archive that torch.save writes, after everything that it claims is bounded by its size."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, final

from yolov9bench.errors import CheckpointError, shown

MOST_READ = 1 << 21  # bytes at once; the list of members of the largest known file takes 0.5 MB
MOST_PICKLED = 1 << 28  # bytes; the largest known takes 2 MB
LOCAL_HEADER = 30  # bytes before those of a member, at least
UNPLAIN = 0x1 | 0x20 | 0x40  # flags of members that are encrypted or patches
PICKLED = "data.pkl"
LIBRARY_ERRORS = (zipfile.BadZipFile, OSError, ValueError, LookupError)


@final
class BoundedFile(io.RawIOBase):
    """A file of which no more is read at once than a checkpoint needs; `zipfile` reads what a file says."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.file = file
        self.file_name = name

    def read(self, size: int | None = -1, /) -> bytes:
        """So many bytes; CheckpointError for too many."""
        wanted = MOST_READ + 1 if size is None or size < 0 else size
        data = self.file.read(wanted) if wanted <= MOST_READ + 1 else None
        if data is None or len(data) > MOST_READ:
            raise CheckpointError(
                f"{self.file_name} claims a list of members longer than any checkpoint's: fetch it again"
            )
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def seekable(self) -> bool:
        return True


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive of a checkpoint, whose members lie in it plainly and apart.

    CheckpointError for one that is cut short, or with members that are compressed, encrypted, overlapping or
    of the same name: torch.save writes none of these, and they can claim more than the file has.
    """
    with path.open("rb") as file:
        try:
            archive = zipfile.ZipFile(BoundedFile(file, path.name))
        except LIBRARY_ERRORS as error:
            raise CheckpointError(f"{path.name} is cut short, its end is missing: fetch it again") from error
        with archive:
            yield archive


def require_plain_members(path: Path, archive: zipfile.ZipFile) -> None:
    """CheckpointError for members that torch.save does not write, and that may hide or multiply something."""
    members = sorted(archive.infolist(), key=lambda info: info.header_offset)
    names = [info.filename for info in members]
    for info in members:
        if info.flag_bits & UNPLAIN:
            raise CheckpointError(f"{path.name} has {shown(info.filename, 60)} encrypted: save it again")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise CheckpointError(
                f"{path.name} has {shown(info.filename, 60)} compressed, as torch.save writes nothing: "
                "unpack it, and zip it again without compression"
            )
        if info.filename.rpartition("/")[2] == PICKLED and info.file_size > MOST_PICKLED:
            raise CheckpointError(f"{path.name} describes more than any checkpoint ({info.file_size} bytes)")
    if len(set(names)) < len(names):
        raise CheckpointError(f"{path.name} has two members of one name: save it again")
    ends = [info.header_offset + LOCAL_HEADER + info.file_size for info in members]
    begins = [info.header_offset for info in members] + [path.stat().st_size]
    if begins[0] != 0 or any(end > begin for end, begin in zip(ends, begins[1:], strict=True)):
        raise CheckpointError(f"{path.name} has parts that overlap, or that are not its own: fetch it again")


def folder_of(archive: zipfile.ZipFile) -> str:
    """The folder of the archive in which torch.save puts everything, with its slash; "" for none."""
    pickled = next(name for name in archive.namelist() if name.rpartition("/")[2] == PICKLED)
    return pickled.removesuffix(PICKLED)
