"""A process that ends with the one that started it, so that none goes on alone."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

# Set by a program that starts torchrun: its own process id, which torchrun's children watch as well.
LAUNCHER = "YOLOV9BENCH_LAUNCHER"
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_END = 10.0
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


def run_bound(python: str, module: Sequence[str]) -> int:
    """Run a module with its arguments, as `python -m` does, in a process that ends with this one; its status.

    It has a session of its own, so that Ctrl-C comes to this process alone, which ends it.
    """
    process = subprocess.Popen([python, "-m", __spec__.name, *module], start_new_session=True)
    try:
        return process.wait()
    finally:
        end_process(process, SECONDS_TO_END)


def end_process(process: subprocess.Popen[Any], seconds: float) -> None:
    """Ask a process that still runs to end, and kill it if it has not after so long."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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


if __name__ == "__main__":
    end_with_launcher()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
