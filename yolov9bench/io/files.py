"""Files that are whole or not there: hashing, atomic writing, fetching with resume, careful unpacking."""

import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
import stat
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import requests

from yolov9bench.errors import DownloadError, StorageError, UnreachableError
from yolov9bench.io.progress import Meter, track

CONNECT_SECONDS = 3.05  # per address of the host: who cannot be reached is to be known within seconds
READ_SECONDS = 30.0  # a server that sends nothing for so long counts as a cut
PAUSES = (1.0, 2.0, 4.0)  # seconds before each further attempt after a cut
CHUNK = 1 << 16  # bytes; a cut loses the chunk it falls in

logger = logging.getLogger("yolov9bench")


@dataclass(frozen=True)
class Fetched:
    """A file in its place: its hash and size as they are, and a warning when it is not as published."""

    path: Path
    sha256: str
    bytes: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Published:
    """What is known about a file before it is fetched."""

    name: str
    size: int | None
    sha256: tuple[str, ...]
    sha256_prefix: str | None
    md5: str | None

    def differences(self, size: int, sha256: str, md5: str | None) -> str:
        """What differs, each found value beside the published one; empty when all is as published."""
        found = []
        if self.size is not None and size != self.size:
            found.append(f"{size:,} bytes instead of {self.size:,}")
        if self.sha256 and sha256 not in self.sha256:
            found.append(f"sha256 {sha256} instead of {' or '.join(self.sha256)}")
        if self.sha256_prefix and not sha256.startswith(self.sha256_prefix):
            found.append(f"sha256 {sha256} instead of one that begins with {self.sha256_prefix}")
        if self.md5 and md5 != self.md5:
            found.append(f"md5 {md5} instead of {self.md5}")
        return ", ".join(found)


class _Cut(Exception):
    """A transfer that did not come to its end, but may at the next attempt."""


class _Unreachable(_Cut):
    """No answer at all; the message names the host."""


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a fresh path beside `path`; the file written there takes its place when the block succeeds.

    The fresh path has the suffix of `path`. When the block raises, the fresh file is removed and `path` stays
    as it was. Missing folders are made. StorageError for a full or forbidden disk.
    """
    fresh = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield fresh
        _place(fresh, path)
    except OSError as error:
        remedy = "make space" if error.errno == errno.ENOSPC else "check the path and its rights"
        raise StorageError(
            f"{path} cannot be written ({error.strerror}): {remedy} and run it again."
        ) from error
    finally:
        fresh.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with its line ends as given, whole or not at all."""
    with atomic_path(path) as fresh:
        fresh.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, whole or not at all; ValueError on NaN and infinity."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def part_path(path: Path) -> Path:
    """Where `fetch` gathers the bytes of `path` until they are complete and checked."""
    return path.with_name(path.name + ".part")


def fetch(
    url: str,
    path: Path,
    size: int | None = None,
    sha256: Sequence[str] = (),
    sha256_prefix: str | None = None,
    md5: str | None = None,
    strict: bool = True,
    label: str | None = None,
) -> Fetched:
    """Bring the file of `url` to `path`, checked against what was published about it.

    `size` in bytes; `sha256` the accepted hashes (any one), `sha256_prefix` their first digits, `md5` the
    older hash; `label` names the progress. A file that is there is only checked, without network; a transfer
    that was cut goes on from its `.part` file. A file not as published is refused when `strict` (and removed
    if it was just fetched); otherwise it is placed, with a warning in the log and the result. DownloadError:
    no connection, HTTP error, repeated cuts, no space, refused file.
    """
    published = _Published(path.name, size, tuple(sha256), sha256_prefix, md5)
    with _disk_errors(path):
        if path.exists():
            return _checked(path, published, strict, f"delete {path} to fetch it anew")
        part = part_path(path)
        resumed = part.exists()
        _download(url, path, size, label or path.name)
        try:
            fetched = _checked(
                part, published, strict or resumed, f"it was removed: try again, {_by_hand(path)}"
            )
        except DownloadError:
            part.unlink()
            if not resumed:
                raise
            # The earlier part may stem from another file: only what was fetched in one go is judged.
            return fetch(url, path, size, sha256, sha256_prefix, md5, strict, label)
        _place(part, path)
        return replace(fetched, path=path)


def unzip(archive: Path, folder: Path, prefix: str = "") -> None:
    """Unpack the members whose names begin with `prefix` into a new `folder`, less the prefix, all or none.

    DownloadError: a damaged archive, a member that is a link or would land outside, too little space, no such
    member, or a folder that is not empty.
    """
    fresh = folder.with_name(f".{folder.name}.part")
    with _disk_errors(folder), _archive_errors(archive), zipfile.ZipFile(archive) as opened:
        if folder.exists() and any(folder.iterdir()):
            raise DownloadError(f"{folder} is not empty: move it away to unpack {archive.name} in its place.")
        chosen = [info for info in opened.infolist() if info.filename.startswith(prefix)]
        members = [info for info in chosen if not info.is_dir()]
        _refuse_unsafe(archive, members, prefix)
        shutil.rmtree(fresh, ignore_errors=True)  # what a killed run left
        fresh.mkdir(parents=True)
        try:
            _require_space(folder, sum(info.file_size for info in members))
            for info in track(members, len(members), f"unpacking {archive.name}", "files"):
                _unpack(opened, info, fresh / info.filename.removeprefix(prefix))
            if folder.exists():
                folder.rmdir()  # an empty one
            fresh.replace(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def unzip_file(archive: Path, member: str, path: Path) -> None:
    """Unpack one member of an archive to `path`, whole or not at all; DownloadError as for `unzip`."""
    with _disk_errors(path), _archive_errors(archive), zipfile.ZipFile(archive) as opened:
        members = [info for info in opened.infolist() if info.filename == member]
        _refuse_unsafe(archive, members, member)
        with atomic_path(path) as fresh:
            _require_space(path, members[0].file_size)
            _unpack(opened, members[0], fresh)


def _download(url: str, path: Path, size: int | None, label: str) -> None:
    """Bring all bytes of `url` to the part file, in a few attempts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt, pause in enumerate((*PAUSES, None)):
        try:
            _receive(url, path, size, label)
            return
        except _Cut as cut:
            if pause is None or (attempt == 0 and isinstance(cut, _Unreachable)):
                failure = UnreachableError if isinstance(cut, _Unreachable) else DownloadError
                raise failure(f"{url}: {cut}; check the network and run it again, {_by_hand(path)}.") from cut
            logger.warning("%s: %s; next attempt in %g s", url, cut, pause)
            time.sleep(pause)


def _receive(url: str, path: Path, size: int | None, label: str) -> None:
    """One attempt: append what the part file lacks; _Cut where another attempt may succeed."""
    part = part_path(path)
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have > size:
        part.unlink()
        have = 0
    if have and have == size:
        return
    with _answer(url, path, have) as response:
        if response.status_code != requests.codes.partial_content:
            have = 0  # the server sends the whole file
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise _Cut("the server sent other bytes than asked for")
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else size
        known = "size unknown" if total is None else f"{total / 1e6:,.1f} MB, {have / 1e6:,.1f} MB of it here"
        logger.info("fetching %s (%s) to %s", url, known, path)
        _require_space(path, (total or 0) - have)
        with _disk_errors(path, total):
            _append(response, part, have, Meter(total, label, "B", start=have))
    if total is not None and part.stat().st_size < total:
        raise _Cut(f"the transfer ended after {part.stat().st_size:,} of {total:,} bytes")


def _append(response: requests.Response, part: Path, have: int, meter: Meter) -> None:
    try:
        with part.open("ab" if have else "wb") as file, meter:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                meter.update(len(chunk))
    except requests.RequestException as error:
        raise _Cut(f"the transfer was cut ({type(error).__name__})") from error


def _answer(url: str, path: Path, have: int) -> requests.Response:
    """The server's answer, 200 or 206, with its body unread; `have` bytes are here already."""
    headers = {"Accept-Encoding": "identity"}  # the file's own bytes: sizes and ranges count those
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        response = requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS))
    except requests.RequestException as error:
        asked = error.request.url if error.request is not None else None  # after a redirect: another host
        host = urlsplit(str(asked or url)).hostname
        raise _Unreachable(f"{host} cannot be reached ({type(error).__name__})") from error
    if response.ok:
        return response
    response.close()
    answer = f"{urlsplit(response.url).hostname} answers {response.status_code} {response.reason}"
    if response.status_code == requests.codes.requested_range_not_satisfiable:
        part_path(path).unlink(missing_ok=True)
        raise _Cut(answer)
    if response.status_code == requests.codes.too_many_requests or response.status_code >= 500:
        raise _Cut(answer)
    raise DownloadError(f"{answer} for {url}: check the address, {_by_hand(path)}.")


def _checked(held: Path, published: _Published, strict: bool, remedy: str) -> Fetched:
    logger.info("checking %s", held)
    digests = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    with held.open("rb") as file:
        while chunk := file.read(CHUNK):
            for digest in digests.values():
                digest.update(chunk)
    size, sha256 = held.stat().st_size, digests["sha256"].hexdigest()
    differences = published.differences(size, sha256, digests["md5"].hexdigest())
    if not differences:
        return Fetched(held, sha256, size)
    message = f"{published.name} is not as published: {differences}"
    if strict:
        raise DownloadError(f"{message}; {remedy}.")
    logger.warning(message)
    return Fetched(held, sha256, size, (message,))


def _refuse_unsafe(archive: Path, members: Sequence[zipfile.ZipInfo], prefix: str) -> None:
    if not members:
        raise DownloadError(f"{archive} holds no {prefix or 'file'}: delete it and fetch it anew.")
    for info in members:
        name = PurePosixPath(info.filename.removeprefix(prefix).replace("\\", "/"))
        outside = name.is_absolute() or ".." in name.parts or ":" in str(name)
        if outside or stat.S_ISLNK(info.external_attr >> 16):
            kind = "would land outside its folder" if outside else "is a link"
            raise DownloadError(
                f"{archive} is refused, {info.filename!r} in it {kind}: fetch it from its source anew."
            )


def _unpack(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(info) as source, path.open("xb") as target:
        shutil.copyfileobj(source, target, CHUNK)


def _place(whole: Path, path: Path) -> None:
    with whole.open("rb+") as file:
        os.fsync(file.fileno())  # the name must not reach the disk before the bytes
    whole.replace(path)


def _by_hand(path: Path) -> str:
    return f"or place the file at {path} by hand"


def _require_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise DownloadError(
            f"{path} needs {needed:,} bytes but {free:,} are free: make space and run it again."
        )


@contextmanager
def _disk_errors(path: Path, needed: int | None = None) -> Iterator[None]:
    """Say a full or forbidden disk in a sentence; `needed` bytes in all, where known."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            place = error.filename or path
            raise DownloadError(
                f"{place} cannot be used ({error.strerror}): check the path and its rights."
            ) from error
        wanted = "more" if needed is None else f"{needed:,}"
        free = shutil.disk_usage(path.parent).free
        raise DownloadError(
            f"{path} needs {wanted} bytes but {free:,} are free: make space and run it again."
        ) from error


@contextmanager
def _archive_errors(archive: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DownloadError(f"{archive} is damaged ({error}): delete it and fetch it anew.") from error
