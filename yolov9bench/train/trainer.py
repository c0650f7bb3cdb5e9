"""Train one row: its recipe on a data set, in a folder where the same command resumes the run.

python -m yolov9bench train --row yolov9-t --dataset demo --out results/runs/train/mine
yolov9bench.train_row("yolov9-t", dataset="demo", out="results/runs/train/mine")
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from yolov9bench.config import TrainConfig, from_root
from yolov9bench.data.loader import TrainingBatches
from yolov9bench.data.sources import choose_training_split, require_split
from yolov9bench.errors import TrainingError
from yolov9bench.evaluation import evaluate, run_network
from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.io.machine import device_name
from yolov9bench.io.progress import counted
from yolov9bench.nn.detector import build
from yolov9bench.nn.recomputed import recompute_activations
from yolov9bench.ops.distributed import (
    broadcast_from_main,
    current_ranks,
    first_of_machine_first,
    process_group,
    value_of_main,
)
from yolov9bench.ops.kept_memory import kept_memory
from yolov9bench.ops.ranks import find_ranks, own_device
from yolov9bench.predict.batches import Batches
from yolov9bench.train.checkpoint import (
    note_stop,
    only_one,
    read_checkpoint,
    read_run,
    remedy,
    resume,
    save_checkpoint,
    write_run,
)
from yolov9bench.train.checks import require_usable
from yolov9bench.train.damaged import sound
from yolov9bench.train.event_files import event_files, require_writer
from yolov9bench.train.freeze import freeze_backbone
from yolov9bench.train.initialise import initialise_head
from yolov9bench.train.job import Job, configuration_of, make_job, validation_settings
from yolov9bench.train.loop import Hooks, fit, too_large
from yolov9bench.train.optim import Schedule
from yolov9bench.train.record import note_part, timed, write_record
from yolov9bench.train.state import State, is_done, make_state
from yolov9bench.weights import save
from yolov9bench.weights.start import fit_class_width, take_weights
from yolov9bench.zoo.rows import Row
from yolov9bench.zoo.rows import row as row_by_id
from yolov9bench.zoo.specs import Spec, for_classes, spec_from_dict, with_class_width

logger = logging.getLogger("yolov9bench")


def train_row(row: str | Row, dataset: str | Path, out: str | Path, **given: Any) -> Path:
    """Train a row, or what is left of its run in `out`, and return the best checkpoint.

    row: the id of one of ours, or a Row of your own. dataset: a folder in COCO's format, or "demo". Other
    keywords are the fields of `TrainConfig`. Raises BenchErrors that name the offender and the remedy.
    """
    name = row.id if isinstance(row, Row) else row
    config = TrainConfig.from_names({"row": name, "dataset": dataset, "out": out, **given})
    chosen = row if isinstance(row, Row) else row_by_id(config.row)
    device = own_device(evaluate.resolve_device(config.device), find_ranks())
    split = choose_training_split(config.dataset, config.split, config.train_split)
    config.require_paths()
    for each in (config.split, split):
        require_split(config.dataset, each)
    if config.tensorboard:
        require_writer()
    with process_group(device):
        with first_of_machine_first():  # which fetches or draws the data set
            job = make_job(config, chosen, device)
        return train(job)


def train(job: Job, watch: Callable[[list[dict[str, Any]]], object] | None = None) -> Path:
    """Run a job, or what is left of it, and return its best checkpoint; `watch` sees the log as it grows.

    `job.out` holds last.pt (to resume from), best.pt (the averaged detector of highest AP), log.jsonl (a line
    an epoch), run.json (the configuration) and, once the run has ended, its record in records/. TrainingError
    if the folder belongs to another configuration, and for a run that diverges or does not fit into memory:
    last.pt then holds the last state that was finite, and the same folder accepts what the error proposes
    (`changes.REMEDIES`). BusyError if another process trains in the folder. A job that extends its run may
    have more epochs than it was begun with.
    """
    configuration = configuration_of(job)
    require_usable(job)
    with only_one(job):
        return run_job(job, configuration, watch)


def run_job(
    job: Job, configuration: dict[str, Any], watch: Callable[[list[dict[str, Any]]], object] | None
) -> Path:
    """Train what is left of a job, as `train` does once the folder is its own."""
    content = read_checkpoint(job)
    if job.extend and content is None:
        raise TrainingError(f"{job.out} holds no run to extend: name its folder, or leave out extend")
    state, schedule = prepare(job, content)
    resumes = content is not None
    if content is not None:
        resume(job, state, configuration, content)
    del content  # as large as the run's state, and not needed while it trains
    if is_done(vars(state), job.recipe.run.epochs, job.max_steps):
        done = job.out.name, state.epoch, state.steps
        logger.info("%s is finished: %d epochs, %d steps; extend and more epochs let it go on", *done)
        write_record(job, state, configuration)  # which a run that was killed as it ended lacks
        return job.out / "best.pt"
    batches = TrainingBatches(
        job.train, job.recipe, job.batch_size, job.seed, ranks=current_ranks(), loading=job.loading
    )
    if not resumes:  # only now: a data set that cannot be trained on leaves nothing behind
        write_run(job, configuration)
    note_part(job, resumes)
    announce(job, state)
    events = job.out / "tensorboard" if job.tensorboard and current_ranks().is_main else None
    try:
        with (
            chosen_algorithms(job),
            kept_memory() if job.device == "cpu" else nullcontext(),  # a GPU has an allocator of its own
            batches.watched(),
            event_files(events, state.iteration) as show,
        ):
            hooks = Hooks(
                after_epoch=lambda state: validate(job, state),
                save=timed(state, lambda state: save_checkpoint(job, state, configuration, watch)),
                show=show,
            )
            fit(state, schedule, batches.of_epoch, job.precision, hooks, job.max_steps)
    except TrainingError as error:
        note_stop(job, configuration, error)
        raise TrainingError(f"{error}; {remedy(job)}") from error
    if read_run(job.out).get("stopped"):
        write_run(job, configuration)
    write_record(job, state, configuration)
    return job.out / "best.pt"


def describe_progress(job: Job) -> str:
    """Where a job stands before it is run, in a sentence: begun, to be continued or finished."""
    content, epochs = read_checkpoint(job), job.recipe.run.epochs
    if content is None:
        return f"The first of {epochs} epochs has begun."
    state = content.get("training", {}).get("state", {"epoch": 0, "steps": 0, "batch": 0})
    if is_done(state, epochs, job.max_steps):
        return f"This run is finished: {state['epoch']} epochs, {state['steps']} steps. Nothing is trained."
    return f"This run continues in epoch {state['epoch'] + 1} of {epochs}."


def announce(job: Job, state: State) -> None:
    """Say before the first step what will run, from where, how and where its checkpoints go."""
    recipe = job.recipe
    several = f" in {job.world_size} processes" if job.world_size > 1 else ""
    logger.info(
        "training %s by %s on %s of %s%s: %s, %s of %d px an iteration, %s on %s",
        job.row.id,
        recipe.name,
        counted(len(job.train.images), "images"),
        job.train.split,
        several,
        counted(recipe.run.epochs, "epochs"),
        counted(job.images_per_iteration, "images"),
        recipe.augmentation.image_size,
        job.precision,
        device_name(job.device),
    )
    if state.iteration:
        place = state.epoch + 1, recipe.run.epochs, state.batch + 1
        logger.info("resuming %s in epoch %d of %d, at iteration %d", job.out.name, *place)
    folder = from_root(job.out)
    logger.info("%s gets last.pt, from which the same command resumes, and best.pt", folder)


@contextmanager
def chosen_algorithms(job: Job) -> Iterator[None]:
    """For a deterministic run, let torch refuse what may add numbers up in another order; it slows a GPU.

    cuBLAS reads its variable when it is first used. No test here reaches a GPU's algorithms.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if job.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def prepare(job: Job, content: dict[str, Any] | None = None) -> tuple[State, Schedule]:
    """A fresh state and its schedule; content: the checkpoint to resume from, if there is one."""
    detector = build(choose_spec(job, content), len(job.train.categories), job.seed)
    if job.recipe.run.head_initialisation == "kaiming-normal":
        initialise_head(detector, job.seed)
    if job.start is not None and content is None:
        take_weights(detector, job.start, job.train.names)
    freeze_backbone(detector, job.freeze)
    detector = detector.to(job.device)
    if job.device.startswith("cuda"):
        detector = detector.to(memory_format=torch.channels_last)
    batches, images = math.ceil(job.images_each / job.batch_size), job.images_per_iteration
    schedule = Schedule(job.recipe, batches, job.recipe.run.epochs, images)
    state = make_state(detector, job.recipe, images, job.precision)
    if job.activation_checkpointing:
        recompute_activations(detector)
    if job.compile:
        detector.compile(dynamic=False)
    return state, schedule


def choose_spec(job: Job, content: dict[str, Any] | None) -> Spec:
    """The network as the row's source builds it for the data set's classes.

    One that starts from a wider class branch keeps its width, and a run that is resumed keeps that which it
    began with, which earlier versions took from the row for any class count.
    """
    fields = (content or {}).get("spec")
    with sound(job.out / "last.pt"):
        begun_with = None if fields is None else spec_from_dict(fields)
    if begun_with and with_class_width(begun_with, 0) == with_class_width(job.row.spec, 0):
        return begun_with
    spec = for_classes(job.row.spec, len(job.train.categories), job.row.source)
    return spec if job.start is None else fit_class_width(spec, job.start)


def validate(job: Job, state: State) -> float | None:
    """AP of the averaged detector after the epochs that the recipe validates; the best one is written."""
    recipe, epoch = job.recipe, state.epoch
    is_closing = epoch > recipe.run.epochs - recipe.augmentation.close_mosaic
    is_due = is_closing or epoch % recipe.run.validation_interval == 0
    if not is_due and not is_done(vars(state), recipe.run.epochs, job.max_steps):
        return None
    protocol, categories = validation_settings(job)
    broadcast_from_main(state.ema.detector.buffers())  # BatchNorm has seen other images in each process
    batches = Batches(job.validation, protocol, job.batch_size, ranks=current_ranks())
    try:
        with run_network.full_float32():
            deployed = state.ema.detector.deployed()
            predictions = run_network.run_inference(deployed, batches, categories, job.device)
    except torch.OutOfMemoryError as error:
        raise too_large(job.batch_size, recipe) from error
    is_main = current_ranks().is_main
    ap = value_of_main(coco_metrics(job.validation.ground_truth(), predictions)["AP"] if is_main else 0.0)
    if ap >= state.best:
        state.best = ap
    if ap == state.best and is_main:
        save(job.out / "best.pt", state.ema.detector, dict(enumerate(job.train.names)), job.row.id)
    return ap
