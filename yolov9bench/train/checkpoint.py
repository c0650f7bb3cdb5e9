"""The files of a training run: run.json, the log, and the checkpoint from which the same command resumes."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from yolov9bench.errors import BenchError, TrainingError
from yolov9bench.io import provenance
from yolov9bench.io.files import remove_strays, write_json, write_text
from yolov9bench.io.locks import claim_folder
from yolov9bench.io.machine import describe_environment, device_name
from yolov9bench.ops.distributed import current_ranks, wait_for_all
from yolov9bench.train.changes import EPOCHS, accepted_changes
from yolov9bench.train.damaged import load_training, require_best, sound
from yolov9bench.train.job import EARLIER, Job
from yolov9bench.train.state import State, find_not_finite, is_done
from yolov9bench.weights import save
from yolov9bench.zoo.recipe import Recipe

# Of a recipe's numbers, in checkpoints that store it without parts.
EARLIER_NAMES = {
    "optimizer": "optimizer.algorithm",
    "ema_decay": "ema.decay",
    "ema_ramp_updates": "ema.tau",
    "ema_first_update_copies": "ema.first_update_copies",
    "assigner_topk": "assigner.topk",
    "assigner_alpha": "assigner.alpha",
    "assigner_beta": "assigner.beta",
    "mosaic": "augmentation.mosaic_prob",
    "mixup": "augmentation.mixup_prob",
    "rare_filter": "augmentation.rare_filter_prob",
    "flip": "augmentation.hflip_prob",
    "closing_epochs": "augmentation.close_mosaic",
}
PLAUSIBLE = 100.0  # times what clipped gradients can add up to in a momentum

logger = logging.getLogger("yolov9bench")


def read_run(out: Path) -> dict[str, Any]:
    """What run.json in a run's folder says; empty if there is none. TrainingError for a damaged one."""
    path = out / "run.json"
    if not path.exists():
        return {}
    with sound(path):
        found: dict[str, Any] = {**json.loads(path.read_text(encoding="utf-8"))}
    return found


def write_run(
    job: Job,
    configuration: dict[str, Any],
    changes: list[dict[str, Any]] | None = None,
    stopped: str | None = None,
) -> None:
    """Write run.json: configuration, command, machine, changes on the way, why the run stopped if it had to.

    Rank 0 writes it, and whichever process had to stop.
    """
    if not current_ranks().is_main and stopped is None:
        return
    before = read_run(job.out)
    changes = before.get("changes", []) if changes is None else changes
    written = configuration | {"command": job.command or provenance.command()}
    written |= {"environment": asdict(describe_environment(job.device))}
    written |= {"changes": changes} if changes else {}
    written |= {"parts": before["parts"]} if "parts" in before else {}
    write_json(job.out / "run.json", written | ({"stopped": stopped} if stopped else {}))


def note_stop(job: Job, configuration: dict[str, Any], why: TrainingError) -> None:
    """Write into run.json why a run stopped; a failure is logged, since the reason is the error to tell."""
    try:
        write_run(job, configuration, stopped=str(why))
    except BenchError as error:
        logger.warning("why the run stopped is not noted: %s", error)


def read_log(job: Job) -> list[dict[str, Any]]:
    """The log of a run so far: a dictionary an epoch. TrainingError for a damaged or missing file."""
    path = job.out / "log.jsonl"
    with sound(path):
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def save_checkpoint(
    job: Job,
    state: State,
    configuration: dict[str, Any],
    watch: Callable[[list[dict[str, Any]]], object] | None,
) -> None:
    """Write the log, then the checkpoint to resume from: an interruption between them loses nothing."""
    if not current_ranks().is_main:
        return
    write_text(job.out / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in state.log))
    names = dict(enumerate(job.train.names))
    training = {"state": state.as_dict(), "configuration": configuration}
    save(job.out / "last.pt", state.ema.detector, names, job.row.id, training)
    if watch is not None and state.log:
        watch(state.log)


def is_finished(job: Job) -> bool:
    """Whether the job's folder holds its whole run; False too where it holds nothing yet."""
    content = read_checkpoint(job) if (job.out / "best.pt").exists() else None
    if content is None or "training" not in content:
        return False
    return is_done(content["training"]["state"], job.recipe.run.epochs, job.max_steps)


def read_checkpoint(job: Job) -> dict[str, Any] | None:
    """What last.pt in the job's folder holds, on the CPU; None if there is none, TrainingError if damaged."""
    last = job.out / "last.pt"
    return load_training(last) if last.exists() else None


def resume(job: Job, state: State, configuration: dict[str, Any], content: dict[str, Any]) -> None:
    """Continue the job from what `read_checkpoint` found in its folder.

    The settings must be the same, but for what `accepted_changes` accepts. With another batch size the epoch
    continues at the same image, to the batch; with more epochs by the rates, and the closing epochs, of the
    longer run. TrainingError for other settings, for a checkpoint that is damaged or has numbers that no
    training leaves behind, and where the best checkpoint is gone.
    """
    last = job.out / "last.pt"
    saved = content.get("training")
    if saved is None:
        raise TrainingError(f"{last} holds no training to resume: choose another folder")
    has_stopped = "stopped" in read_run(job.out)
    with sound(last):
        before = EARLIER | saved["configuration"]
        device = before["device"].partition(":")[0]
        before |= {"recipe": in_parts(before["recipe"], job.recipe), "device": device}
        changed = accepted_changes(before, configuration, job, has_stopped)
        announce_device(job)
        require_plausible(saved["state"], before["recipe"], last)
        state.restore(saved["state"])
    require_best(job.out, state)
    if "batch_size" in changed:
        rebatch(state, before["batch_size"], job.batch_size, job.images_each)
    if changed:
        logger.warning("the run continues with another %s", ", ".join(changed))
        wait_for_all()  # they have read why it stopped, which is about to be written over
        save_checkpoint(job, state, configuration, None)
        earlier, change = read_run(job.out).get("changes", []), {"steps": state.steps, "changed": changed}
        if EPOCHS in changed:
            change["epochs"] = [before["recipe"]["run"]["epochs"], job.recipe.run.epochs]
        write_run(job, configuration, [*earlier, change])


def announce_device(job: Job) -> None:
    """Say that the run goes on with another model of GPU or processor than it was on before."""
    before = read_run(job.out).get("environment", {}).get("device_name")
    now = device_name(job.device)
    if before not in (None, now):
        logger.warning(
            "it ran on %s and goes on with %s: the end will not be the same bit for bit", before, now
        )


def in_parts(stored: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """A recipe as a checkpoint has it; earlier versions stored all numbers in one, some by other names."""
    if "run" in stored:
        return stored
    names = {name.partition(".")[2]: name for name in recipe.numbers()} | EARLIER_NAMES
    found: dict[str, Any] = {"name": stored["name"]}
    for key in stored.keys() & names.keys():
        part, _, name = names[key].partition(".")
        found.setdefault(part, {})[name] = stored[key]
    return found


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
    broken = find_not_finite(momenta | weights | averages)
    optimizer = recipe["optimizer"]
    most = PLAUSIBLE * optimizer["clip_norm"] / (1 - optimizer["momentum"])
    broken += [name for name, value in momenta.items() if value.dim() and value.abs().max() > most]
    if broken:
        raise TrainingError(
            f"{last} has NaN, infinity or impossible numbers in {len(broken)} tensors (first {broken[0]}): "
            "its training diverged; start again in another folder"
        )


def rebatch(state: State, before: int, now: int, images: int) -> None:
    """Count what was trained so far in batches of another size; the epoch continues at the same image.

    images: those of an epoch that each process trains on.
    """
    batch = state.batch * before // now
    if state.batch:
        state.sums = {term: total * batch / state.batch for term, total in state.sums.items()}
    state.batch, state.iteration = batch, state.epoch * math.ceil(images / now) + batch


def remedy(job: Job) -> str:
    """What to do about a run that stopped; `accepted_changes` accepts it."""
    how = "with precision float32, a smaller batch_size or a lower learning_rate (flags of the command train)"
    last = job.out / "last.pt"
    if last.exists():
        return f"{last} holds the last good state: train in the same folder {how} to resume from it"
    return f"no checkpoint was written yet: train again {how}"


@contextmanager
def only_one(job: Job) -> Iterator[None]:
    """Keep the job's folder for this run alone, without what killed ones left there; rank 0 holds it for all.

    BusyError names the process that has it.
    """
    if not current_ranks().is_main:
        yield
        return
    with claim_folder(job.out):
        for folder in (job.out, *job.out.glob("records/*")):
            remove_strays(folder)
        yield
