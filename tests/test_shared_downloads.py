"""Processes that want one download: one fetches it, the others wait, and a killed one is in nobody's way."""

import hashlib
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from misbehaving import RawSite, raw_site, reply, rest

from yolov9bench.data.download import coco
from yolov9bench.io.download import fetch
from yolov9bench.io.locks import beside, wait_for_turn
from yolov9bench.io.partial import part_path
from yolov9bench.zoo import coco2017
from yolov9bench.zoo.coco2017 import CocoArchive, CocoSplit

BODY = bytes(range(256)) * 1024
SHA256 = hashlib.sha256(BODY).hexdigest()
FETCH = """
import sys, logging
from pathlib import Path
from yolov9bench.io.download import fetch
logging.basicConfig(level=logging.INFO)
print(fetch(sys.argv[1], Path(sys.argv[2]), sha256=[sys.argv[3]]).sha256)
"""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawSite]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with raw_site() as served:
        yield served


def start(site: RawSite, path: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", FETCH, site.url, str(path), SHA256]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_eight_processes_make_one_transfer(site: RawSite, tmp_path: Path) -> None:
    """The transfer begins when all eight are under way, so that seven have to wait for it."""
    path, everybody = tmp_path / "data/file.bin", threading.Event()

    def slowly() -> Iterator[bytes]:
        whole = reply(BODY)
        yield whole[:1000]
        everybody.wait(60)
        yield whole[1000:]

    site.replies = [slowly()]
    processes = [start(site, path) for _ in range(8)]
    waiting = []
    for process in processes:  # the first to wait says so; one of all never does, since it fetches
        assert process.stderr is not None
        waiting.append(process.stderr.readline())
    everybody.set()
    ends = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, [end[1] for end in ends]
    assert [out.strip() for out, _ in ends] == [SHA256] * 8
    assert len(site.asked) == 1
    assert sum("waiting for another process that fetches file.bin" in line for line in waiting) == 7
    assert path.read_bytes() == BODY
    assert list(path.parent.iterdir()) == [path]


def test_a_killed_process_leaves_a_part_and_no_lock(site: RawSite, tmp_path: Path) -> None:
    path, half = tmp_path / "file.bin", len(BODY) // 2

    def half_and_no_more() -> Iterator[bytes]:
        yield reply(BODY[:half], length=len(BODY), ETag='"v1"')
        while True:
            time.sleep(0.05)
            yield b""

    site.replies = [half_and_no_more(), rest(BODY, half, ETag='"v1"')]
    process = start(site, path)
    while not part_path(path).exists() or part_path(path).stat().st_size < half:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    fetch(site.url, path)
    assert path.read_bytes() == BODY
    assert site.headers_asked("If-Range") == [None, '"v1"']
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_let_go_when_what_it_is_for_fails(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), wait_for_turn(beside(tmp_path / "file"), "works"):
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_one_at_a_time_is_inside(tmp_path: Path) -> None:
    """However many want to, and although each removes the file of the lock behind itself."""
    inside: list[int] = []
    most: list[int] = []

    def enter() -> None:
        for _ in range(10):
            with wait_for_turn(beside(tmp_path / "file"), "works"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 40


def test_several_that_want_coco_unpack_it_once(
    site: RawSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described, replies = [], []
    for name, member in (
        ("boxes.zip", "annotations/instances_val2017.json"),
        ("val2017.zip", "val2017/1.jpg"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(member, b"{}")
        content = (tmp_path / name).read_bytes()
        described.append(CocoArchive(name, site.url, len(content), hashlib.md5(content).hexdigest()))
        replies.append(reply(content))
    site.replies = list(replies)
    monkeypatch.setattr(coco2017, "ANNOTATIONS", described[0])
    monkeypatch.setattr(coco2017, "SPLITS", {"val2017": CocoSplit(described[1], images=1)})
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(coco(tmp_path / "data"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "data/coco"] * 4
    assert len(site.asked) == 2
