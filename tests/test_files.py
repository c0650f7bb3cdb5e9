"""Files that are whole or not there, against a small HTTP server that can cut, ignore and lie."""

import errno
import hashlib
import json
import logging
import resource
import shutil
import socket
import stat
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from yolov9bench.errors import DownloadError, StorageError
from yolov9bench.io import attempts, transfer
from yolov9bench.io.archive import unzip, unzip_file
from yolov9bench.io.download import fetch
from yolov9bench.io.files import atomic_path, sha256_of, write_json, write_text
from yolov9bench.io.partial import part_path
from yolov9bench.io.progress import Meter
from yolov9bench.nn.detector import build
from yolov9bench.weights import save
from yolov9bench.zoo.specs import Head, yolov8

BODY = bytes(range(256)) * 12_000  # 3 MB: more than one chunk
SHA256 = hashlib.sha256(BODY).hexdigest()
OTHER = hashlib.sha256(b"another file").hexdigest()


class Site(ThreadingHTTPServer):
    """Serves one body; the fields say how badly."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.body = BODY
        self.cuts = 0  # so many answers break off half-way
        self.ranges = True
        self.failures: list[int] = []  # statuses to answer with first
        self.asked: list[str | None] = []  # the Range header of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.bin"


class Answer(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site, asked = self.server, self.headers["Range"]
        site.asked.append(asked)
        if site.failures:
            return self.send_error(site.failures.pop(0))
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and site.ranges else 0
        if first >= len(site.body):
            return self.send_error(416)
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(site.body) - 1}/{len(site.body)}")
        rest = site.body[first:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if site.cuts:
            site.cuts -= 1
            rest = rest[: len(rest) // 2]
        with suppress(ConnectionError):  # a client whose disk is full hangs up
            self.wfile.write(rest)
        return None

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(attempts, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file.bin"


def full(free: int) -> Any:
    return lambda _: SimpleNamespace(total=10**12, used=10**12 - free, free=free)


# Hashing and atomic writing


def test_sha256_of_the_standards_example(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-4's example
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "abc") == expected


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "table.csv"
    write_text(target, "old\r\n")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as fresh:
        assert fresh.suffix == ".csv"
        fresh.write_text("half")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old\r\n"
    assert list(target.parent.iterdir()) == [target]


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "record.json"
    write_json(target, {"AP": 0.5, "name": "é"})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(target, {"AP": float("nan")})
    assert json.loads(target.read_text(encoding="utf-8")) == {"AP": 0.5, "name": "é"}
    assert list(tmp_path.iterdir()) == [target]


# Fetching


def test_fetch_places_the_file_and_says_its_size_first(
    site: Site, path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "yolov9bench")
    fetched = fetch(site.url, path, len(BODY), [OTHER, SHA256], md5=hashlib.md5(BODY).hexdigest())
    assert (fetched.path, fetched.sha256, fetched.bytes, fetched.warnings) == (path, SHA256, len(BODY), ())
    assert path.read_bytes() == BODY
    assert list(path.parent.iterdir()) == [path]
    assert "3.1 MB" in caplog.messages[0]
    assert capsys.readouterr().err.startswith("file.bin: 3.1 of 3.1 MB (100 %)")


def test_a_file_in_its_place_needs_no_network(site: Site, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(BODY)
    assert fetch(site.url, path, sha256=[SHA256], sha256_prefix=SHA256[:8]).sha256 == SHA256
    assert site.asked == []


def test_another_file_in_its_place_is_refused_and_kept(site: Site, path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(DownloadError, match=rf"{SHA256}; delete \S+file.bin to fetch it again"):
        fetch(site.url, path, sha256=[SHA256])
    assert path.read_bytes() == b"mine"
    assert len(fetch(site.url, path, sha256=[SHA256], strict=False).warnings) == 1
    assert site.asked == []


def test_a_cut_transfer_goes_on_where_it_broke_off(site: Site, path: Path) -> None:
    site.cuts = 2
    assert fetch(site.url, path, sha256=[SHA256]).bytes == len(BODY)
    assert site.asked[0] is None
    first, second = (int(str(asked).removeprefix("bytes=").removesuffix("-")) for asked in site.asked[1:])
    half = len(BODY) // 2
    assert half - transfer.CHUNK <= first <= half
    half = (first + len(BODY)) // 2  # of what was left
    assert half - transfer.CHUNK <= second <= half


def test_a_part_of_an_earlier_run_is_used(site: Site, path: Path) -> None:
    path.parent.mkdir()
    part_path(path).write_bytes(BODY[:1000])
    fetch(site.url, path, sha256=[SHA256])
    assert site.asked == ["bytes=1000-"]


def test_a_complete_part_is_only_checked(site: Site, path: Path) -> None:
    path.parent.mkdir()
    part_path(path).write_bytes(BODY)
    assert fetch(site.url, path, len(BODY), [SHA256]).path.read_bytes() == BODY
    assert site.asked == []


def test_a_server_without_ranges_starts_over(site: Site, path: Path) -> None:
    site.ranges, site.cuts = False, 1
    fetch(site.url, path, sha256=[SHA256])
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("size", [None, len(BODY)])
def test_a_part_longer_than_the_whole_is_dropped(site: Site, path: Path, size: int | None) -> None:
    path.parent.mkdir()
    part_path(path).write_bytes(BODY + b"surplus")
    fetch(site.url, path, size, [SHA256])
    assert site.asked == ([None] if size else [f"bytes={len(BODY) + 7}-", None])  # the server answered 416
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("strict", [True, False])
def test_a_part_of_another_file_is_fetched_afresh(site: Site, path: Path, strict: bool) -> None:
    path.parent.mkdir()
    part_path(path).write_bytes(b"from last year's file")
    assert fetch(site.url, path, sha256=[SHA256], strict=strict).warnings == ()
    assert site.asked == ["bytes=21-", None]
    assert path.read_bytes() == BODY


def test_repeated_cuts_are_told_and_the_part_stays(site: Site, path: Path) -> None:
    site.cuts = 99
    with pytest.raises(DownloadError, match="check the network and run it again, or place the file at"):
        fetch(site.url, path, sha256=[SHA256])
    assert len(site.asked) == 4
    assert part_path(path).read_bytes() == BODY[: part_path(path).stat().st_size]
    site.cuts = 0
    assert fetch(site.url, path, sha256=[SHA256]).bytes == len(BODY)


def test_a_busy_server_is_asked_again(site: Site, path: Path) -> None:
    site.failures = [503, 429]
    assert fetch(site.url, path, sha256=[SHA256]).bytes == len(BODY)


def test_a_missing_page_is_told_at_once(site: Site, path: Path) -> None:
    site.failures = [404]
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 answers 404 Not Found for http.*by hand"):
        fetch(site.url, path)
    assert len(site.asked) == 1
    assert not path.exists()


@pytest.mark.parametrize(
    "published", [{"sha256": [OTHER]}, {"sha256_prefix": OTHER[:8]}, {"md5": OTHER[:32]}, {"size": 5}]
)
def test_a_file_not_as_published(site: Site, path: Path, published: dict[str, Any]) -> None:
    with pytest.raises(DownloadError, match="instead of") as refusal:
        fetch(site.url, path, **published)
    assert list(path.parent.iterdir()) == []
    ((kind, value),) = published.items()
    shown = value[0] if isinstance(value, list) else str(value)
    found = {"md5": hashlib.md5(BODY).hexdigest(), "size": f"{len(BODY):,}"}.get(kind, SHA256)
    assert shown in str(refusal.value)
    assert found in str(refusal.value)

    fetched = fetch(site.url, path, **published, strict=False)
    assert (path.read_bytes(), fetched.sha256, fetched.path) == (BODY, SHA256, path)
    (warning,) = fetched.warnings
    assert warning.startswith("file.bin is not as published")
    assert shown in warning
    assert found in warning


def test_an_unreachable_host_is_told_within_seconds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as taken:  # bound but not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/file.bin"
        began = time.monotonic()
        with pytest.raises(
            DownloadError, match=r"127\.0\.0\.1 cannot be reached.* place .*file\.bin by hand"
        ):
            fetch(url, path)
        assert time.monotonic() - began < 10


# A full disk


def test_too_little_space_is_told_before_the_first_byte(
    site: Site, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    part_path(path).write_bytes(BODY[:1000])
    monkeypatch.setattr(shutil, "disk_usage", full(free=5000))
    with pytest.raises(DownloadError, match=r"file\.bin needs 3,071,000 bytes but 5,000 are free"):
        fetch(site.url, path, len(BODY), [SHA256])
    assert part_path(path).stat().st_size == 1000


def test_a_disk_that_fills_up_keeps_the_part(site: Site, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update = Meter.update

    def fill_up(meter: Meter, amount: int) -> None:
        update(meter, amount)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Meter, "update", fill_up)
        with pytest.raises(
            DownloadError, match=r"file\.bin needs 3,072,000 bytes but .* are free: make space"
        ):
            fetch(site.url, path, sha256=[SHA256])
    kept = part_path(path).stat().st_size
    assert 0 < kept < len(BODY)
    fetch(site.url, path, sha256=[SHA256])
    assert site.asked == [None, f"bytes={kept}-"]


def test_a_place_that_cannot_be_used_is_told(site: Site, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file where a folder should be")
    with pytest.raises(DownloadError, match=r"occupied.* cannot be used"):
        fetch(site.url, tmp_path / "occupied" / "file.bin")


# Archives


def archive_of(folder: Path, **members: bytes) -> Path:
    path = folder / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_unzip_takes_the_members_under_the_prefix(tmp_path: Path) -> None:
    archive = archive_of(
        tmp_path, **{"val/": b"", "val/1.jpg": b"one", "val/deep/2.jpg": b"two", "other": b"x"}
    )
    folder = tmp_path / "coco" / "val"
    folder.mkdir(parents=True)  # an empty folder is no obstacle
    (tmp_path / "coco" / ".val.part").mkdir()
    (tmp_path / "coco" / ".val.part" / "1.jpg").write_bytes(b"of a killed run")
    unzip(archive, folder, "val/")
    found = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert found == {"1.jpg": b"one", "deep/2.jpg": b"two"}
    assert list(folder.parent.iterdir()) == [folder]
    with pytest.raises(DownloadError, match="val is not empty"):
        unzip(archive, folder, "val/")


@pytest.mark.parametrize("name", ["../evil", "val/../../evil", "/evil", "..\\evil", "C:/evil"])
def test_a_member_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    archive = archive_of(tmp_path, **{"fine": b"x", name: b"evil"})
    with pytest.raises(DownloadError, match="would land outside"):
        unzip(archive, tmp_path / "inner" / "folder")
    assert not list(tmp_path.rglob("*evil*"))


def test_a_prefix_does_not_make_a_member_absolute(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, **{"val/evil": b"evil"})
    with pytest.raises(DownloadError, match="would land outside"):
        unzip(archive, tmp_path / "folder", "val")


def test_a_link_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "archive.zip"
    link = zipfile.ZipInfo("innocent")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(DownloadError, match="'innocent' in it is a link"):
        unzip(archive, tmp_path / "folder")
    with pytest.raises(DownloadError, match="'innocent' in it is a link"):
        unzip_file(archive, "innocent", tmp_path / "file")
    assert list(tmp_path.iterdir()) == [archive]


def test_an_archive_larger_than_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(tmp_path, bomb=bytes(10**6), more=bytes(5))
    monkeypatch.setattr(shutil, "disk_usage", full(free=10**6))
    with pytest.raises(DownloadError, match="folder needs 1,000,005 bytes but 1,000,000 are free"):
        unzip(archive, tmp_path / "folder")
    assert list(tmp_path.iterdir()) == [archive]


def test_a_member_longer_than_it_declares_is_damage(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, bomb=bytes(10**6))
    declared, lie = (10**6).to_bytes(4, "little"), (10).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(declared, lie))
    with pytest.raises(DownloadError, match="damaged"):
        unzip(archive, tmp_path / "folder")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("damage", ["cut", "byte"])
def test_a_damaged_archive_leaves_nothing(tmp_path: Path, damage: str) -> None:
    noise = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(250))
    archive = archive_of(tmp_path, first=b"fine", second=noise)
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 255
    archive.write_bytes(content if damage == "byte" else content[: len(content) // 2])
    with pytest.raises(DownloadError, match=r"archive\.zip is damaged .*: delete it and fetch it again"):
        unzip(archive, tmp_path / "folder")
    with pytest.raises(DownloadError, match="damaged"):
        unzip_file(archive, "second", tmp_path / "second")
    assert list(tmp_path.iterdir()) == [archive]


def test_unzip_file_takes_one_member(tmp_path: Path) -> None:
    archive = archive_of(tmp_path, **{"annotations/boxes.json": b"{}", "annotations/captions.json": b"[]"})
    unzip_file(archive, "annotations/boxes.json", tmp_path / "deep" / "boxes.json")
    assert (tmp_path / "deep" / "boxes.json").read_bytes() == b"{}"
    with pytest.raises(DownloadError, match=r"holds no annotations/masks\.json"):
        unzip_file(archive, "annotations/masks.json", tmp_path / "masks.json")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
def test_a_checkpoint_that_does_not_fit_on_the_disk_is_a_sentence(tmp_path: Path) -> None:
    """By a limit on the size of files, which writing meets like the end of a disk; the old file stays."""
    path = tmp_path / "last.pt"
    path.write_bytes(b"before")
    detector = build(yolov8("small", (8, 8, 16, 16, 16), (1, 1), Head("dense", 16, 16)), classes=2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(StorageError, match=r"last\.pt cannot be written \(File too large\)"):
            save(path, detector, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [each.name for each in tmp_path.iterdir()] == ["last.pt"]
    assert path.read_bytes() == b"before"
    save(path, detector, None)
    assert path.stat().st_size > 10_000
