"""Servers that misbehave: a download ends as the right file, or in one sentence and nothing in its place."""

import gc
import gzip
import hashlib
import itertools
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from misbehaving import RawSite, raw_site, reply, rest

from yolov9bench.errors import CheckpointError, DownloadError, UnreachableError
from yolov9bench.io import attempts, transfer
from yolov9bench.io.download import fetch
from yolov9bench.io.partial import note_path, part_path
from yolov9bench.weights.fetch import fetch_checkpoint
from yolov9bench.zoo.rows import ROWS, row

OLD = bytes(range(256)) * 1024  # four chunks
NEW = bytes(reversed(range(256))) * 1024
SHA256 = hashlib.sha256(OLD).hexdigest()
HALF = len(OLD) // 2
LONG_AGO = {"Last_Modified": "Mon, 05 Jan 2026 08:00:00 GMT", "Date": "Tue, 06 Jan 2026 08:00:00 GMT"}
LAST_WEEK = LONG_AGO | {"Last_Modified": "Mon, 29 Dec 2025 08:00:00 GMT"}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[RawSite]:
    monkeypatch.setattr(attempts, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with raw_site() as served:
        yield served


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "file.bin"


def half(body: bytes, **headers: str) -> bytes:
    """An answer that breaks off half-way."""
    return reply(body[:HALF], length=len(body), **headers)


def refusal(site: RawSite, path: Path, **facts: Any) -> str:
    """The one sentence with which a download ends; nothing is left of it."""
    with pytest.raises(DownloadError) as refused:
        fetch(site.url, path, **facts)
    assert list(path.parent.iterdir()) == []
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value) or site.url in str(refused.value)
    return str(refused.value)


# Resuming


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"ETag": '"v1"'}, '"v1"'),
        (LONG_AGO, LONG_AGO["Last_Modified"]),
        ({**LONG_AGO, "ETag": '"v1"'}, '"v1"'),
    ],
)
def test_the_rest_of_the_same_version_is_asked_for(
    site: RawSite, path: Path, headers: dict[str, str], validator: str
) -> None:
    """No hash is known: the server's own word for the version is what lets a part be continued."""
    site.replies = [half(OLD, **headers), rest(OLD, HALF, **headers)]
    fetch(site.url, path)
    assert path.read_bytes() == OLD
    assert site.headers_asked("Range") == [None, f"bytes={HALF}-"]
    assert site.headers_asked("If-Range") == [None, validator]
    assert list(path.parent.iterdir()) == [path]


def test_a_later_run_continues_the_version_that_was_noted(site: RawSite, path: Path) -> None:
    site.replies = [half(OLD, ETag='"v1"'), reply(b"", "503 Busy")]
    with pytest.raises(DownloadError, match="answers 503 Busy; check the network and run it again"):
        fetch(site.url, path)
    assert part_path(path).read_bytes() == OLD[:HALF]
    site.replies = [rest(OLD, HALF, ETag='"v1"')]
    fetch(site.url, path)
    assert path.read_bytes() == OLD
    assert site.headers_asked("If-Range")[-1] == '"v1"'


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ETag": 'W/"v1"'},
        {"ETag": "v1"},
        {"Last_Modified": LONG_AGO["Date"], "Date": LONG_AGO["Date"]},
        {"Last_Modified": LONG_AGO["Last_Modified"]},
        {"Last_Modified": "yesterday", "Date": LONG_AGO["Date"]},
    ],
)
def test_without_proof_a_transfer_begins_anew_and_keeps_nothing(
    site: RawSite, path: Path, headers: dict[str, str]
) -> None:
    site.replies = [half(OLD, **headers), reply(NEW, **headers)]
    fetch(site.url, path)
    assert path.read_bytes() == NEW
    assert site.headers_asked("Range") == [None, None]
    path.unlink()
    site.replies = [half(OLD, **headers)]
    assert "the transfer was cut (ChunkedEncodingError); check" in refusal(site, path)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(reply(NEW, ETag='"v2"'), id="the whole file, as If-Range asks for"),
        pytest.param(rest(NEW, HALF, ETag='"v2"'), id="the rest of another version"),
        pytest.param(rest(NEW, HALF), id="the rest of a version that is not named"),
        pytest.param(rest(NEW + b"more", HALF, ETag='"v1"'), id="the rest of a longer file"),
        pytest.param(rest(NEW, HALF, **LAST_WEEK), id="the rest of a version with another date"),
    ],
)
def test_a_file_that_changes_between_tries_is_never_a_mixture(
    site: RawSite, path: Path, changed: bytes
) -> None:
    site.replies = [half(OLD, ETag='"v1"'), changed, reply(NEW, ETag='"v2"')]
    fetch(site.url, path)
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("strict", [True, False])
def test_a_hash_tells_a_mixture_where_the_server_does_not(site: RawSite, path: Path, strict: bool) -> None:
    """The second transfer begins anew, and is judged; a lead of a hash only warns of another file."""
    site.replies = [half(NEW), rest(OLD, HALF), reply(OLD)]
    assert fetch(site.url, path, sha256=[SHA256], strict=strict).warnings == ()
    assert path.read_bytes() == OLD
    assert site.headers_asked("Range") == [None, f"bytes={HALF}-", None]


def test_the_second_time_nothing_is_pieced_together_by_hash(site: RawSite, path: Path) -> None:
    """A lead of a hash would let a second mixture pass with a warning."""
    site.replies = [half(NEW), rest(OLD, HALF), half(NEW), reply(OLD)]
    assert fetch(site.url, path, sha256=[SHA256], strict=False).warnings == ()
    assert path.read_bytes() == OLD
    assert site.headers_asked("Range") == [None, f"bytes={HALF}-", None, None]


def test_a_note_that_was_damaged_proves_nothing(site: RawSite, path: Path) -> None:
    for damaged in ("", "[]", '{"url": 3}', '{"url": "URL", "validator": 5, "total": 1}', "[" * 10**5):
        path.parent.mkdir(exist_ok=True)
        part_path(path).write_bytes(NEW[:HALF])
        note_path(path).write_text(damaged.replace("URL", site.url))
        site.replies = [reply(OLD)]
        fetch(site.url, path)
        assert site.headers_asked("Range")[-1] is None
        assert path.read_bytes() == OLD
        path.unlink()


def test_a_part_of_another_address_is_not_continued(site: RawSite, path: Path) -> None:
    site.replies = [half(OLD, ETag='"v1"'), reply(b"", "503 Busy")]
    with pytest.raises(DownloadError):
        fetch(site.url, path)
    site.replies = [reply(NEW, ETag='"v1"')]
    fetch(site.url.replace("file.bin", "other.bin"), path)
    assert path.read_bytes() == NEW


# Lengths


@pytest.mark.parametrize("length", ["abc", "-5", "12, 13", "1" * 30, ""])
def test_a_length_that_is_no_number_is_refused(site: RawSite, path: Path, length: str) -> None:
    site.replies = [reply(OLD, length=length)]
    said = refusal(site, path)
    assert "as the length of the file" in said or "cannot be asked (Content-Length contained multiple" in said


def test_no_connection_is_left_to_the_garbage_collector(site: RawSite, path: Path) -> None:
    """Of an answer that urllib3 itself refuses, as one with two lengths, it closes nothing.

    Python warns of such a socket whenever it next looks for circles: in another test, as it happened.
    """
    site.replies = [reply(OLD, length="12, 13")]
    gc.collect()
    gc.disable()
    try:
        assert "cannot be asked" in refusal(site, path)
        assert open_connections(site) == 0
        with socket.create_connection(("127.0.0.1", urlsplit(site.url).port)):
            assert open_connections(site) == 1
    finally:
        gc.enable()


def open_connections(site: RawSite) -> int:
    """How many sockets of this process are connected with a site, its own ones aside."""
    sockets = (each for each in gc.get_objects() if type(each) is socket.socket)
    found = [each for each in sockets if each.fileno() >= 0 and each.family == socket.AF_INET]
    peers = []
    for each in found:
        with suppress(OSError):  # one that listens, or whose other end is gone
            peers.append(each.getpeername()[1])
    return peers.count(urlsplit(site.url).port)


def test_a_body_shorter_than_stated_is_cut_and_a_longer_one_is_too_short(site: RawSite, path: Path) -> None:
    site.replies = [reply(OLD, length=len(OLD) + 5)]
    assert "the transfer was cut" in refusal(site, path)
    assert len(site.asked) == 4
    site.replies = [reply(OLD, length=len(OLD) - 5)]
    assert f"{len(OLD) - 5:,} bytes instead of {len(OLD):,}" in refusal(site, path, size=len(OLD))
    assert "instead of " + SHA256 in refusal(site, path, sha256=[SHA256])


@pytest.mark.parametrize(
    "stated", ["bytes 7-262143/262144", "bytes 131072-5/262144", "bytes 131072-262143/9", "items 1-2/3", ""]
)
def test_a_range_that_makes_no_sense_begins_anew(site: RawSite, path: Path, stated: str) -> None:
    site.replies = [half(OLD, ETag='"v1"'), rest(OLD, HALF, Content_Range=stated, ETag='"v1"'), reply(OLD)]
    fetch(site.url, path)
    assert path.read_bytes() == OLD
    assert site.headers_asked("Range") == [None, f"bytes={HALF}-", None]


def test_a_range_that_is_not_there_begins_anew(site: RawSite, path: Path) -> None:
    site.replies = [half(OLD, ETag='"v1"'), reply(b"", "416 Range Not Satisfiable"), reply(OLD)]
    fetch(site.url, path)
    assert path.read_bytes() == OLD


def test_a_server_that_sends_a_part_at_a_time_is_asked_for_the_rest(site: RawSite, path: Path) -> None:
    first = reply(
        OLD[:HALF], "206 Partial Content", Content_Range=f"bytes 0-{HALF - 1}/{len(OLD)}", ETag='"1"'
    )
    site.replies = [first, rest(OLD, HALF, ETag='"1"')]
    fetch(site.url, path)
    assert path.read_bytes() == OLD


def test_an_empty_file_is_refused(site: RawSite, path: Path) -> None:
    site.replies = [reply(b"")]
    assert "is empty: check" in refusal(site, path)


# Without an end


def endless(**headers: str) -> Iterator[bytes]:
    yield reply(b"", length=None, **headers)
    yield from itertools.repeat(b"10000\r\n" + OLD[:65_536] + b"\r\n" if headers else OLD[:65_536])


@pytest.mark.parametrize("headers", [{}, {"Transfer_Encoding": "chunked"}])
def test_a_body_without_an_end_is_cut_off(
    site: RawSite, path: Path, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the known size, by the bound of its kind, or by what the disk has free."""
    for facts, said in (
        (
            {"size": len(OLD), "sha256": [SHA256]},
            f"does not end with the {len(OLD):,} bytes that it may have",
        ),
        ({"most_bytes": 10**6}, "does not end with the 1,000,000 bytes that it may have"),
    ):
        site.replies = [endless(**headers)]
        assert said in refusal(site, path, **facts)
    free = SimpleNamespace(free=500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    site.replies = [endless(**headers)]
    assert "does not end with the 500,000 bytes that the disk has free" in refusal(site, path)


def test_more_than_a_kind_of_file_may_have_is_refused_before_the_first_byte(
    site: RawSite, path: Path
) -> None:
    site.replies = [reply(b"", length=10**12)]
    assert "has 1,000,000,000,000 bytes, more than the 1,000,000 that" in refusal(
        site, path, most_bytes=10**6
    )


# Without progress


@pytest.mark.parametrize("part", ["headers", "body", "chunk size"])
def test_a_server_that_drips_is_left(
    site: RawSite, path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then: the socket's own time-out never sees it."""
    monkeypatch.setattr(transfer, "STALL_SECONDS", 0.3)
    site.pause = 0.02
    whole = reply(OLD)
    head = whole[: whole.index(b"\r\n\r\n") + 4]
    drips = {
        "headers": [bytes([byte]) for byte in reply(b"", X_Long="x" * 5000)],
        "body": [head, *(bytes([byte]) for byte in OLD[:5000])],
        "chunk size": [reply(b"", length=None, Transfer_Encoding="chunked"), *[b"0"] * 5000],
    }
    site.replies = [drips[part]]
    began = time.monotonic()
    assert "sent less than 65,536 bytes in 0.3 s; check the network" in refusal(site, path)
    assert len(site.asked) == 4
    assert time.monotonic() - began < 60  # far less than the drips would take, on any machine


# What is no file


def test_another_hash_is_refused(site: RawSite, path: Path) -> None:
    site.replies = [reply(NEW)]
    assert f"instead of {SHA256}; it was removed: try again" in refusal(site, path, sha256=[SHA256])


@pytest.mark.parametrize("kind", ["text/html", "Text/HTML; charset=utf-8", "application/xhtml+xml"])
def test_a_web_page_is_called_that(site: RawSite, path: Path, kind: str) -> None:
    site.replies = [reply(b"<html>Please sign in", Content_Type=kind)]
    assert "127.0.0.1 sends a web page, as a network does that asks to sign in first" in refusal(site, path)


def test_a_web_page_leaves_the_part_for_a_later_run(site: RawSite, path: Path) -> None:
    site.replies = [half(OLD, ETag='"v1"'), reply(b"<html>", Content_Type="text/html")]
    with pytest.raises(DownloadError, match="sends a web page"):
        fetch(site.url, path)
    site.replies = [rest(OLD, HALF, ETag='"v1"')]
    fetch(site.url, path)
    assert path.read_bytes() == OLD


def test_a_compressed_body_is_refused(site: RawSite, path: Path) -> None:
    site.replies = [reply(gzip.compress(OLD), Content_Encoding="gzip")]
    assert "sends the file as gzip, where its own bytes were asked for" in refusal(
        site, path, sha256=[SHA256]
    )


@pytest.mark.parametrize(
    "sent", [b"", b"\x00\x01\x02\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0-server\r\n"]
)
def test_what_is_no_answer_counts_as_none(site: RawSite, path: Path, sent: bytes) -> None:
    site.replies = [sent]
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1 cannot be reached"):
        fetch(site.url, path)
    assert list(path.parent.iterdir()) == []


def test_the_reason_of_a_refusal_is_shown_on_one_line(site: RawSite, path: Path) -> None:
    site.replies = [reply(b"", "404 " + "\x1b[31m" + "x" * 500)]
    said = refusal(site, path)
    assert "\x1b" not in said and "xxx..." in said


# Redirects


def to(address: str) -> bytes:
    return reply(b"moved", "302 Found", Location=address)


def test_a_redirect_is_followed(site: RawSite, path: Path) -> None:
    site.replies = [to("/elsewhere"), to(site.url.replace("file.bin", "there")), reply(OLD)]
    fetch(site.url, path)
    assert path.read_bytes() == OLD
    assert [head.split()[1] for head in site.asked] == ["/file.bin", "/elsewhere", "/there"]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://host/file", "https:///no/host", "data:,x"])
def test_a_redirect_to_another_scheme_is_refused(site: RawSite, path: Path, target: str) -> None:
    site.replies = [to(target)]
    assert f"leads to {target}, from where nothing is fetched" in refusal(site, path)
    assert len(site.asked) == 1


def test_a_redirect_to_no_address_is_refused(site: RawSite, path: Path) -> None:
    site.replies = [to("http://[x")]
    assert "127.0.0.1 cannot be asked (Invalid IPv6 URL): check" in refusal(site, path)


def test_redirects_in_a_circle_and_without_an_end_are_refused(site: RawSite, path: Path) -> None:
    site.replies = [to("/a"), to("/file.bin")]
    assert "redirects without an end" in refusal(site, path)
    assert len(site.asked) == 2
    site.replies = [to(f"/{number}") for number in range(50)]
    assert "redirects without an end" in refusal(site, path)
    assert len(site.asked) == 2 + 11


def test_a_redirect_from_https_to_http_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(url: str, **_: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.url = 302, url
        response.headers["Location"] = "http://host/file.bin"
        response._content = b""
        return response

    monkeypatch.setattr(requests, "get", answer)
    with pytest.raises(
        DownloadError, match=r"https://host/file\.bin leads to http://host/file\.bin, from where"
    ):
        fetch("https://host/file.bin", path)


def test_an_address_that_is_none_of_the_webs_is_refused(path: Path) -> None:
    with pytest.raises(DownloadError, match="from where nothing is fetched"):
        fetch("file:///etc/passwd", path)
    assert list(path.parent.iterdir()) == []


# Checkpoints whose hash is not known


def test_the_rows_whose_file_has_no_known_hash() -> None:
    files = {each.id: each.download for each in ROWS.values()}
    unhashed = {name for name, file in files.items() if not (file.sha256 or file.sha256_prefix)}
    assert unhashed == {"gelan-c", *(f"ultralytics-yolov9{size}" for size in "tsc")}


NO_CHECKPOINTS = [b"<html>Please sign in</html>", b"PK\x03\x04 cut short", OLD, b"\x80\x02}q\x00."]


@pytest.mark.parametrize("body", NO_CHECKPOINTS, ids=["page", "zip", "noise", "pickle"])
@pytest.mark.parametrize("name", ["gelan-c", "ultralytics-yolov9t"])
def test_what_is_no_checkpoint_of_the_row_never_gets_its_name(
    site: RawSite, tmp_path: Path, name: str, body: bytes
) -> None:
    chosen = replace(row(name), assets=(replace(row(name).download, url=site.url),))
    site.replies = [reply(body)]
    with pytest.raises(CheckpointError, match=f"what {site.url} sends was not kept: {chosen.download.name}"):
        fetch_checkpoint(chosen, tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_lead_that_does_not_hold_is_looked_at_too(site: RawSite, tmp_path: Path) -> None:
    """A hash that was seen once only warns; that is no reason to take a web page for the weights."""
    lead = next(each for each in ROWS.values() if each.assets and each.download.hash_sources == 1)
    chosen = replace(lead, assets=(replace(lead.download, url=site.url),))
    site.replies = [reply(NO_CHECKPOINTS[0])]
    with pytest.raises(CheckpointError, match="is a web page, not the file that was asked for"):
        fetch_checkpoint(chosen, tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []
