"""TensorBoard's event files: what a run hands to the writer, and the sentence where there is none."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_runs import small_data, small_job, stub_validation

from yolov9bench.errors import SettingsError
from yolov9bench.train.checkpoint import read_log
from yolov9bench.train.trainer import train, train_row

MODULE = "torch.utils.tensorboard"


class Writer:
    """In the place of SummaryWriter: keeps what it is given, by folder and first iteration."""

    opened: list["Writer"]

    def __init__(self, folder: Path, purge_step: int) -> None:
        self.folder, self.purge_step, self.closed = folder, purge_step, False
        self.scalars: list[tuple[str, float, int]] = []
        Writer.opened.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def flush(self) -> None: ...

    def close(self) -> None:
        self.closed = True


class Killed(Exception):
    pass


def test_a_run_and_its_continuation_write_their_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five images in batches of two: three iterations an epoch; the run is cut after the second of three."""
    Writer.opened = []
    monkeypatch.setitem(sys.modules, MODULE, SimpleNamespace(SummaryWriter=Writer))
    stub_validation(monkeypatch, iter([0.25, 0.5, 0.125]))
    job = small_job(small_data(tmp_path / "data"), tmp_path / "run", tensorboard=True)

    def cut(log: list[Any]) -> None:
        if len(log) == 2:
            raise Killed

    with pytest.raises(Killed):
        train(job, cut)
    train(job)
    first, second = Writer.opened
    assert first.folder == second.folder == job.out / "tensorboard"
    assert (first.purge_step, second.purge_step) == (1, 7)
    assert first.closed and second.closed
    scalars = first.scalars + second.scalars
    assert [(value, step) for name, value, step in scalars if name == "epoch/AP"] == [
        (0.25, 3),
        (0.5, 6),
        (0.125, 9),
    ]
    losses = [value for name, value, _ in scalars if name == "epoch/total"]
    assert losses == [entry["total"] for entry in read_log(job)]
    assert not any(name.endswith("bytes_allocated") for name, *_ in scalars)  # None on a CPU


def test_without_the_package_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, MODULE, None)
    out, data = tmp_path / "run", tmp_path / "data"
    with pytest.raises(SettingsError, match=r"^tensorboard is not installed: run pip install tensorboard"):
        train_row("yolov9-t", "demo", out, data_dir=str(data), tensorboard=True)
    assert not out.exists() and not data.exists()
