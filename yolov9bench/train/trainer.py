"""Train one row: its recipe on a data set, in a folder that the same command continues."""

from __future__ import annotations

import json
import logging
import math
import platform
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from yolov9bench.data.coco import CocoDataset, label_categories
from yolov9bench.data.loader import TrainingBatches, training_sample, training_set
from yolov9bench.data.transforms import Sample
from yolov9bench.errors import (
    DatasetError,
    SettingsError,
    TrainingError,
    require_at_least,
    require_choice,
)
from yolov9bench.evaluation import evaluate
from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.io import provenance
from yolov9bench.io.files import write_json, write_text
from yolov9bench.nn.detector import build
from yolov9bench.predict.batches import Batches
from yolov9bench.records import as_stored
from yolov9bench.train.initialise import initialise_head
from yolov9bench.train.loop import PRECISIONS, Batch, Precision, State, begun, fit, is_done, not_finite
from yolov9bench.train.optim import Schedule
from yolov9bench.weights import load, save
from yolov9bench.weights.start import take_weights
from yolov9bench.zoo.protocols import Protocol
from yolov9bench.zoo.recipes import DEMO, Recipe, find_recipe
from yolov9bench.zoo.rows import Row
from yolov9bench.zoo.specs import Spec, for_classes, spec_from_dict, with_class_width

# About six minutes on two CPU cores for the smallest networks, twelve for m; the largest need a GPU.
DEMO_EPOCHS = {"n": 24, "t": 16, "s": 10, "m": 7, "c": 6, "l": 6, "x": 4, "e": 4}
ANNOUNCED = ("versions", "threads")  # a difference in these is said; in anything else it is refused
# What an error of a run that diverged or ran out of memory proposes: accepted after such an error alone.
REMEDIES = ("precision", "batch_size", "recipe.learning_rate")
PLAUSIBLE = 100.0  # times what clipped gradients can add up to in a momentum

logger = logging.getLogger("yolov9bench")


@dataclass(frozen=True, eq=False)
class Job:
    """One training run: what to train, on what, by which rules, and where it lies.

    `batch_size` counts the images of one iteration, on one device; up to the recipe's nominal batch gradients
    are accumulated. `start` is a checkpoint whose weights are taken instead of fresh ones. `max_steps` ends a
    run early. SettingsError for a number below 1 or another precision.
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
    workers: int = 0

    def __post_init__(self) -> None:
        require_choice("precision", self.precision, PRECISIONS)
        require_at_least(1, batch_size=self.batch_size, max_steps=self.max_steps)
        require_at_least(0, seed=self.seed)


def recipe_for(
    row: Row, name: str = "auto", epochs: int | None = None, image_size: int | None = None
) -> Recipe:
    """A recipe by name ("auto": the row's own) with other numbers where given; SettingsError if unknown.

    The demo recipe has fewer epochs for larger networks, whose steps cost more.
    """
    recipe = own_recipe(row) if name == "auto" else find_recipe(name)
    if epochs is None:
        epochs = DEMO_EPOCHS.get(row.size, recipe.epochs) if recipe.name == DEMO.name else recipe.epochs
    return replace(
        recipe,
        epochs=epochs,
        closing_epochs=min(recipe.closing_epochs, epochs),
        image_size=recipe.image_size if image_size is None else image_size,
    )


def own_recipe(row: Row) -> Recipe:
    """How the row was trained; SettingsError where that is not known."""
    if row.recipe is None:
        known = row.spec.name if row.family == "yolov8" else f"{row.family}-{row.size}"
        raise SettingsError(f"the training of {row.id} is not known in full: train the row {known} instead")
    return row.recipe


def train(job: Job, watch: Callable[[list[dict[str, Any]]], object] | None = None) -> Path:
    """Run a job, or what is left of it, and return its best checkpoint; `watch` sees the log as it grows.

    `job.out` holds last.pt (to go on from), best.pt (the averaged detector of highest AP), log.jsonl (a line
    an epoch) and run.json (the configuration). TrainingError if the folder belongs to another configuration,
    and for a run that diverges or does not fit into memory: last.pt then holds the last state that was
    finite, and the same folder accepts what the error proposes (REMEDIES).
    """
    configuration = configured(job)
    require_usable(job)
    remove_strays(job.out)
    state, schedule = started(job)
    resumes = (job.out / "last.pt").exists()
    if resumes:
        resume(job, state, configuration)
    if is_done(vars(state), job.recipe.epochs, job.max_steps):
        logger.info("%s is finished: %d epochs, %d steps", job.out.name, state.epoch, state.steps)
        return job.out / "best.pt"
    batches = TrainingBatches(job.train, job.recipe, job.batch_size, job.seed, workers=job.workers)
    if not resumes:  # only now: a data set that cannot be trained on leaves nothing behind
        write_run(job, configuration)

    def of_epoch(epoch: int, start: int) -> Iterable[Batch]:
        batches.set_epoch(epoch, start)
        return batches

    try:
        fit(
            state,
            schedule,
            of_epoch,
            job.precision,
            after_epoch=lambda state: validated(job, state),
            keep=lambda state: keep(job, state, configuration, watch),
            max_steps=job.max_steps,
        )
    except TrainingError as error:
        write_run(job, configuration, stopped=str(error))
        raise TrainingError(f"{error}; {remedy(job)}") from error
    if run_of(job.out).get("stopped"):
        write_run(job, configuration)
    return job.out / "best.pt"


def run_of(out: Path) -> dict[str, Any]:
    """What run.json in a run's folder says; empty if there is none."""
    path = out / "run.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def write_run(
    job: Job,
    configuration: dict[str, Any],
    changes: list[dict[str, Any]] | None = None,
    stopped: str | None = None,
) -> None:
    """Write run.json: configuration, command, changes on the way, and why the run stopped if it had to."""
    changes = run_of(job.out).get("changes", []) if changes is None else changes
    written = configuration | {"command": provenance.command()}
    written |= {"changes": changes} if changes else {}
    write_json(job.out / "run.json", written | ({"stopped": stopped} if stopped else {}))


def remedy(job: Job) -> str:
    """What to do about a run that stopped; `accepted_changes` accepts it."""
    how = "with precision float32, a smaller batch_size or a lower learning_rate (flags of the command train)"
    last = job.out / "last.pt"
    if last.exists():
        return f"{last} holds the last good state: train in the same folder {how} to go on from it"
    return f"no checkpoint was written yet: train again {how}"


def require_usable(job: Job) -> None:
    """Refuse, before the first step, what would fail later or in vain.

    SettingsError: an image size that no network takes. DatasetError: a validation set that cannot tell
    checkpoints apart.
    """
    validation_settings(job)
    if all(entry["iscrowd"] for entry in job.validation.annotations):
        raise DatasetError(
            f"{job.validation.split} of {job.validation.root} has no objects to validate on, so no "
            "checkpoint would be the best: annotate it, or validate on another split"
        )


def validation_settings(job: Job) -> tuple[Protocol, tuple[int, ...]]:
    """The protocol that a run validates by, and the validation set's category of each label.

    SettingsError: an image size that no network takes. DatasetError: other classes than are trained on.
    """
    protocol = job.row.protocol.at_image_size(job.recipe.image_size)
    names = dict(enumerate(job.train.names))
    return protocol, label_categories(job.validation, names, len(names))


def is_finished(job: Job) -> bool:
    """Whether the job's folder holds its whole run; False too where it holds nothing yet."""
    best, last = job.out / "best.pt", job.out / "last.pt"
    if not (best.exists() and last.exists()):
        return False
    counters = torch.load(last, map_location="cpu", weights_only=True)["training"]["state"]
    return is_done(counters, job.recipe.epochs, job.max_steps)


def configured(job: Job) -> dict[str, Any]:
    """All that decides the outcome of a run, as plain data."""
    return {
        "row": job.row.id,
        "recipe": as_stored(job.recipe),
        "batch_size": job.batch_size,
        "classes": list(job.train.names),
        "train": [job.train.annotations_sha256, job.train.image_list_sha256],
        "validation": [job.validation.annotations_sha256, job.validation.image_list_sha256],
        "seed": job.seed,
        "device": job.device,
        "precision": job.precision,
        "max_steps": job.max_steps,
        "start": None if job.start is None else load(job.start).sha256,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": str(torch.__version__)},
    }


def started(job: Job) -> tuple[State, Schedule]:
    """A fresh state and its schedule."""
    detector = build(trained_spec(job), len(job.train.categories), job.seed)
    if job.recipe.head_initialisation == "kaiming-normal":
        initialise_head(detector, job.seed)
    if job.start is not None:
        take_weights(detector, job.start, job.train.names)
    detector = detector.to(job.device)
    if job.device.startswith("cuda"):
        detector = detector.to(memory_format=torch.channels_last)
    batches = math.ceil(len(job.train.images) / job.batch_size)
    schedule = Schedule(job.recipe, batches, job.recipe.epochs, job.batch_size)
    return begun(detector, job.recipe, job.batch_size, job.precision), schedule


def trained_spec(job: Job) -> Spec:
    """The network as the row's source builds it for the data set's classes.

    A run that is in the job's folder already goes on with the class width that it began with, which earlier
    versions took from the row for any class count.
    """
    last = job.out / "last.pt"
    if last.exists():
        fields = torch.load(last, map_location="cpu", weights_only=True, mmap=True).get("spec")
        begun_with = None if fields is None else spec_from_dict(fields)
        if begun_with and with_class_width(begun_with, 0) == with_class_width(job.row.spec, 0):
            return begun_with
    return for_classes(job.row.spec, len(job.train.categories), job.row.source)


def validated(job: Job, state: State) -> float | None:
    """AP of the averaged detector after the epochs that the recipe validates; the best one is written."""
    recipe, epoch = job.recipe, state.epoch
    due = epoch % recipe.validation_interval == 0 or epoch > recipe.epochs - recipe.closing_epochs
    if not due and not is_done(vars(state), recipe.epochs, job.max_steps):
        return None
    protocol, categories = validation_settings(job)
    batches = Batches(job.validation, protocol, job.batch_size)
    with evaluate.full_float32():
        predictions = evaluate.run_inference(state.ema.detector.deployed(), batches, categories, job.device)
    ap = coco_metrics(job.validation.ground_truth(), predictions)["AP"]
    if ap >= state.best:
        state.best = ap
        save(job.out / "best.pt", state.ema.detector, dict(enumerate(job.train.names)), job.row.id)
    return ap


def keep(
    job: Job,
    state: State,
    configuration: dict[str, Any],
    watch: Callable[[list[dict[str, Any]]], object] | None,
) -> None:
    """Write the log, then the checkpoint to go on from: a cut between them loses nothing."""
    write_text(job.out / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in state.log))
    names = dict(enumerate(job.train.names))
    training = {"state": state.as_dict(), "configuration": configuration}
    save(job.out / "last.pt", state.ema.detector, names, job.row.id, training)
    if watch is not None and state.log:
        watch(state.log)


def first_images(job: Job, count: int) -> list[Sample]:
    """The first images as the first epoch sees them."""
    images = training_set(job.train, job.recipe)
    return [
        training_sample(images, index, job.recipe, job.seed, epoch=0)
        for index in range(min(count, len(images)))
    ]


def log_of(job: Job) -> list[dict[str, Any]]:
    """The log of a run so far: a dictionary an epoch."""
    return [json.loads(line) for line in (job.out / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def resume(job: Job, state: State, configuration: dict[str, Any]) -> None:
    """Continue the job from the checkpoint in its folder.

    The settings must be the same, but for REMEDIES after an error that proposed them. With another batch size
    the epoch goes on at the same image, to the batch. TrainingError for other settings and for a checkpoint
    with numbers that no training leaves behind.
    """
    last = job.out / "last.pt"
    saved = torch.load(last, map_location="cpu", weights_only=True).get("training")
    if saved is None:
        raise TrainingError(f"{last} holds no training to go on from: choose another folder")
    before = saved["configuration"]
    changed = accepted_changes(before, configuration, job.out)
    require_plausible(saved["state"], before["recipe"], last)
    state.restore(saved["state"])
    if "batch_size" in changed:
        rebatch(state, before["batch_size"], job.batch_size, len(job.train.images))
    logger.info("going on from epoch %d, batch %d of %s", state.epoch, state.batch, job.out.name)
    if changed:
        logger.warning("after the run stopped, it goes on with another %s", ", ".join(changed))
        keep(job, state, configuration, None)
        earlier = run_of(job.out).get("changes", [])
        write_run(job, configuration, [*earlier, {"steps": state.steps, "changed": changed}])


def accepted_changes(before: dict[str, Any], configuration: dict[str, Any], out: Path) -> list[str]:
    """The settings that differ from a checkpoint's and may; TrainingError for one that may not."""
    differing = {
        key: (before.get(key), value) for key, value in configuration.items() if before.get(key) != value
    }
    for key in [key for key in ANNOUNCED if key in differing]:
        old, new = differing.pop(key)
        logger.warning("%s was %s and is %s: the end will not be the same bit for bit", key, old, new)
    changed = changed_keys(differing)
    may_change = REMEDIES if run_of(out).get("stopped") else ()
    if not set(changed) <= set(may_change):
        raise TrainingError(
            f"{out} holds a run with another {', '.join(changed)}: give its own settings, or another folder"
        )
    return changed


def require_plausible(saved: dict[str, Any], recipe: dict[str, Any], last: Path) -> None:
    """TrainingError for a checkpoint with numbers that are not finite, or that no training leaves behind.

    A momentum m sums up gradients of a norm of at most c, so none of its entries exceeds c / (1 - m) by much:
    weight decay adds little. Uninitialised memory exceeds it by far (fused SGD left it in float16 runs).
    """
    momenta = {
        f"optimizer.{number}.{name}": value
        for number, values in saved["optimizer"]["state"].items()
        for name, value in values.items()
        if isinstance(value, torch.Tensor)
    }
    weights = {f"detector.{name}": value for name, value in saved["detector"].items()}
    averages = {f"ema.{name}": value for name, value in saved["ema"]["tensors"].items()}
    broken = not_finite(momenta | weights | averages)
    most = PLAUSIBLE * recipe["clip_norm"] / (1 - recipe["momentum"])
    broken += [name for name, value in momenta.items() if value.dim() and value.abs().max() > most]
    if broken:
        raise TrainingError(
            f"{last} has NaN, infinity or impossible numbers in {len(broken)} tensors (first {broken[0]}): "
            "its training diverged; start anew in another folder"
        )


def rebatch(state: State, before: int, now: int, images: int) -> None:
    """Count what was trained so far in batches of another size; the epoch goes on at the same image."""
    batch = state.batch * before // now
    if state.batch:
        state.sums = {term: total * batch / state.batch for term, total in state.sums.items()}
    state.batch, state.iteration = batch, state.epoch * math.ceil(images / now) + batch


def changed_keys(differing: dict[str, tuple[Any, Any]]) -> list[str]:
    """Names of the settings that differ, those inside a nested one with a dot."""
    names = []
    for key, (old, new) in differing.items():
        if isinstance(old, dict) and isinstance(new, dict):
            names += [f"{key}.{each}" for each in new if old.get(each) != new[each]]
        else:
            names.append(key)
    return names


def remove_strays(folder: Path) -> None:
    """Remove what a kill in the middle of writing has left."""
    for pattern in (".last-*.pt", ".best-*.pt", ".log-*.jsonl", ".run-*.json"):
        for stray in folder.glob(pattern):
            stray.unlink()


def departures(job: Job) -> str:
    """What a run does otherwise than its published recipe, as a Markdown list."""
    said = []
    usual = job.row.recipe
    if usual is None or usual.name != job.recipe.name:
        said.append(f"the recipe is `{job.recipe.name}`, not the row's own")
    elif usual != job.recipe:
        changed = [key for key, value in asdict(usual).items() if asdict(job.recipe)[key] != value]
        said.append(f"another {', '.join(changed)}")
    published = job.recipe.gpus * job.recipe.images_per_gpu
    if job.batch_size != published:
        step = job.batch_size * max(round(job.recipe.nominal_batch / job.batch_size), 1)
        said.append(
            f"{step} images a step, {job.batch_size} at a time, where {published} were trained on at once"
        )
    if job.recipe.amp and job.precision == "float32":
        said.append("float32 throughout, where mixed precision was used")
    return "\n".join(f"- {each}" for each in said) or "Exactly the published recipe."
