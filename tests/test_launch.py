"""Training in several processes from a notebook or a sweep: torchrun's command, its failures, and its end."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import small_data, small_job

from yolov9bench.__main__ import parse
from yolov9bench.config import ReproduceConfig, TrainConfig
from yolov9bench.errors import SettingsError, TrainingError
from yolov9bench.ops.lifeline import LAUNCHER
from yolov9bench.reproduce import make_plan, training_config
from yolov9bench.train import launch, trainer
from yolov9bench.train.job import Job
from yolov9bench.zoo import ROWS


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return replace(
        small_job(small_data(tmp_path / "data"), tmp_path / "run"), row=ROWS["yolov8-n"], world_size=2
    )


def config_of(job: Job) -> TrainConfig:
    return TrainConfig(row=job.row.id, dataset=str(job.train.root), out=job.out, device="cpu")


def test_the_command_gives_the_same_config_again() -> None:
    """Every field but those that are as ever, in the words of the command line."""
    given = TrainConfig(
        "yolov9-t", "demo", Path("a b"), 3, 64, 2, "small", 7, 9, "cpu", "bfloat16", 0.5, None, workers=0
    )
    given = replace(given, deterministic=True, split="val", limit=4, data_dir="elsewhere")
    words = launch.torchrun_command(given, 8)
    place = words.index("train")
    assert words[:place] == [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=8"),
        *("-m", "yolov9bench"),
    ]
    assert parse(words[place:]) == given
    assert launch.torchrun_command(TrainConfig("yolov9-t", "demo", Path("out")), 2)[place:] == [
        *("train", "--row", "yolov9-t", "--dataset", "demo", "--out", "out")
    ]


def test_one_process_trains_here(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "train", lambda job, watch: (job, watch))
    alone = replace(job, world_size=1)
    found: Any = launch.run(alone, config_of(job), print)
    assert found == (alone, print)


def stand_in(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Python code in torchrun's place; it knows the folder of the run as `out`."""

    def command(config: TrainConfig, processes: int) -> list[str]:
        return [sys.executable, "-c", f"from pathlib import Path; out = Path({str(config.out)!r}); {code}"]

    monkeypatch.setattr(launch, "torchrun_command", command)


def test_the_log_is_shown_as_it_grows(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = '{"epoch": 0}\\n', '{"epoch": 1}\\n'
    stand_in(
        monkeypatch,
        f"out.mkdir(); log = out / 'log.jsonl'; log.write_text('{first}'); print('epoch 0', flush=True); "
        f"log.write_text('{first}{second}')",
    )
    seen: list[list[dict[str, Any]]] = []
    assert launch.run(job, config_of(job), seen.append) == job.out / "best.pt"
    assert seen[-1] == [{"epoch": 0}, {"epoch": 1}]


def test_the_sentences_of_the_processes_are_the_error(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(
        monkeypatch,
        "print('Traceback of torchrun'); print('process 1 of 2: 16 images do not fit'); raise SystemExit(1)",
    )
    with pytest.raises(TrainingError, match=r"\Aprocess 1 of 2: 16 images do not fit\Z"):
        launch.run(job, config_of(job))
    stand_in(monkeypatch, "raise SystemExit(3)")
    with pytest.raises(TrainingError, match="torchrun ended with status 3"):
        launch.run(job, config_of(job))


def test_an_interruption_ends_torchrun(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(
        monkeypatch,
        "import os, time; print(os.getpid(), flush=True); out.mkdir(); "
        "(out / 'log.jsonl').write_text('{}'); print(1, flush=True); time.sleep(100)",
    )
    running: list[subprocess.Popen[str]] = []
    whole = subprocess.Popen

    def noting(*words: Any, **given: Any) -> Any:
        running.append(whole(*words, **given))
        return running[-1]

    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", noting)
    with pytest.raises(KeyboardInterrupt):
        launch.run(job, config_of(job), interrupt)
    assert running[0].returncode == -signal.SIGTERM


def test_a_row_of_ones_own_is_unknown_to_other_processes(job: Job) -> None:
    own = replace(job, row=replace(job.row, id="mine"))
    with pytest.raises(SettingsError, match="'mine' of your own is unknown to the processes"):
        launch.run(own, replace(config_of(job), row="mine"))


def test_a_notebook_of_several_processes_needs_a_gpu_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("yolov9bench.evaluation.evaluate.resolve_device", lambda device: device)
    config = ReproduceConfig(checkpoint="train", dataset="demo", processes=3, device="cuda")
    with pytest.raises(SettingsError, match="process 2 of this machine has no GPU, there are 2"):
        make_plan(config)
    with pytest.raises(SettingsError, match="give cuda or auto"):
        make_plan(replace(config, device="cuda:1", processes=2))
    plan = make_plan(replace(config, processes=2, workers=3))
    assert training_config(plan).workers == 3


@pytest.mark.parametrize("ending", ["parent", "launcher"])
def test_a_process_ends_with_the_one_that_started_it(ending: str, tmp_path: Path) -> None:
    """A grandchild, whose parent is killed, or the process named by the variable."""
    place = tmp_path / "child"
    child = (
        "import os, time; from pathlib import Path; from yolov9bench.ops.lifeline import end_with_launcher; "
        f"end_with_launcher(); Path({str(place)!r}).write_text(str(os.getpid())); time.sleep(100)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    environment = os.environ | ({LAUNCHER: str(other.pid)} if ending == "launcher" else {})
    middle = subprocess.Popen([sys.executable, "-c", parent], env=environment, stderr=subprocess.DEVNULL)
    while not place.exists() or not place.read_text():
        time.sleep(0.05)
    number = int(place.read_text())
    os.kill(number, 0)  # it runs
    victim = middle if ending == "parent" else other
    victim.kill()
    victim.wait()
    for _ in range(100):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("it runs on alone")
    for process in (middle, other):
        process.kill()
        process.wait()
