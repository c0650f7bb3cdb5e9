"""What a transfer has left so far: its bytes, and which version of the file they are of."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from yolov9bench.io.files import write_json


@dataclass(frozen=True)
class PartNote:
    """Where the bytes of a part came from, and the server's own word for that version of the file.

    `validator` is a strong ETag, or a Last-Modified, to be sent back as If-Range (RFC 9110, 13.1.5). `total`:
    bytes of the whole file, None where the server does not say.
    """

    url: str
    validator: str
    total: int | None


def part_path(path: Path) -> Path:
    """Where `fetch` gathers the bytes of `path` until they are complete and checked."""
    return path.with_name(f"{path.name}.part")


def note_path(path: Path) -> Path:
    """Where the version of the bytes in `part_path` is noted."""
    return path.with_name(f"{path.name}.part.json")


def part_bytes(path: Path) -> int:
    """How many bytes of a file are here; 0 if there are none."""
    part = part_path(path)
    return part.stat().st_size if part.exists() else 0


def read_note(path: Path, url: str) -> PartNote | None:
    """The note on the part of `path`; None if there is none of this address, or none that can be used."""
    try:
        note = PartNote(**json.loads(note_path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    has_types = type(note.validator) is str and (note.total is None or type(note.total) is int)
    return note if has_types and note.validator and note.url == url and part_path(path).exists() else None


def begin_part(path: Path, note: PartNote | None) -> None:
    """An empty part with its note; an older note goes before the older bytes, so that none is false."""
    discard_part(path)
    part_path(path).touch()
    if note is not None:
        write_json(note_path(path), asdict(note))


def discard_part(path: Path) -> None:
    """Remove what a transfer has left."""
    note_path(path).unlink(missing_ok=True)
    part_path(path).unlink(missing_ok=True)
