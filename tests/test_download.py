"""COCO and checkpoints: fetched once, from a local server with small archives of the same shape."""

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from yolov9bench.data import download
from yolov9bench.data.coco import read_coco
from yolov9bench.data.download import (
    checkpoint,
    coco,
    coco_download_bytes,
    coco_present,
)
from yolov9bench.errors import DatasetError, DownloadError
from yolov9bench.io.partial import part_path
from yolov9bench.zoo import coco2017
from yolov9bench.zoo.coco2017 import CocoArchive, CocoSplit
from yolov9bench.zoo.rows import Asset

BOXES = json.dumps(
    {
        "images": [{"id": 139, "file_name": "000000000139.jpg", "width": 640, "height": 426}],
        "annotations": [],
        "categories": [{"id": 1, "name": "person"}],
    }
).encode()
WEIGHTS = b"weights" * 1000


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of small COCO archives, which stand in for the real ones in the table; its address."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "weights.pt").write_bytes(WEIGHTS)
    with zipfile.ZipFile(folder / "boxes.zip", "w") as archive:
        archive.writestr("annotations/instances_val2017.json", BOXES)
        archive.writestr("annotations/captions_val2017.json", b"{}")
    with zipfile.ZipFile(folder / "val2017.zip", "w") as archive:
        archive.writestr("val2017/", b"")
        archive.writestr("val2017/000000000139.jpg", b"image")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        images = described(folder / "val2017.zip", address)
        split = CocoSplit(images, images=1, annotations_sha256=hashlib.sha256(BOXES).hexdigest())
        monkeypatch.setattr(coco2017, "ANNOTATIONS", described(folder / "boxes.zip", address))
        monkeypatch.setattr(coco2017, "SPLITS", {"val2017": split})
        yield address
        server.shutdown()
        thread.join()


def described(path: Path, address: str) -> CocoArchive:
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    md5 = hashlib.md5(content).hexdigest()
    return CocoArchive(path.name, f"{address}/{path.name}", len(content), md5, (sha256,))


def test_coco_is_fetched_and_unpacked_once(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = sum((tmp_path / "site" / name).stat().st_size for name in ("boxes.zip", "val2017.zip"))
    data = tmp_path / "data"
    assert not coco_present(data)
    assert coco_download_bytes(data) == total
    root = coco(data)
    assert coco_present(data)
    assert coco_download_bytes(data) == 0
    assert [image.id for image in read_coco(root).images] == [139]
    assert (root / "val2017" / "000000000139.jpg").read_bytes() == b"image"
    monkeypatch.setattr(download, "fetch", None)  # the second time fetches nothing
    assert coco(data) == root == data / "coco"


def test_an_interrupted_transfer_counts_as_here(site: str, tmp_path: Path) -> None:
    whole = coco_download_bytes(tmp_path)
    (tmp_path / "coco").mkdir()
    part_path(tmp_path / "coco" / "val2017.zip").write_bytes(bytes(10))
    assert coco_download_bytes(tmp_path) == whole - 10
    (tmp_path / "coco" / "boxes.zip").write_bytes((tmp_path / "site" / "boxes.zip").read_bytes())
    assert coco_download_bytes(tmp_path) == (tmp_path / "site" / "val2017.zip").stat().st_size - 10


def test_an_archive_put_there_by_hand_is_checked(site: str, tmp_path: Path) -> None:
    (tmp_path / "coco").mkdir()
    (tmp_path / "coco" / "boxes.zip").write_bytes(b"something else")
    with pytest.raises(
        DownloadError, match=r"boxes\.zip is not as published: 14 bytes instead of .* md5 .*; delete"
    ):
        coco(tmp_path)


def test_other_boxes_are_refused(site: str, tmp_path: Path) -> None:
    coco(tmp_path)
    boxes = tmp_path / "coco" / "annotations" / "instances_val2017.json"
    boxes.write_text("{}")
    with pytest.raises(
        DatasetError, match=r"instances_val2017\.json has sha256 44136fa.* instead of .*move it away"
    ):
        coco(tmp_path)


def test_a_folder_with_other_images_is_refused_before_the_transfer(site: str, tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "coco" / "val2017").mkdir(parents=True, exist_ok=True)
        (tmp_path / "coco" / "val2017" / name).touch()
    assert not coco_present(tmp_path)
    with pytest.raises(DatasetError, match="val2017 holds 2 of 1 images: move it away"):
        coco(tmp_path)
    assert not (tmp_path / "coco" / "boxes.zip").exists()


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no split 'val2014' to fetch: choose one of val2017, train2017"):
        coco(tmp_path, "val2014")


def test_a_checkpoint_is_fetched_by_its_row(site: str, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(WEIGHTS).hexdigest()
    url = f"{site}/weights.pt"
    sure = Asset("weights.pt", url, "ultralytics", (1, 7000), ("0" * 64, sha256), hash_sources=2)
    fetched = checkpoint(sure, tmp_path)
    assert (fetched.path, fetched.sha256) == (tmp_path / "checkpoints" / "weights.pt", sha256)
    assert fetched.warnings == ()


def test_a_hash_seen_once_warns_and_a_hash_seen_twice_refuses(site: str, tmp_path: Path) -> None:
    lead = Asset("weights.pt", f"{site}/weights.pt", "converted", (7000,), ("0" * 64,), hash_sources=1)
    (warning,) = checkpoint(lead, tmp_path).warnings
    assert "0" * 64 in warning
    sure = Asset("other.pt", f"{site}/weights.pt", "converted", (7000,), ("0" * 64,), hash_sources=2)
    with pytest.raises(
        DownloadError, match=r"other\.pt is not as published.* it was removed: try again, or place"
    ):
        checkpoint(sure, tmp_path)
    prefix = Asset("third.pt", f"{site}/weights.pt", "mmyolo", sha256_prefix="0" * 8)
    with pytest.raises(DownloadError, match="instead of one that begins with 00000000"):
        checkpoint(prefix, tmp_path)


def test_the_table_names_coco_2017() -> None:
    # As printed at https://cocodataset.org/#download: 5K images in 1 GB, 118K in 18 GB, boxes in 241 MB.
    val, train = coco2017.SPLITS["val2017"], coco2017.SPLITS["train2017"]
    assert (round(val.images, -3), round(train.images, -3)) == (5_000, 118_000)
    assert round(train.archive.bytes / 2**30) == 18
    assert round(val.archive.bytes / 2**30) == 1
    assert round(coco2017.ANNOTATIONS.bytes / 2**20) == 241


def test_the_table_agrees_with_the_collected_facts(shared: Path) -> None:
    facts = (shared / "facts" / "downloads.md").read_text(encoding="utf-8")
    lines = {line.split("|")[1].strip().split("/")[-1]: line for line in facts.splitlines() if "|" in line}
    for archive in (coco2017.ANNOTATIONS, *(split.archive for split in coco2017.SPLITS.values())):
        stated = (f"{archive.bytes:,}", archive.md5, *archive.sha256)
        assert all(value in lines[archive.name] for value in stated)
        assert archive.url.endswith(f"/{archive.name}")
    boxes = coco2017.SPLITS["val2017"].annotations_sha256
    assert boxes and boxes in facts.split("instances_val2017.json", 1)[1]
