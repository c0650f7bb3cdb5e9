"""Fetching a file by its address: resumed after a cut, checked against what was published about it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from yolov9bench.errors import BenchError, DownloadError
from yolov9bench.io.attempts import Wanted, bring
from yolov9bench.io.files import disk_errors, place_file
from yolov9bench.io.locks import beside, wait_for_turn
from yolov9bench.io.partial import discard_part, part_path
from yolov9bench.io.transfer import CHUNK

MOST_BYTES = 2**40  # of a file of which neither size nor kind is known

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

    @property
    def is_hashed(self) -> bool:
        """Whether a hash tells the file from a mixture of two."""
        return bool(self.sha256 or self.sha256_prefix or self.md5)

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


def fetch(
    url: str,
    path: Path,
    size: int | None = None,
    sha256: Sequence[str] = (),
    sha256_prefix: str | None = None,
    md5: str | None = None,
    strict: bool = True,
    label: str | None = None,
    most_bytes: int = MOST_BYTES,
    accept: Callable[[Fetched], None] | None = None,
) -> Fetched:
    """Bring the file of `url` to `path`, checked against what was published about it.

    `size` in bytes; `sha256` the accepted hashes (any one), `sha256_prefix` their first digits, `md5` the
    older hash; `label` names the progress. A file that is there is only checked, without network.

    - Of several processes that want one file, one fetches it while the others wait.
    - An interrupted transfer continues from its `.part` file where the server or a hash tells whether the
      rest is of the same file; otherwise nothing is kept, and it begins anew.
    - Nothing is received beyond `size`, if `strict`, nor beyond `most_bytes` or the free disk.
    - `accept` looks at what was just fetched before it has its name; its BenchError refuses the file.
    - A file not as published is refused when `strict` (and removed if just fetched); otherwise it is placed,
      with a warning in log and result.

    DownloadError: no connection, HTTP error, repeated cuts, no space, refused file.
    """
    published = _Published(path.name, size, tuple(sha256), sha256_prefix, md5)
    most = size if strict and size is not None else most_bytes
    wanted = Wanted(url, path, size, most, label or path.name)
    present = f"delete {path} to fetch it again"
    with disk_errors(path):
        if path.exists():
            return _checked(path, published, strict, present)
        path.parent.mkdir(parents=True, exist_ok=True)
        with wait_for_turn(beside(path), f"fetches {path.name}"):
            if path.exists():  # by the process that held the lock before
                return _checked(path, published, strict, present)
            fetched = _fetch_checked(wanted, published, strict, accept)
            place_file(fetched.path, path)
            discard_part(path)
        return replace(fetched, path=path)


def _fetch_checked(
    wanted: Wanted, published: _Published, strict: bool, accept: Callable[[Fetched], None] | None
) -> Fetched:
    """The part file, whole, checked and accepted; one that came in pieces has a second chance in one."""
    part, remedy = part_path(wanted.path), f"it was removed: try again, {wanted.by_hand}"

    def judge(strict: bool) -> Fetched:
        try:
            fetched = _checked(part, published, strict, remedy)
            if accept is not None:
                accept(fetched)
        except BenchError:
            discard_part(wanted.path)
            raise
        return fetched

    is_pieced = bring(wanted, by_hash=published.is_hashed)
    try:
        return judge(strict or is_pieced)
    except BenchError:
        if not is_pieced:
            raise
    # The pieces may stem from two files: only what the server itself calls one version is judged now.
    bring(wanted, by_hash=False)
    return judge(strict)


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
