"""From what a user asks of a training to the Job that runs, and the run itself.

python -m yolov9bench train --row yolov9-t --dataset demo --out results/runs/train/mine
yolov9bench.train.jobs.train_row("yolov9-t", dataset="demo", out="results/runs/train/mine")
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from yolov9bench.config import TrainConfig
from yolov9bench.data.sources import choose_training_split, read_dataset, require_apart
from yolov9bench.evaluation import evaluate
from yolov9bench.train import trainer
from yolov9bench.train.loop import Precision
from yolov9bench.train.trainer import Job
from yolov9bench.zoo.recipes import DEMO, Recipe
from yolov9bench.zoo.rows import Row
from yolov9bench.zoo.rows import row as row_by_id


def train_row(row: str | Row, dataset: str | Path, out: str | Path, **given: Any) -> Path:
    """Train a row, or what is left of its run in `out`, and return the best checkpoint.

    row: the id of one of ours, or a Row of your own. dataset: a folder in COCO's format, or "demo". Other
    keywords are the fields of `TrainConfig`. Raises BenchErrors that name the offender and the remedy.
    """
    name = row.id if isinstance(row, Row) else row
    config = TrainConfig.from_names({"row": name, "dataset": dataset, "out": out, **given})
    chosen = row if isinstance(row, Row) else row_by_id(config.row)
    device = evaluate.resolve_device(config.device)
    choose_training_split(config.dataset, config.split, config.train_split)
    config.require_paths()
    return trainer.train(build_job(config, chosen, device))


def build_job(config: TrainConfig, row: Row, device: str) -> Job:
    """The Job that a Config asks for, with its data sets read; the same Config resumes the same run.

    DatasetError if an image is both trained on and validated on.
    """
    recipe = choose_recipe(config, row)
    split = choose_training_split(config.dataset, config.split, config.train_split)
    validation, training = (
        read_dataset(config.dataset, each, config.data_folder, config.limit, config.seed)
        for each in (config.split if config.dataset != "demo" else "val", split)
    )
    require_apart(training, validation)
    return Job(
        row,
        recipe,
        training,
        validation,
        out=config.out,
        batch_size=config.batch_size or recipe.images_per_gpu,
        seed=config.seed,
        device=device,
        precision=choose_precision(config, recipe, device),
        max_steps=config.max_steps,
        start=config.start,
    )


def choose_recipe(config: TrainConfig, row: Row) -> Recipe:
    """The recipe to train by, with the numbers that were given; no data set is read for it."""
    name = DEMO.name if (config.dataset, config.recipe) == ("demo", "auto") else config.recipe
    recipe = trainer.recipe_for(row, name, config.epochs, config.image_size)
    return recipe if config.learning_rate is None else replace(recipe, learning_rate=config.learning_rate)


def choose_precision(config: TrainConfig, recipe: Recipe, device: str) -> Precision:
    """What was asked for; "auto" is float16 where the recipe trains in mixed precision on a GPU."""
    if config.precision != "auto":
        return config.precision
    return "float16" if recipe.amp and device.startswith("cuda") else "float32"


def name_run(job: Job) -> str:
    """A folder name for each row and configuration: the row's id and 8 hex digits."""
    text = json.dumps(trainer.configured(job), sort_keys=True)
    return f"{job.row.id}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
