"""One row from its checkpoint to a verdict on its published figure: what the notebook calls, step by step."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from yolov9bench import evaluate, records, training
from yolov9bench.data import download
from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.data.demo import make_demo
from yolov9bench.errors import SettingsError, UnreachableError
from yolov9bench.measure import gflops, parameters
from yolov9bench.parameters import Parameters, checked_parameters
from yolov9bench.records import Record
from yolov9bench.train.loop import Precision
from yolov9bench.weights import Checkpoint, load
from yolov9bench.zoo.protocols import PROTOCOLS, find_protocol
from yolov9bench.zoo.recipes import DEMO, Recipe, find_recipe
from yolov9bench.zoo.rows import ROWS, Published, Row, find_row, row_of_file
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
    """A measured AP against the published one, in percent to 0.1, and what keeps them from comparison."""

    word: Literal["reproduced", "not reproduced", "not comparable"]
    measured: float
    published: float | None
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.reasons:
            return f"{self.word}: {'; '.join(self.reasons)}"
        return f"{self.word}: box AP {self.measured:.1f}, published {self.published:.1f}"


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
    find_protocol(
        parameters.protocol if parameters.protocol != "auto" else row.protocol, parameters.image_size
    )
    if parameters.recipe != "auto":
        find_recipe(parameters.recipe)
    by_path = parameters.checkpoint not in ("auto", "download", "train")
    if parameters.dataset == "demo" and parameters.checkpoint == "download":
        raise SettingsError(
            "the published weights know other classes than the demo set: train, or take 'coco'"
        )
    return Plan(parameters, None if by_path else row, evaluate.resolved_device(parameters.device))


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
    """The checkpoint that the plan names, fetched or trained if need be, ready to detect."""
    if plan.trains:
        return load(training.train(job(plan)))
    if plan.row is None:
        return load(Path(plan.parameters.checkpoint))
    fetched = download.checkpoint(plan.row.download, plan.parameters.data_folder)
    return load(fetched.path)


def data(plan: Plan) -> CocoDataset:
    """The data set that the plan names, fetched or drawn if need be."""
    chosen = plan.parameters
    if chosen.dataset == "demo":
        return read_coco(make_demo(chosen.data_folder / "demo", chosen.seed), "val", chosen.limit)
    if chosen.dataset in ("auto", "coco"):
        return read_coco(download.coco(chosen.data_folder, chosen.split), chosen.split, chosen.limit)
    return read_coco(Path(chosen.dataset), chosen.split, chosen.limit)


def job(plan: Plan) -> training.Job:
    """The training that the plan asks for; the same plan continues the same run."""
    chosen, row, recipe = plan.parameters, row_of(plan), recipe_of(plan)
    validation = data(plan)
    split = "train" if chosen.dataset == "demo" else chosen.split.replace("val", "train")
    if chosen.dataset in ("auto", "coco"):
        download.coco(chosen.data_folder, split)
    batch_size = chosen.batch_size or recipe.images_per_gpu
    pictures = read_coco(validation.root, split, chosen.limit)
    wanted = training.Job(row, recipe, pictures, validation, Path(), batch_size, chosen.seed, plan.device)
    if recipe.amp and plan.device.startswith("cuda"):
        wanted = replace(wanted, precision="float16")
    named = hashlib.sha256(json.dumps(training.configured(wanted), sort_keys=True).encode()).hexdigest()[:8]
    return replace(wanted, out=chosen.results_folder / "runs" / "train" / f"{row.id}-{named}")


def row_of(plan: Plan) -> Row:
    """The row to train; SettingsError for a plan that has a checkpoint's path in its place."""
    if plan.row is None:
        raise SettingsError("a training needs a row: give family and size")
    return plan.row


def recipe_of(plan: Plan) -> Recipe:
    """The recipe of the training that the plan asks for; no data set is read for it."""
    chosen = plan.parameters
    name = DEMO.name if (chosen.dataset, chosen.recipe) == ("demo", "auto") else chosen.recipe
    return training.recipe_for(row_of(plan), name, chosen.epochs, chosen.image_size)


def evaluated(plan: Plan, checkpoint: Checkpoint, dataset: CocoDataset) -> evaluate.Evaluation:
    """The evaluation that the plan asks for; detections go to the results folder's runs/detections."""
    chosen = plan.parameters
    return evaluate.run(
        checkpoint,
        dataset,
        chosen.protocol,
        chosen.batch_size or evaluate.BATCH_SIZE,
        plan.device,
        image_size_of(plan),
        chosen.judge,
        chosen.skip_corrupt,
        chosen.results_folder / "runs" / "detections",
        chosen.seed,
    )


def image_size_of(plan: Plan) -> int | None:
    """Pixels of an evaluation: as asked for, else those of the training, else None for the protocol's."""
    chosen = plan.parameters
    return recipe_of(plan).image_size if plan.trains and chosen.image_size is None else chosen.image_size


def finished(given: Parameters) -> Record | None:
    """The newest record of the same weights, images, annotations and settings; None if there is none.

    Nothing is trained or evaluated for the answer, but what the parameters name is fetched.
    """
    plan = settled(planned(given))
    if plan.trains:
        wanted = job(plan)
        if not training.is_finished(wanted):
            return None
        checkpoint, pictures = load(wanted.out / "best.pt"), wanted.validation
    else:
        checkpoint, pictures = subject(plan), data(plan)
    inputs = {
        "weights_sha256": checkpoint.sha256,
        "annotations_sha256": pictures.annotations_sha256,
        "image_list_sha256": pictures.image_list_sha256,
    }
    protocol = evaluate.chosen_protocol(checkpoint, given.protocol, image_size_of(plan), tta=False)
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
    """What a Record of kind "evaluate" says of its row's published AP.

    Figures are rounded to 0.1 and reproduced iff they then differ by at most 0.1; comparable only on all of
    val2017, with the row's own weights, under the row's own protocol.
    """
    measured = round(100 * record.values["AP"], 1)
    if record.row is None:
        return Verdict("not comparable", measured, None, ("unknown checkpoint",))
    row = ROWS[record.row]
    published = row.published.box_ap
    reasons = tuple(obstacles(record, row))
    if published is None or reasons:
        missing = () if published is not None else ("no published figure is known",)
        return Verdict("not comparable", measured, published, missing + reasons)
    tenths = abs(round(10 * measured) - round(10 * published))
    return Verdict("reproduced" if tenths <= 1 else "not reproduced", measured, published)


def obstacles(record: Record, row: Row) -> list[str]:
    """Why a record says nothing about its row's published figure; empty if it does."""
    found = []
    known = row_of_file(record.inputs["weights_sha256"])
    if known is None or known[0].id != row.id:
        found.append("weights other than the published ones")
    whole = download.SPLITS["val2017"]
    if record.inputs["demo"]:
        found.append("the embedded demo set")
    elif record.inputs["annotations_sha256"] != whole.annotations_sha256:
        found.append(f"{record.inputs['images']:,} images that are not the whole of COCO val2017")
    elif record.inputs["images"] != whole.images:
        found.append(f"{record.inputs['images']:,} of {whole.images:,} images")
    settings, own = record.settings["protocol"], asdict(PROTOCOLS[row.protocol])
    if settings["name"] != row.protocol:
        found.append(f"protocol {settings['name']}, not the row's {row.protocol}")
    elif settings != own:
        changed = sorted(key for key in own if settings.get(key) != own[key])
        found.append(f"protocol {row.protocol} with another {', '.join(changed)}")
    return found


def description(plan: Plan, checkpoint: Checkpoint, dataset: CocoDataset) -> dict[str, str]:
    """What runs, in words, for the top of the notebook."""
    known = row_of_file(checkpoint.sha256)
    row = known[0] if known else plan.row
    chosen, spec = plan.parameters, checkpoint.spec
    protocol = chosen.protocol if chosen.protocol != "auto" else evaluate.own_protocol(checkpoint)
    return {
        "row": row.id if row else "none: an unknown checkpoint",
        "published box AP": row.box_ap_text if row else "—",
        "checkpoint": f"{checkpoint.format}, {checkpoint.flavour}, sha256 {checkpoint.sha256[:16]}…",
        "network": f"{spec.name}, {checkpoint.detector.num_classes} classes, {spec.head.form} head",
        "data": f"{dataset.split}: {len(dataset.images):,} images, {len(dataset.annotations):,} objects",
        "protocol": protocol
        + ("" if row is None or protocol == row.protocol else f" (the row's is {row.protocol})"),
        "device": plan.device,
    }


def costs(checkpoint: Checkpoint) -> dict[str, dict[str, float | None]]:
    """Parameters (millions) and GFLOPs at 640 px as deployed, counted and published (None where unknown)."""
    deployed = checkpoint.detector.deployed()
    known = row_of_file(checkpoint.sha256)
    published = known[0].published if known else Published("")
    return {
        "counted": {"parameters (M)": parameters(deployed) / 1e6, "GFLOPs": gflops(deployed)},
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
        f"{low:.1f} to {high:.1f}."
    )


def trained(
    row: str,
    dataset: str,
    out: Path,
    epochs: int | None = None,
    image_size: int | None = None,
    batch_size: int | None = None,
    recipe: str = "auto",
    seed: int = 0,
    max_steps: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    start: Path | None = None,
    split: str = "val2017",
) -> Path:
    """Train a row on a folder in COCO's format or on "demo", in `out`, and return the best checkpoint.

    precision "auto": float16 where the recipe trains in mixed precision and there is a GPU, else float32.
    """
    chosen, place = row_by_id(row), evaluate.resolved_device(device)
    given = Parameters(
        checkpoint="train",
        dataset=dataset,
        split=split,
        image_size=image_size,
        batch_size=batch_size,
        recipe=recipe,
        epochs=epochs,
        seed=seed,
    )
    plan = Plan(given, chosen, place)
    wanted = replace(job(plan), out=out, max_steps=max_steps, start=start)
    if precision != "auto":
        wanted = replace(wanted, precision=cast(Precision, precision))
    return training.train(wanted)
