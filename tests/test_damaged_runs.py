"""Runs whose files were damaged, removed or replaced: one sentence on resuming, whatever the damage is."""

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import file_bytes, small_data, small_job

from yolov9bench.errors import BenchError, CheckpointError, TrainingError
from yolov9bench.train import checkpoint, loop
from yolov9bench.train.checkpoint import is_finished, read_log
from yolov9bench.train.job import Job
from yolov9bench.train.trainer import describe_progress, train
from yolov9bench.weights import load


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run of one epoch that has ended; read-only."""
    folder = tmp_path_factory.mktemp("ended")
    job = small_job(small_data(folder / "data"), folder / "run", epochs=1)
    train(job)
    return job


@pytest.fixture
def copied(ended: Job, tmp_path: Path) -> Job:
    """The same run in a folder that a test may spoil, to be extended by an epoch."""
    shutil.copytree(ended.out, tmp_path / "run")
    return small_job(ended.train.root, tmp_path / "run", epochs=2, extend=True)


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """A spoiler that changes what a checkpoint holds, and writes it again as torch does."""

    def spoil(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)

    return spoil


def flip_a_weight(path: Path) -> None:
    """One bit in the middle of the largest member, which torch itself reads without a word."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 1
    path.write_bytes(content)


SPOILERS: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:5000]),
    "text": lambda path: path.write_text("<html>not found</html>"),
    "one bit": flip_a_weight,
    "a list": lambda path: torch.save([1, 2], path),
    "a number": lambda path: torch.save({"training": 3}, path),
    "no state": edit(lambda content: content["training"].pop("state")),
    "no configuration": edit(lambda content: content["training"].pop("configuration")),
    "no recipe": edit(lambda content: content["training"]["configuration"].pop("recipe")),
    "no optimizer": edit(lambda content: content["training"]["state"].pop("optimizer")),
    "no weight": edit(lambda content: content["training"]["state"]["detector"].popitem()),
    "another shape": edit(lambda content: content["training"]["state"]["detector"].update(dict.fromkeys(
        content["training"]["state"]["detector"], torch.zeros(3)))),
    "epoch is text": edit(lambda content: content["training"]["state"].update(epoch="1")),
    "spec is text": edit(lambda content: content.update(spec="yolov8-n")),
    "spec without head": edit(lambda content: content["spec"].pop("head")),
    "a pickle": lambda path: path.write_bytes(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R."),
}  # fmt: skip


@pytest.mark.parametrize("damage", SPOILERS)
def test_a_damaged_last_checkpoint_is_a_sentence(copied: Job, damage: str) -> None:
    last = copied.out / "last.pt"
    SPOILERS[damage](last)
    before = file_bytes(copied.out)
    with pytest.raises(TrainingError, match=r"last\.pt is damaged \(.*\): restore it from a copy") as refusal:
        train(copied)
    assert "\n" not in str(refusal.value)
    assert file_bytes(copied.out) == before


def test_a_checkpoint_that_is_no_runs_is_refused_and_is_no_finished_run(copied: Job) -> None:
    shutil.copy(copied.out / "best.pt", copied.out / "last.pt")
    assert not is_finished(copied)
    assert describe_progress(copied).startswith("This run continues")
    with pytest.raises(TrainingError, match="holds no training to resume"):
        train(copied)


@pytest.mark.parametrize("extend", [False, True], ids=["finished", "resumed"])
def test_a_best_checkpoint_that_is_gone_is_told(ended: Job, tmp_path: Path, extend: bool) -> None:
    """A finished run would name a path that is not there; one that goes on may never write a best one."""
    shutil.copytree(ended.out, tmp_path / "run")
    (tmp_path / "run/best.pt").unlink()
    job = small_job(ended.train.root, tmp_path / "run", epochs=2 if extend else 1, extend=extend)
    assert not is_finished(job)
    with pytest.raises(
        TrainingError, match=r"best\.pt, of AP 0\.\d+, is gone: restore it .*evaluate last\.pt"
    ):
        train(job)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"3"])
def test_a_damaged_run_json_and_log_are_sentences(copied: Job, content: bytes) -> None:
    (copied.out / "run.json").write_bytes(content)
    with pytest.raises(TrainingError, match=r"run\.json is damaged"):
        train(copied)
    (copied.out / "log.jsonl").write_bytes(content)
    if content not in (b"", b"[1]", b"3"):
        with pytest.raises(TrainingError, match=r"log\.jsonl is damaged"):
            read_log(copied)


def test_a_log_that_is_gone_is_written_again(copied: Job) -> None:
    (copied.out / "log.jsonl").unlink()
    train(copied)
    assert [entry["epoch"] for entry in read_log(copied)] == [0, 1]


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "a list", "spec without head"])
def test_a_damaged_best_checkpoint_is_a_sentence_on_evaluation(copied: Job, damage: str) -> None:
    SPOILERS[damage](copied.out / "best.pt")
    with pytest.raises(CheckpointError) as refusal:
        load(copied.out / "best.pt")
    assert "\n" not in str(refusal.value)


def test_why_a_run_stopped_is_told_where_it_cannot_be_noted(
    ended: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is full as well when the run diverges: the first reason is the one to know."""

    def diverge(*_: Any) -> Any:
        monkeypatch.setattr(checkpoint, "write_json", fail)
        raise TrainingError("the loss became nan")

    def fail(*_: Any) -> Any:
        raise BenchError("run.json cannot be written")

    monkeypatch.setattr(loop, "forward_backward", diverge)
    with pytest.raises(TrainingError, match="the loss became nan"):
        train(small_job(ended.train.root, tmp_path / "run", epochs=1))
    assert "not noted: run.json cannot be written" in caplog.text
    assert "stopped" not in json.loads((tmp_path / "run/run.json").read_text())
