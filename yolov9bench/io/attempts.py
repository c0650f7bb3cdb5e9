"""A file brought to its part by a few transfers; each appends only what is surely of the same file."""

from __future__ import annotations

import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from yolov9bench.errors import DownloadError, UnreachableError
from yolov9bench.io.files import disk_errors, require_space
from yolov9bench.io.partial import PartNote, begin_part, discard_part, part_bytes, part_path, read_note
from yolov9bench.io.progress import Meter
from yolov9bench.io.transfer import Answer, Chunks, Cut, Mixed, Refused, Unreachable, request

PAUSES = (1.0, 2.0, 4.0)  # seconds before each further attempt after a cut

logger = logging.getLogger("yolov9bench")


@dataclass(frozen=True)
class Wanted:
    """A file to be fetched; `size` as published, `most_bytes` what is received at most."""

    url: str
    path: Path
    size: int | None
    most_bytes: int
    label: str

    @property
    def by_hand(self) -> str:
        """The remedy that is always left."""
        return f"or place the file at {self.path} by hand"


def bring(wanted: Wanted, by_hash: bool) -> bool:
    """Bring all bytes to the part file, in a few attempts; whether they came in more than one piece.

    by_hash: whether a part of unknown version may be continued, since a hash of the whole will tell. A part
    that no later run could continue is removed when an error ends this.
    """
    try:
        return _attempt(wanted, by_hash)
    except BaseException as error:
        if not by_hash and read_note(wanted.path, wanted.url) is None:
            discard_part(wanted.path)
        if isinstance(error, Refused):
            raise DownloadError(f"{error}: check {wanted.url}, {wanted.by_hand}.") from error
        if isinstance(error, Cut):
            failure = UnreachableError if isinstance(error, Unreachable) else DownloadError
            remedy = f"check the network and run it again, {wanted.by_hand}"
            raise failure(f"{wanted.url}: {error}; {remedy}.") from error
        raise


def _attempt(wanted: Wanted, by_hash: bool) -> bool:
    for attempt, pause in enumerate(PAUSES):
        try:
            return _receive(wanted, by_hash)
        except Cut as cut:
            if attempt == 0 and isinstance(cut, Unreachable):
                raise
            logger.warning("%s: %s; next attempt in %g s", wanted.url, cut, pause)
            time.sleep(pause)
    return _receive(wanted, by_hash)


def _receive(wanted: Wanted, by_hash: bool) -> bool:
    """One attempt: append what the part file lacks; whether something was there that it could follow.

    Cut where another attempt may succeed; what is of no use for it is removed.
    """
    path = wanted.path
    if part_bytes(path) > wanted.most_bytes or not (by_hash or read_note(path, wanted.url)):
        discard_part(path)
    note, have = read_note(path, wanted.url), part_bytes(path)
    if have and have in (wanted.size, None if note is None else note.total):
        return True
    try:
        answer, chunks = request(wanted.url, have, None if note is None else note.validator)
    except Mixed:
        discard_part(path)
        raise
    try:
        _require_continued(answer, note, have)
        total = _require_room(wanted, answer)
        if not answer.first:
            validator = answer.validator
            begin_part(path, None if validator is None else PartNote(wanted.url, validator, answer.total))
        _append(wanted, chunks, answer.first, total)
    except (Mixed, Refused):
        discard_part(path)
        raise
    finally:
        chunks.close()
    return answer.first > 0


def _require_continued(answer: Answer, note: PartNote | None, have: int) -> None:
    """Mixed unless what comes is the whole file, or the rest of the one whose beginning is here."""
    if answer.first not in (0, have):
        raise Mixed("the server sent other bytes than asked for")
    if answer.first and note is not None:
        is_known = note.total is None or answer.total in (None, note.total)
        if answer.validator != note.validator or not is_known:
            raise Mixed("the server has another version of the file by now, or does not say which one it has")


def _require_room(wanted: Wanted, answer: Answer) -> int | None:
    """The size of the whole, None if nobody knows; what is too large is told before the first byte."""
    total = wanted.size if answer.total is None else answer.total
    if answer.total is not None and wanted.most_bytes == wanted.size and answer.total != wanted.size:
        found = f"{answer.total:,} bytes instead of {wanted.size:,}"
        raise Refused(f"{wanted.path.name} is not as published: {found}")
    if total is not None and total > wanted.most_bytes:
        raise Refused(
            f"{wanted.path.name} has {total:,} bytes, more than the {wanted.most_bytes:,} that it may have"
        )
    here = f"{answer.first / 1e6:,.1f} MB of it here"
    known = "size unknown" if total is None else f"{total / 1e6:,.1f} MB, {here}"
    logger.info("fetching %s (%s) to %s", wanted.url, known, wanted.path)
    require_space(wanted.path, (total or 0) - answer.first)
    return total


def _append(wanted: Wanted, chunks: Chunks, first: int, total: int | None) -> None:
    """Write the chunks behind the part; Refused for a body that goes beyond the bound or the free disk."""
    path, done = wanted.path, first
    free = shutil.disk_usage(path.parent).free
    with (
        disk_errors(path, total),
        part_path(path).open("ab") as file,
        Meter(total, wanted.label, "B", start=first) as meter,
    ):
        for chunk in chunks:
            done += len(chunk)
            if done > wanted.most_bytes:
                raise Refused(
                    f"{path.name} does not end with the {wanted.most_bytes:,} bytes that it may have"
                )
            if total is None and done - first > free:
                raise Refused(f"{path.name} does not end with the {free:,} bytes that the disk has free")
            file.write(chunk)
            meter.update(len(chunk))
    if not done:
        raise Refused(f"{wanted.url} is empty")
    if total is not None and done < total:
        raise Cut(f"the transfer ended after {done:,} of {total:,} bytes")
