"""The batch file for Slurm: bash accepts it, and it builds torchrun's command with Slurm's replaced."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from yolov9bench.__main__ import parse
from yolov9bench.config import TrainConfig

FILE = Path(__file__).parents[1] / "notebooks/train.sbatch"
FLAGS = ["--row", "yolov8-m", "--dataset", "coco", "--out", "a folder/run"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs bash")


def command(name: str, text: str, folder: Path) -> None:
    """A program of this name, in front of PATH."""
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def test_bash_accepts_it() -> None:
    subprocess.run(["bash", "-n", str(FILE)], check=True)


def test_it_asks_slurm_for_a_task_a_machine_and_its_gpus() -> None:
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", FILE.read_text(), re.MULTILINE))
    assert (asked["ntasks-per-node"], asked["gpus-per-node"]) == ("1", "8")


def test_it_starts_torchrun_on_every_machine(tmp_path: Path) -> None:
    """scontrol names two machines; srun writes the words it is given, one a line."""
    command("scontrol", 'echo "$@" > asked; echo gpu07; echo gpu09', tmp_path)
    command("srun", 'printf "%s\\n" "$@"', tmp_path)
    slurm = {"SLURM_JOB_NODELIST": "gpu[07,09]", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_ID": "417"}
    environment = os.environ | slurm | {"SLURM_GPUS_ON_NODE": "8", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", str(FILE), *FLAGS], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    words = done.stdout.splitlines()
    assert (tmp_path / "asked").read_text().split() == ["show", "hostnames", "gpu[07,09]"]
    place = words.index("train")
    assert words[:place] == [
        *("--kill-on-bad-exit=1", ".venv/bin/python", "-m", "torch.distributed.run"),
        *("--nnodes", "2", "--nproc-per-node", "8", "--rdzv-backend", "c10d"),
        *("--rdzv-endpoint", "gpu07:29500", "--rdzv-id", "417", "-m", "yolov9bench"),
    ]
    assert parse(words[place:]) == TrainConfig("yolov8-m", "coco", Path("a folder/run"))
