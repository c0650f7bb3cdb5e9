"""One transfer by HTTP: what a server answers is taken at its word only where the word can be checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from queue import Empty, Queue
from threading import Event, Thread
from urllib.parse import urljoin, urlsplit

import requests

from yolov9bench.errors import drop_frames, shown

CONNECT_SECONDS = 3.05  # per address of the host: who cannot be reached is to be known within seconds
READ_SECONDS = 30.0  # a server that sends nothing for so long counts as a cut
STALL_SECONDS = 60.0  # as does one that sends less than a chunk in so long
CHUNK = 1 << 16  # bytes; a cut loses the chunk it falls in
CHUNKS_AHEAD = 16  # that wait to be written
MOST_REDIRECTS = 10
REDIRECTS = (301, 302, 303, 307, 308)
CLOCK_SECONDS = 60  # a Last-Modified so long before the Date names one version of a file (RFC 9110, 8.8.2.2)
WEB_PAGES = ("text/html", "application/xhtml+xml")


class Cut(Exception):
    """A transfer that did not come to its end, but may at the next attempt."""


class Unreachable(Cut):
    """No answer at all; the message names the host."""


class Mixed(Cut):
    """Bytes that do not follow the part that is here, which is therefore of no use."""


class Refused(Exception):
    """An answer that no further attempt would better; the message names the host and what it sent."""


@dataclass(frozen=True)
class Answer:
    """What a server says of the bytes that follow.

    They begin at byte `first` of the file, which has `total` bytes; None where nothing is said. `validator`
    names this version of the file: a strong ETag, else a Last-Modified that can be relied upon.
    """

    first: int
    total: int | None
    validator: str | None


def request(url: str, first: int, validator: str | None) -> tuple[Answer, Chunks]:
    """Ask for a file from byte `first` on, of the version that `validator` names if it is still the same.

    The bytes come in chunks of CHUNK, the last one shorter; close the iterator if they are not all taken.
    Unreachable, Cut, Mixed or Refused, here or while the bytes are taken.
    """
    headers = {"Accept-Encoding": "identity"}  # the file's own bytes: sizes and ranges count those
    if first:
        headers["Range"] = f"bytes={first}-"
        if validator is not None:
            headers["If-Range"] = validator
    response, chunks = _follow(url, headers)
    try:
        return _read_answer(response), chunks
    except BaseException:
        chunks.close()
        raise


def _follow(url: str, headers: Mapping[str, str]) -> tuple[requests.Response, Chunks]:
    """The first answer that leads nowhere else."""
    passed = [_require_web(url, url, ("http", "https"))]
    while True:
        chunks = Chunks(passed[-1], headers)
        response = chunks.response
        target = response.headers.get("Location") if response.status_code in REDIRECTS else None
        if target is None:
            return response, chunks
        chunks.close()
        passed.append(_redirected(passed[-1], target))
        if passed[-1] in passed[:-1] or len(passed) > MOST_REDIRECTS + 1:
            raise Refused(f"{_host(url)} redirects without an end")


def _redirected(url: str, target: str) -> str:
    """The address that a redirect names; Refused for another scheme, and for a step from https to http."""
    return _require_web(url, target, ("https",) if url.startswith("https:") else ("http", "https"))


def _require_web(url: str, target: str, schemes: tuple[str, ...]) -> str:
    """`target` as seen from `url`; Refused unless it is an address of one of these schemes with a host."""
    try:
        address = urlsplit(urljoin(url, target))
        is_web = address.scheme in schemes and bool(address.hostname)
    except ValueError:  # brackets around what is no address of that kind
        is_web = False
    if not is_web:
        raise Refused(f"{shown(url)} leads to {shown(target)}, from where nothing is fetched")
    return address.geturl()


class Chunks(Iterator[bytes]):
    """The answer to one request, whatever it is, and the chunks of its body.

    All that waits for the network is in a thread of its own, which is left behind when nothing whole has come
    for STALL_SECONDS: a server that sends a byte now and then, of its headers or of its body, never meets the
    time-out of the socket.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._host = _host(url)
        self._events: Queue[requests.Response | bytes | Exception | None] = Queue(CHUNKS_AHEAD)
        self._left = Event()
        Thread(target=_receive, args=(url, headers, self._events, self._left), daemon=True).start()
        try:
            self.response = self._await_response()
        except BaseException:
            self.close()
            raise

    def __next__(self) -> bytes:
        event = self._next_event()
        if isinstance(event, Exception):
            raise Cut(f"the transfer was cut ({type(event).__name__})") from event
        if event is None:
            raise StopIteration
        assert isinstance(event, bytes)
        return event

    def close(self) -> None:
        """Take no more; the thread ends with the chunk that it is at."""
        self._left.set()
        while not self._events.empty():
            self._events.get_nowait()

    def _await_response(self) -> requests.Response:
        event = self._next_event()
        if isinstance(event, requests.ConnectionError | requests.Timeout):
            raise Unreachable(f"{self._host} cannot be reached ({type(event).__name__})") from event
        if isinstance(event, Exception):
            raise Refused(f"{self._host} cannot be asked ({shown(event)})") from event
        assert isinstance(event, requests.Response)
        return event

    def _next_event(self) -> requests.Response | bytes | Exception | None:
        try:
            return self._events.get(timeout=STALL_SECONDS)
        except Empty:
            raise Cut(f"{self._host} sent less than {CHUNK:,} bytes in {STALL_SECONDS:g} s") from None


def _receive(
    url: str,
    headers: Mapping[str, str],
    events: Queue[requests.Response | bytes | Exception | None],
    left: Event,
) -> None:
    """The thread's part: the response, its chunks, and None; or the error in place of what is missing."""
    try:
        seconds = (CONNECT_SECONDS, READ_SECONDS)
        with requests.get(url, headers=headers, stream=True, allow_redirects=False, timeout=seconds) as got:
            events.put(got)
            for chunk in got.iter_content(CHUNK):
                if left.is_set():
                    return
                events.put(chunk)
        events.put(None)
    except Exception as error:  # whatever it is, the other thread says it
        drop_frames(error)  # of some answers the library leaves a connection there, open
        events.put(error)


def _read_answer(response: requests.Response) -> Answer:
    headers, host = response.headers, _host(response.url)
    _require_success(response)
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Refused(f"{host} sends the file as {shown(encoding, 20)}, where its own bytes were asked for")
    if headers.get("Content-Type", "").strip().lower().startswith(WEB_PAGES):
        raise Refused(f"{host} sends a web page, as a network does that asks to sign in first, not the file")
    length = None if "chunked" in headers.get("Transfer-Encoding", "").lower() else _read_length(response)
    if response.status_code == requests.codes.ok:
        return Answer(0, length, _validator_of(headers))
    first, total = _read_range(response, length)
    return Answer(first, total, _validator_of(headers))


def _require_success(response: requests.Response) -> None:
    """Nothing for 200 and 206."""
    status = response.status_code
    if status in (requests.codes.ok, requests.codes.partial_content):
        return
    answer = f"{_host(response.url)} answers {status} {shown(response.reason, 40)}"
    if status == requests.codes.requested_range_not_satisfiable:
        raise Mixed(answer)
    if status == requests.codes.too_many_requests or status >= 500:
        raise Cut(answer)
    raise Refused(f"{answer} for {response.url}")


def _read_length(response: requests.Response) -> int | None:
    """Content-Length; one that is stated several times must be the same each time."""
    stated = response.headers.get("Content-Length")
    values = {part.strip() for part in (stated or "").split(",")}
    if stated is None:
        return None
    if len(values) != 1 or not re.fullmatch(r"[0-9]{1,18}", value := values.pop()):
        raise Refused(f"{_host(response.url)} states {shown(stated, 40)!r} as the length of the file")
    return int(value)


def _read_range(response: requests.Response, length: int | None) -> tuple[int, int | None]:
    """The first byte and the size of the whole, from Content-Range; Mixed for one that makes no sense."""
    stated = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", stated.strip())
    if found is None:
        raise Mixed(f"{_host(response.url)} states {shown(stated, 40)!r} as the range of what it sends")
    first, last = int(found[1]), int(found[2])
    total = None if found[3] == "*" else int(found[3])
    if last < first or (total is not None and last >= total) or length not in (None, last - first + 1):
        raise Mixed(f"{_host(response.url)} sends a range that contradicts itself")
    return first, total


def _validator_of(headers: Mapping[str, str]) -> str | None:
    tag = headers.get("ETag", "").strip()
    if re.fullmatch(r'"[!#-~]+"', tag):  # a weak one, W/"...", says nothing of single bytes
        return tag
    modified = headers.get("Last-Modified", "").strip()
    try:
        age = parsedate_to_datetime(headers["Date"]) - parsedate_to_datetime(modified)
    except (KeyError, ValueError, TypeError):  # no date, or one without the zone that the other has
        return None
    return modified if modified.isascii() and age >= timedelta(seconds=CLOCK_SECONDS) else None


def _host(url: str) -> str:
    return str(urlsplit(url).hostname)
