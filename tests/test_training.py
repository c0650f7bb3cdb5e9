"""Training runs: that they resume exactly where they stopped, and what they leave, refuse and say."""

import itertools
import json
import logging
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import FILES, stub_validation

from yolov9bench.data.coco import read_coco
from yolov9bench.errors import CheckpointError, SettingsError, TrainingError
from yolov9bench.records import as_stored, select
from yolov9bench.train import checkpoint, loop, trainer
from yolov9bench.train.job import Job, recipe_for
from yolov9bench.train.state import TERMS
from yolov9bench.train.trainer import describe_progress, train
from yolov9bench.weights import load
from yolov9bench.zoo import RECIPES, ROWS
from yolov9bench.zoo.specs import Head, yolov8

RESULTS = Path(__file__).parents[1] / "results"
SMALL = yolov8("small", (8, 8, 16, 16, 16), (1, 1), Head("dense", 16, 16))
RECIPE = RECIPES["demo"].varied(
    run={"epochs": 4, "validation_interval": 2},
    augmentation={"image_size": 64, "close_mosaic": 1},
    optimizer={"nominal_batch": 4, "warmup_minimum_iterations": 2},
)


def job_on(folder: Path, out: Path) -> Job:
    """Twelve iterations of a very small network on six painted images."""
    images = read_coco(folder, "val")
    row = replace(ROWS["yolov8-n"], spec=SMALL)
    return Job(row, RECIPE, images, images, out, batch_size=2)


@pytest.fixture
def job(tiny: Path, tmp_path: Path) -> Job:
    return job_on(tiny, tmp_path / "run")


@pytest.fixture(scope="module")
def whole_run(painted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of such a job that ran without interruption: only to read."""
    job = job_on(painted, tmp_path_factory.mktemp("whole") / "run")
    train(job)
    return job.out


class Killed(BaseException):
    """As sudden as SIGKILL for what does not expect it."""


def tensors(out: Path) -> dict[str, torch.Tensor]:
    """Every tensor of last.pt: weights, averages, statistics, momentum buffers."""
    found: dict[str, torch.Tensor] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[prefix] = value
        elif isinstance(value, dict):
            for key, each in value.items():
                walk(f"{prefix}.{key}", each)
        elif isinstance(value, list):
            for number, each in enumerate(value):
                walk(f"{prefix}.{number}", each)

    walk("", torch.load(out / "last.pt", weights_only=True))
    return found


def log(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_a_run_leaves_its_files_and_a_line_an_epoch(job: Job) -> None:
    best = train(job)
    assert sorted(path.name for path in job.out.iterdir()) == FILES
    entries = log(job.out)
    assert [entry["epoch"] for entry in entries] == [0, 1, 2, 3]
    assert [entry["AP"] is None for entry in entries] == [True, False, True, False]
    # Nine iterations of warm-up: one a step up to the fifth, then two, so 5 + (2, 2, 2) and one that waits.
    assert entries[-1]["steps"] == 8
    assert load(best).detector.num_classes == 2
    assert load(best).row == "yolov8-n"
    assert load(job.out / "last.pt", training=True).names == {0: "red", 1: "blue"}
    assert json.loads((job.out / "run.json").read_text())["recipe"]["augmentation"]["image_size"] == 64


@pytest.mark.parametrize(
    "instant", [1, 5, *(pytest.param(each, marks=pytest.mark.accuracy) for each in (4, 8, 11))]
)
def test_cut_anywhere_and_continued_ends_bit_for_bit_the_same(
    job: Job, whole_run: Path, instant: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterations: Iterator[int] = iter(range(100))
    whole = loop.forward_backward

    def cut_short(*arguments: Any) -> Any:
        if next(iterations) == instant:
            raise Killed
        return whole(*arguments)

    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)  # keep after every step
    monkeypatch.setattr(loop, "forward_backward", cut_short)
    with pytest.raises(Killed):
        train(job)
    (job.out / ".last-00000000.fresh.pt").write_bytes(b"half a checkpoint")
    train(job)
    ours, theirs = tensors(job.out), tensors(whole_run)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 300
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key
    assert sorted(path.name for path in job.out.iterdir()) == FILES
    for ours_entry, theirs_entry in zip(log(job.out), log(whole_run), strict=True):
        speed = {"seconds": 0, "images_per_second": 0}
        assert ours_entry | speed == theirs_entry | speed


def test_a_finished_run_says_so_and_changes_nothing(
    job: Job, whole_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(whole_run, job.out)
    before = (job.out / "last.pt").read_bytes()
    assert describe_progress(job).startswith("This run is finished: 4 epochs, ")
    with caplog.at_level(logging.INFO):
        train(job)
    assert "is finished: 4 epochs" in caplog.text
    assert (job.out / "last.pt").read_bytes() == before


def test_where_a_run_stands_is_said_before_it_goes_on(
    job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Epochs count from 1 in every sentence; the log's file counts from 0 as before."""
    stub_validation(monkeypatch, itertools.repeat(0.5))
    assert describe_progress(job) == "The first of 4 epochs has begun."

    def stop(log: list[Any]) -> None:
        raise Killed

    with caplog.at_level(logging.INFO), pytest.raises(Killed):
        train(job, stop)
    assert describe_progress(job) == "This run continues in epoch 2 of 4."
    with caplog.at_level(logging.INFO):
        train(job)
    said = [each.getMessage() for each in caplog.records if " of 4" in each.getMessage()]
    assert [re.findall(r"epoch (\d)", each) for each in said] == [["1"], ["2"], ["2"], ["3"], ["4"]]
    assert "resuming run in epoch 2 of 4, at iteration 1" in said
    assert [entry["epoch"] for entry in log(job.out)] == [0, 1, 2, 3]


def test_another_configuration_in_the_folder_is_refused_by_its_keys(job: Job, whole_run: Path) -> None:
    shutil.copytree(whole_run, job.out)
    other = replace(job, seed=1, recipe=RECIPE.varied(optimizer={"learning_rate": 0.02}))
    with pytest.raises(TrainingError, match=r"another recipe\.optimizer\.learning_rate, seed"):
        train(other)


def test_recipes_that_were_stored_without_parts_are_todays() -> None:
    """The committed measurements were made when a recipe was one flat list of numbers."""
    measured = select(RESULTS, kind="measure")
    stored = [record for record in measured if record.settings["recipe"] is not None]  # else none is known
    records = [record for record in stored if "run" not in record.settings["recipe"]]
    assert len(records) >= 6
    for record in records:
        recipe = ROWS[str(record.row)].recipe
        assert recipe is not None
        assert checkpoint.in_parts(record.settings["recipe"], recipe) == as_stored(recipe)


def test_a_run_whose_recipe_was_stored_without_parts_is_resumed(job: Job) -> None:
    train(replace(job, max_steps=1))
    content = torch.load(job.out / "last.pt", weights_only=True)
    earlier = {new: old for old, new in checkpoint.EARLIER_NAMES.items()}
    flat = {earlier.get(name, name.partition(".")[2]): value for name, value in job.recipe.numbers().items()}
    assert len(flat) == len(job.recipe.numbers())
    content["training"]["configuration"]["recipe"] = as_stored(flat | {"name": job.recipe.name})
    torch.save(content, job.out / "last.pt")
    train(replace(job, max_steps=1))
    with pytest.raises(TrainingError, match=r"another recipe\.run\.epochs"):
        train(replace(job, max_steps=1, recipe=job.recipe.varied(run={"epochs": 5})))


def test_other_threads_or_versions_are_announced(
    job: Job, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(replace(job, max_steps=1))
    monkeypatch.setattr("platform.python_version", lambda: "3.99")
    with caplog.at_level(logging.WARNING):
        train(replace(job, max_steps=1))
    assert "3.99" in caplog.text and "bit for bit" in caplog.text


def test_steps_are_limited(job: Job) -> None:
    train(replace(job, max_steps=2))
    assert log(job.out)[-1]["steps"] == 2


def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_checkpoint(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(replace(job, max_steps=None, recipe=RECIPE.varied(run={"epochs": 4})))

    def not_finite(outputs: Any, *_: Any) -> dict[str, torch.Tensor]:
        return dict.fromkeys(TERMS, outputs.main[0].class_logits.sum() * float("nan"))

    monkeypatch.setattr(loop, "detection_loss", not_finite)
    other = replace(job, out=job.out.with_name("other"))
    with pytest.raises(TrainingError, match=r"loss became nan in epoch 1, iteration 1"):
        train(other)
    assert not (other.out / "last.pt").exists()


def test_a_gpu_that_is_too_small_is_a_sentence(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "detection_loss", full)
    with pytest.raises(TrainingError, match=r"2 images of 64 px .* halve the batch size"):
        train(job)


def test_training_starts_from_given_weights_of_the_same_network(
    job: Job, whole_run: Path, tmp_path: Path
) -> None:
    best = whole_run / "best.pt"
    again = replace(job, start=best, out=tmp_path / "again", max_steps=1)
    state, _ = trainer.prepare(again)
    for key, value in load(best, training=True).detector.state_dict().items():
        assert torch.equal(state.detector.state_dict()[key], value)
    wider = replace(job.row, spec=replace(SMALL, stem=16))
    with pytest.raises(CheckpointError, match=r"is \(8, 3, 3, 3\) in the file, \(16, 3, 3, 3\)"):
        trainer.prepare(replace(again, row=wider))


def test_rows_without_a_known_recipe_name_one_with() -> None:
    with pytest.raises(SettingsError, match="train the row yolov9-c instead"):
        recipe_for(ROWS["ultralytics-yolov9c"])


def test_a_recipe_takes_other_numbers_and_keeps_its_closing_epochs_within() -> None:
    recipe = recipe_for(ROWS["yolov9-t"], epochs=3, image_size=128)
    assert (recipe.run.epochs, recipe.augmentation.close_mosaic, recipe.augmentation.image_size) == (
        3,
        3,
        128,
    )
    assert recipe.optimizer.learning_rate == ROWS["yolov9-t"].recipe.optimizer.learning_rate  # type: ignore[union-attr]
