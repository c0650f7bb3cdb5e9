"""Decoded images that are kept: the same batches to the bit; what does not fit is said beforehand."""

import hashlib
import logging
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolov9bench.data import decoded
from yolov9bench.data import training_set as module
from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.data.decoded import free_memory
from yolov9bench.data.loader import TrainingBatches
from yolov9bench.data.loading import Cache, Loading
from yolov9bench.data.training_set import TrainingSet, keep_decoded, training_set
from yolov9bench.errors import DatasetError, SettingsError, StorageError
from yolov9bench.ops.images import read_image
from yolov9bench.zoo.recipes import RECIPES, YOLOV9

SMALL = YOLOV9.varied(augmentation={"image_size": 64})
SIZES = [(40 + 8 * number, 96 - 6 * number) for number in range(1, 7)]  # of `painted`, height and width
BYTES = sum(3 * height * width for height, width in SIZES)


@pytest.fixture
def dataset(tiny: Path) -> CocoDataset:
    return read_coco(tiny, "val")


def kept(dataset: CocoDataset, loading: Loading) -> TrainingSet:
    return keep_decoded(training_set(dataset, mask_refine=False), loading)


def on_disk(folder: Path) -> Loading:
    return Loading(cache="disk", cache_folder=folder)


def hashes(dataset: CocoDataset, recipe: Any, loading: Loading) -> list[str]:
    found = []
    for epoch in (0, recipe.run.epochs - 1):
        for images, targets in TrainingBatches(dataset, recipe, 4, 5, epoch, loading=loading):
            found.append(hashlib.sha256(images.numpy().tobytes() + targets.numpy().tobytes()).hexdigest())
    return found


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("decoded-*.uint8"))


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_real_batches_are_the_same_from_kept_images(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Cache
) -> None:
    """Mosaic, mixup, copy-paste of polygons and the closing epochs, at the images' own size and below."""
    real = read_coco(shared / "coco", "train2017", limit=9)
    for name, size in (("yolov8-l-mask-refine", 640), ("yolov8-n", 128)):
        recipe = RECIPES[name].varied(augmentation={"image_size": size})
        plain = hashes(real, recipe, Loading())
        assert hashes(real, recipe, Loading(cache=cache, cache_folder=tmp_path)) == plain
    loaded = kept(real, Loading(cache=cache, cache_folder=tmp_path))
    monkeypatch.setattr(module, "read_image", None)
    for index, path in enumerate(loaded.paths):
        assert np.array_equal(loaded.pixels(index), read_image(path))
        assert not loaded.pixels(index).flags.writeable


@pytest.mark.accuracy
@pytest.mark.slow(10)
@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_workers_have_the_kept_images(dataset: CocoDataset, tmp_path: Path, cache: Cache) -> None:
    """The images are gone when the workers start."""
    plain = list(TrainingBatches(dataset, SMALL, 3, seed=0))
    batches = TrainingBatches(dataset, SMALL, 3, seed=0, loading=Loading(2, cache, tmp_path / "kept"))
    for image in dataset.images:
        dataset.image_path(image).unlink()
    for (images, targets), (others, other_targets) in zip(batches, plain, strict=True):
        assert images.equal(others) and targets.equal(other_targets)


def test_a_file_is_written_once_and_found_again(
    dataset: CocoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kept(dataset, on_disk(tmp_path / "kept"))
    (file,) = files(tmp_path / "kept")
    assert file.stat().st_size == BYTES
    pixels = b"".join(read_image(dataset.image_path(image)).tobytes() for image in dataset.images)
    assert file.read_bytes() == pixels
    assert f"keeping 6 decoded images needs 0.00 GB of space in {tmp_path / 'kept'}; " in caplog.text
    monkeypatch.setattr(module, "read_image", None)
    kept(dataset, on_disk(tmp_path / "kept"))
    assert f"taking 6 decoded images from {file}" in caplog.text


@pytest.mark.parametrize("change", ["pixels", "time", "images"])
def test_a_file_of_other_images_is_not_taken(dataset: CocoDataset, tmp_path: Path, change: str) -> None:
    kept(dataset, on_disk(tmp_path / "kept"))
    third = dataset.image_path(dataset.images[2])
    if change == "images":
        dataset = dataset.restricted(dataset.images[:5])
    elif change == "time":
        os.utime(third, ns=(0, 0))
    else:
        state, encoded = third.stat(), third.read_bytes()
        third.write_bytes(encoded + b"\0")  # after the end of a PNG: decoded as before
        os.utime(third, ns=(state.st_atime_ns, state.st_mtime_ns))
    found = kept(dataset, on_disk(tmp_path / "kept"))
    assert len(files(tmp_path / "kept")) == 2
    for index, image in enumerate(dataset.images):
        assert np.array_equal(found.pixels(index), read_image(dataset.image_path(image)))


def fill_slowly(root: Path, folder: Path, seconds: float) -> None:
    """What a process does that fills the file, so many seconds an image, and notes each image."""

    def read(path: Path) -> Any:
        time.sleep(seconds)
        with (folder.parent / "read.txt").open("a") as file:
            file.write(f"{os.getpid()}\n")
        return read_image(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoded, "usable_cores", lambda: 1)
        patch.setattr(module, "read_image", read)
        kept(read_coco(root, "val"), on_disk(folder))


@pytest.mark.accuracy
@pytest.mark.slow(10)
def test_one_process_fills_and_a_killed_one_leaves_nothing(dataset: CocoDataset, tmp_path: Path) -> None:
    """Of two at once one waits; the first is killed at its first image, and the other does all."""
    folder, notes = tmp_path / "kept", tmp_path / "read.txt"
    spawn = multiprocessing.get_context("spawn")
    first = spawn.Process(target=fill_slowly, args=(dataset.root, folder, 60), daemon=True)
    second = spawn.Process(target=fill_slowly, args=(dataset.root, folder, 0), daemon=True)
    first.start()
    wait_for(lambda: list(folder.glob(".decoded-*")))
    second.start()
    time.sleep(2)
    assert files(folder) == [] and not notes.exists()
    os.kill(first.pid or 0, signal.SIGKILL)
    first.join()
    second.join(60)
    assert second.exitcode == 0
    assert notes.read_text().split() == [str(second.pid)] * 6
    assert [path.stat().st_size for path in files(folder)] == [BYTES]
    assert list(folder.glob(".decoded-*")) == []


def wait_for(condition: Any) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_file_that_was_cut_is_written_again(dataset: CocoDataset, tmp_path: Path) -> None:
    kept(dataset, on_disk(tmp_path))
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    kept(dataset, on_disk(tmp_path))
    assert file.read_bytes() == whole


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_an_image_that_is_wrong_is_refused_before_training(
    dataset: CocoDataset, tmp_path: Path, cache: Cache
) -> None:
    third = dataset.image_path(dataset.images[2])
    third.write_bytes(dataset.image_path(dataset.images[3]).read_bytes())
    with pytest.raises(DatasetError, match=r"^image 000003\.png is 72 x 72, but annotated as 78 x 64"):
        kept(dataset, Loading(cache=cache, cache_folder=tmp_path / "kept"))
    third.unlink()
    with pytest.raises(DatasetError, match=r"^image 000003\.png cannot be read \(No such file"):
        kept(dataset, Loading(cache=cache, cache_folder=tmp_path / "kept"))
    assert files(tmp_path / "kept") == [] and list((tmp_path / "kept").glob(".decoded-*")) == []


def test_memory_is_reckoned_before_it_is_taken(
    dataset: CocoDataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Six images take 89,280 bytes; nine tenths of what is free may be taken."""
    assert BYTES == 89_280
    caplog.set_level(logging.INFO)
    ram = Loading(cache="ram")
    monkeypatch.setattr(decoded, "free_memory", lambda: 99_199)
    with pytest.raises(
        SettingsError, match=r"^keeping 6 decoded images needs 0\.00 GB of memory, .* cache disk"
    ):
        kept(dataset, ram)
    monkeypatch.setattr(decoded, "free_memory", lambda: 99_201)
    kept(dataset, ram)
    assert "keeping 6 decoded images needs 0.00 GB of memory; 0.00 GB are free" in caplog.text
    monkeypatch.setattr(decoded, "free_memory", lambda: None)
    kept(dataset, ram)
    assert "needs 0.00 GB of memory; how much is free is not known here" in caplog.text


def test_the_sentence_of_all_coco(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    decoded.announce(118_287, 78_000_000_000, "memory", 100_000_000_000)
    said = "keeping 118,287 decoded images needs 78.00 GB of memory; 100.00 GB are free"
    assert caplog.messages == [said]


def test_a_disk_that_is_too_small_or_not_writable_is_refused(
    dataset: CocoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"^cache_dir .*file is a file: choose another path"):
        kept(dataset, on_disk(tmp_path / "file"))

    class Usage:
        free = BYTES - 1

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(SettingsError, match=r"^keeping 6 decoded images needs .* another cache_dir"):
        kept(dataset, on_disk(tmp_path / "kept"))
    Usage.free = BYTES
    kept(dataset, on_disk(tmp_path / "kept"))


def test_a_disk_that_runs_full_leaves_nothing(
    dataset: CocoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decoded, "decode", full)
    with pytest.raises(StorageError, match=r"decoded-.*\.uint8 cannot be written \(No space left"):
        kept(dataset, on_disk(tmp_path))
    assert files(tmp_path) == [] and list(tmp_path.glob(".decoded-*")) == []


def test_free_memory_is_what_the_system_and_the_control_group_leave(tmp_path: Path) -> None:
    """By hand: 2,000 kB available; 3,000,000 allowed, of 1,500,000 used 200,000 are of files read before."""
    assert free_memory(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:  9000 kB\nMemAvailable:   2000 kB\n")
    assert free_memory(tmp_path) == 2_048_000
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("1500000\n")
    (group / "memory.stat").write_text("anon 5\ninactive_file 200000\n")
    assert free_memory(tmp_path) == 2_048_000
    (group / "memory.max").write_text("3000000\n")
    assert free_memory(tmp_path) == 1_700_000
