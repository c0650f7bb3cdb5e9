"""Whole programs timed in turn: each run is a process of its own, from its start to its end."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yolov9bench.errors import ProcessError, SettingsError, shown
from yolov9bench.io.progress import track

LAUNCH = Path(__file__).with_name("launch.py")


@dataclass(frozen=True)
class Run:
    """One process: seconds by the clock and of processors, its peak of memory in bytes, and AP of its finds.

    Processor seconds are its own and those of what it started and waited for. `ap` is None where nothing was
    detected, as of metrics alone.
    """

    wall: float
    cpu: float
    memory: float
    ap: float | None = None


@dataclass(frozen=True)
class Spread:
    """The median, the least and the greatest of some runs."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.least:.2f}, {self.most:.2f}]"


def spread_of(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def paired_ratio(runs: Sequence[float], others: Sequence[float]) -> Spread:
    """How many times as long the others took, round by round, so that slow minutes count for both."""
    return spread_of([other / own for own, other in zip(runs, others, strict=True)])


def time_in_turn(ways: Mapping[str, Callable[[], Run]], rounds: int) -> dict[str, list[Run]]:
    """Run every way once a round, one after the other, and begin each round with the next one.

    So none always follows the same neighbour, and what slows the machine for a while slows all.
    """
    names = list(ways)
    found: dict[str, list[Run]] = {name: [] for name in names}
    order = []
    for turn in range(rounds):
        first = turn % len(names)
        order += names[first:] + names[:first]
    for name in track(order, len(order), "timing", "runs"):
        found[name].append(ways[name]())
    return found


def time_process(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> tuple[Run, str]:
    """Run a command in a folder to its end: what it took, and what it printed.

    ProcessError, with the last line that it printed, if it fails or cannot be started. SettingsError on a
    system that does not count what a child process takes, as Windows.
    """
    if not hasattr(os, "wait4"):
        raise SettingsError("this system does not say what a process took: measure on Linux or macOS")
    with tempfile.TemporaryDirectory() as scratch:
        report, output = Path(scratch, "report.json"), Path(scratch, "output.txt")
        words = [sys.executable, "-S", str(LAUNCH), str(report), str(output), *command]
        done = subprocess.run(
            words, env=dict(environment), cwd=folder, capture_output=True, text=True, check=False
        )
        text = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
        found = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    status = found.get("status", done.returncode)
    if status:
        lines = [line for line in (text or done.stderr).splitlines() if line.strip()]
        last = shown(lines[-1], 300) if lines else "without a word"
        raise ProcessError(f"{shown(' '.join(command[:3]))} ended with {status}: {last}")
    return Run(found["wall"], found["cpu"], found["memory"]), text
