"""What a record of a training states, and what in it contradicts itself or the table's own recipe."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yolov9bench.io.provenance import Environment
from yolov9bench.records.contents import read_part
from yolov9bench.records.record import Record, as_stored, hash8
from yolov9bench.zoo.recipe import Recipe
from yolov9bench.zoo.rows import ROWS

HOURS_DECIMALS = 4


@dataclass(frozen=True)
class EpochResult:
    """One epoch, counted from 1, and the AP of its averaged detector on the validation set (0..1)."""

    epoch: int | None
    AP: float | None


@dataclass(frozen=True)
class TrainingPart:
    """One start of a run: when, with which arguments, by which code, and the device of each process."""

    start: str | None
    command: list[str] | None
    devices: list[str] | None
    environment: Environment


@dataclass(frozen=True)
class TrainValues:
    """How a run ended: `final` and `best` epoch, steps of the optimizer, hours, and the files it left.

    `device_hours`: the record's seconds, validation included, times the processes. `checkpoints`: the sha256
    of best.pt and last.pt. `parts`: each start of the run, the first one and those that resumed it.
    """

    final: EpochResult
    best: EpochResult
    steps: int | None
    device_hours: float | None
    checkpoints: dict[str, str] | None
    parts: list[TrainingPart] | None


@dataclass(frozen=True)
class TrainSettings:
    """What was trained by: the recipe as applied, and sentences on how it departs from the row's own.

    `row_recipe_sha256`: `recipe_hash` of the row's own, None where it is not known. `batch_size`: images of
    an iteration in each of the `processes`. `protocol`: that of the validation.
    """

    recipe: dict[str, Any] | None
    departures: list[str] | None
    row_recipe_sha256: str | None
    batch_size: int | None
    processes: int | None
    precision: str | None
    deterministic: bool | None
    freeze: int | None
    max_steps: int | None
    compile: bool | None
    activation_checkpointing: bool | None
    protocol: dict[str, Any] | None


@dataclass(frozen=True)
class DataFacts:
    """The images of a split that were used, by hash and count, as an evaluation has them."""

    split: str | None
    annotations_sha256: str | None
    image_list_sha256: str | None
    images: int | None


@dataclass(frozen=True)
class TrainInputs:
    """What went in. `start_sha256`: the weights that the run began with, None for fresh ones."""

    spec: str | None
    classes: int | None
    demo: bool | None
    train: DataFacts
    validation: DataFacts
    start_sha256: str | None


@dataclass(frozen=True)
class TrainContents:
    """What a record of kind "train" states."""

    values: TrainValues
    settings: TrainSettings
    inputs: TrainInputs
    environment: Environment


def read_train(record: Record) -> TrainContents:
    """What a training states; RecordError names the first key whose value has a wrong type."""
    return read_part(TrainContents, vars(record), f"record {hash8(record)}: ")


def recipe_departures(usual: Recipe | None, applied: Mapping[str, Any]) -> list[str]:
    """How a recipe, as a record stores it, departs from the row's own (None: unknown), in sentences."""
    if usual is None or usual.name != applied.get("name"):
        return [f"the recipe is `{applied.get('name')}`, not the row's own"]
    numbers = {
        f"{part}.{key}": value
        for part, values in applied.items()
        if isinstance(values, Mapping)
        for key, value in values.items()
    }
    own = as_stored(usual.numbers())
    changed = [name for name in {**own, **numbers} if numbers.get(name) != own.get(name)]
    return [f"another {', '.join(changed)}"] if changed else []


def recipe_hash(recipe: Recipe | None) -> str | None:
    """The sha256 of a recipe as a record stores it; departures from a recipe that changed are no lie."""
    text = json.dumps(as_stored(recipe), sort_keys=True)
    return None if recipe is None else hashlib.sha256(text.encode()).hexdigest()


def find_false_claims(record: Record, stated: TrainContents) -> list[str]:
    """What a training's record says that its other statements, or its row's recipe, contradict."""
    values, settings, faults = stated.values, stated.settings, []
    if not values.checkpoints or settings.recipe is None:
        faults.append("it names no checkpoint or no recipe")
    row = ROWS.get(record.row or "")
    is_todays = row is not None and recipe_hash(row.recipe) == settings.row_recipe_sha256
    if row is not None and is_todays and settings.recipe is not None:
        expected = recipe_departures(row.recipe, settings.recipe)
        said = [each for each in settings.departures or [] if each.startswith(("the recipe is ", "another "))]
        if said != expected:
            faults.append(f"its recipe departs from the row's by {expected or 'nothing'}, and it says {said}")
    hours = device_hours(record.seconds, settings.processes or 0)
    if values.device_hours is None or not math.isclose(values.device_hours, hours):
        faults.append(f"device_hours is {values.device_hours}, its seconds and processes give {hours}")
    if (values.best.AP or 0.0) < (values.final.AP or 0.0):
        faults.append(f"the best AP {values.best.AP} is below the final one {values.final.AP}")
    return faults


def device_hours(seconds: float, processes: int) -> float:
    """Hours of all processes' devices."""
    return round(seconds * processes / 3600, HOURS_DECIMALS)
