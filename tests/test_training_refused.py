"""A run's folder belongs to one configuration: what differs in a single setting is refused, or announced."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SPEC, file_bytes, small_data, small_job, stub_validation

from yolov9bench.config import ReproduceConfig
from yolov9bench.data.demo import NAMES
from yolov9bench.data.loading import Loading
from yolov9bench.errors import DatasetError, SettingsError, TrainingError
from yolov9bench.nn import build
from yolov9bench.train.checkpoint import read_log
from yolov9bench.train.job import Job, configuration_of, departures, recipe_for
from yolov9bench.train.trainer import train
from yolov9bench.weights import save
from yolov9bench.zoo import ROWS

OTHER_HASH = "0" * 64
CLASSES = dict(enumerate(NAMES))
SWAPPED = tuple(enumerate((*NAMES[1:], NAMES[0]), start=1))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run of one step that started from a checkpoint and is over."""
    place = tmp_path_factory.mktemp("run")
    save(place / "start.pt", build(SPEC, classes=6, seed=1), CLASSES)
    start = place / "start.pt"
    job = small_job(small_data(place / "demo"), place / "run", epochs=1, max_steps=1, start=start)
    with pytest.MonkeyPatch.context() as patch:
        stub_validation(patch, count(0.9, -0.1))
        train(job)
    return job


def other_start(job: Job, place: Path) -> Job:
    save(place / "other.pt", build(SPEC, classes=6, seed=2), CLASSES)
    return replace(job, start=place / "other.pt")


def with_data(job: Job, name: str, **changes: Any) -> Job:
    return replace(job, **{name: replace(getattr(job, name), **changes)})


# What is changed, alone, and the key by which it is refused.
REFUSED: dict[str, tuple[str, Callable[[Job, Path], Job]]] = {
    "row": ("row", lambda job, _: replace(job, row=replace(job.row, id="yolov8-s"))),
    "flip": (
        "recipe.augmentation.hflip_prob",
        lambda job, _: replace(job, recipe=job.recipe.varied(augmentation={"hflip_prob": 0.25})),
    ),
    "rate": (
        "recipe.optimizer.learning_rate",
        lambda job, _: replace(job, recipe=job.recipe.varied(optimizer={"learning_rate": 0.001})),
    ),
    "epochs": ("recipe.run.epochs", lambda job, _: replace(job, recipe=job.recipe.varied(run={"epochs": 2}))),
    "image size": (
        "recipe.augmentation.image_size",
        lambda job, _: replace(job, recipe=job.recipe.varied(augmentation={"image_size": 96})),
    ),
    "batch": ("batch_size", lambda job, _: replace(job, batch_size=3)),
    "classes": (
        "classes",
        lambda job, _: with_data(
            with_data(job, "train", categories=SWAPPED), "validation", categories=SWAPPED
        ),
    ),
    "train boxes": ("train", lambda job, _: with_data(job, "train", annotations_sha256=OTHER_HASH)),
    "train images": ("train", lambda job, _: with_data(job, "train", image_list_sha256=OTHER_HASH)),
    "val boxes": ("validation", lambda job, _: with_data(job, "validation", annotations_sha256=OTHER_HASH)),
    "val images": ("validation", lambda job, _: with_data(job, "validation", image_list_sha256=OTHER_HASH)),
    "seed": ("seed", lambda job, _: replace(job, seed=1)),
    "device": ("device", lambda job, _: replace(job, device="meta")),
    "precision": ("precision", lambda job, _: replace(job, precision="bfloat16")),
    "steps": ("max_steps", lambda job, _: replace(job, max_steps=2)),
    "no limit": ("max_steps", lambda job, _: replace(job, max_steps=None)),
    "start": ("start", other_start),
    "deterministic": ("deterministic", lambda job, _: replace(job, deterministic=True)),
    "compile": ("compile", lambda job, _: replace(job, compile=True)),
    "freeze": ("freeze", lambda job, _: replace(job, freeze=1)),
    "no start": ("start", lambda job, _: replace(job, start=None)),
}
ANNOUNCED = {
    "threads": ("torch.get_num_threads", 7),
    "python": ("platform.python_version", "3.99"),
}


def test_every_setting_of_a_run_has_a_case(ended: Job) -> None:
    refused = {key.partition(".")[0] for key, _ in REFUSED.values()} | {
        "world_size"
    }  # tested among processes
    assert not refused & {"threads", "versions"}
    assert configuration_of(ended).keys() == refused | {"threads", "versions"}


@pytest.mark.parametrize("name", REFUSED)
def test_a_run_with_another_setting_is_refused_and_left_as_it_is(
    ended: Job, name: str, tmp_path: Path
) -> None:
    key, change = REFUSED[name]
    before = file_bytes(ended.out)
    with pytest.raises(TrainingError, match=rf"holds a run with another {key}: "):
        train(change(ended, tmp_path))
    assert file_bytes(ended.out) == before


@pytest.mark.parametrize("name", ANNOUNCED)
def test_another_machine_is_announced_and_accepted(
    ended: Job, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place, value = ANNOUNCED[name]
    monkeypatch.setattr(place, lambda: value)
    with caplog.at_level(logging.WARNING):
        assert train(ended) == ended.out / "best.pt"
    (warning,) = (record.getMessage() for record in caplog.records)
    assert str(value) in warning and "bit for bit" in warning


def test_another_torch_is_announced(
    ended: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "__version__", "9.9.9")
    with caplog.at_level(logging.WARNING):
        train(ended)
    assert "9.9.9" in caplog.text


def test_what_decides_nothing_may_change(
    ended: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The number of workers, and where the checkpoint to start from lies."""
    assert ended.start is not None
    moved = tmp_path / "moved.pt"
    moved.write_bytes(ended.start.read_bytes())
    with caplog.at_level(logging.WARNING):
        train(replace(ended, start=moved, loading=Loading(workers=1)))
    assert caplog.text == ""


def test_other_weights_under_the_same_name_are_refused(ended: Job, tmp_path: Path) -> None:
    assert ended.start is not None
    job = replace(ended, start=tmp_path / "start.pt", out=tmp_path / "run")
    shutil.copytree(ended.out, job.out)
    (tmp_path / "start.pt").write_bytes(ended.start.read_bytes())
    train(job)
    save(tmp_path / "start.pt", build(SPEC, classes=6, seed=2), CLASSES)
    with pytest.raises(TrainingError, match="another start"):
        train(job)


def test_the_log_of_a_run_is_lines_of_json(ended: Job) -> None:
    (line,) = (ended.out / "log.jsonl").read_text().splitlines()
    assert read_log(ended) == [json.loads(line)]
    assert json.loads(line)["AP"] == 0.9


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("limit", 0), ("batch_size", 0), ("epochs", -1), ("limit", -1), ("seed", -1)],
)
def test_numbers_that_make_no_run_are_refused_by_name(name: str, value: int) -> None:
    with pytest.raises(SettingsError, match=f"^{name} is {value}: give "):
        ReproduceConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 16, 100])
def test_an_image_size_that_no_network_takes_is_refused_before_anything_is_written(
    ended: Job, tmp_path: Path, size: int
) -> None:
    job = replace(ended, recipe=ended.recipe.varied(augmentation={"image_size": size}), out=tmp_path / "run")
    with pytest.raises(SettingsError, match=f"image_size {size} is not a multiple of 32: take "):
        train(job)
    assert not job.out.exists()


@pytest.mark.parametrize("name", ["epochs", "limit", "batch_size"])
def test_the_smallest_numbers_are_accepted(name: str) -> None:
    assert getattr(ReproduceConfig(**{name: 1}), name) == 1  # type: ignore[arg-type]
    assert ReproduceConfig(seed=0).seed == 0


@pytest.mark.parametrize(
    ("row", "recipe", "epochs"),
    [
        ("yolov9-t", "demo", 16),
        ("yolov9-e", "demo", 4),
        ("yolov9-t", "small", 100),
        ("yolov9-t", "auto", 500),
    ],
)
def test_only_the_demo_recipe_counts_its_epochs_by_the_network(row: str, recipe: str, epochs: int) -> None:
    assert recipe_for(ROWS[row], recipe).run.epochs == epochs


@pytest.mark.parametrize(
    ("row", "batch_size", "precision", "recipe", "said"),
    [
        ("yolov8-n", 128, "float16", "auto", ["Exactly the published recipe."]),
        (
            "yolov8-n",
            48,
            "float16",
            "auto",
            ["48 images a step, 48 at a time, where 128 were trained on", "statistics of 48 images"],
        ),
        (
            "yolov8-n",
            16,
            "float16",
            "auto",
            ["64 images a step, 16 at a time, where 128 were trained on", "statistics of 16 images"],
        ),
        ("yolov8-n", 128, "float32", "auto", ["float32 throughout, where mixed precision was used"]),
        ("yolov8-n", 8, "float32", "demo", ["the recipe is `demo`, not the row's own"]),
    ],
)
def test_departures_from_the_published_recipe_are_said(
    ended: Job, row: str, batch_size: int, precision: Any, recipe: str, said: list[str]
) -> None:
    job = replace(
        ended,
        row=ROWS[row],
        recipe=recipe_for(ROWS[row], recipe),
        batch_size=batch_size,
        precision=precision,
        start=None,
    )
    lines = departures(job).splitlines()
    assert len(lines) == len(said)
    for line, sentence in zip(lines, said, strict=True):
        assert sentence in line


def test_processes_count_and_statistics_are_of_all_of_them_on_gpus(ended: Job) -> None:
    row = ROWS["yolov8-n"]
    job = replace(ended, row=row, recipe=recipe_for(row), batch_size=16, precision="float16", world_size=8)
    job = replace(job, start=None)
    assert departures(replace(job, device="cuda")) == "Exactly the published recipe."
    assert departures(job) == "- BatchNorm's statistics of 16 images, where SyncBN took those of 128"
    four = departures(replace(job, device="cuda", world_size=4))
    assert four == "- 64 images a step, 64 at a time, where 128 were trained on at once"


def test_a_changed_number_of_the_recipe_is_named(ended: Job) -> None:
    row = ROWS["yolov8-n"]
    job = replace(ended, row=row, recipe=recipe_for(row, image_size=320), batch_size=128, precision="float16")
    assert departures(replace(job, start=None)) == "- another augmentation.image_size"


def test_given_and_frozen_weights_are_departures(ended: Job) -> None:
    row = ROWS["yolov8-n"]
    job = replace(ended, row=row, recipe=recipe_for(row), batch_size=128, precision="float16", freeze=3)
    assert departures(job).splitlines() == [
        "- the weights begin as those of `start.pt`, not at random",
        "- the weights of the backbone's first 3 parts, stem and stages, are frozen",
    ]


@pytest.mark.parametrize(
    ("batch_size", "remedy"),
    [
        (2, "give batch_size 3, or image_size 64"),
        (1, "give batch_size 3, or image_size 64"),
        (4, "give batch"),
    ],
)
def test_one_image_alone_of_the_smallest_size_is_refused_before_the_first_step(
    batch_size: int, remedy: str, tmp_path: Path
) -> None:
    """Of five images: batches of 2, 2, 1, of one each, and of 4 and 1. Nothing is written."""
    job = small_job(small_data(tmp_path / "data"), tmp_path / "run", batch_size=batch_size, image_size=32)
    sentence = rf"^batch_size {batch_size} leaves one of 5 images of 32 px alone .*: {remedy}"
    with pytest.raises(SettingsError, match=sentence):
        train(job)
    assert not job.out.exists()


def test_the_remedies_of_that_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub_validation(monkeypatch, count(0.5, 0.1))
    data = small_data(tmp_path / "data")
    for changes in ({"batch_size": 3, "image_size": 32}, {"batch_size": 2, "image_size": 64}):
        job = small_job(data, tmp_path / str(changes["batch_size"]), epochs=1, **changes)
        train(job)
        assert len(read_log(job)) == 1


def test_other_classes_to_validate_on_are_refused_before_the_first_step(tmp_path: Path) -> None:
    job = small_job(small_data(tmp_path / "data"), tmp_path / "run")
    names = ((1, "other"), *job.validation.categories[1:])
    with pytest.raises(DatasetError, match="other"):
        train(with_data(job, "validation", categories=names))
    assert not job.out.exists()
