"""Worker processes: batches are the same with any number, and one that is lost is a sentence, not a wait."""

import gc
import hashlib
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from torch.multiprocessing import reductions

from yolov9bench.data import loader, training_sample
from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.data.loader import Batch, TrainingBatches
from yolov9bench.data.loading import Loading, default_workers
from yolov9bench.data.workers import choose_pipes, explain_lost, failure_of_sample
from yolov9bench.errors import DatasetError, SettingsError
from yolov9bench.ops.ranks import Ranks
from yolov9bench.zoo.recipes import RECIPES, YOLOV9

SMALL = YOLOV9.varied(augmentation={"image_size": 64})
MASKS = RECIPES["yolov8-l-mask-refine"].varied(augmentation={"image_size": 128})
SECONDS = 30  # by when a lost worker must have been noticed; it takes 6 at most where torch looks every 5


@pytest.fixture
def dataset(painted: Path) -> CocoDataset:
    return read_coco(painted, "val")


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    began = time.monotonic()
    yield
    gc.collect()  # a test's batches live as long as the error that it caught
    assert multiprocessing.active_children() == []
    assert time.monotonic() - began < SECONDS


def hashes(batches: list[Batch]) -> list[str]:
    return [
        hashlib.sha256(images.numpy().tobytes() + targets.numpy().tobytes()).hexdigest()
        for images, targets in batches
    ]


def at_start(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Run code at the start of every worker process, before anything of ours."""
    (folder / "sitecustomize.py").write_text(
        f"import os, signal, sys\nif '--multiprocessing-fork' in sys.orig_argv:\n    {code}\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


@pytest.mark.accuracy
@pytest.mark.slow(10)
def test_workers_and_ranks_change_no_batch(shared: Path) -> None:
    """Two ranks' images, one after the other in turn, are those of one process with twice the batch."""
    real = read_coco(shared / "coco", "train2017", limit=11)
    epoch = MASKS.run.epochs - 1
    alone = list(TrainingBatches(real, MASKS, 4, seed=3))
    closing = list(TrainingBatches(real, MASKS, 4, seed=3, epoch=epoch))
    for count in (1, 2):
        batches = TrainingBatches(real, MASKS, 4, seed=3, loading=Loading(workers=count))
        assert hashes(list(batches)) == hashes(alone) != hashes(closing)
        assert hashes(list(batches.of_epoch(epoch))) == hashes(closing)
    halves = [list(TrainingBatches(real, MASKS, 2, seed=3, ranks=Ranks(rank, 2, rank))) for rank in (0, 1)]
    for whole, *parts in zip(alone, *halves, strict=True):
        images, targets = whole
        for number, image in enumerate(images):
            part, own = parts[number % 2], number // 2
            assert torch.equal(image, part[0][own])
            mine = targets[targets[:, 0] == number, 1:]
            theirs = part[1][part[1][:, 0] == own, 1:]
            assert torch.equal(mine, theirs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "(was killed by signal: Killed|exited unexpectedly)"),
        ("sys.modules['cv2'] = None", "exited unexpectedly( with exit code 1)?"),
    ],
)
def test_a_worker_that_dies_while_it_starts_is_one_sentence(
    dataset: CocoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, how: str
) -> None:
    batches = TrainingBatches(dataset, SMALL, 1, seed=0, loading=Loading(workers=2))
    at_start(monkeypatch, tmp_path, code)
    with pytest.raises(SettingsError, match=rf"^one of 2 worker processes {how}: [^\n]*, or 0 to use none$"):
        list(batches)
    assert multiprocessing.active_children() == []


def kill_one() -> None:
    os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)


@pytest.mark.accuracy
@pytest.mark.slow(10)
def test_a_worker_that_is_killed_later_is_one_sentence_and_may_be_replaced(dataset: CocoDataset) -> None:
    """torch raises wherever the main thread is: here while it does something else."""
    batches = TrainingBatches(dataset, SMALL, 1, seed=0, loading=Loading(workers=2))
    said = r"^one of 2 worker processes was killed by signal: Killed: "
    with pytest.raises(SettingsError, match=said), batches.watched():
        for _ in batches:
            kill_one()
            time.sleep(SECONDS)
    assert multiprocessing.active_children() == []
    assert hashes(list(batches)) == hashes(list(TrainingBatches(dataset, SMALL, 1, seed=0)))


@pytest.mark.accuracy
@pytest.mark.slow(10)
def test_a_killed_worker_is_noticed_without_a_signal(dataset: CocoDataset) -> None:
    """As outside the main thread, where torch can only look every five seconds."""
    iterator = iter(TrainingBatches(dataset, SMALL, 1, seed=0, loading=Loading(workers=1)))
    next(iterator)
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        kill_one()
        said = r"^the worker process (exited unexpectedly|stopped answering): "
        with pytest.raises(SettingsError, match=said):
            list(iterator)
    finally:
        signal.signal(signal.SIGCHLD, handler)
    assert multiprocessing.active_children() == []


def test_another_error_of_a_watched_body_stays_what_it_is(dataset: CocoDataset) -> None:
    batches = TrainingBatches(dataset, SMALL, 1, seed=0, loading=Loading(workers=1))
    with pytest.raises(RuntimeError, match=r"^mine$"), batches.watched():
        raise RuntimeError("mine")


@pytest.mark.slow
def test_a_lack_of_shared_memory_in_a_worker_arrives(
    dataset: CocoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker in which nothing can be put into shared memory, as where another program has filled it."""
    batches = TrainingBatches(dataset, SMALL, 1, seed=0, loading=Loading(workers=1))
    message = "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"
    (tmp_path / "full.py").write_text(
        f"import torch\ndef fail(*_, **__):\n    raise RuntimeError({message!r})\n"
        "torch.UntypedStorage._new_shared = fail\n"
    )
    at_start(monkeypatch, tmp_path, "import full")
    with pytest.raises(SettingsError, match=r"^the shared memory is too small for 1 workers: [^\n]*shm-size"):
        list(batches)


@pytest.mark.parametrize("error", [MemoryError(), cv2.error("Insufficient memory")])
def test_want_of_memory_names_the_image(
    dataset: CocoDataset, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> Any:
        if isinstance(error, cv2.error):
            error.code = cv2.Error.StsNoMem
        raise error

    monkeypatch.setattr(training_sample, "apply_hsv", fail)
    with pytest.raises(SettingsError, match=r"^memory ran out while image 00000\d\.png was prepared: "):
        list(TrainingBatches(dataset, SMALL, 6, seed=0))


def test_a_file_error_is_a_sentence_and_a_mistake_of_ours_is_not() -> None:
    gone = failure_of_sample(FileNotFoundError(2, "No such file or directory"), "a.jpg")
    assert isinstance(gone, DatasetError)
    assert str(gone).startswith("image a.jpg could not be prepared ([Errno 2] No such file")
    with pytest.raises(KeyError):
        failure_of_sample(KeyError("a"), "a.jpg")


@pytest.mark.slow
def test_an_image_that_vanishes_is_one_sentence(tiny: Path) -> None:
    batches = TrainingBatches(read_coco(tiny, "val"), SMALL, 6, seed=0, loading=Loading(workers=1))
    (tiny / "val/000003.png").unlink()
    with pytest.raises(DatasetError, match=r"^image 000003\.png cannot be read \(No such file [^\n]*$"):
        list(batches)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It"),
            "the shared memory is",
        ),
        (RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"), "one of 3 worker processes ex"),
        (RuntimeError("Too many open files. Communication with"), "3 workers need more open files"),
        (EOFError(), "one of 3 worker processes stopped answering"),
        (MemoryError(), "memory ran out in one of 3 workers"),
        (RuntimeError("sizes differ"), None),
    ],
)
def test_what_torch_says_of_workers_becomes_a_sentence(error: Exception, said: str | None) -> None:
    found = explain_lost(error, 3)
    assert (found is None) == (said is None)
    if found is not None and said is not None:
        assert found.startswith(said) and "--workers, or 0" in found
    assert explain_lost(error, 0) is None


def test_shared_memory_that_is_too_small_is_told_beforehand(
    dataset: CocoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Five batches of 6 images for two workers are 5 x 6 x 3 x 64 x 64 = 368,640 bytes; objects are few."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(370_640))
    TrainingBatches(dataset, SMALL, 6, seed=0, loading=Loading(workers=2))
    assert "shared memory" not in caplog.text
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(368_640))
    said = r"^2 workers need 0\.00 GB of shared memory, but /dev/shm has 0\.00 GB free: [^\n]*--shm-size"
    with pytest.raises(SettingsError, match=said):
        TrainingBatches(dataset, SMALL, 6, seed=0, loading=Loading(workers=2, cache="ram"))
    TrainingBatches(dataset, SMALL, 6, seed=0, loading=Loading(workers=2))
    assert "their batches go through pipes, which is slower; docker run --shm-size" in caplog.text
    assert not choose_pipes(10**15, Loading(workers=4), tmp_path / "not there")


@pytest.mark.slow(12)
def test_without_shared_memory_batches_are_the_same(
    dataset: CocoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No storage is shared, on either way: torch's functions for it fail here."""
    plain = hashes(list(TrainingBatches(dataset, MASKS, 2, seed=0)))

    def refuse(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loader, "choose_pipes", lambda needed, loading: True)
    for name in ("reduce_storage", "reduce_tensor"):
        monkeypatch.setattr(reductions, name, refuse)
    for kind in (torch.Tensor, torch.UntypedStorage):
        reducers: Any = ForkingPickler
        monkeypatch.setitem(reducers._extra_reducers, kind, refuse)
    for name in ("rebuild_storage_fd", "rebuild_storage_filename", "rebuild_tensor"):
        monkeypatch.setattr(reductions, name, refuse)
    loading = Loading(1, "disk", tmp_path / "kept")
    assert hashes(list(TrainingBatches(dataset, MASKS, 2, seed=0, loading=loading))) == plain
    with pytest.raises(OSError, match="No space left"):
        reducers.dumps(torch.zeros(1))


class Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def test_pinned_memory_is_left_to_the_dataloader(dataset: CocoDataset) -> None:
    """Whether pages are locked can be seen with CUDA alone; here it is seen that it is asked for."""
    for asked in (False, True):
        batches = TrainingBatches(dataset, SMALL, 6, seed=0, loading=Loading(pin_memory=asked))
        assert batches._loader.pin_memory is asked


@pytest.mark.parametrize(
    ("cores", "ranks", "expected"),
    [(1, 1, 0), (2, 1, 1), (4, 1, 3), (64, 1, 8), (64, 8, 7), (8, 8, 0), (4, 8, 0), (9, 3, 2)],
)
def test_default_workers_leave_a_core_to_every_training_process(
    monkeypatch: pytest.MonkeyPatch, cores: int, ranks: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert default_workers(ranks) == expected
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert default_workers(ranks) == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": -1}, "workers is -1: give 0 or more"),
        ({"cache": "rom"}, "there is no cache 'rom'; did you mean 'ram'"),
        ({"cache": "disk"}, "cache is disk, but there is no cache_dir"),
        ({"cache": "ram", "local_ranks": 2}, "each of 2 processes would fill for itself: take disk"),
    ],
)
def test_a_loading_that_cannot_be_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Loading(**given)
