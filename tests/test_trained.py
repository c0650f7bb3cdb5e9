"""What a training is told by its arguments, up to the Job that runs."""

import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import small_data

from yolov9bench import reproduce
from yolov9bench.config import ReproduceConfig, TrainConfig
from yolov9bench.data.loading import Loading
from yolov9bench.errors import SettingsError
from yolov9bench.evaluation import evaluate
from yolov9bench.train import trainer
from yolov9bench.train.job import Job, choose_loading, configuration_of
from yolov9bench.train.trainer import train_row
from yolov9bench.zoo import RECIPES, ROWS


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Splits train and val, and under other names with the images of one another."""
    root = small_data(tmp_path_factory.mktemp("data") / "demo")
    for old, new in (("val", "train2"), ("train", "val2"), ("val", "val2017"), ("train", "train2017")):
        shutil.copytree(root / old, root / new)
        boxes = root / "annotations" / f"instances_{old}.json"
        shutil.copy(boxes, boxes.with_name(f"instances_{new}.json"))
    return root


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Every Job that would have been trained."""
    found: list[Job] = []

    def noting(job: Job) -> Path:
        found.append(job)
        return job.out / "best.pt"

    monkeypatch.setattr(trainer, "train", noting)
    return found


def without_data(job: Job) -> Job:
    nothing: Any = None
    return replace(job, train=nothing, validation=nothing)


# What is given, and what of the Job is then another than without it.
GIVEN: dict[str, tuple[Any, Callable[[Job], Any], Any]] = {
    "row": ("yolov8-s", lambda job: job.row.id, "yolov8-s"),
    "out": (Path("elsewhere"), lambda job: job.out, Path("elsewhere")),
    "epochs": (7, lambda job: job.recipe.run.epochs, 7),
    "image_size": (96, lambda job: job.recipe.augmentation.image_size, 96),
    "batch_size": (5, lambda job: job.batch_size, 5),
    "recipe": ("small", lambda job: job.recipe.name, "small"),
    "seed": (3, lambda job: job.seed, 3),
    "max_steps": (11, lambda job: job.max_steps, 11),
    "device": ("cpu:0", lambda job: job.device, "cpu:0"),
    "precision": ("bfloat16", lambda job: job.precision, "bfloat16"),
    "split": ("val2", lambda job: (job.train.split, job.validation.split), ("train2", "val2")),
    "limit": (2, lambda job: (len(job.train.images), len(job.validation.images)), (2, 2)),
    "extend": (True, lambda job: job.extend, True),
    "learning_rate": (0.004, lambda job: job.recipe.optimizer.learning_rate, 0.004),
    "compile": (True, lambda job: job.compile, True),
    "activation_checkpointing": (True, lambda job: job.activation_checkpointing, True),
    "train_split": ("val2", lambda job: (job.train.split, job.validation.split), ("val2", "val2017")),
}


def test_every_argument_has_a_case() -> None:
    """The others are tested below, or change nothing of the Job."""
    rest = {"dataset", "start", "freeze", "data_dir", "deterministic", "workers", "cache", "cache_dir"}
    rest |= {"tensorboard", "pool_gb"}
    assert {field.name for field in fields(TrainConfig)} - GIVEN.keys() == rest


def test_how_batches_are_prepared_reaches_the_training(
    data: Path, jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word none beside a CPU, and beside a GPU as many as cores are left; it decides no outcome."""
    usual: dict[str, Any] = {"row": "yolov8-n", "dataset": str(data), "out": Path("here"), "recipe": "demo"}
    train_row(**usual, device="cpu")
    train_row(**usual, device="cpu", workers=3, cache="disk", cache_dir=tmp_path, pool_gb=0.5)
    train_row(**usual, device="cpu", deterministic=True)
    plain, given, deterministic = jobs
    assert plain.loading == Loading(pool_bytes=2_000_000_000)
    assert given.loading == Loading(3, "disk", tmp_path, pool_bytes=500_000_000)
    assert configuration_of(given) == configuration_of(plain)
    assert configuration_of(deterministic) == configuration_of(plain) | {"deterministic": True}
    monkeypatch.setattr("yolov9bench.data.loading.usable_cores", lambda: 16)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    config = TrainConfig("yolov8-n", "demo", Path("here"))
    assert choose_loading(config, "cuda:3") == Loading(
        3, pin_memory=True, local_ranks=4, pool_bytes=2_000_000_000
    )
    with pytest.raises(SettingsError, match="cache is disk, but there is no cache_dir"):
        train_row(**usual, device="cpu", cache="disk")
    for wrong in (-0.1, float("nan"), 1e7):
        with pytest.raises(SettingsError, match=r"^pool_gb is .*: give gigabytes from 0 to 1,000,000$"):
            train_row(**usual, device="cpu", pool_gb=wrong)


@pytest.mark.parametrize("name", GIVEN)
def test_an_argument_reaches_the_training_and_changes_nothing_else(
    data: Path, jobs: list[Job], name: str
) -> None:
    value, part, expected = GIVEN[name]
    usual: dict[str, Any] = {"row": "yolov8-n", "dataset": str(data), "out": Path("here"), "recipe": "demo"}
    usual |= {"device": "cpu"}
    train_row(**usual)
    assert train_row(**usual | {name: value}) == jobs[1].out / "best.pt"
    without, given = jobs
    assert part(without) != expected
    assert part(given) == expected
    if name in ("out", "batch_size", "seed", "max_steps", "device", "precision"):
        back = replace(given, **{name: getattr(without, name)})
        assert without_data(back).__dict__ == without_data(without).__dict__


def test_the_usual_training_is_that_of_the_row_on_the_validations_twin(data: Path, jobs: list[Job]) -> None:
    train_row("yolov8-n", str(data), Path("here"), device="cpu")
    (job,) = jobs
    assert (job.train.split, job.validation.split) == ("train2017", "val2017")
    assert (len(job.train.images), len(job.validation.images)) == (5, 3)
    assert job.recipe == RECIPES["yolov8-n"]
    assert (job.batch_size, job.seed, job.max_steps, job.start) == (16, 0, None, None)
    assert job.precision == "float32"


def test_a_start_reaches_the_training(data: Path, jobs: list[Job], tmp_path: Path) -> None:
    (tmp_path / "start.pt").touch()
    train_row("yolov8-n", str(data), tmp_path / "run", start=tmp_path / "start.pt", device="cpu")
    assert (jobs[0].start, jobs[0].freeze) == (tmp_path / "start.pt", 0)


def test_frozen_parts_are_those_of_a_start(data: Path, jobs: list[Job], tmp_path: Path) -> None:
    (tmp_path / "start.pt").touch()
    usual: dict[str, Any] = {
        "row": "yolov8-n",
        "dataset": str(data),
        "out": tmp_path / "run",
        "device": "cpu",
    }
    train_row(**usual, start=tmp_path / "start.pt", freeze=3)
    assert jobs[0].freeze == 3
    for freeze, sentence in ((6, "freeze is 6: give 5 or less"), (-1, "freeze is -1: give 0 or more")):
        with pytest.raises(SettingsError, match=sentence):
            train_row(**usual, start=tmp_path / "start.pt", freeze=freeze)
    with pytest.raises(
        SettingsError, match=r"freeze is 3, which would keep weights that begin .*: give start"
    ):
        train_row(**usual, freeze=3)


@pytest.mark.parametrize(
    ("recipe", "device", "given", "expected"),
    [
        ("auto", "cuda:1", "auto", "float16"),
        ("auto", "cuda:1", "float32", "float32"),
        ("auto", "cpu", "auto", "float32"),
        ("demo", "cuda:1", "auto", "float32"),  # its recipe is without mixed precision
        ("demo", "cuda:1", "bfloat16", "bfloat16"),
    ],
)
def test_mixed_precision_is_for_recipes_with_it_on_a_gpu(
    data: Path,
    jobs: list[Job],
    recipe: str,
    device: str,
    given: str,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evaluate, "resolve_device", lambda _: device)
    train_row("yolov8-n", str(data), Path("here"), recipe=recipe, precision=given)
    assert (jobs[0].device, jobs[0].precision) == (device, expected)


def job_of(data: Path, results: Path, **given: Any) -> Job:
    asked = ReproduceConfig(
        family="yolov8",
        size="n",
        checkpoint="train",
        dataset=str(data),
        results_dir=str(results),
        **{"split": "val", "device": "cpu", **given},
    )
    return reproduce.build_job(reproduce.make_plan(asked))


def test_a_notebooks_training_has_a_folder_for_each_configuration(data: Path, tmp_path: Path) -> None:
    usual = job_of(data, tmp_path)
    assert usual.out.parent == tmp_path / "runs" / "train"
    assert usual.out.name.startswith("yolov8-n-")
    assert job_of(data, tmp_path).out == usual.out
    others: list[dict[str, Any]] = [
        {"seed": 1},
        {"batch_size": 3},
        {"epochs": 2},
        {"image_size": 320},
        {"limit": 2},
        {"recipe": "small"},
        {"split": "val2"},
    ]
    folders = {job_of(data, tmp_path, **other).out for other in others}
    assert len(folders | {usual.out}) == 1 + len(others)


def test_a_limit_holds_for_both_splits(data: Path, tmp_path: Path) -> None:
    job = job_of(data, tmp_path, limit=2)
    assert (len(job.train.images), len(job.validation.images)) == (2, 2)
    assert job.row == ROWS["yolov8-n"]
