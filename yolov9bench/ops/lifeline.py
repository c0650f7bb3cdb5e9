"""A process that ends with the one that started it, so that none goes on alone."""

from __future__ import annotations

import os
import sys
import threading
import time

# Set by a program that starts torchrun: its own process id, which torchrun's children watch as well.
LAUNCHER = "YOLOV9BENCH_LAUNCHER"
SECONDS_BETWEEN_LOOKS = 1.0
THREAD = "lifeline"


def end_with_launcher() -> None:
    """End this process, at once, when its parent or the process named by LAUNCHER ends.

    torchrun ends its children when it is asked to stop, but not when it is killed: they would train on,
    beside those of the same command started again. To be called as early as may be, since a parent that has
    ended before is not known; a second call does nothing.
    """
    if any(thread.name == THREAD for thread in threading.enumerate()):
        return
    watched = os.getppid(), os.environ.get(LAUNCHER)
    threading.Thread(target=_watch, args=watched, name=THREAD, daemon=True).start()


def _watch(parent: int, launcher: str | None) -> None:
    while os.getppid() == parent and (launcher is None or _lives(int(launcher))):
        time.sleep(SECONDS_BETWEEN_LOOKS)
    sys.stderr.write("the process that started this one has ended: so does this one\n")
    sys.stderr.flush()
    os._exit(1)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
