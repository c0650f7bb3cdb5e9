"""The record of a training that has ended: what ran, on what, for how long, and the weights that it left.

A run that was cut short or stopped with an error has none; the command that ends it writes the only one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from yolov9bench import records
from yolov9bench.data.coco import CocoDataset
from yolov9bench.data.demo import DEMO_NAME
from yolov9bench.io import provenance
from yolov9bench.io.files import sha256_of, write_json
from yolov9bench.io.machine import describe_environment, device_name
from yolov9bench.ops.distributed import current_ranks, gather
from yolov9bench.records import Record
from yolov9bench.records.training import (
    DataFacts,
    EpochResult,
    TrainingPart,
    TrainInputs,
    TrainSettings,
    TrainValues,
    device_hours,
    read_train,
    recipe_hash,
)
from yolov9bench.train.checkpoint import read_run
from yolov9bench.train.job import Job, list_departures, validation_settings
from yolov9bench.train.state import State
from yolov9bench.zoo.rows import ROWS

CHECKPOINTS = ("best.pt", "last.pt")

logger = logging.getLogger("yolov9bench")


def note_part(job: Job, resumes: bool) -> None:
    """Add to run.json that the run begins, or goes on, now: by which command and code, on which devices.

    Every process calls it, and rank 0 writes. A run that an earlier version began has no whole account of its
    time, and will get no record, which is said.
    """
    devices = gather(device_name(job.device))
    if not current_ranks().is_main:
        return
    run = read_run(job.out)
    if resumes and "parts" not in run:
        logger.warning("%s was begun by an earlier version, so that no record of it is written", job.out.name)
        return
    part = TrainingPart(
        start=datetime.now(UTC).isoformat(timespec="seconds"),
        command=job.command or provenance.command(),
        devices=devices,
        environment=describe_environment(job.device),
    )
    earlier = run["parts"] if resumes else []  # of a run that left no checkpoint nothing goes on
    write_json(job.out / "run.json", run | {"parts": [*earlier, asdict(part)]})


def timed(state: State, save: Callable[[State], None]) -> Callable[[State], None]:
    """A way to save that first adds the seconds from now on to those of the state's earlier parts."""
    earlier, began = state.seconds, perf_counter()

    def save_with_seconds(state: State) -> None:
        state.seconds = round(earlier + perf_counter() - began, 3)
        save(state)

    return save_with_seconds


def write_record(job: Job, state: State, configuration: dict[str, Any]) -> Path | None:
    """Write the record of a run that has ended into the records/ of its folder, and return its file.

    None, with nothing written, in all processes but rank 0, where last.pt has its record already or is
    gone, and for a run that an earlier version began. All is taken from what the run left, so that it does
    not depend on who writes it.
    """
    parts = read_run(job.out).get("parts")
    if not parts or not current_ranks().is_main:
        return None
    checkpoints = {name: sha256_of(job.out / name) for name in CHECKPOINTS if (job.out / name).is_file()}
    written = records.select(job.out, kind="train")
    known = [(read_train(each).values.checkpoints or {}).get("last.pt") for each in written]
    if checkpoints.get("last.pt") in (None, *known):
        return None
    record = Record(
        row=job.row.id,
        kind="train",
        values=asdict(describe_values(job, state, checkpoints)) | {"parts": parts},
        settings=asdict(describe_settings(job)),
        inputs=asdict(describe_inputs(job, state, configuration)),
        environment=parts[-1]["environment"],
        seed=job.seed,
        start=parts[0]["start"],
        seconds=state.seconds,
        command=parts[-1]["command"],
    )
    path = records.write(record, job.out)
    logger.info("%s has the record %s", job.out.name, path.name)
    return path


def describe_values(job: Job, state: State, checkpoints: dict[str, str]) -> TrainValues:
    """How the run ended, less its parts; of epochs with equal AP the last is the best, as best.pt has it."""
    results = [EpochResult(entry["epoch"] + 1, entry["AP"]) for entry in state.log]
    validated = [each for each in results if each.AP is not None]
    return TrainValues(
        final=results[-1],
        best=max(validated, key=lambda each: (each.AP, each.epoch)),
        steps=state.steps,
        device_hours=device_hours(state.seconds, job.world_size),
        checkpoints=checkpoints,
        parts=None,
    )


def describe_settings(job: Job) -> TrainSettings:
    """What was trained by; departures are those from the table's own recipe where the row is one of it."""
    usual = ROWS.get(job.row.id, job.row).recipe
    return TrainSettings(
        recipe=records.as_stored(job.recipe),
        departures=list_departures(job, usual),
        row_recipe_sha256=recipe_hash(usual),
        batch_size=job.batch_size,
        processes=job.world_size,
        precision=job.precision,
        deterministic=job.deterministic,
        freeze=job.freeze,
        max_steps=job.max_steps,
        compile=job.compile,
        activation_checkpointing=job.activation_checkpointing,
        protocol=records.as_stored(validation_settings(job)[0]),
    )


def describe_inputs(job: Job, state: State, configuration: dict[str, Any]) -> TrainInputs:
    """What went in."""
    return TrainInputs(
        spec=state.detector.spec.name,
        classes=state.detector.num_classes,
        demo=job.train.description == DEMO_NAME,
        train=describe_data(job.train),
        validation=describe_data(job.validation),
        start_sha256=configuration["start"],
    )


def describe_data(dataset: CocoDataset) -> DataFacts:
    """A split as a record has it."""
    return DataFacts(
        split=dataset.split,
        annotations_sha256=dataset.annotations_sha256,
        image_list_sha256=dataset.image_list_sha256,
        images=len(dataset.images),
    )
