"""Fetching a file by its address: resumed after a cut, checked against what was published about it."""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import requests

from yolov9bench.errors import DownloadError, UnreachableError
from yolov9bench.io.files import disk_errors, place_file, require_space
from yolov9bench.io.progress import Meter

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
    older hash; `label` names the progress. A file that is there is only checked, without network; an
    interrupted transfer continues from its `.part` file. A file not as published is refused when `strict`
    (and removed if just fetched); otherwise it is placed, with a warning in log and result. DownloadError: no
    connection, HTTP error, repeated cuts, no space, refused file.
    """
    published = _Published(path.name, size, tuple(sha256), sha256_prefix, md5)
    with disk_errors(path):
        if path.exists():
            return _checked(path, published, strict, f"delete {path} to fetch it again")
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
        place_file(part, path)
        return replace(fetched, path=path)


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
        require_space(path, (total or 0) - have)
        with disk_errors(path, total):
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


def _by_hand(path: Path) -> str:
    return f"or place the file at {path} by hand"
