"""The detections behind records: compressed result files under results/detections, named by their hash."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable
from pathlib import Path

from yolov9bench.errors import RecordError
from yolov9bench.io.files import write_bytes

FOLDER = "detections"
MOST_BYTES = 2**20  # compressed; larger files are named by their hash and kept elsewhere
MOST_UNPACKED = 2**30  # bytes; 300 detections on each of 5,000 images take a fifth of it
GZIP = 31  # zlib's word for the largest window in gzip's frame


def path_of_detections(results_dir: Path, sha256: str) -> Path:
    """Where the detections with this hash of their JSON lie, if they are kept."""
    return results_dir / FOLDER / f"detections-{sha256[:8]}.json.gz"


def keep_detections(results_dir: Path, text: str | Iterable[bytes]) -> Path | None:
    """Keep a result file's text, compressed; None, with nothing written, if it takes more than 1 MiB so.

    text: as a whole or in parts, of which no more are taken than the limit allows. Equal texts give equal
    files, since no time is in them.
    """
    digest, packer, packed = hashlib.sha256(), zlib.compressobj(9, wbits=GZIP), bytearray()
    for part in [text.encode()] if isinstance(text, str) else text:
        digest.update(part)
        packed += packer.compress(part)
        if len(packed) > MOST_BYTES:
            return None
    packed += packer.flush()
    if len(packed) > MOST_BYTES:
        return None
    path = path_of_detections(results_dir, digest.hexdigest())
    write_bytes(path, bytes(packed))
    return path


def read_detections(path: Path) -> str:
    """The text of a result file, compressed or plain; RecordError if it cannot be read, or never ends."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MOST_UNPACKED + 1)
        text = content.decode()
    except (OSError, EOFError, ValueError, zlib.error) as error:  # of cut and of damaged files
        raise RecordError(f"{path.name} cannot be read ({error}): restore it from git") from error
    if len(content) > MOST_UNPACKED:
        raise RecordError(f"{path.name} has more than {MOST_UNPACKED:,} bytes: restore it from git")
    return text
