"""A run on frozen parts, on another class count than its start's, and one that gets more epochs."""

import json
import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SPEC, small_data, small_job, stub_validation
from torch import Tensor

from yolov9bench.errors import TrainingError
from yolov9bench.nn import build
from yolov9bench.train.freeze import set_training_mode
from yolov9bench.train.job import Job
from yolov9bench.train.trainer import prepare, train
from yolov9bench.weights import load, save
from yolov9bench.zoo.specs import with_class_width

PARTS = ("backbone.stem.", *(f"backbone.stages.{number}." for number in range(4)))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def stubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    stub_validation(monkeypatch, count(0.1, 0.1))


def started_job(data: Path, place: Path, classes: int = 9, **changes: Any) -> Job:
    """A run that starts from a file with another class count."""
    save(place / "start.pt", build(SPEC, classes, seed=1), {n: f"class {n}" for n in range(classes)})
    return small_job(data, place / "run", start=place / "start.pt", **changes)


def last_state(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(out / "last.pt", weights_only=True)["training"]["state"]
    return found


def unchanged(after: dict[str, Tensor], before: dict[str, Tensor]) -> set[str]:
    return {key for key, value in after.items() if torch.equal(value, before[key])}


@pytest.mark.parametrize(("freeze", "algorithm"), [(0, "adamw"), (1, "adamw"), (5, "sgd")])
def test_frozen_parts_keep_every_bit_and_others_move(
    data: Path, tmp_path: Path, freeze: int, algorithm: str
) -> None:
    """Weights, statistics and counts, of the network and of its average, after steps that decay weights."""
    job = started_job(data, tmp_path, freeze=freeze, algorithm=algorithm, weight_decay=0.1, epochs=2)
    given = load(tmp_path / "start.pt", training=True).detector.state_dict()
    before = prepare(job)[0].detector.state_dict()
    train(job)
    frozen = {key for key in before if key.startswith(PARTS[:freeze])}
    assert unchanged({key: given[key] for key in frozen}, before) == frozen
    state, best = last_state(job.out), load(job.out / "best.pt", training=True).detector.state_dict()
    for after in (state["detector"], state["ema"]["tensors"], best):
        kept = unchanged(after, before)
        assert frozen <= kept
        moving = {key for key in before if key.endswith(("conv.weight", "running_mean", "running_var"))}
        assert kept & moving == frozen & moving


def test_frozen_norms_alone_are_in_eval_mode(data: Path, tmp_path: Path) -> None:
    detector = prepare(small_job(data, tmp_path / "run", freeze=2))[0].detector
    set_training_mode(detector)
    modes = {name: module.training for name, module in detector.named_modules() if name.endswith("norm")}
    assert {name for name, training in modes.items() if not training} == {
        name for name in modes if name.startswith(PARTS[:2])
    }
    assert [name for name, each in detector.named_parameters() if not each.requires_grad] == [
        name for name, _ in detector.named_parameters() if name.startswith(PARTS[:2])
    ]


def test_a_frozen_run_is_resumed_to_the_same_end(data: Path, tmp_path: Path) -> None:
    """Cut after the first of two epochs; what is frozen comes from its own checkpoint then."""
    whole = started_job(data, tmp_path, freeze=3, epochs=2)
    train(whole)
    cut = replace(whole, out=tmp_path / "cut")
    shutil.copytree(whole.out, cut.out)
    (cut.out / "last.pt").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yolov9bench.train.trainer.is_done", lambda *_: False)
        patch.setattr("yolov9bench.train.loop.is_done", lambda counters, *_: counters["epoch"] >= 1)
        train(cut)
    assert last_state(cut.out)["epoch"] == 1
    train(cut)
    one, other = last_state(whole.out), last_state(cut.out)
    assert unchanged(one["detector"], other["detector"]) == one["detector"].keys()
    assert [entry["total"] for entry in one["log"]] == [entry["total"] for entry in other["log"]]


def test_a_training_keeps_the_width_of_a_wider_start(data: Path, tmp_path: Path) -> None:
    """And so does the run when it is resumed, by its own checkpoint."""
    job = small_job(data, tmp_path / "run", epochs=1, max_steps=1)
    save(tmp_path / "start.pt", build(with_class_width(SPEC, 24), 9, seed=1), None)
    job = replace(job, start=tmp_path / "start.pt")
    train(job)
    assert load(job.out / "best.pt").spec.head.class_width == 24
    assert load(job.out / "best.pt").detector.num_classes == 6
    assert (
        prepare(job, torch.load(job.out / "last.pt", weights_only=True))[0].detector.spec.head.class_width
        == 24
    )


def extended(job: Job, epochs: int, **changes: Any) -> Job:
    return replace(job, extend=True, recipe=job.recipe.varied(run={"epochs": epochs}), **changes)


@pytest.fixture
def ended(data: Path, tmp_path: Path) -> Job:
    """A run of three epochs of three steps."""
    job = small_job(data, tmp_path / "run")
    train(job)
    return job


def test_an_ended_run_gets_more_epochs(ended: Job, caplog: pytest.LogCaptureFixture) -> None:
    """It goes on where it ended, at the rates of the longer run, and run.json tells of both."""
    before = [json.loads(line) for line in (ended.out / "log.jsonl").read_text().splitlines()]
    longer = extended(ended, 5)
    train(longer)
    entries = [json.loads(line) for line in (ended.out / "log.jsonl").read_text().splitlines()]
    assert entries[:3] == before
    assert [(entry["epoch"], entry["steps"]) for entry in entries[3:]] == [(3, 12), (4, 15)]
    rate, last = (
        getattr(ended.recipe.optimizer, f"{name}") for name in ("learning_rate", "final_learning_rate_factor")
    )
    for entry in entries[3:]:
        assert entry["rate"] == pytest.approx(rate * ((1 - entry["epoch"] / 5) * (1 - last) + last))
    written = json.loads((ended.out / "run.json").read_text())
    assert written["recipe"]["run"]["epochs"] == 5
    assert written["changes"] == [{"steps": 9, "changed": ["recipe.run.epochs"], "epochs": [3, 5]}]
    assert "continues with another recipe.run.epochs" in caplog.text
    for again in (longer, replace(longer, extend=False)):  # which is now the run's own command
        train(again)
    train(extended(ended, 6))
    written = json.loads((ended.out / "run.json").read_text())
    assert [change["epochs"] for change in written["changes"]] == [[3, 5], [5, 6]]


def test_what_few_epochs_cut_off_of_the_closing_ones_comes_back(ended: Job) -> None:
    longer = extended(ended, 5)
    train(replace(longer, recipe=longer.recipe.varied(augmentation={"close_mosaic": 2})))
    written = json.loads((ended.out / "run.json").read_text())
    assert written["changes"][0]["changed"] == ["recipe.run.epochs", "recipe.augmentation.close_mosaic"]


def test_more_epochs_are_asked_for_by_name(ended: Job) -> None:
    with pytest.raises(
        TrainingError, match=r"another recipe\.run\.epochs: give .* \(or extend, which lets this"
    ):
        train(replace(extended(ended, 5), extend=False))
    with pytest.raises(
        TrainingError, match=r"another recipe\.run\.epochs: give its own settings, or another"
    ):
        train(extended(ended, 2))
    closing = ended.recipe.varied(augmentation={"close_mosaic": 2})
    for other in (
        replace(ended, extend=True, recipe=closing),
        extended(ended, 5, seed=1),
        extended(ended, 3, batch_size=1),
    ):
        with pytest.raises(TrainingError, match=r"holds a run with another .*: give its own settings, or"):
            train(other)
    with pytest.raises(
        TrainingError, match="none holds no run to extend: name its folder, or leave out extend"
    ):
        train(extended(replace(ended, out=ended.out.with_name("none")), 5))
    assert last_state(ended.out)["epoch"] == 3
