"""One row from its checkpoint to a verdict on its published figure: what the notebook calls, step by step."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from yolov9bench import evaluate, records
from yolov9bench.data import download
from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.errors import SettingsError
from yolov9bench.measure import gflops, parameters
from yolov9bench.parameters import Parameters, checked_parameters
from yolov9bench.predict.protocols import PROTOCOLS, find_protocol
from yolov9bench.records import Record
from yolov9bench.weights import Checkpoint, load
from yolov9bench.zoo.rows import ROWS, Published, Row, find_row, row_of_file

NOT_YET = "is not part of this release: give a path to a trained checkpoint, or 'download'"

logger = logging.getLogger("yolov9bench")


@dataclass(frozen=True)
class Plan:
    """Validated parameters and what follows from them before anything is fetched: row, device, folders."""

    parameters: Parameters
    row: Row | None  # None for a path: the file's hash tells its row
    device: str


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
    plan = planned(checked_parameters(given))
    checkpoint = subject(plan)
    evaluation = evaluated(plan, checkpoint, data(plan))
    records.write(evaluation.record, plan.parameters.results_folder)
    logger.info("%s", verdict(evaluation.record))
    return evaluation.record


def planned(parameters: Parameters) -> Plan:
    """Check every value that can be checked without work; SettingsError with a suggestion."""
    if parameters.checkpoint == "train":
        raise SettingsError(f"checkpoint 'train' {NOT_YET}")
    if parameters.dataset == "demo":
        raise SettingsError(
            "dataset 'demo' is not part of this release: give a folder in COCO's format, or 'coco'"
        )
    row = find_row(parameters.family, parameters.size, parameters.mask_refine, parameters.source)
    find_protocol(
        parameters.protocol if parameters.protocol != "auto" else row.protocol, parameters.image_size
    )
    by_path = parameters.checkpoint not in ("auto", "download")
    return Plan(parameters, None if by_path else row, evaluate.resolved_device(parameters.device))


def subject(plan: Plan) -> Checkpoint:
    """The checkpoint that the plan names, fetched if need be, ready to detect."""
    if plan.row is None:
        return load(Path(plan.parameters.checkpoint))
    fetched = download.checkpoint(plan.row.download, plan.parameters.data_folder)
    return load(fetched.path)


def data(plan: Plan) -> CocoDataset:
    """The data set that the plan names, fetched if need be."""
    chosen = plan.parameters
    if chosen.dataset in ("auto", "coco"):
        folder = download.coco(chosen.data_folder, chosen.split)
    else:
        folder = Path(chosen.dataset)
    return read_coco(folder, chosen.split, chosen.limit)


def evaluated(plan: Plan, checkpoint: Checkpoint, dataset: CocoDataset) -> evaluate.Evaluation:
    """The evaluation that the plan asks for; detections go to the results folder's runs/detections."""
    chosen = plan.parameters
    return evaluate.run(
        checkpoint,
        dataset,
        chosen.protocol,
        chosen.batch_size,
        plan.device,
        chosen.image_size,
        chosen.judge,
        chosen.skip_corrupt,
        chosen.results_folder / "runs" / "detections",
        chosen.seed,
    )


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
    if record.inputs["annotations_sha256"] != whole.annotations_sha256:
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
