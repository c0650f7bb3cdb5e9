"""Where AP goes: one checkpoint under a baseline protocol and under single departures from it.

python -m yolov9bench study --checkpoint yolov8n.pt --dataset coco --results results/runs
papermill notebooks/protocol.ipynb OUT.ipynb -p checkpoint yolov8n.pt -p dataset coco
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from yolov9bench import records
from yolov9bench.config import require_checkpoint
from yolov9bench.data.coco import CocoDataset, label_categories, read_coco
from yolov9bench.data.download import Origin
from yolov9bench.errors import require_in_range
from yolov9bench.evaluation.candidates import Source
from yolov9bench.evaluation.departures import ORDERS, list_departures
from yolov9bench.evaluation.evaluate import resolve_device
from yolov9bench.evaluation.images_used import require_objects, too_large, without_skipped
from yolov9bench.evaluation.inputs import describe_inputs
from yolov9bench.evaluation.run_network import full_float32
from yolov9bench.evaluation.settings import BATCH_SIZE, choose_protocol, row_id
from yolov9bench.evaluation.study_lines import measure_all
from yolov9bench.io import provenance
from yolov9bench.io.machine import describe_environment
from yolov9bench.predict.batches import Batches
from yolov9bench.records import Record
from yolov9bench.records.lineage import find_training
from yolov9bench.records.study import StudySettings
from yolov9bench.weights import Checkpoint
from yolov9bench.weights.fetch import load_any
from yolov9bench.zoo.protocols import Protocol
from yolov9bench.zoo.rows import Row


@dataclass(frozen=True)
class StudyQuestion:
    """How to study what is loaded.

    protocol: the baseline, a name, or "auto" for that of the checkpoint's format
    image_size: pixels, if not the protocol's own
    batch_size: images at a time; changes no detection but for rounding
    device: a torch device, or "auto"
    orders: random orders of images of equal height / width
    skip_corrupt: leave out images that cannot be decoded, instead of refusing them
    """

    protocol: str = "auto"
    image_size: int | None = None
    batch_size: int = BATCH_SIZE
    device: str = "auto"
    orders: int = ORDERS
    skip_corrupt: bool = False


def study_file(
    checkpoint: str | Path,
    dataset: str | Path,
    split: str = "val2017",
    limit: int | None = None,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    **question: Any,
) -> Record:
    """As `study`, of a file of weights or a row's id and a folder in COCO's format.

    Other keywords are those of `StudyQuestion`. annotations, images: where the file of boxes and the folder
    of images lie elsewhere than the split's are looked for.
    """
    asked = StudyQuestion(**question)
    asked = replace(asked, device=resolve_device(asked.device))  # before the data set is read
    require_checkpoint(checkpoint)
    places = [None if path is None else Path(path) for path in (annotations, images)]
    data = read_coco(Path(dataset), split, limit, *places)
    return study(load_any(checkpoint), data, asked)


def study(
    checkpoint: Checkpoint,
    dataset: CocoDataset,
    question: StudyQuestion,
    row: Row | None = None,
    origin: Origin | None = None,
    command: list[str] | None = None,
) -> Record:
    """Measure AP under the baseline and under every departure from it, and return the Record.

    The network runs once on each kind of input. row, origin: of a checkpoint whose hash is known nowhere, the
    row whose own download brought it, and from where. command: for the record, if not that of this process.
    Raises BenchErrors that name the offender and the remedy.
    """
    start, began = datetime.now(UTC), perf_counter()
    protocol = choose_protocol(checkpoint, question.protocol, question.image_size, tta=False, row=row)
    source, categories = prepare_source(checkpoint, dataset, question, protocol)
    departures = list_departures(protocol, question.orders)
    training = find_training(checkpoint.sha256, checkpoint.path) if checkpoint.is_own else None
    with full_float32():
        environment = describe_environment(str(next(source.detector.parameters()).device))
        try:
            values, batches = measure_all(source, protocol, departures, categories)
        except torch.OutOfMemoryError as error:
            raise too_large(question.batch_size, protocol) from error
    used = without_skipped(dataset, batches.skipped)
    return Record(
        row=row.id if row and origin else row_id(checkpoint),
        kind="study",
        values=asdict(values),
        settings=asdict(settings_of(source, batches)),
        inputs=asdict(describe_inputs(used, batches, checkpoint, origin, training=training)),
        environment=asdict(environment),
        seed=None,
        start=start.isoformat(timespec="seconds"),
        seconds=round(perf_counter() - began, 3),
        command=command or provenance.command(),
    )


def prepare_source(
    checkpoint: Checkpoint, dataset: CocoDataset, question: StudyQuestion, protocol: Protocol
) -> tuple[Source, tuple[int, ...]]:
    """What candidates come from, and the category id of each label, once all that is asked can be."""
    device = resolve_device(question.device)
    require_in_range(1, batch_size=question.batch_size)
    require_in_range(0, orders=question.orders)
    categories = label_categories(dataset, checkpoint.names, checkpoint.detector.num_classes)
    require_objects(dataset)
    detector = checkpoint.detector.deployed().to(device)
    threshold, batch_size = protocol.score_threshold, question.batch_size
    return Source(detector, dataset, device, threshold, batch_size, question.skip_corrupt), categories


def settings_of(source: Source, batches: Batches) -> StudySettings:
    """The settings that ran, read from the objects that ran."""
    return StudySettings(
        protocol=records.as_stored(batches.protocol),
        batch_size=batches.batch_size,
        dtype=str(next(source.detector.parameters()).dtype).removeprefix("torch."),
        fused=source.detector.fused,
        skip_corrupt=batches.skip_corrupt,
    )


def write_study(record: Record, results_dir: Path) -> tuple[Path, Path, Path]:
    """Add the record to a folder of results, with its table and waterfall in studies/; their paths."""
    from yolov9bench.io.files import atomic_path, write_text
    from yolov9bench.plots.waterfall import plot_waterfall
    from yolov9bench.report.study_page import page_text

    stem = results_dir / "studies" / f"{record.row or records.CUSTOM}-{records.hash8(record)}"
    figure, page = stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.md")
    with atomic_path(figure) as fresh:
        plot_waterfall(record).savefig(fresh, dpi=150)
    write_text(page, page_text(record, figure.name))
    return records.write(record, results_dir), page, figure
