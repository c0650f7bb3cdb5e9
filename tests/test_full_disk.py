"""A disk that fills up, at every place where something is written: one sentence, and earlier files whole.

Each flow runs once to find out what it asks of the disk, then with a disk that is full from the n-th time on.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from full_disk import Disk, full_disk
from report_records import evaluation
from small_runs import FILES, file_bytes, run_content, small_data, small_job

from yolov9bench import inference, records, report, reproduce
from yolov9bench.data.demo import make_demo
from yolov9bench.data.loading import Loading
from yolov9bench.data.training_set import keep_decoded, training_set
from yolov9bench.errors import StorageError
from yolov9bench.train.trainer import train

ALL = frozenset(("mkdir", "open", "write", "sync", "rename"))
OFTEN = frozenset(("mkdir", "write"))  # where disks fill up; the others are one function for all files
SPEED = ("seconds", "images_per_second", "parts", "start")


@dataclass(frozen=True)
class Materials:
    """What the flows read, from a disk that is not full."""

    data: Path  # in the demo set's format
    tiny: Path
    weights: Path


@pytest.fixture(scope="module")
def materials(painted: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Materials:
    return Materials(small_data(tmp_path_factory.mktemp("data") / "data"), painted, tiny_weights)


def run_training(given: Materials, out: Path) -> None:
    train(small_job(given.data, out / "runs/one", epochs=1))


def run_reproduction(given: Materials, out: Path) -> None:
    """With its detections in both places."""
    reproduce.reproduce(
        checkpoint=str(given.weights),
        dataset=str(given.tiny),
        split="val",
        protocol="ultralytics",
        image_size=64,
        judge=False,
        fill_table=True,
        results_dir=str(out),
        data_dir=str(out / "data"),
    )


def run_report(given: Materials, out: Path) -> None:
    report.write(out)


def run_prediction(given: Materials, out: Path) -> None:
    image = next((given.tiny / "val").iterdir())
    list(inference.write_predictions([image], str(given.weights), out / "seen", image_size=64, device="cpu"))


def run_demo(given: Materials, out: Path) -> None:
    make_demo(out / "data/demo", train=3, val=3, image_size=96)


def run_cache(given: Materials, out: Path) -> None:
    images = training_set(small_job(given.data, out).train, mask_refine=False)
    keep_decoded(images, Loading(cache="disk", cache_folder=out / "cache"))


FLOWS: dict[str, Callable[[Materials, Path], None]] = {
    "train": run_training,
    "reproduce": run_reproduction,
    "report": run_report,
    "predict": run_prediction,
    "demo": run_demo,
    "cache": run_cache,
}


def prepare(out: Path) -> None:
    """What is there before: a record in a results folder."""
    out.mkdir()
    records.write(evaluation(), out)


def ask(flow: str, given: Materials, tmp_path: Path) -> Disk:
    """A run on a disk with space."""
    prepare(tmp_path / "whole")
    with full_disk(Disk(tmp_path / "whole")) as disk:
        FLOWS[flow](given, tmp_path / "whole")
    assert len(disk.sites(ALL)) >= 5
    return disk


def check_failure(flow: str, given: Materials, out: Path, full_from: int) -> str:
    """One run on a disk that is full from the n-th time on; its sentence."""
    prepare(out)
    before = file_bytes(out)
    with pytest.raises(StorageError) as refusal, full_disk(Disk(out, full_from)):
        FLOWS[flow](given, out)
    said = str(refusal.value)
    assert str(out) in said and "(No space left on device): make space and run it again" in said
    assert "\n" not in said
    left = file_bytes(out)
    assert not [name for name in left if ".fresh" in name or ".lock" in name], left.keys()
    assert {name: left[name] for name in before} == before
    for name, content in left.items():  # whole, whatever there is of them
        if name.endswith(".json"):
            json.loads(content)
        if name.endswith(".pt"):
            torch.load(out / name, weights_only=True)
    return said


@pytest.mark.slow(8)
@pytest.mark.usefixtures("quick_figures")
@pytest.mark.parametrize("flow", FLOWS)
def test_a_full_disk_is_a_sentence_for_every_file(materials: Materials, tmp_path: Path, flow: str) -> None:
    disk = ask(flow, materials, tmp_path)
    for full_from in disk.sites(OFTEN):
        check_failure(flow, materials, tmp_path / f"from-{full_from}", full_from)


@pytest.mark.accuracy
@pytest.mark.slow(200)
@pytest.mark.usefixtures("quick_figures")
@pytest.mark.parametrize("flow", FLOWS)
def test_a_full_disk_is_a_sentence_at_every_place(materials: Materials, tmp_path: Path, flow: str) -> None:
    """With a second run that has the space again: it ends as one that never was without."""
    disk = ask(flow, materials, tmp_path)
    whole = tmp_path / "whole"
    for full_from in range(len(disk.asked)):
        out = tmp_path / f"from-{full_from}"
        check_failure(flow, materials, out, full_from)
        FLOWS[flow](materials, out)
        assert not [name for name in file_bytes(out) if ".fresh" in name or ".lock" in name]
        if flow == "train":
            assert sorted(path.name for path in (out / "runs/one").iterdir()) == FILES
            assert run_content(out / "runs/one", SPEED) == run_content(whole / "runs/one", SPEED)
        elif flow == "report":
            assert file_bytes(out) == file_bytes(whole)


@pytest.mark.usefixtures("quick_figures")
def test_a_report_that_finds_no_space_leaves_the_one_before(materials: Materials, tmp_path: Path) -> None:
    out = tmp_path / "results"
    prepare(out)
    run_report(materials, out)
    before = file_bytes(out)
    with full_disk(Disk(out)) as disk:
        run_report(materials, out)
    for full_from in disk.sites(ALL)[::5]:
        with pytest.raises(StorageError), full_disk(Disk(out, full_from)):
            run_report(materials, out)
        assert file_bytes(out) == before


def test_event_files_without_space_are_a_sentence(
    materials: Materials, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorBoard's own writer, as its thread hands the error on."""

    class Writer:
        def __init__(self, folder: Path, purge_step: int) -> None: ...

        def add_scalar(self, name: str, value: float, step: int) -> None:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            raise OSError(28, "No space left on device")

    module = SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with pytest.raises(StorageError, match=r"tensorboard cannot be written \(No space left on device\)"):
        train(small_job(materials.data, tmp_path / "run", epochs=1, tensorboard=True))
