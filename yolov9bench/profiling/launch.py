"""Start a program, wait for it, and write what it took: python launch.py REPORT OUTPUT PROGRAM ARGUMENTS...

A program's peak of memory counts from the process that started it: a small one, and not one with torch in it.
"""

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    report, output, *command = sys.argv[1:]
    began = time.perf_counter()
    child = os.posix_spawnp(
        command[0],
        command,
        dict(os.environ),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    _, status, usage = os.wait4(child, 0)
    found = {
        "status": os.waitstatus_to_exitcode(status),
        "wall": time.perf_counter() - began,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),  # Linux counts in KiB
    }
    Path(report).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
