"""Which settings of a run may differ when it is resumed: after an error, or to have more epochs."""

from __future__ import annotations

import logging
from typing import Any

from yolov9bench.errors import TrainingError
from yolov9bench.train.job import Job

ANNOUNCED = ("versions", "threads")  # a difference in these is said; in anything else it is refused
# What an error of a run that diverged or ran out of memory proposes: accepted after such an error alone.
REMEDIES = ("precision", "batch_size", "recipe.optimizer.learning_rate")
EPOCHS = "recipe.run.epochs"
# What more epochs change, where they are asked for; few epochs have fewer closing ones than the recipe.
EXTENDED = (EPOCHS, "recipe.augmentation.close_mosaic")

logger = logging.getLogger("yolov9bench")


def accepted_changes(
    before: dict[str, Any], configuration: dict[str, Any], job: Job, has_stopped: bool
) -> list[str]:
    """The settings that differ from a checkpoint's and may; TrainingError for one that may not.

    They may be REMEDIES of a run that stopped with an error, and of a job that extends its run more epochs.
    """
    differing = {
        key: (before.get(key), value) for key, value in configuration.items() if before.get(key) != value
    }
    for key in [key for key in ANNOUNCED if key in differing]:
        old, new = differing.pop(key)
        logger.warning("%s was %s and is %s: the end will not be the same bit for bit", key, old, new)
    if "world_size" in differing:
        old, new = differing["world_size"]
        raise TrainingError(
            f"{job.out} holds a run in {old} processes, and this is one in {new}: start it in {old}, which "
            "alone give the same batches, or choose another folder"
        )
    changed = changed_keys(differing)
    adds_epochs = EPOCHS in changed and job.recipe.run.epochs > before["recipe"]["run"]["epochs"]
    may_change = {*(REMEDIES if has_stopped else ()), *(EXTENDED if job.extend and adds_epochs else ())}
    if not set(changed) <= may_change:
        can_extend = adds_epochs and not job.extend and set(changed) <= set(EXTENDED)
        hint = " (or extend, which lets this run have more epochs)" if can_extend else ""
        raise TrainingError(
            f"{job.out} holds a run with another {', '.join(changed)}: give its own settings{hint}, "
            "or another folder"
        )
    return changed


def changed_keys(differing: dict[str, tuple[Any, Any]]) -> list[str]:
    """Names of the settings that differ, those inside a nested one with a dot."""
    names = []
    for key, (old, new) in differing.items():
        if isinstance(old, dict) and isinstance(new, dict):
            inside = {each: (old.get(each), new[each]) for each in new if old.get(each) != new[each]}
            names += [f"{key}.{each}" for each in changed_keys(inside)]
        else:
            names.append(key)
    return names
