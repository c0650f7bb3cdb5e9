"""Stopping a command from outside: Ctrl-C and SIGTERM end it in order, with one line and a status."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

LINES = {signal.SIGINT: "stopped by Ctrl-C", signal.SIGTERM: "stopped by SIGTERM"}


class Terminated(KeyboardInterrupt):
    """SIGTERM, as `kill`, a container's stop and a batch system send it; it ends a command as Ctrl-C does."""


@contextmanager
def orderly_stops() -> Iterator[None]:
    """Raise Ctrl-C and SIGTERM as exceptions while the body runs, so that what is half done is cleared away.

    Inside an import the process ends at once instead: an exception there can abort a C++ extension. One that
    falls into a moment where Python drops exceptions, as in `__del__`, is raised again. Signals belong to the
    main thread: in another one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, hook = {number: signal.signal(number, _stop) for number in LINES}, sys.unraisablehook
    sys.unraisablehook = _raise_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def find_stop(error: BaseException) -> tuple[str, int] | None:
    """The line and the exit status of a stop; None for an error without one.

    Also of an error that took the place of a KeyboardInterrupt, as libraries raise it where they clear away.
    """
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if isinstance(cause, KeyboardInterrupt):
            number = signal.SIGTERM if isinstance(cause, Terminated) else signal.SIGINT
            return LINES[number], 128 + number
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return None


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while the body runs, and for good in processes it starts, which their parent ends.

    Not on Windows, which cannot: there such a process says of a Ctrl-C itself that it was stopped.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave(status: int) -> NoReturn:
    """End this process with a status; a further Ctrl-C, while libraries clear away, changes nothing.

    Of a stopped command Python itself would make another status, where the interrupt has passed an `exec`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if status < 128:
        sys.exit(status)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, f"{LINES[signal.Signals(number)]}\n".encode())
            os._exit(128 + number)
        frame = frame.f_back
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _raise_again(dropped: Any) -> None:
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        number = signal.SIGTERM if issubclass(dropped.exc_type, Terminated) else signal.SIGINT
        # Not at once: this still runs where exceptions are dropped.
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
    else:
        sys.__unraisablehook__(dropped)
