"""Unpacking zip archives: all or nothing, and nothing outside the folder."""

import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from yolov9bench.errors import DownloadError
from yolov9bench.io.files import atomic_path, disk_errors, require_space
from yolov9bench.io.progress import track


def unzip(archive: Path, folder: Path, prefix: str = "") -> None:
    """Unpack the members whose names begin with `prefix` into a new `folder`, less the prefix, all or none.

    DownloadError: a damaged archive, a member that is a link or would land outside, too little space, no such
    member, or a folder that is not empty.
    """
    fresh = folder.with_name(f".{folder.name}.part")
    with disk_errors(folder), _archive_errors(archive), zipfile.ZipFile(archive) as opened:
        if folder.exists() and any(folder.iterdir()):
            raise DownloadError(f"{folder} is not empty: move it away to unpack {archive.name} in its place.")
        chosen = [info for info in opened.infolist() if info.filename.startswith(prefix)]
        members = [info for info in chosen if not info.is_dir()]
        _refuse_unsafe(archive, members, prefix)
        shutil.rmtree(fresh, ignore_errors=True)  # what a killed run left
        fresh.mkdir(parents=True)
        try:
            require_space(folder, sum(info.file_size for info in members))
            for info in track(members, len(members), f"unpacking {archive.name}", "files"):
                _unpack(opened, info, fresh / info.filename.removeprefix(prefix))
            if folder.exists():
                folder.rmdir()  # an empty one
            fresh.replace(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def unzip_file(archive: Path, member: str, path: Path) -> None:
    """Unpack one member of an archive to `path`, whole or not at all; DownloadError as for `unzip`."""
    with disk_errors(path), _archive_errors(archive), zipfile.ZipFile(archive) as opened:
        members = [info for info in opened.infolist() if info.filename == member]
        _refuse_unsafe(archive, members, member)
        with atomic_path(path) as fresh:
            require_space(path, members[0].file_size)
            with opened.open(members[0]) as source, fresh.open("wb") as target:
                shutil.copyfileobj(source, target)


def _refuse_unsafe(archive: Path, members: Sequence[zipfile.ZipInfo], prefix: str) -> None:
    if not members:
        raise DownloadError(f"{archive} holds no {prefix or 'file'}: delete it and fetch it again.")
    for info in members:
        name = PurePosixPath(info.filename.removeprefix(prefix).replace("\\", "/"))
        outside = name.is_absolute() or ".." in name.parts or ":" in str(name)
        if outside or stat.S_ISLNK(info.external_attr >> 16):
            kind = "would land outside its folder" if outside else "is a link"
            raise DownloadError(
                f"{archive} is refused, {info.filename!r} in it {kind}: fetch it from its source again."
            )


def _unpack(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(info) as source, path.open("xb") as target:
        shutil.copyfileobj(source, target)


@contextmanager
def _archive_errors(archive: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DownloadError(f"{archive} is damaged ({error}): delete it and fetch it again.") from error
