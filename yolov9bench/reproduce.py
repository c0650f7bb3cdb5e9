"""One row from its checkpoint to a verdict on its published figure; the notebook calls the same steps.

python -m yolov9bench reproduce --family yolov9 --size m
papermill notebooks/reproduce.ipynb OUT.ipynb -p family yolov9 -p size m
yolov9bench.reproduce.reproduce(family="yolov9", size="m")
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from yolov9bench import records
from yolov9bench.config import ReproduceConfig, TrainConfig, notebook_command
from yolov9bench.data import download
from yolov9bench.data.classes import choose_classes
from yolov9bench.data.coco import CocoDataset
from yolov9bench.data.sources import choose_training_split, read_dataset, require_split
from yolov9bench.errors import SettingsError, UnreachableError
from yolov9bench.evaluation import evaluate
from yolov9bench.evaluation.compare import compare_with_neighbours
from yolov9bench.evaluation.settings import BATCH_SIZE, EvaluationSettings, choose_protocol
from yolov9bench.ops.ranks import Ranks, own_device
from yolov9bench.predict.predictions import result_parts
from yolov9bench.records import Record
from yolov9bench.records.comparability import HASH_UNPINNED, own_protocol, read_stated
from yolov9bench.records.comparison import Comparison
from yolov9bench.records.detections import keep_detections
from yolov9bench.records.verdict import comparison_text, verdict
from yolov9bench.train import launch
from yolov9bench.train.checkpoint import is_finished
from yolov9bench.train.job import Job, choose_recipe, make_job, name_run
from yolov9bench.weights import Checkpoint, load
from yolov9bench.weights.fetch import fetch_checkpoint, load_any
from yolov9bench.zoo.protocols import find_protocol, find_tta_protocol
from yolov9bench.zoo.rows import Row, find_row, row_of_file

logger = logging.getLogger("yolov9bench")


def reproduce(row: Row | None = None, **given: Any) -> Record:
    """Run the whole flow and write its Record.

    row: a Row of your own, instead of family and size. Keywords are the fields of `ReproduceConfig`. Raises
    BenchErrors, each a sentence that names the offender and the remedy.
    """
    plan = resolve_sources(make_plan(ReproduceConfig.from_names(given), row))
    if plan.note:
        logger.warning("%s", plan.note.replace("*", ""))
    checkpoint, dataset = load_checkpoint(plan), load_dataset(plan)
    evaluation = run_evaluation(plan, checkpoint, dataset)
    write_record(plan, evaluation)
    for compared in compare_neighbours(plan, evaluation):
        logger.info("%s", comparison_text(compared))
    logger.info("%s", verdict(evaluation.record))
    return evaluation.record


@dataclass(frozen=True)
class Plan:
    """A checked Config and what follows from it.

    `row` is the row to fetch or train; of a checkpoint's path it is None, since the hash identifies the row,
    unless it is one of your own. `note` is what a reader must know first; empty if there is nothing.
    `command` is what a record names as its command; that of this process if None.
    """

    config: ReproduceConfig
    row: Row | None
    device: str
    note: str = ""
    command: list[str] | None = None


def make_plan(config: ReproduceConfig, row: Row | None = None, notebook: str | None = None) -> Plan:
    """Check everything that can be checked without work, paths included; SettingsError with a suggestion.

    notebook: the name of the one in notebooks/ that asks, for the record.
    """
    chosen = row or find_row(config.family, config.size, config.mask_refine, config.source)
    if config.tta:
        find_tta_protocol(config.protocol, config.image_size)
    elif config.protocol != "auto":
        find_protocol(config.protocol, config.image_size)
    splits = [config.split]
    if config.trains:
        splits.append(choose_training_split(config.dataset, config.split, config.train_split))
    if config.dataset == "demo" and config.checkpoint == "download":
        raise SettingsError(
            "the published weights know other classes than the demo set: train, or take 'coco'"
        )
    if not chosen.assets and config.checkpoint in ("auto", "download"):
        raise SettingsError(f"row {chosen.id!r} names no file to fetch: give checkpoint a path, or train")
    device = evaluate.resolve_device(config.device)
    own_device(device, Ranks(config.processes - 1, config.processes, config.processes - 1))
    config.require_paths()
    for split in splits:
        require_split(config.dataset, split)
    by_path = config.checkpoint not in ("auto", "download", "train")
    command = notebook_command(notebook, config) if notebook else None
    return Plan(config, row if by_path else chosen, device, command=command)


def resolve_sources(plan: Plan) -> Plan:
    """Decide what "auto" means: the published weights on COCO, or without a network training on the demo set.

    Fetches what the plan needs. UnreachableError if something that was asked for by name cannot be fetched.
    """
    config = plan.config
    if config.dataset == "demo" and config.checkpoint in ("auto", "train"):
        return demonstrate(plan, "the demo set was asked for")
    try:
        if config.checkpoint in ("auto", "download"):
            load_checkpoint(plan)
        if config.dataset in ("auto", "coco"):
            download.coco(config.data_folder, config.split)
    except UnreachableError as error:
        if config.dataset != "auto" or config.checkpoint not in ("auto", "train"):
            raise
        return demonstrate(plan, str(error))
    return plan


def demonstrate(plan: Plan, reason: str) -> Plan:
    """The plan that trains its row from scratch on the demo set; its note says so."""
    name = plan.row.id if plan.row else "a row"
    note = (
        f"**This is a demonstration, not a measurement of {name}.** The network is "
        f"trained from scratch on the embedded demo set, because {reason.rstrip('.')}. "
        "On two CPU cores this takes about 6 minutes for size t and 12 for size m."
    )
    return replace(plan, config=replace(plan.config, checkpoint="train", dataset="demo"), note=note)


def load_checkpoint(plan: Plan) -> Checkpoint:
    """The checkpoint that the plan names, fetched or trained if need be, ready to detect.

    CheckpointError if the row's own download, under a hash that is known nowhere, holds another network.
    """
    config = plan.config
    if config.trains:
        return load(run_training(plan, build_job(plan)))
    if config.checkpoint not in ("auto", "download"):
        return load_any(config.checkpoint, data_dir=config.data_folder)
    return fetch_checkpoint(require_row(plan), config.data_folder)


def load_dataset(plan: Plan) -> CocoDataset:
    """The data set to evaluate on, fetched or drawn if need be."""
    config = plan.config
    split = "val" if config.dataset == "demo" else config.split
    return read_dataset(config.dataset, split, config.data_folder, config.limit, config.seed)


def build_job(plan: Plan) -> Job:
    """The training that the plan asks for; the same plan resumes the same run, in a folder of its own."""
    job = make_job(training_config(plan), require_row(plan), plan.device)
    job = replace(job, world_size=plan.config.processes, command=plan.command)
    return replace(job, out=plan.config.results_folder / "runs" / "train" / name_run(job))


def run_training(plan: Plan, job: Job, watch: launch.Watch | None = None) -> Path:
    """Train the plan's job, in its processes, and return the best checkpoint; `watch` sees the log grow."""
    return launch.run(job, training_config(plan), watch)


def training_config(plan: Plan) -> TrainConfig:
    """What the plan asks of its training."""
    shared = {field.name for field in fields(TrainConfig)} & {field.name for field in fields(ReproduceConfig)}
    given = {name: getattr(plan.config, name) for name in shared}
    return TrainConfig(row=require_row(plan).id, out=Path(), **given)


def require_row(plan: Plan) -> Row:
    """The row to train or to fetch; SettingsError for a plan that has a checkpoint's path in its place."""
    if plan.row is None:
        raise SettingsError("a training needs a row: give family and size")
    return plan.row


def run_evaluation(plan: Plan, checkpoint: Checkpoint, dataset: CocoDataset) -> evaluate.Evaluation:
    """The evaluation that the plan asks for; detections go to the results folder's runs/detections."""
    config = plan.config
    return evaluate.evaluate_loaded(
        checkpoint,
        dataset,
        EvaluationSettings(
            protocol=config.protocol,
            batch_size=config.batch_size or BATCH_SIZE,
            device=plan.device,
            image_size=evaluation_size(plan),
            judge=config.judge,
            skip_corrupt=config.skip_corrupt,
            detections=config.results_folder / "runs" / "detections",
            tta=config.tta,
            classes=config.chosen_classes,
            self_check=config.self_check,
        ),
        seed=config.seed,
        row=plan.row,
        origin=find_origin(plan, checkpoint),
        command=plan.command,
    )


def write_record(plan: Plan, evaluation: evaluate.Evaluation) -> Path:
    """Write the record where the plan says, with that of the weights' training, and return its file.

    Of a record for the table the detections are kept beside it, if they are small enough to be committed.
    """
    folder = plan.config.records_folder
    if plan.config.fill_table:
        keep_detections(folder, result_parts(evaluation.predictions))
    if evaluation.training is not None:
        records.write(evaluation.training, folder)
    return records.write(evaluation.record, folder)


def compare_neighbours(plan: Plan, evaluation: evaluate.Evaluation) -> list[Comparison]:
    """Compare with the evaluations beside it in the plan's records, on the same images; keep the records.

    Only with those whose detections are at hand; none of the demo set's are listed beside others.
    """
    folder, truth = plan.config.records_folder, evaluation.dataset.ground_truth()
    compared = compare_with_neighbours(evaluation.record, truth, evaluation.predictions, folder)
    for each in compared:
        records.write(each.record, folder)
    return compared


def evaluation_size(plan: Plan) -> int | None:
    """Pixels of an evaluation: as asked for, else those of the training, else None for the protocol's.

    None with test-time augmentation, whose views have sizes of their own.
    """
    config = plan.config
    if config.tta or config.image_size is not None or not config.trains:
        return None if config.tta else config.image_size
    return choose_recipe(training_config(plan), require_row(plan)).augmentation.image_size


def find_origin(plan: Plan, checkpoint: Checkpoint) -> download.Origin | None:
    """Where the plan's checkpoint came from, if its hash is known nowhere and its row's download brought it.

    None for a known hash, which needs no origin, for a file given by path, and for one placed by hand.
    """
    if plan.row is None or plan.config.checkpoint not in ("auto", "download"):
        return None
    if row_of_file(checkpoint.sha256) is not None:
        return None
    seen = download.origin(plan.row.download, plan.config.data_folder)
    return seen if seen is not None and seen.sha256 == checkpoint.sha256 else None


def find_finished(config: ReproduceConfig, row: Row | None = None) -> Record | None:
    """The newest record of the same weights, images, annotations and settings; None if there is none.

    Nothing is trained or evaluated for the answer, but what the Config names is fetched.
    """
    plan = resolve_sources(make_plan(config, row))
    if plan.config.trains:
        job = build_job(plan)
        if not is_finished(job):
            return None
        checkpoint, dataset = load(job.out / "best.pt"), job.validation
    else:
        checkpoint, dataset = load_checkpoint(plan), load_dataset(plan)
    protocol = choose_protocol(checkpoint, config.protocol, evaluation_size(plan), config.tta, plan.row)
    batch_size = config.batch_size or BATCH_SIZE
    hashes = (checkpoint.sha256, dataset.annotations_sha256, dataset.image_list_sha256)
    chosen = choose_classes(dataset, checkpoint.names, checkpoint.detector.num_classes, config.chosen_classes)
    settings = (records.as_stored(protocol), batch_size, config.judge, config.skip_corrupt, chosen.names)
    for record in reversed(records.select(config.records_folder, kind="evaluate")):
        stated = read_stated(record)
        inputs, ran = stated.inputs, stated.settings
        if (inputs.weights_sha256, inputs.annotations_sha256, inputs.image_list_sha256) != hashes:
            continue
        if (ran.protocol, ran.batch_size, ran.judge, ran.skip_corrupt, ran.classes or {}) == settings:
            return record
    return None


def describe(plan: Plan, checkpoint: Checkpoint, dataset: CocoDataset) -> dict[str, str]:
    """What runs, in words, for the top of the notebook."""
    known = row_of_file(checkpoint.sha256)
    row = known[0] if known else plan.row
    config, spec = plan.config, checkpoint.spec
    protocol = choose_protocol(checkpoint, config.protocol, evaluation_size(plan), config.tta, plan.row).name
    own = own_protocol(row, "TTA box AP" if config.tta else "box AP") if row else None
    hashed = f"sha256 {checkpoint.sha256[:16]}…"
    if find_origin(plan, checkpoint):
        hashed += f", {HASH_UNPINNED}"
    return {
        "row": row.id if row else "none: an unknown checkpoint",
        "published box AP": row.box_ap_text if row else "—",
        "published TTA box AP": f"{row.published.tta_box_ap or '—'}" if row else "—",
        "checkpoint": f"{checkpoint.format}, {checkpoint.flavour}, {hashed}",
        "network": f"{spec.name}, {checkpoint.detector.num_classes} classes, {spec.head.form} head",
        "data": f"{dataset.split}: {len(dataset.images):,} images, {len(dataset.annotations):,} objects",
        "protocol": protocol + ("" if own is None or protocol == own.name else f" (the row's is {own.name})"),
        "device": plan.device,
    }
