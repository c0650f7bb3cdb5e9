"""Fifty SIGKILLs at random instants of train, reproduce, sweep and report: what is lost or left over.

PYTHONPATH=tests python tests/benchmarks/kills.py  # from the project's root; half an hour on two cores
PYTHONPATH=tests python tests/benchmarks/kills.py sweep report

Each command runs once without a kill. Then it is killed again and again in a folder, until it has ended
before its kill, and run once more, and so on in further folders: the files of each must be those of the run
without kills, times and what follows from them aside, with no strays.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from report_records import evaluation
from small_runs import run_content

from yolov9bench import records
from yolov9bench.data.demo import make_demo

KILLS = {"train": 13, "reproduce": 13, "sweep": 12, "report": 12}
TIMES = ("seconds", "start", "parts", "images_per_second", "device_hours", "environment", "checkpoints")
SMALL = ["--epochs", "3", "--image-size", "64", "--limit", "6"]


@dataclass(frozen=True)
class Command:
    """Words after `yolov9bench`, for a folder, and what they leave there, comparable between runs."""

    words: Callable[[Path], list[str]]
    outcome: Callable[[Path], Any]


def without_times(value: Any) -> Any:
    """Plain data less what depends on when it ran, or by how many parts."""
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if key not in TIMES}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def run_outcome(run: Path) -> Any:
    """A run's weights, optimiser and log, and its one record."""
    (record,) = records.select(run, kind="train")
    return run_content(run, TIMES), without_times(record.values), record.inputs, record.settings


def results_outcome(results: Path) -> Any:
    """What the records of a results folder say, the detections behind them, and the runs.

    A kill after the record was written, before the end, is followed by another equal one.
    """
    found = records.select(results)
    described = {repr((each.row, each.kind, without_times(each.values), each.settings)) for each in found}
    detections = {path.name: path.read_bytes() for path in (results / "runs/detections").iterdir()}
    weights = {path.name: run_content(path, TIMES) for path in (results / "runs/train").iterdir()}
    return described, detections, weights


def report_outcome(results: Path) -> Any:
    """Every byte of every file."""
    files = [path for path in results.rglob("*") if path.is_file()]
    return ({str(path.relative_to(results)): path.read_bytes() for path in files},)


def commands(data: Path) -> dict[str, Command]:
    """The four, as they are run."""
    demo = ["dataset=demo", "checkpoint=train", "epochs=2", "image_size=64", "limit=4", "judge=false"]
    rows = ["yolov8-n", "yolov9-t"]
    training = ["--dataset", "demo", "--data-dir", str(data), "--device", "cpu", *SMALL]
    return {
        "train": Command(
            lambda out: ["train", "--row", "yolov8-n", "--out", str(out), "--batch-size", "2", *training],
            run_outcome,
        ),
        "reproduce": Command(
            lambda out: [
                *("reproduce", "--family", "yolov8", "--size", "n", "--checkpoint", "train"),
                *("--results-dir", str(out), "--batch-size", "2", *training),
            ],
            results_outcome,
        ),
        "sweep": Command(
            lambda out: [
                *("sweep", "--rows", *rows, "--set", *demo, f"data_dir={data}", "device=cpu"),
                f"results_dir={out}",
            ],
            results_outcome,
        ),
        "report": Command(lambda out: ["report", "--results", str(out)], report_outcome),
    }


def prepare(name: str, out: Path) -> Path:
    """What a command finds in its folder: the report a record."""
    if name == "report":
        out.mkdir()
        records.write(evaluation(), out)
    return out


def start(words: list[str]) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    whole = [sys.executable, "-m", "yolov9bench", *words]
    return subprocess.Popen(
        whole, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(words: list[str]) -> float:
    """Run to the end; seconds. What it said is shown if it failed."""
    began = time.monotonic()
    process = start(words)
    _, said = process.communicate()
    if process.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{said.decode()}")
    return time.monotonic() - began


def kill_at(words: list[str], seconds: float) -> bool:
    """Whether the command still ran after so long, and was killed; its own children are not."""
    process = start(words)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=seconds)
        return False
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    process.stderr.close()
    return True


def strays(out: Path) -> Iterator[str]:
    """What no run that has ended leaves."""
    for path in (*out.rglob("*"), *out.parent.glob(".*")):
        if ".fresh" in path.name or ".lock" in path.name or path.name.startswith(".demo-"):
            yield str(path.relative_to(out.parent))


def main() -> None:
    """One line for each command, or for those that are named."""
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_demo(folder / "data/demo")
        for name, command in commands(folder / "data").items():
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            whole = prepare(name, folder / f"{name}-whole")
            lasted = finish(command.words(whole))
            found: dict[str, Any] = {"command": name, "kills": 0, "folders": 0, "equal": [], "strays": []}
            while found["kills"] < KILLS[name]:
                found["folders"] += 1
                out = prepare(name, folder / f"{name}-{found['folders']}")
                while found["kills"] < KILLS[name]:
                    if not kill_at(command.words(out), generator.uniform(0.05, 1.0) * lasted):
                        break
                    found["kills"] += 1
                finish(command.words(out))
                ended, alone = command.outcome(out), command.outcome(whole)
                found["equal"] += [all(one == other for one, other in zip(ended, alone, strict=True))]
                found["strays"] += strays(out)
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
