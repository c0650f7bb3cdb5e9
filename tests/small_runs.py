"""Training runs of a second: a very small network on the demo set's first images."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from yolov9bench.data.coco import read_coco
from yolov9bench.data.demo import make_demo
from yolov9bench.evaluation import run_network
from yolov9bench.train import trainer
from yolov9bench.train.job import Job
from yolov9bench.zoo import RECIPES, ROWS
from yolov9bench.zoo.recipe import Recipe
from yolov9bench.zoo.specs import Head, yolov8

SPEC = yolov8("small", (8, 8, 16, 16, 16), (1, 1), Head("dense", 16, 16))
RECIPE = RECIPES["demo"].varied(
    run={"epochs": 3, "validation_interval": 1},
    augmentation={"image_size": 64, "close_mosaic": 1},
    optimizer={"nominal_batch": 2, "warmup_epochs": 0.0, "warmup_minimum_iterations": 0},
)
NOT_STEERED = {"warmup_bias_learning_rate": 0.0, "weight_decay": 0.0, "learning_rate": 0.0}  # nothing moves


FILES = ["best.pt", "last.pt", "log.jsonl", "records", "run.json"]  # of a run that has ended


class Killed(BaseException):
    """As sudden as SIGKILL for what does not expect it."""


def small_data(folder: Path) -> Path:
    """Five images to train on and three to validate on, six classes."""
    return make_demo(folder, train=5, val=3, image_size=96)


def with_numbers(recipe: Recipe, **numbers: Any) -> Recipe:
    """The recipe with other numbers, each in the part that has such a field."""
    for key, value in numbers.items():
        part = part_of(key)
        changed: dict[str, Any] = {part: replace(getattr(recipe, part), **{key: value})}
        recipe = replace(recipe, **changed)
    return recipe


def part_of(key: str) -> str:
    """The part of a recipe that has a field of this name; "" if none has."""
    return next((name.partition(".")[0] for name in RECIPE.numbers() if name.endswith(f".{key}")), "")


def small_job(data: Path, out: Path, **changes: Any) -> Job:
    """Three epochs of three iterations; changes are those of the recipe where it has such a field."""
    numbers = {key: changes.pop(key) for key in list(changes) if part_of(key)}
    row = replace(ROWS["yolov8-n"], spec=changes.pop("spec", SPEC))
    recipe = with_numbers(RECIPE, **numbers)
    job = Job(row, recipe, read_coco(data, "train"), read_coco(data, "val"), out, batch_size=2)
    return replace(job, **changes)


def stub_validation(monkeypatch: pytest.MonkeyPatch, values: Iterator[Any]) -> list[Any]:
    """AP as given, one a validation; an exception is raised instead. Returns what each one detected with."""
    seen: list[Any] = []

    def detected(*arguments: Any) -> list[Any]:
        seen.append(arguments)
        return []

    def metrics(*_: Any) -> dict[str, float]:
        value = next(values)
        if isinstance(value, BaseException):
            raise value
        return {"AP": value, "AP50": 1.0}

    monkeypatch.setattr(run_network, "run_inference", detected)
    monkeypatch.setattr(trainer, "coco_metrics", metrics)
    return seen


def file_bytes(out: Path) -> dict[str, bytes]:
    """Every file in a run's folder by its path there."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def run_content(out: Path, without: tuple[str, ...]) -> dict[str, Any]:
    """Everything in a run's folder, without some entries of its log, tensors as bytes."""

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items() if key not in without}
        return [plain(each) for each in value] if isinstance(value, list | tuple) else value

    lines = (out / "log.jsonl").read_text().splitlines()
    found = {name: plain(torch.load(out / name, weights_only=True)) for name in ("last.pt", "best.pt")}
    return found | {"log": [plain(json.loads(line)) for line in lines]}
