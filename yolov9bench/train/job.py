"""What one training run is: its row, recipe, data and folder, and all that decides its outcome."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from yolov9bench.config import TrainConfig
from yolov9bench.data.coco import CocoDataset, label_categories
from yolov9bench.data.loading import PLAIN, Loading, default_workers
from yolov9bench.data.order import images_each
from yolov9bench.data.sources import choose_training_split, read_dataset, require_apart
from yolov9bench.data.training_sample import training_sample
from yolov9bench.data.training_set import training_set
from yolov9bench.data.transforms import Sample
from yolov9bench.errors import SettingsError, require_choice, require_in_range
from yolov9bench.ops.ranks import find_ranks, processes_here
from yolov9bench.records import as_stored
from yolov9bench.records.training import recipe_departures
from yolov9bench.train.optim import images_per_step
from yolov9bench.train.state import PRECISIONS, Precision
from yolov9bench.weights import load
from yolov9bench.zoo.protocols import Protocol
from yolov9bench.zoo.recipe import Recipe
from yolov9bench.zoo.recipes import DEMO, find_recipe
from yolov9bench.zoo.rows import Row

# About six minutes on two CPU cores for the smallest networks, twelve for m; the largest need a GPU.
DEMO_EPOCHS = {"n": 24, "t": 16, "s": 10, "m": 7, "c": 6, "l": 6, "x": 4, "e": 4}
# What a configuration from before these keys had; a name leaves them out, so that it finds its earlier run.
EARLIER: dict[str, Any] = {"world_size": 1, "deterministic": False, "freeze": 0, "compile": False}


@dataclass(frozen=True, eq=False)
class Job:
    """One training run: what to train, on what, by which rules, and where it lies.

    `batch_size` counts the images of one iteration in each of `world_size` processes; up to the recipe's
    nominal batch gradients are accumulated. `start` is a checkpoint whose weights are taken instead of fresh
    ones; the first `freeze` parts of the backbone, stem and stages, keep them. `max_steps` ends a run early.
    `compile`: the network is translated by torch.compile, whose sums end in other last bits. `extend`: the
    run in `out` may have been begun with fewer epochs or steps. `activation_checkpointing`: less is kept for
    the gradients, which decides memory and no number. The last two are no part of what a run is.
    SettingsError for a number out of range or another precision.
    """

    row: Row
    recipe: Recipe
    train: CocoDataset
    validation: CocoDataset
    out: Path
    batch_size: int = 16
    seed: int = 0
    device: str = "cpu"
    precision: Precision = "float32"
    max_steps: int | None = None
    start: Path | None = None
    loading: Loading = PLAIN
    world_size: int = 1
    deterministic: bool = False
    tensorboard: bool = False
    command: list[str] | None = None  # for run.json, if not that of this process
    freeze: int = 0
    extend: bool = False
    compile: bool = False
    activation_checkpointing: bool = False

    def __post_init__(self) -> None:
        require_choice("precision", self.precision, PRECISIONS)
        require_in_range(1, batch_size=self.batch_size, max_steps=self.max_steps)
        require_in_range(0, seed=self.seed, freeze=self.freeze)

    @property
    def images_per_iteration(self) -> int:
        """Images of one iteration in all processes."""
        return self.batch_size * self.world_size

    @property
    def images_each(self) -> int:
        """Images that each process trains on in an epoch."""
        return images_each(len(self.train.images), self.world_size)


def make_job(config: TrainConfig, row: Row, device: str) -> Job:
    """The Job that a Config asks for, with its data sets read; the same Config resumes the same run.

    DatasetError if an image is both trained on and validated on.
    """
    recipe, loading = choose_recipe(config, row), choose_loading(config, device)
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
        batch_size=config.batch_size or recipe.run.images_per_gpu,
        seed=config.seed,
        device=device,
        precision=choose_precision(config, recipe, device),
        max_steps=config.max_steps,
        start=config.start,
        loading=loading,
        world_size=find_ranks().world_size,
        deterministic=config.deterministic,
        tensorboard=config.tensorboard,
        freeze=config.freeze,
        extend=config.extend,
        compile=config.compile,
        activation_checkpointing=config.activation_checkpointing,
    )


def choose_recipe(config: TrainConfig, row: Row) -> Recipe:
    """The recipe to train by, with the numbers that were given; no data set is read for it."""
    name = DEMO.name if (config.dataset, config.recipe) == ("demo", "auto") else config.recipe
    recipe = recipe_for(row, name, config.epochs, config.image_size)
    given = {} if config.learning_rate is None else {"learning_rate": config.learning_rate}
    return recipe.varied(optimizer=given)


def recipe_for(
    row: Row, name: str = "auto", epochs: int | None = None, image_size: int | None = None
) -> Recipe:
    """A recipe by name ("auto": the row's own) with other numbers where given; SettingsError if unknown.

    The demo recipe has fewer epochs for larger networks, whose steps cost more.
    """
    recipe = own_recipe(row) if name == "auto" else find_recipe(name)
    if epochs is None:
        usual = recipe.run.epochs
        epochs = DEMO_EPOCHS.get(row.size, usual) if recipe.name == DEMO.name else usual
    return recipe.varied(
        run={"epochs": epochs},
        augmentation={
            "close_mosaic": min(recipe.augmentation.close_mosaic, epochs),
            "image_size": recipe.augmentation.image_size if image_size is None else image_size,
        },
    )


def own_recipe(row: Row) -> Recipe:
    """How the row was trained; SettingsError where that is not known."""
    if row.recipe is None:
        known = row.spec.name if row.family == "yolov8" else f"{row.family}-{row.size}"
        raise SettingsError(f"the training of {row.id} is not known in full: train the row {known} instead")
    return row.recipe


def choose_precision(config: TrainConfig, recipe: Recipe, device: str) -> Precision:
    """What was asked for; "auto" is float16 where the recipe trains in mixed precision on a GPU."""
    if config.precision != "auto":
        return config.precision
    return "float16" if recipe.run.amp and device.startswith("cuda") else "float32"


def choose_loading(config: TrainConfig, device: str) -> Loading:
    """How batches are prepared: beside a GPU by workers on the cores that are left, unless told otherwise.

    On a CPU the network takes all cores itself.
    """
    on_gpu, local_ranks = device.startswith("cuda"), processes_here()
    usual = default_workers(local_ranks) if on_gpu else 0
    return Loading(
        workers=usual if config.workers is None else config.workers,
        cache=config.cache,
        cache_folder=config.cache_dir,
        pin_memory=on_gpu,
        local_ranks=local_ranks,
        pool_bytes=int(config.pool_gb * 1e9),
    )


def name_run(job: Job) -> str:
    """A folder name for each row and configuration: the row's id and 8 hex digits."""
    named = {key: value for key, value in configuration_of(job).items() if EARLIER.get(key) != value}
    text = json.dumps(named, sort_keys=True)
    return f"{job.row.id}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def configuration_of(job: Job) -> dict[str, Any]:
    """All that decides the outcome of a run, as plain data."""
    return {
        "row": job.row.id,
        "recipe": as_stored(job.recipe),
        "batch_size": job.batch_size,
        "classes": list(job.train.names),
        "train": [job.train.annotations_sha256, job.train.image_list_sha256],
        "validation": [job.validation.annotations_sha256, job.validation.image_list_sha256],
        "seed": job.seed,
        "device": job.device.partition(":")[0],  # which GPU decides nothing, another model is another device
        "precision": job.precision,
        "max_steps": job.max_steps,
        "start": None if job.start is None else load(job.start).sha256,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
        "world_size": job.world_size,
        "deterministic": job.deterministic,
        "freeze": job.freeze,
        "compile": job.compile,
    }


def validation_settings(job: Job) -> tuple[Protocol, tuple[int, ...]]:
    """The protocol that a run validates by, and the validation set's category of each label.

    SettingsError: an image size that no network takes. DatasetError: other classes than are trained on.
    """
    protocol = job.row.protocol.at_image_size(job.recipe.augmentation.image_size)
    names = dict(enumerate(job.train.names))
    return protocol, label_categories(job.validation, names, len(names))


def first_images(job: Job, count: int) -> list[Sample]:
    """The first images as the first epoch sees them."""
    images = training_set(job.train, job.recipe.augmentation.mask_refine)
    return [
        training_sample(images, index, job.recipe, job.seed, epoch=0)
        for index in range(min(count, len(images)))
    ]


def departures(job: Job) -> str:
    """What a run does otherwise than its published recipe, as a Markdown list."""
    said = list_departures(job, job.row.recipe)
    return "\n".join(f"- {each}" for each in said) or "Exactly the published recipe."


def list_departures(job: Job, usual: Recipe | None) -> list[str]:
    """What a run does otherwise than the `usual` recipe of its row, None where that is unknown."""
    said = recipe_departures(usual, as_stored(job.recipe))
    if job.start is not None:
        said.append(f"the weights begin as those of `{job.start.name}`, not at random")
    if job.freeze:
        said.append(f"the weights of the backbone's first {job.freeze} parts, stem and stages, are frozen")
    published = job.recipe.run.gpus * job.recipe.run.images_per_gpu
    images = job.images_per_iteration
    if images != published:
        step = images_per_step(job.recipe, images)
        said.append(f"{step} images a step, {images} at a time, where {published} were trained on at once")
    synchronised = job.world_size > 1 and job.device.startswith("cuda")
    if job.recipe.run.syncbn and not synchronised and job.batch_size != published:
        said.append(
            f"BatchNorm's statistics of {job.batch_size} images, where SyncBN took those of {published}"
        )
    if job.recipe.run.amp and job.precision == "float32":
        said.append("float32 throughout, where mixed precision was used")
    return said
