"""A training in several processes of this machine, for notebooks and sweeps: torchrun runs `train`."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

from yolov9bench.config import TrainConfig
from yolov9bench.errors import SettingsError, TrainingError
from yolov9bench.ops.lifeline import LAUNCHER, end_process
from yolov9bench.train import trainer
from yolov9bench.train.checkpoint import read_log
from yolov9bench.train.job import Job
from yolov9bench.zoo.rows import ROWS

SECONDS_TO_END = 40.0  # torchrun gives its processes 30 before it kills them
SENTENCE = re.compile(r"process \d+ of \d+: ")  # how a process begins its error

Watch = Callable[[list[dict[str, Any]]], object]

logger = logging.getLogger("yolov9bench")


def run(job: Job, config: TrainConfig, watch: Watch | None = None) -> Path:
    """Train a job, whose settings are `config`'s, in as many processes as it has; return its best checkpoint.

    watch: sees the log as it grows. Ending this process ends the others, whose lines are logged.
    TrainingError with the sentences of those that failed; SettingsError for a row of your own in several.
    """
    if job.world_size == 1:
        return trainer.train(job, watch)
    if ROWS.get(config.row) != job.row:
        raise SettingsError(
            f"row {config.row!r} of your own is unknown to the processes that torchrun starts: call "
            "train_row in a script of yours, and start that with torchrun"
        )
    words = torchrun_command(replace(config, out=job.out), job.world_size)
    environment = os.environ | {LAUNCHER: str(os.getpid()), "PYTHONUNBUFFERED": "1"}
    torchrun = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    try:
        sentences = _follow(torchrun, job, watch)
    finally:
        end_process(torchrun, SECONDS_TO_END)  # as after an interruption
        assert torchrun.stdout is not None
        torchrun.stdout.close()
    if torchrun.returncode:
        raise TrainingError("\n".join(sentences) or f"torchrun ended with status {torchrun.returncode}")
    return job.out / "best.pt"


def torchrun_command(config: TrainConfig, processes: int) -> list[str]:
    """The command that trains by a Config in so many processes of one machine; defaults are left out."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    words += ["-m", "yolov9bench", "train"]
    for field in fields(config):
        value = getattr(config, field.name)
        if field.default is not MISSING and value == field.default:
            continue
        flag = f"--{field.name.replace('_', '-')}"
        words += [flag] if value is True else [flag, str(value)]
    return words


def _follow(torchrun: subprocess.Popen[str], job: Job, watch: Watch | None) -> list[str]:
    """Log the processes' lines and show the run's log to `watch` until they end; the sentences of failure."""
    sentences: list[str] = []
    seen: list[dict[str, Any]] = []
    assert torchrun.stdout is not None
    for line in chain(torchrun.stdout, [""]):  # and once more after the last
        if line:
            logger.info("%s", line.rstrip())
        if SENTENCE.match(line):
            sentences.append(line.rstrip())
        entries = read_log(job) if watch and (job.out / "log.jsonl").exists() else []
        if watch and entries != seen:
            seen = entries
            watch(entries)
    torchrun.wait()
    return sentences
