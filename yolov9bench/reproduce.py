"""One row from its checkpoint to a verdict on its published figure: what the notebook calls, step by step."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from yolov9bench import records
from yolov9bench.config import Parameters, as_plain, checked_parameters
from yolov9bench.data import download
from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.data.demo import make_demo
from yolov9bench.errors import CheckpointError, DatasetError, SettingsError, UnreachableError, unknown
from yolov9bench.evaluation import evaluate
from yolov9bench.profiling.flops import count_gflops, count_parameters
from yolov9bench.records import Record, comparability
from yolov9bench.records.comparability import HASH_UNPINNED, INTERVAL_CAVEAT, Column
from yolov9bench.train import trainer
from yolov9bench.train.loop import PRECISIONS, Precision
from yolov9bench.weights import Checkpoint, load
from yolov9bench.zoo.protocols import find_protocol, find_tta_protocol
from yolov9bench.zoo.recipes import DEMO, Recipe, find_recipe
from yolov9bench.zoo.rows import Published, Row, find_row, row_of_file, unlike
from yolov9bench.zoo.rows import row as row_by_id

logger = logging.getLogger("yolov9bench")


@dataclass(frozen=True)
class Plan:
    """Validated parameters and what follows from them; `row` is None for a path, whose hash tells it.

    `note` is what a reader must know before all else; empty if there is nothing.
    """

    parameters: Parameters
    row: Row | None
    device: str
    note: str = ""

    @property
    def trains(self) -> bool:
        """Whether the checkpoint is to be trained here."""
        return self.parameters.checkpoint == "train"


@dataclass(frozen=True)
class Verdict:
    """A measured AP against the published one, in percent to 0.1, and what keeps them from comparison.

    `measured` is None where the record states no AP. `unpinned`: no hash of the weights is published.
    """

    word: Literal["reproduced", "not reproduced", "not comparable"]
    measured: float | None
    published: float | None
    reasons: tuple[str, ...] = ()
    column: Column = "box AP"
    unpinned: bool = False

    def __str__(self) -> str:
        if self.reasons:
            return f"{self.word}: {'; '.join(self.reasons)}"
        note = f" ({HASH_UNPINNED})" if self.unpinned else ""
        return f"{self.word}: {self.column} {self.measured:.1f}{note}, published {self.published:.1f}"


def reproduce(**given: Any) -> Record:
    """Run the whole flow and write its Record; keywords are those of `Parameters`.

    Raises BenchErrors, each a sentence that names the offender and the remedy.
    """
    plan = settled(planned(checked_parameters(given)))
    checkpoint = subject(plan)
    evaluation = evaluated(plan, checkpoint, data(plan))
    records.write(evaluation.record, plan.parameters.results_folder)
    logger.info("%s", verdict(evaluation.record))
    return evaluation.record


def planned(parameters: Parameters) -> Plan:
    """Check every value that can be checked without work; SettingsError with a suggestion."""
    row = find_row(parameters.family, parameters.size, parameters.mask_refine, parameters.source)
    if parameters.tta:
        find_tta_protocol(parameters.protocol, parameters.image_size)
    else:
        find_protocol(
            parameters.protocol if parameters.protocol != "auto" else row.protocol.name, parameters.image_size
        )
    if parameters.recipe != "auto":
        find_recipe(parameters.recipe)
    if parameters.checkpoint == "train":
        training_split(parameters)
    by_path = parameters.checkpoint not in ("auto", "download", "train")
    if parameters.dataset == "demo" and parameters.checkpoint == "download":
        raise SettingsError(
            "the published weights know other classes than the demo set: train, or take 'coco'"
        )
    return Plan(parameters, None if by_path else row, evaluate.resolve_device(parameters.device))


def settled(plan: Plan) -> Plan:
    """Decide what "auto" means: the published weights on COCO, or without a network training on the demo set.

    Fetches what the plan needs. UnreachableError if something that was asked for by name cannot be fetched.
    """
    chosen = plan.parameters
    if chosen.dataset == "demo" and chosen.checkpoint in ("auto", "train"):
        return demonstration(plan, "the demo set was asked for")
    try:
        if chosen.checkpoint in ("auto", "download"):
            subject(plan)
        if chosen.dataset in ("auto", "coco"):
            download.coco(chosen.data_folder, chosen.split)
    except UnreachableError as error:
        if chosen.dataset != "auto" or chosen.checkpoint not in ("auto", "train"):
            raise
        return demonstration(plan, str(error))
    return plan


def demonstration(plan: Plan, reason: str) -> Plan:
    """The plan that trains its row from scratch on the demo set, and says so."""
    name = plan.row.id if plan.row else "a row"
    note = (
        f"**This is a demonstration, not a measurement of {name}.** The network is "
        f"trained from scratch on the embedded demo set, because {reason.rstrip('.')}. "
        "On two CPU cores this takes about 6 minutes for size t and 12 for size m."
    )
    logger.warning("%s", note.replace("*", ""))
    return replace(plan, parameters=replace(plan.parameters, checkpoint="train", dataset="demo"), note=note)


def subject(plan: Plan) -> Checkpoint:
    """The checkpoint that the plan names, fetched or trained if need be, ready to detect.

    CheckpointError if the row's own download, under a hash that is known nowhere, holds another network.
    """
    if plan.trains:
        return load(trainer.train(job(plan)))
    if plan.row is None:
        return load(Path(plan.parameters.checkpoint))
    fetched = download.checkpoint(plan.row.download, plan.parameters.data_folder)
    loaded = load(fetched.path)
    if row_of_file(loaded.sha256) is None:
        require_network_of(plan.row, loaded)
    return loaded


def require_network_of(row: Row, checkpoint: Checkpoint) -> None:
    """Refuse a download whose content is not that of its row; where no hash is known, nothing else tells."""
    faults = unlike(row, checkpoint.format, checkpoint.spec, checkpoint.detector.num_classes)
    if faults:
        raise CheckpointError(
            f"{row.download.name} is not the file of {row.id} ({'; '.join(faults)}): "
            f"delete it to fetch it from {row.download.url} anew"
        )


def origin_of(plan: Plan, checkpoint: Checkpoint) -> download.Origin | None:
    """Where the plan's checkpoint came from, if its hash is known nowhere and its row's download brought it.

    None for a known hash, which needs no origin, for a file given by path, and for one placed by hand.
    """
    if plan.row is None or plan.trains or row_of_file(checkpoint.sha256) is not None:
        return None
    seen = download.origin(plan.row.download, plan.parameters.data_folder)
    return seen if seen is not None and seen.sha256 == checkpoint.sha256 else None


def data(plan: Plan) -> CocoDataset:
    """The data set that the plan names, fetched or drawn if need be."""
    chosen = plan.parameters
    if chosen.dataset == "demo":
        return read_coco(make_demo(chosen.data_folder / "demo", chosen.seed), "val", chosen.limit)
    if chosen.dataset in ("auto", "coco"):
        return read_coco(download.coco(chosen.data_folder, chosen.split), chosen.split, chosen.limit)
    return read_coco(Path(chosen.dataset), chosen.split, chosen.limit)


def job(plan: Plan) -> trainer.Job:
    """The training that the plan asks for; the same plan continues the same run."""
    chosen, row, recipe = plan.parameters, row_of(plan), recipe_of(plan)
    split = training_split(chosen)
    validation = data(plan)
    if chosen.dataset in ("auto", "coco"):
        download.coco(chosen.data_folder, split)
    batch_size = chosen.batch_size or recipe.images_per_gpu
    images = read_coco(validation.root, split, chosen.limit)
    require_apart(images, validation)
    wanted = trainer.Job(row, recipe, images, validation, Path(), batch_size, chosen.seed, plan.device)
    if recipe.amp and plan.device.startswith("cuda"):
        wanted = replace(wanted, precision="float16")
    named = hashlib.sha256(json.dumps(trainer.configured(wanted), sort_keys=True).encode()).hexdigest()[:8]
    return replace(wanted, out=chosen.results_folder / "runs" / "train" / f"{row.id}-{named}")


def training_split(chosen: Parameters) -> str:
    """The split to train on; SettingsError if it is the one to validate on, or if "auto" cannot tell it.

    "auto" is "train" on the demo set, else the split's own name with "train" for the "val", "valid" or
    "validation" that it begins with.
    """
    split, given = chosen.split, chosen.train_split
    if chosen.dataset == "demo":
        if given not in ("auto", "train"):
            raise SettingsError(f"train_split is {given!r}: on the demo set give 'auto' or 'train'")
        return "train"
    if given == split:
        raise SettingsError(
            f"train_split and split are both {split!r}, so that all images to validate on would be trained "
            "on: give train_split another split"
        )
    if given != "auto":
        return given
    prefix = next((each for each in ("validation", "valid", "val") if split.startswith(each)), None)
    if prefix is None:
        raise SettingsError(
            f"no split to train on follows from split {split!r}, which does not begin with 'val': "
            "give train_split"
        )
    return "train" + split.removeprefix(prefix)


def require_apart(training: CocoDataset, validation: CocoDataset) -> None:
    """DatasetError if an image file is in both sets, under whatever path, link or name.

    Ids and file names may agree: many tools number the images of each split anew.
    """
    shared = len(_files_of(training) & _files_of(validation))
    if shared:
        raise DatasetError(
            f"the splits {training.split!r} to train on and {validation.split!r} to validate on share "
            f"{shared} of {len(validation.images)} images of {validation.root}: give train_split a split "
            "without them"
        )


def _files_of(dataset: CocoDataset) -> set[tuple[int, int]]:
    """Device and inode of every image in use, which all links to a file share."""
    return {(each.st_dev, each.st_ino) for each in map(os.stat, map(dataset.image_path, dataset.images))}


def row_of(plan: Plan) -> Row:
    """The row to train; SettingsError for a plan that has a checkpoint's path in its place."""
    if plan.row is None:
        raise SettingsError("a training needs a row: give family and size")
    return plan.row


def recipe_of(plan: Plan) -> Recipe:
    """The recipe of the training that the plan asks for; no data set is read for it."""
    chosen = plan.parameters
    name = DEMO.name if (chosen.dataset, chosen.recipe) == ("demo", "auto") else chosen.recipe
    return trainer.recipe_for(row_of(plan), name, chosen.epochs, chosen.image_size)


def evaluated(plan: Plan, checkpoint: Checkpoint, dataset: CocoDataset) -> evaluate.Evaluation:
    """The evaluation that the plan asks for; detections go to the results folder's runs/detections."""
    chosen = plan.parameters
    return evaluate.evaluate_loaded(
        checkpoint,
        dataset,
        evaluate.EvaluationSettings(
            protocol=chosen.protocol,
            batch_size=chosen.batch_size or evaluate.BATCH_SIZE,
            device=plan.device,
            image_size=image_size_of(plan),
            judge=chosen.judge,
            skip_corrupt=chosen.skip_corrupt,
            detections=chosen.results_folder / "runs" / "detections",
            tta=chosen.tta,
        ),
        seed=chosen.seed,
        row=plan.row,
        origin=origin_of(plan, checkpoint),
    )


def image_size_of(plan: Plan) -> int | None:
    """Pixels of an evaluation: as asked for, else those of the training, else None for the protocol's.

    None with test-time augmentation, whose views have sizes of their own.
    """
    chosen = plan.parameters
    if chosen.tta:
        return None
    return recipe_of(plan).image_size if plan.trains and chosen.image_size is None else chosen.image_size


def finished(given: Parameters) -> Record | None:
    """The newest record of the same weights, images, annotations and settings; None if there is none.

    Nothing is trained or evaluated for the answer, but what the parameters name is fetched.
    """
    plan = settled(planned(given))
    if plan.trains:
        wanted = job(plan)
        if not trainer.is_finished(wanted):
            return None
        checkpoint, images = load(wanted.out / "best.pt"), wanted.validation
    else:
        checkpoint, images = subject(plan), data(plan)
    inputs = {
        "weights_sha256": checkpoint.sha256,
        "annotations_sha256": images.annotations_sha256,
        "image_list_sha256": images.image_list_sha256,
    }
    protocol = evaluate.choose_protocol(checkpoint, given.protocol, image_size_of(plan), given.tta)
    settings = {
        "protocol": json.loads(json.dumps(asdict(protocol))),
        "batch_size": given.batch_size or evaluate.BATCH_SIZE,
        "judge": given.judge,
        "skip_corrupt": given.skip_corrupt,
    }
    for record in reversed(records.select(given.results_folder, kind="evaluate")):
        if inputs.items() <= record.inputs.items() and settings.items() <= record.settings.items():
            return record
    return None


def verdict(record: Record) -> Verdict:
    """What a Record of kind "evaluate" says of its row's published AP, or of its published TTA AP.

    Figures are rounded to 0.1 and reproduced iff they then differ by at most 0.1; comparable only where
    `comparability.obstacles` finds nothing, which is also what the table asks.
    """
    column, ap = comparability.column_of(record), comparability.ap_of(record)
    row = comparability.row_of(record)
    measured = None if ap is None else round(100 * ap, 1)
    published = None if row is None else published_ap(row, column)
    reasons = tuple(comparability.obstacles(record))
    if row is not None and published is None:
        reasons = (f"no published {'TTA ' if column == 'TTA box AP' else ''}figure is known", *reasons)
    if reasons or measured is None or published is None:
        return Verdict("not comparable", measured, published, reasons, column)
    tenths = abs(round(10 * measured) - round(10 * published))
    word: Literal["reproduced", "not reproduced"] = "reproduced" if tenths <= 1 else "not reproduced"
    return Verdict(word, measured, published, (), column, comparability.is_unpinned(record))


def published_ap(row: Row, column: Column) -> float | None:
    """The published AP of a row in a column, in percent."""
    return row.published.box_ap if column == "box AP" else row.published.tta_box_ap


def description(plan: Plan, checkpoint: Checkpoint, dataset: CocoDataset) -> dict[str, str]:
    """What runs, in words, for the top of the notebook."""
    known = row_of_file(checkpoint.sha256)
    row = known[0] if known else plan.row
    chosen, spec = plan.parameters, checkpoint.spec
    protocol = evaluate.choose_protocol(checkpoint, chosen.protocol, image_size_of(plan), chosen.tta).name
    own = comparability.own_protocol(row, "TTA box AP" if chosen.tta else "box AP") if row else None
    hashed = f"sha256 {checkpoint.sha256[:16]}…" + (f", {HASH_UNPINNED}" * bool(origin_of(plan, checkpoint)))
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


def costs(checkpoint: Checkpoint) -> dict[str, dict[str, float | None]]:
    """Parameters (millions) and GFLOPs at 640 px as deployed, counted and published (None where unknown)."""
    deployed = checkpoint.detector.deployed()
    known = row_of_file(checkpoint.sha256)
    published = known[0].published if known else Published("")
    return {
        "counted": {"parameters (M)": count_parameters(deployed) / 1e6, "GFLOPs": count_gflops(deployed)},
        "published": {"parameters (M)": published.parameters_m, "GFLOPs": published.gflops},
    }


def interval_text(record: Record) -> str:
    """What the images at hand say of AP on all such images, in one sentence."""
    interval = record.values["AP_interval"]
    if interval is None:
        return (
            f"AP on {record.inputs['images']:,} images; its bootstrap interval is drawn on small sets only."
        )
    low, high = (100 * end for end in interval)
    return (
        f"On {record.inputs['images']:,} images AP is uncertain: its 95 % bootstrap interval over images is "
        f"{low:.1f} to {high:.1f}. {INTERVAL_CAVEAT}"
    )


def trained(
    row: str,
    dataset: str | Path,
    out: str | Path,
    epochs: int | None = None,
    image_size: int | None = None,
    batch_size: int | None = None,
    recipe: str = "auto",
    seed: int = 0,
    max_steps: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    start: str | Path | None = None,
    split: str = "val2017",
    train_split: str = "auto",
    learning_rate: float | None = None,
) -> Path:
    """Train a row on a folder in COCO's format or on "demo", in `out`, and return the best checkpoint.

    precision "auto": float16 where the recipe trains in mixed precision and there is a GPU, else float32.
    train_split: as in Parameters. learning_rate: the recipe's if None. SettingsError for an unknown name or a
    value of another type.
    """
    precisions, max_steps = ("auto", *PRECISIONS), as_plain(max_steps)
    if precision not in precisions:
        raise unknown("precision", str(precision), precisions)
    if max_steps is not None and (type(max_steps) is not int or max_steps < 1):
        raise SettingsError(f"max_steps is {max_steps!r}: give None or a whole number from 1 up")
    learning_rate = as_plain(learning_rate)
    if learning_rate is not None and not (
        type(learning_rate) in (int, float) and 0 < learning_rate < math.inf
    ):
        raise SettingsError(f"learning_rate is {learning_rate!r}: give None or a finite number above 0")
    chosen, place = row_by_id(row), evaluate.resolve_device(device)
    given = {
        "checkpoint": "train",
        "dataset": dataset,
        "split": split,
        "train_split": train_split,
        "image_size": image_size,
        "batch_size": batch_size,
        "recipe": recipe,
        "epochs": epochs,
        "seed": seed,
    }
    plan = Plan(checked_parameters(given), chosen, place)
    start = None if start is None else Path(start)
    wanted = replace(job(plan), out=Path(out), max_steps=max_steps, start=start)
    if precision != "auto":
        wanted = replace(wanted, precision=cast(Precision, precision))
    if learning_rate is not None:
        wanted = replace(wanted, recipe=replace(wanted.recipe, learning_rate=float(learning_rate)))
    return trainer.train(wanted)
