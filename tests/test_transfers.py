"""Transfers that go wrong before a published hash could tell: the bytes themselves are the witness."""

import gzip
import hashlib
import logging
import os
import threading
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from yolov9bench.data.download import checkpoint, coco, coco_present
from yolov9bench.errors import DatasetError, DownloadError
from yolov9bench.io import attempts
from yolov9bench.io.archive import unzip_file
from yolov9bench.io.download import fetch
from yolov9bench.io.files import write_text
from yolov9bench.io.partial import part_path
from yolov9bench.zoo import coco2017
from yolov9bench.zoo.coco2017 import CocoArchive, CocoSplit
from yolov9bench.zoo.rows import Asset

BODY = bytes(range(256)) * 1000  # four chunks
SHA256 = hashlib.sha256(BODY).hexdigest()


class Site(ThreadingHTTPServer):
    """Serves bodies by path; the fields say how it answers to requests for a part."""

    daemon_threads = True

    def __init__(self, bodies: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.bodies = bodies
        self.shift = 0  # a part begins so many bytes later than asked for
        self.named = True  # a part says where it begins
        self.ranges = True
        self.lengths = True
        self.cuts = 0  # so many answers break off half-way
        self.asked: list[str | None] = []
        self.sent: list[bytes] = []

    def url(self, name: str = "file.bin") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Answer(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site, asked = self.server, self.headers["Range"]
        body = site.bodies[self.path.removeprefix("/")]
        site.asked.append(asked)
        first = (
            int(asked.removeprefix("bytes=").removesuffix("-")) + site.shift if asked and site.ranges else 0
        )
        rest = body[first:]
        self.send_response(206 if first else 200)
        if first and site.named:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            rest = gzip.compress(rest)
            self.send_header("Content-Encoding", "gzip")
        if site.lengths:
            self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if site.cuts:
            site.cuts -= 1
            rest = rest[: len(rest) // 2]
        site.sent.append(rest)
        with suppress(ConnectionError):
            self.wfile.write(rest)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """One file, a checkpoint, and COCO in two small archives: boxes of two images, of which one is there."""
    boxes = b'{"images": [], "annotations": [], "categories": []}'
    for name, member, content in (
        ("boxes.zip", "annotations/instances_val2017.json", boxes),
        ("val2017.zip", "val2017/000000000139.jpg", b"image"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(member, content)
    names = ("boxes.zip", "val2017.zip")
    bodies = {name: (tmp_path / name).read_bytes() for name in names} | {"file.bin": BODY}
    monkeypatch.setattr(attempts, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Site(bodies) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        described = [CocoArchive(name, server.url(name), len(bodies[name]), "") for name in names]
        monkeypatch.setattr(coco2017, "ANNOTATIONS", described[0])
        monkeypatch.setattr(coco2017, "SPLITS", {"val2017": CocoSplit(described[1], images=1)})
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file goes; a part of it is there from an earlier run."""
    place = tmp_path / "folder" / "file.bin"
    place.parent.mkdir()
    part_path(place).write_bytes(BODY[:1000])
    return place


def test_the_rest_is_put_behind_the_part(site: Site, path: Path) -> None:
    fetch(site.url(), path, sha256=[SHA256])
    assert path.read_bytes() == BODY
    assert site.asked == ["bytes=1000-"]
    assert site.sent == [BODY[1000:]]


@pytest.mark.parametrize(("shift", "named"), [(7, True), (0, False)])
def test_another_part_than_asked_for_is_not_used(site: Site, path: Path, shift: int, named: bool) -> None:
    """The answer's Content-Range tells, before the hash does."""
    site.shift, site.named = shift, named
    fetch(site.url(), path, sha256=[SHA256])
    assert path.read_bytes() == BODY
    assert site.asked == ["bytes=1000-", None]


def test_a_server_that_ignores_ranges_sends_the_file_from_its_beginning(site: Site, path: Path) -> None:
    site.ranges = False
    fetch(site.url(), path, sha256=[SHA256])
    assert path.read_bytes() == BODY
    assert site.asked == ["bytes=1000-"]


def test_the_files_own_bytes_are_asked_for(site: Site, path: Path) -> None:
    """A server that may compress would send bytes that sizes and ranges do not count."""
    part_path(path).unlink()
    site.cuts = 1
    fetch(site.url(), path)
    assert path.read_bytes() == BODY
    assert site.sent[0] == BODY[: len(BODY) // 2]


def test_a_transfer_of_unknown_length_that_ends_early_goes_on(site: Site, path: Path) -> None:
    """The server closes the connection without having said how much it would send; the size is published."""
    site.lengths, site.cuts = False, 1
    fetch(site.url(), path, size=len(BODY), sha256=[SHA256])
    assert path.read_bytes() == BODY
    half = 1000 + (len(BODY) - 1000) // 2
    assert site.asked == ["bytes=1000-", f"bytes={half}-"]


@pytest.mark.parametrize("size", [len(BODY) - 1, len(BODY) + 1])
def test_one_byte_more_or_less_than_published_is_refused(site: Site, path: Path, size: int) -> None:
    part_path(path).unlink()
    site.lengths = size < len(BODY)
    with pytest.raises(DownloadError, match=r"256,000 (of 256,001 bytes|bytes instead of 255,999)"):
        fetch(site.url(), path, size)
    assert not path.exists()


@pytest.mark.parametrize("size", [len(BODY) - 1, len(BODY) + 1])
def test_a_file_in_its_place_of_another_size_is_refused(path: Path, size: int) -> None:
    path.write_bytes(BODY)
    with pytest.raises(DownloadError, match=f"256,000 bytes instead of {size:,}"):
        fetch("http://127.0.0.1:9/", path, size)


def test_a_host_that_cannot_be_reached_is_not_asked_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("yolov9bench.io.attempts.time.sleep", pauses.append)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch("http://127.0.0.1:9/file.bin", path)
    assert pauses == []


def test_the_bytes_are_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a power cut would leave an empty file in place of the old one."""
    order: list[str] = []
    synced, replaced = os.fsync, Path.replace

    def syncing(number: int) -> None:
        order.append("bytes")
        synced(number)

    def replacing(fresh: Path, target: Path) -> Path:
        order.append("name")
        return replaced(fresh, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(Path, "replace", replacing)
    write_text(tmp_path / "file.txt", "text")
    assert order == ["bytes", "name"]


def test_a_member_larger_than_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "archive.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("boxes.json", bytes(10**6))
    monkeypatch.setattr("yolov9bench.io.files.shutil.disk_usage", lambda _: SimpleNamespace(free=10**6 - 1))
    with pytest.raises(DownloadError, match="needs 1,000,000 bytes but 999,999 are free"):
        unzip_file(tmp_path / "archive.zip", "boxes.json", tmp_path / "boxes.json")
    assert [each.name for each in tmp_path.iterdir()] == ["archive.zip"]


# COCO and checkpoints


def test_an_archive_with_too_few_images_is_refused_once_it_is_unpacked(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = replace(coco2017.SPLITS["val2017"], images=2)
    monkeypatch.setattr(coco2017, "SPLITS", {"val2017": split})
    with pytest.raises(DatasetError, match="val2017 holds 1 of 2 images: move it away"):
        coco(tmp_path / "data")
    assert not coco_present(tmp_path / "data")


@pytest.mark.parametrize("name", ["boxes.zip", "val2017.zip"])
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"bytes": 1}, "bytes instead of 1"),
        ({"md5": "0" * 32}, f"instead of {'0' * 32}"),
        ({"sha256": ("0" * 64,)}, f"instead of {'0' * 64}"),
    ],
)
def test_each_published_fact_alone_refuses_another_archive(
    site: Site,
    tmp_path: Path,
    name: str,
    changes: dict[str, Any],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    split = coco2017.SPLITS["val2017"]
    if name == "boxes.zip":
        monkeypatch.setattr(coco2017, "ANNOTATIONS", replace(coco2017.ANNOTATIONS, **changes))
    else:
        changed = replace(split, archive=replace(split.archive, **changes))
        monkeypatch.setattr(coco2017, "SPLITS", {"val2017": changed})
    with pytest.raises(DownloadError, match=rf"{name} is not as published: .*{sentence}"):
        coco(tmp_path / "data")
    assert not (tmp_path / "data" / "coco" / name).exists()
    assert not coco_present(tmp_path / "data")


def test_a_split_is_there_with_its_boxes_and_its_images(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        root = coco(tmp_path / "data")
    assert coco_present(tmp_path / "data")
    assert "val2017.zip is unpacked: delete it if space is short" in caplog.text
    boxes = root / "annotations" / "instances_val2017.json"
    kept = boxes.read_bytes()
    boxes.unlink()
    assert not coco_present(tmp_path / "data")
    boxes.write_bytes(kept)
    next((root / "val2017").iterdir()).unlink()
    assert not coco_present(tmp_path / "data")


def test_the_one_known_size_of_a_checkpoint_counts_and_none_of_several(site: Site, tmp_path: Path) -> None:
    size = len(BODY)
    lead = Asset("lead.pt", site.url(), "converted", (size - 1,), hash_sources=1)
    (warning,) = checkpoint(lead, tmp_path).warnings
    assert "256,000 bytes instead of 255,999" in warning
    with pytest.raises(
        DownloadError, match=r"sure\.pt is not as published: 256,000 bytes instead of 255,999"
    ):
        checkpoint(replace(lead, name="sure.pt", hash_sources=2), tmp_path)
    several = Asset("several.pt", site.url(), "converted", (1, size), hash_sources=2)
    assert checkpoint(several, tmp_path).warnings == ()
    with pytest.raises(DownloadError, match=r"256,000 bytes, more than the 2 that it may have"):
        checkpoint(replace(several, name="longer.pt", bytes=(1, 2)), tmp_path)
