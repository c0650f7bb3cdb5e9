"""A process of its own, ended by SIGKILL at random instants and started again with the same command."""

import multiprocessing
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from small_runs import FILES, run_content

from yolov9bench.__main__ import main
from yolov9bench.data.demo import make_demo

SPEED = ("seconds", "images_per_second")


def command(folder: Path, out: Path) -> None:
    """One thread, so that the sums are those of any other start."""
    torch.set_num_threads(1)
    size = ["--epochs", "3", "--image-size", "64", "--batch-size", "2", "--device", "cpu"]
    place = ["--dataset", str(folder), "--split", "val", "--out", str(out)]
    sys.argv = ["yolov9bench", "train", "--row", "yolov8-n", *place, *size]
    sys.exit(main())


def run(folder: Path, out: Path, kill_after: float | None = None) -> int | None:
    """Run the command to its end, or for so many seconds; its exit status, -9 for a kill.

    The process is forked from one that has imported torch, which would take most of the time otherwise.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["yolov9bench.train.trainer", "yolov9bench.reproduce"])
    process = context.Process(target=command, args=(folder, out))
    process.start()
    process.join(kill_after)
    if kill_after is not None:
        process.kill()
        process.join()
    return process.exitcode


@pytest.mark.accuracy
@pytest.mark.slow(120)
def test_killed_at_random_instants_it_ends_bit_for_bit_the_same(tmp_path: Path) -> None:
    kills = 10
    folder = make_demo(tmp_path / "demo", train=6, val=3)
    assert run(folder, tmp_path / "warm") == 0  # the first start of all also starts the process to fork from
    began = time.monotonic()
    assert run(folder, tmp_path / "whole") == 0
    lasted = time.monotonic() - began
    whole, killed = run_content(tmp_path / "whole", SPEED), 0
    assert len(whole["log"]) == 3
    assert len(whole["last.pt"]["training"]["state"]["optimizer"]["state"]) > 100
    instants = random.Random(kills)
    for number in range(kills):
        out = tmp_path / f"run-{number}"
        began = time.monotonic()
        if run(folder, out, kill_after=instants.uniform(0.05, 0.95) * lasted) == -signal.SIGKILL:
            killed += 1
        else:  # had ended before: the machine, with other tests to run, was slower when it was timed
            lasted = min(lasted, time.monotonic() - began)
        assert run(folder, out) == 0
        assert sorted(path.name for path in out.iterdir()) == FILES
        assert run_content(out, SPEED) == whole, number
    assert killed >= kills // 2
