"""The public files to measure with, COCO 2017 and checkpoints, checked against their published hashes."""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from yolov9bench.data.layouts import annotation_path
from yolov9bench.errors import DatasetError, DownloadError
from yolov9bench.io.archive import unzip, unzip_file
from yolov9bench.io.download import Fetched, fetch
from yolov9bench.io.files import disk_errors, sha256_of, write_json
from yolov9bench.io.locks import beside, wait_for_turn
from yolov9bench.io.partial import part_bytes
from yolov9bench.zoo import coco2017
from yolov9bench.zoo.coco2017 import CocoArchive, CocoSplit
from yolov9bench.zoo.rows import Asset

MOST_CHECKPOINT_BYTES = 2**31  # where the size is not known; the largest published file has a quarter of it

logger = logging.getLogger("yolov9bench")


def coco(data_dir: Path, split: str = "val2017") -> Path:
    """Make sure of COCO 2017's boxes and images of one split and return their folder, `data_dir`/coco.

    What is there is kept; the archives stay beside it. DownloadError from fetching and unpacking;
    DatasetError for an unknown split, boxes that are not COCO 2017's, or a folder with some of the images.
    """
    facts, root = _facts(split), data_dir / "coco"
    if coco_present(data_dir, split):
        _require_published_boxes(annotation_path(root, split), facts.annotations_sha256)
        return root
    _require_all_or_no_images(root, split)
    with disk_errors(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        with wait_for_turn(beside(root), f"fetches {root.name}"):
            _bring_coco(root, data_dir, split)
    return root


def _bring_coco(root: Path, data_dir: Path, split: str) -> None:
    """Fetch and unpack what is still missing of a split; another process may have brought it meanwhile."""
    facts, missing = _facts(split), coco_download_bytes(data_dir, split)
    if missing:
        logger.info("COCO 2017 %s: %s MB to fetch to %s", split, f"{missing / 1e6:,.1f}", root)
    _require_all_or_no_images(root, split)
    boxes = annotation_path(root, split)
    if not boxes.exists():
        unzip_file(_archive(root, coco2017.ANNOTATIONS), f"annotations/{boxes.name}", boxes)
    _require_published_boxes(boxes, facts.annotations_sha256)
    if not _count_images(root, split):
        unzip(_archive(root, facts.archive), root / split, f"{split}/")
        logger.info("%s is unpacked: delete it if space is short", root / facts.archive.name)
        _require_all_or_no_images(root, split)


def coco_present(data_dir: Path, split: str = "val2017") -> bool:
    """Whether the boxes and all images of a split are there; no hash is taken."""
    root = data_dir / "coco"
    return annotation_path(root, split).exists() and _count_images(root, split) == _facts(split).images


def coco_download_bytes(data_dir: Path, split: str = "val2017") -> int:
    """How many bytes `coco` would still fetch, less what an interrupted transfer has left."""
    facts, root = _facts(split), data_dir / "coco"
    wanted = []
    if not annotation_path(root, split).exists():
        wanted.append(coco2017.ANNOTATIONS)
    if _count_images(root, split) != facts.images:
        wanted.append(facts.archive)
    return sum(_missing_bytes(root / archive.name, archive.bytes) for archive in wanted)


@dataclass(frozen=True)
class Origin:
    """Where a checkpoint came from whose hash is not published: address, size and hash as first seen."""

    url: str
    bytes: int
    sha256: str


def checkpoint(asset: Asset, data_dir: Path, check: Callable[[Path], None] | None = None) -> Fetched:
    """Bring a published checkpoint to `data_dir`/checkpoints; warnings and errors as for `io.download.fetch`.

    Of a file with another hash than is known, or where none is, `check` sees the file before it has its name,
    and refuses it by a BenchError; the first transfer leaves a note beside it, which `origin` reads.
    DownloadError if the file of a later run has another hash than the note.
    """
    path = checkpoint_path(asset, data_dir)

    def accept(fetched: Fetched) -> None:
        if _is_pinned(asset, fetched):
            return
        if check is not None:
            check(fetched.path)
        if not _is_as_seen(asset, data_dir, fetched.sha256):
            write_json(_note(path), asdict(Origin(asset.url, fetched.bytes, fetched.sha256)))

    fetched = fetch(
        asset.url,
        path,
        size=asset.bytes[0] if len(asset.bytes) == 1 else None,  # of several versions any may come
        sha256=asset.sha256,
        sha256_prefix=asset.sha256_prefix,
        strict=asset.strict,
        most_bytes=max(asset.bytes) if asset.strict and asset.bytes else MOST_CHECKPOINT_BYTES,
        accept=accept,
    )
    if not _is_pinned(asset, fetched):
        _is_as_seen(asset, data_dir, fetched.sha256)
    return fetched


def _is_pinned(asset: Asset, fetched: Fetched) -> bool:
    return asset.strict or fetched.sha256 in asset.sha256


def _is_as_seen(asset: Asset, data_dir: Path, sha256: str) -> bool:
    """Whether an earlier transfer noted this hash; False if none noted any, DownloadError for another one."""
    path, seen = checkpoint_path(asset, data_dir), origin(asset, data_dir)
    if seen is not None and seen.sha256 != sha256:
        raise DownloadError(
            f"{path} has sha256 {sha256}, but {seen.sha256} was fetched from {seen.url} before: "
            f"restore that file, or delete this one and {_note(path).name} to begin with another"
        )
    return seen is not None


def checkpoint_path(asset: Asset, data_dir: Path) -> Path:
    """Where `checkpoint` keeps the file of an asset."""
    return data_dir / "checkpoints" / asset.name


def origin(asset: Asset, data_dir: Path) -> Origin | None:
    """What the first transfer of an asset noted; None for a file that was placed by hand, or is pinned.

    DownloadError for a note that cannot be read, or that is of another address.
    """
    path = checkpoint_path(asset, data_dir)
    note = _note(path)
    if not note.exists():
        return None
    try:
        seen = Origin(**json.loads(note.read_text(encoding="utf-8")))
        if (type(seen.url), type(seen.bytes), type(seen.sha256)) != (str, int, str):
            raise TypeError("a value has another type")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DownloadError(
            f"{note} cannot be read ({error}): delete it and {path.name} to fetch again"
        ) from error
    if seen.url != asset.url:
        raise DownloadError(f"{path} was fetched from {seen.url}, not {asset.url}: delete it and {note.name}")
    return seen


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.origin.json")


def require_known(split: str) -> None:
    """DatasetError for a split that COCO 2017 does not have."""
    _facts(split)


def _facts(split: str) -> CocoSplit:
    if split not in coco2017.SPLITS:
        raise DatasetError(
            f"COCO 2017 has no split {split!r} to fetch: choose one of {', '.join(coco2017.SPLITS)}."
        )
    return coco2017.SPLITS[split]


def _archive(root: Path, archive: CocoArchive) -> Path:
    path = root / archive.name
    return fetch(archive.url, path, archive.bytes, sha256=archive.sha256, md5=archive.md5).path


def _missing_bytes(path: Path, size: int) -> int:
    if path.exists():
        return 0
    return max(0, size - part_bytes(path))


def _count_images(root: Path, split: str) -> int:
    return sum(1 for _ in (root / split).glob("*.jpg"))


def _require_all_or_no_images(root: Path, split: str) -> None:
    count, wanted = _count_images(root, split), _facts(split).images
    if count not in (0, wanted):
        raise DatasetError(
            f"{root / split} holds {count:,} of {wanted:,} images: move it away to have it fetched."
        )


def _require_published_boxes(boxes: Path, published: str | None) -> None:
    if published is not None and (found := sha256_of(boxes)) != published:
        raise DatasetError(
            f"{boxes} has sha256 {found} instead of {published}: move it away to fetch COCO 2017's."
        )
