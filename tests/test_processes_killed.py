"""Training by torchrun that is killed, one process or all of it, and started again by the same command."""

import itertools
import os
import random
import re
import resource
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_runs import run_content

from yolov9bench.data.demo import make_demo

pytestmark = [
    pytest.mark.accuracy,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in Linux's /proc"),
]
EPOCHS = 12
SPEED = ("seconds", "images_per_second", "processes")
KILLS = ("one process", "torchrun", "torchrun at once", "one process", "torchrun at once")


def start(
    folder: Path, out: Path, epochs: int = EPOCHS, largest_file: int = resource.RLIM_INFINITY
) -> subprocess.Popen[str]:
    """Two processes; a file over so many bytes fails to be written, as on a full disk."""
    limit = f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({largest_file}, -1)); "
    command = [sys.executable, "-c", limit + "os.execv(sys.argv[1], sys.argv[1:])"]
    command += [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "yolov9bench", "train", "--row", "yolov8-n", "--dataset", str(folder), "--split", "val"]
    command += ["--epochs", str(epochs), "--image-size", "64", "--batch-size", "2", "--device", "cpu"]
    command += ["--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def running(out: Path) -> list[int]:
    """The processes whose command names this folder: torchrun and its children."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(out).encode() in words:
            found.append(int(place.name))
    return found


def children(torchrun: subprocess.Popen[str]) -> list[int]:
    """torchrun's two processes by rank, once they are there; what these fork for a moment is none of them."""
    found: dict[str, int] = {}
    while len(found) < 2:
        assert torchrun.poll() is None
        for place in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
                words = (place / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            rank = [word.partition(b"=")[2].decode() for word in words if word.startswith(b"RANK=")]
            if parent == torchrun.pid and rank:
                found[rank[0]] = int(place.name)
        time.sleep(0.05)
    return [found["0"], found["1"]]


def wait_for_none(out: Path, seconds: float) -> bool:
    began = time.monotonic()
    while running(out):
        if time.monotonic() - began > seconds:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo(tmp_path_factory.mktemp("data") / "demo", train=10, val=3)


def wait_for_epochs(out: Path, count: int, torchrun: subprocess.Popen[str]) -> None:
    """Until the log has so many epochs, or the run has ended."""
    log = out / "log.jsonl"
    while torchrun.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < count):
        time.sleep(0.02)


@pytest.mark.slow(120)
def test_killed_five_times_it_ends_bit_for_bit_the_same(folder: Path, tmp_path: Path) -> None:
    """Two epochs further each time, at a random instant of the epoch then; the last before any epoch."""
    whole = start(folder, tmp_path / "whole")
    said, _ = whole.communicate(timeout=300)
    assert whole.returncode == 0, said
    seconds = statistics.median(entry["seconds"] for entry in run_content(tmp_path / "whole", ())["log"])
    instants, out = random.Random(5), tmp_path / "run"
    for number, kind in enumerate(KILLS):
        torchrun = start(folder, out)
        ranks = children(torchrun)
        wait_for_epochs(out, 2 * number + 1 if number < 4 else 0, torchrun)
        time.sleep(instants.uniform(0, 2 * seconds))
        victim = ranks[number % 2] if kind == "one process" else torchrun.pid
        os.kill(victim, signal.SIGTERM if kind == "torchrun" else signal.SIGKILL)
        torchrun.communicate(timeout=120)
        assert torchrun.returncode != 0, kind
        assert wait_for_none(out, 60), kind
    torchrun = start(folder, out)
    said, _ = torchrun.communicate(timeout=300)
    assert torchrun.returncode == 0, said
    assert run_content(out, SPEED) == run_content(tmp_path / "whole", SPEED)
    assert len(run_content(out, SPEED)["log"]) == EPOCHS


@pytest.mark.slow(60)
@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_dies_ends_the_others_and_is_named(folder: Path, tmp_path: Path, victim: int) -> None:
    out = tmp_path / "run"
    torchrun = start(folder, out, epochs=400)
    ranks = children(torchrun)
    while not (out / "last.pt").exists():
        time.sleep(0.1)
    os.kill(ranks[victim], signal.SIGKILL)
    said, _ = torchrun.communicate(timeout=60)
    assert torchrun.returncode != 0
    assert f"process {victim} has ended or does not answer" in said, said
    assert wait_for_none(out, 10)


@pytest.mark.slow(20)
def test_a_disk_that_is_full_ends_all_of_them(folder: Path, tmp_path: Path) -> None:
    """The first checkpoint of rank 0, of some 50 MB, cannot be written."""
    torchrun = start(folder, tmp_path / "run", largest_file=10**6)
    said, _ = torchrun.communicate(timeout=60)
    assert torchrun.returncode != 0
    assert re.search(r"^process 0 of 2: .*last.*pt", said, re.MULTILINE), said
    assert "Traceback" not in said.partition("process 0 of 2: ")[0]
    assert wait_for_none(tmp_path / "run", 10)
    assert not (tmp_path / "run/last.pt").exists()


@pytest.mark.slow(15)
def test_processes_that_never_come_are_a_sentence(tmp_path: Path) -> None:
    """The second of two machines, whose first is not there; torchrun itself is not asked."""
    place = {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "9",
    }
    code = (
        "from datetime import timedelta; from yolov9bench.ops import distributed; import sys; "
        "distributed.WAIT = timedelta(seconds=3); sys.argv[1:] = "
        f"'train --row yolov8-n --dataset demo --device cpu --out {tmp_path}'.split(); "
        "from yolov9bench.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | place, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("process 1 of 2")]
    assert len(lines) == 1 and "the other processes cannot be met at 127.0.0.1:9" in lines[0]
    assert not list(itertools.chain(tmp_path.iterdir()))
