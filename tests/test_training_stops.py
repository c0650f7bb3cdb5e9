"""Runs that diverge, run out of memory or end early: what stays in their folder, and how they resume."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from yolov9bench.data.coco import read_coco
from yolov9bench.errors import DatasetError, SettingsError, TrainingError
from yolov9bench.evaluation import run_network
from yolov9bench.train import loop, trainer
from yolov9bench.train.checkpoint import is_finished, rebatch
from yolov9bench.train.job import Job, configuration_of
from yolov9bench.train.state import State
from yolov9bench.train.trainer import train
from yolov9bench.weights import load
from yolov9bench.zoo import RECIPES, ROWS
from yolov9bench.zoo.specs import Head, yolov8

SMALL = yolov8("small", (8, 8, 16, 16, 16), (1, 1), Head("dense", 16, 16))
RECIPE = RECIPES["yolov8-n"].varied(
    run={"epochs": 3},
    augmentation={"image_size": 64, "close_mosaic": 3},
    optimizer={"nominal_batch": 2, "warmup_minimum_iterations": 2},
)


@pytest.fixture
def job(tiny: Path, tmp_path: Path) -> Job:
    """Three epochs of three iterations, each with a step, on six painted images."""
    images = read_coco(tiny, "val")
    row = replace(ROWS["yolov8-n"], spec=SMALL)
    return Job(row, RECIPE, images, images, tmp_path / "run", batch_size=2)


def saved(job: Job) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(job.out / "last.pt", weights_only=True)["training"]
    return content


def run_json(job: Job) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((job.out / "run.json").read_text())
    return content


def failing(at: int, how: Callable[..., Any]) -> Callable[..., Any]:
    """`loop.forward_backward`, but for one iteration, counted over all epochs, where `how` is run."""
    whole, calls = loop.forward_backward, iter(range(10**6))

    def accumulate(*arguments: Any) -> Any:
        return how(*arguments) if next(calls) == at else whole(*arguments)

    return accumulate


def nan_gradient(state: State, *rest: Any) -> Any:
    losses = loop_forward_backward(state, *rest)
    next(state.detector.parameters()).grad.fill_(math.nan)  # type: ignore[union-attr]
    return losses


loop_forward_backward = loop.forward_backward


def out_of_memory(*_: Any) -> Any:
    raise TrainingError("2 images of 64 px do not fit into the GPU's memory: halve the batch size")


@pytest.mark.parametrize(("at", "epochs_kept"), [(5, 1), (2, 0)], ids=["last of epoch 1", "last of epoch 0"])
def test_a_gradient_that_is_not_finite_leaves_the_last_good_checkpoint(
    job: Job, monkeypatch: pytest.MonkeyPatch, at: int, epochs_kept: int
) -> None:
    """The last step of an epoch, just before its checkpoint."""
    monkeypatch.setattr(loop, "forward_backward", failing(at, nan_gradient))
    kept = "holds the last good state" if epochs_kept else "no checkpoint was written yet"
    with pytest.raises(TrainingError, match=rf"gradients became nan in epoch {epochs_kept + 1}, .*{kept}"):
        train(job)
    assert (job.out / "last.pt").exists() == bool(epochs_kept)
    if epochs_kept:
        content = saved(job)["state"]
        assert content["epoch"] == epochs_kept
        assert all(value.isfinite().all() for value in content["detector"].values())
    assert "gradients became nan" in run_json(job)["stopped"]


def test_statistics_that_are_not_finite_are_not_kept(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by a step, so that no gradient tells: a running mean, in the second epoch."""

    def spoil(state: State, *rest: Any) -> Any:
        losses = loop_forward_backward(state, *rest)
        loop.running_statistics(state.detector)[0].fill_(math.inf)
        return losses

    monkeypatch.setattr(loop, "forward_backward", failing(5, spoil))
    with pytest.raises(TrainingError, match=r"weights became NaN or infinite \(first backbone"):
        train(job)
    assert saved(job)["state"]["epoch"] == 1
    loaded = load(job.out / "last.pt", training=True).detector
    assert all(buffer.isfinite().all() for buffer in loaded.buffers())


REMEDIES = {
    "precision": lambda job: replace(job, precision="bfloat16"),
    "batch_size": lambda job: replace(job, batch_size=1),
    "recipe.optimizer.learning_rate": lambda job: replace(
        job, recipe=job.recipe.varied(optimizer={"learning_rate": 0.001})
    ),
}


@pytest.mark.parametrize("remedy", REMEDIES)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(nan_gradient, id="diverged"),
        pytest.param(out_of_memory, id="memory", marks=pytest.mark.accuracy),
    ],
)
def test_a_stopped_run_accepts_the_remedies_of_its_error(
    job: Job, monkeypatch: pytest.MonkeyPatch, remedy: str, fault: Callable[..., Any]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "forward_backward", failing(4, fault))
        with pytest.raises(TrainingError, match="train in the same folder with precision float32"):
            train(job)
    best = train(REMEDIES[remedy](job))
    assert load(best).detector.num_classes == 2
    assert saved(job)["state"]["epoch"] == 3
    run = run_json(job)
    assert "stopped" not in run
    assert run["changes"] == [{"steps": 3, "changed": [remedy]}]
    assert saved(job)["configuration"] == configuration_of(REMEDIES[remedy](job))
    with pytest.raises(TrainingError, match=f"another {remedy}"):  # the error of old is over
        train(job)


@pytest.mark.parametrize("remedy", REMEDIES)
def test_a_run_that_was_only_cut_refuses_them(job: Job, remedy: str) -> None:
    train(replace(job, recipe=job.recipe.varied(run={"epochs": 3})))
    with pytest.raises(TrainingError, match=f"another {remedy}"):
        train(REMEDIES[remedy](job))


def test_nothing_else_is_accepted_after_a_stop(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "forward_backward", failing(4, nan_gradient))
        with pytest.raises(TrainingError, match="diverged"):
            train(job)
    with pytest.raises(TrainingError, match=r"another (seed, precision|precision, seed)"):
        train(replace(job, seed=1, precision="bfloat16"))


def test_another_batch_size_goes_on_at_the_same_image(job: Job) -> None:
    """By hand: two batches of two are four images, so batch 4 of six batches of one; the mean loss stays."""
    state, _ = trainer.prepare(job)
    state.epoch, state.batch, state.iteration, state.sums["total"] = 2, 2, 8, 10.0
    rebatch(state, before=2, now=1, images=6)
    assert (state.epoch, state.batch, state.iteration) == (2, 4, 16)
    assert state.sums["total"] == 20.0


def test_a_run_cut_between_its_last_step_and_its_validation_is_ended(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint in mid-epoch that has all its steps: what is missing is the epoch's end, with best.pt."""
    short = replace(job, max_steps=4)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "validate", lambda job, state: 1 / 0 if state.steps == 4 else None)
        with pytest.raises(ZeroDivisionError):
            train(short)
    assert (saved(job)["state"]["steps"], saved(job)["state"]["batch"]) == (4, 1)
    assert not (job.out / "best.pt").exists()
    assert not is_finished(short)
    best = train(short)
    assert load(best).row == "yolov8-n"
    assert is_finished(short)
    assert saved(job)["state"]["steps"] == 4
    assert [json.loads(line)["steps"] for line in (job.out / "log.jsonl").read_text().splitlines()] == [3, 4]


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_run_ended_by_its_steps_has_a_best_checkpoint(job: Job, steps: int) -> None:
    assert load(train(replace(job, max_steps=steps))).detector.num_classes == 2


@pytest.mark.parametrize(("name", "value"), [("max_steps", 0), ("batch_size", 0), ("batch_size", -1)])
def test_numbers_below_one_are_refused(job: Job, name: str, value: int) -> None:
    with pytest.raises(SettingsError, match=f"{name} is {value}: give 1 or more"):
        replace(job, **{name: value})  # type: ignore[arg-type]


def test_an_unknown_precision_is_refused(job: Job) -> None:
    with pytest.raises(SettingsError, match="no precision 'float8'"):
        replace(job, precision="float8")  # type: ignore[arg-type]


@pytest.mark.parametrize("crowds", [False, True])
def test_a_validation_set_without_objects_is_refused_before_the_first_step(job: Job, crowds: bool) -> None:
    annotations = [entry | {"iscrowd": 1} for entry in job.validation.annotations] if crowds else []
    empty = replace(job.validation, annotations=annotations)
    with pytest.raises(DatasetError, match=r"val of .* has no objects to validate on"):
        train(replace(job, validation=empty))
    assert not job.out.exists()


def test_classes_of_the_validation_set_are_checked_before_the_first_step(job: Job) -> None:
    other = replace(job.validation, categories=((1, "red"), (2, "green")))
    with pytest.raises(DatasetError, match="green"):
        train(replace(job, validation=other))
    assert not job.out.exists()


def test_validation_runs_in_full_float32(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """As evaluation does: on a GPU products and convolutions would be rounded to TF32 otherwise."""
    seen = []
    backends: Any = torch.backends  # mypy does not see all their attributes
    detected = run_network.run_inference

    def spy(*arguments: Any) -> Any:
        seen.append((backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision))
        return detected(*arguments)

    monkeypatch.setattr(run_network, "run_inference", spy)
    train(replace(job, max_steps=1))
    assert seen == [("ieee", "ieee")]
    assert backends.cudnn.conv.fp32_precision != "ieee"


def test_settings_of_an_older_optimiser_are_not_taken_over(job: Job) -> None:
    """A file written with fused SGD continues with the present one, to the bit."""
    whole = replace(job, out=job.out.with_name("whole"))
    train(whole)
    train_some(job)
    content = torch.load(job.out / "last.pt", weights_only=True)
    for group in content["training"]["state"]["optimizer"]["param_groups"]:
        group |= {"fused": True, "foreach": False, "lr": 1e9}
    torch.save(content, job.out / "last.pt")
    train(job)
    ours, theirs = (saved(each)["state"] for each in (job, whole))
    assert [group["fused"] for group in ours["optimizer"]["param_groups"]] == [None] * 3
    for name, value in theirs["detector"].items():
        assert torch.equal(ours["detector"][name], value), name


def train_some(job: Job) -> None:
    """Leave a run after its first epoch, as a kill would."""

    class Killed(BaseException):
        pass

    def kill(*_: Any) -> Any:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "forward_backward", failing(4, kill))
        with pytest.raises(Killed):
            train(job)


@pytest.mark.parametrize(
    ("part", "number"),
    [("momentum", 1.7e38), ("momentum", math.nan), ("weights", math.inf), ("averages", math.nan)],
)
def test_a_checkpoint_with_impossible_numbers_is_refused(job: Job, part: str, number: float) -> None:
    train_some(job)
    content = torch.load(job.out / "last.pt", weights_only=True)
    state = content["training"]["state"]
    tensors = {
        "momentum": state["optimizer"]["state"][5],
        "weights": state["detector"],
        "averages": state["ema"]["tensors"],
    }[part]
    name = next(iter(tensors))
    tensors[name].view(-1)[0] = number
    torch.save(content, job.out / "last.pt")
    with pytest.raises(
        TrainingError, match=r"impossible numbers in 1 tensors .* start again in another folder"
    ):
        train(job)


def test_every_image_is_trained_once_after_a_change_of_batch_size(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The epoch in which the run stopped: its first batch in pairs, the rest one by one, none twice."""
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "forward_backward", failing(4, out_of_memory))
        with pytest.raises(TrainingError, match="halve the batch size"):
            train(job)
    sizes = []

    def spy(state: State, images: torch.Tensor, *rest: Any) -> Any:
        sizes.append((state.epoch, len(images)))
        return loop_forward_backward(state, images, *rest)

    monkeypatch.setattr(loop, "forward_backward", spy)
    train(replace(job, batch_size=1))
    assert sizes == [(1, 1)] * 4 + [(2, 1)] * 6


def test_a_validation_that_does_not_fit_stops_the_run_and_accepts_a_smaller_batch(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(run_network, "detect_batch", full)
        with pytest.raises(TrainingError, match=r"2 images of 64 px does not fit .*: halve the batch size"):
            train(job)
    assert "halve the batch size" in run_json(job)["stopped"]
    train(replace(job, batch_size=1))
    assert is_finished(replace(job, batch_size=1))


def test_a_step_of_one_image_that_does_not_fit_names_no_smaller_batch() -> None:
    assert "take a GPU with more memory" in str(loop.too_large(1, RECIPE))
