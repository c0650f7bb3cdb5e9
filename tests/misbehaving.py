"""A server of raw bytes, which can send what no library would: one answer a connection, in order."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

Reply = bytes | Iterable[bytes]


class RawSite:
    """Answers each request with the next of `replies`; the last one is for all that follow.

    `asked` has the heads of the requests. Of a reply in several pieces one is sent each `pause` seconds.
    """

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.replies: list[Reply] = []
        self.asked: list[str] = []
        self.pause = 0.0
        self._is_over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}/file.bin"

    def headers_asked(self, name: str) -> list[str | None]:
        """The value of a header in each request, None where it lacks it."""
        found = []
        for head in self.asked:
            fields = dict(line.split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
            found.append(fields.get(name))
        return found

    def serve(self) -> None:
        while not self._is_over.is_set():
            try:
                connection, _ = self._listening.accept()
            except TimeoutError:
                continue
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def stop(self) -> None:
        self._is_over.set()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(ConnectionError):
            head = b""
            while b"\r\n\r\n" not in head:
                got = connection.recv(65_536)
                if not got:
                    return
                head += got
            self.asked.append(head.decode("latin-1"))
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            for piece in [reply] if isinstance(reply, bytes) else reply:
                if self._is_over.is_set():
                    return
                connection.sendall(piece)
                time.sleep(self.pause)


@contextmanager
def raw_site() -> Iterator[RawSite]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        site = RawSite(listening)
        thread = threading.Thread(target=site.serve)
        thread.start()
        try:
            yield site
        finally:
            site.stop()
            thread.join()


def reply(body: bytes, status: str = "200 OK", length: int | str | None = -1, **headers: str) -> bytes:
    """An answer as bytes; `length` is stated, that of the body by default, and none if None."""
    lines = [f"HTTP/1.1 {status}", "Connection: close"]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length == -1 else length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def rest(body: bytes, first: int, length: int | str | None = -1, **headers: str) -> bytes:
    """The answer to a request for the bytes from `first` on."""
    stated = {"Content_Range": f"bytes {first}-{len(body) - 1}/{len(body)}"} | headers
    return reply(body[first:], "206 Partial Content", length, **stated)
