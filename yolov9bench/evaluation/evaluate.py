"""A checkpoint, or a function of the user's own, over a data set: detections to COCO metrics to a Record.

python -m yolov9bench evaluate --checkpoint yolov9-c-converted.pt --dataset coco --json record.json
python -m yolov9bench evaluate --detector my.py:detect --dataset coco --name "my detector" --results results
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from yolov9bench.config import parse_classes, require_backend, require_checkpoint, require_unset
from yolov9bench.data.classes import choose_classes
from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.data.download import Origin
from yolov9bench.errors import CheckpointError, SettingsError, require_in_range
from yolov9bench.evaluation.coco_metrics import CocoResult
from yolov9bench.evaluation.images_used import require_objects, warn_of_images, without_skipped
from yolov9bench.evaluation.inputs import describe_inputs, describe_own_function, describe_own_row
from yolov9bench.evaluation.own_detections import OriginalImages, choose_by_id, run_function
from yolov9bench.evaluation.own_function import DetectFunction, OwnFunction, find_function
from yolov9bench.evaluation.run_network import require_one_process, require_possible, run_network
from yolov9bench.evaluation.settings import (
    BATCH_SIZE,
    ChosenDetector,
    EvaluationSettings,
    applied_settings,
    choose_detector,
    choose_protocol,
    function_settings,
    row_id,
)
from yolov9bench.evaluation.values import compute_values
from yolov9bench.io import provenance
from yolov9bench.io.machine import describe_environment
from yolov9bench.ops.distributed import current_ranks, process_group
from yolov9bench.ops.ranks import find_ranks, own_device
from yolov9bench.predict.batches import Batches
from yolov9bench.predict.predictions import Predictions
from yolov9bench.records import Record
from yolov9bench.records.lineage import find_training
from yolov9bench.weights import Checkpoint
from yolov9bench.weights.fetch import load_any
from yolov9bench.zoo.own_rows import OwnRow, has_network_of
from yolov9bench.zoo.rows import Published, Row


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """One evaluation with everything behind its record: data, detections, metrics and curves.

    `training`: the record of the training that wrote the weights, None where none is known.
    """

    record: Record
    dataset: CocoDataset
    predictions: Predictions
    result: CocoResult
    training: Record | None = None

    def __repr__(self) -> str:
        return f"<{self.record!r}, {len(self.predictions):,} detections>"


def evaluate(
    checkpoint: str | Path | None = None,
    dataset: str | Path | None = None,
    protocol: str = "auto",
    split: str = "val2017",
    batch_size: int = BATCH_SIZE,
    limit: int | None = None,
    device: str = "auto",
    image_size: int | None = None,
    judge: bool = False,
    skip_corrupt: bool = False,
    detections: str | Path | None = None,
    tta: bool = False,
    row: Row | str | Path | None = None,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    classes: str | Sequence[Any] = (),
    detector: str | DetectFunction | None = None,
    name: str | None = None,
    self_check: bool = False,
    backend: str = "auto",
) -> Record:
    """Evaluate a checkpoint, a file or a row's id, on a COCO-format folder and return the Record.

    In place of the checkpoint: `detector`, a function of your own or its name, as `own_function` has it, with
    a `name` for the table; or `row`, a TOML file that describes a row or such a function, as `zoo.own_rows`
    has it. `row` as an object is your own Row, for a checkpoint that was trained for it.

    Other keywords are those of `EvaluationSettings`; only `detections` is written. limit: the first image ids
    only, ground truth likewise. Any checkpoint can be evaluated with `tta`. annotations, images: the file of
    boxes and the folder of images, where they lie elsewhere than the split's are looked for. classes:
    "person" or "bicycle=bike", for a data set that shares only some with the detector. Raises BenchErrors
    that name the offender and the remedy.
    """
    if dataset is None:
        raise SettingsError("dataset is missing: give a folder in COCO's format")
    require_backend(backend)
    chosen = choose_detector(checkpoint, detector, row, name)
    if chosen.function is not None:
        require_unset(protocol=protocol, image_size=image_size, tta=tta, device=device)
        require_unset(self_check=self_check, backend=backend)
    settings = EvaluationSettings(
        protocol=protocol,
        batch_size=batch_size,
        device=own_device(resolve_device(device), find_ranks()),  # before the data set is read
        image_size=image_size,
        judge=judge,
        skip_corrupt=skip_corrupt,
        detections=None if detections is None else Path(detections),
        tta=tta,
        classes=parse_classes(classes),
        self_check=self_check,
        backend=backend,
    )
    places = [None if path is None else Path(path) for path in (annotations, images)]
    return evaluate_chosen(chosen, lambda: read_coco(Path(dataset), split, limit, *places), settings).record


def evaluate_chosen(
    chosen: ChosenDetector, read_data: Callable[[], CocoDataset], settings: EvaluationSettings
) -> Evaluation:
    """Evaluate what was chosen; the data set is read once the detector is known to be there."""
    if chosen.function is not None:
        if find_ranks().world_size > 1:
            raise SettingsError("a function is evaluated by one process: start it without torchrun")
        function = find_function(chosen.function)
        return evaluate_function(function, read_data(), settings, chosen.name, chosen.published)
    require_checkpoint(chosen.weights)
    dataset = read_data()
    with process_group(settings.device):
        loaded = load_any(chosen.weights)
        require_stated_network(chosen.own, loaded)
        return evaluate_loaded(loaded, dataset, settings, row=chosen.row, own=chosen.own)


def evaluate_loaded(
    checkpoint: Checkpoint,
    dataset: CocoDataset,
    settings: EvaluationSettings,
    seed: int | None = None,
    row: Row | None = None,
    origin: Origin | None = None,
    command: list[str] | None = None,
    own: OwnRow | None = None,
) -> Evaluation:
    """As `evaluate`, on what is loaded already, with the detections and curves that figures need.

    row, origin: of a checkpoint whose hash is known nowhere, the row whose own download brought it, and from
    where; a known hash identifies the row by itself. command: for the record, if not that of this process.
    own: the file that described `row`, whose record is then of no row of the table.
    """
    start, began = datetime.now(UTC), perf_counter()
    device = resolve_device(settings.device)
    protocol = choose_protocol(checkpoint, settings.protocol, settings.image_size, settings.tta, row)
    require_in_range(1, batch_size=settings.batch_size)
    require_one_process(settings)
    require_possible(settings, protocol, device)
    chosen = choose_classes(dataset, checkpoint.names, checkpoint.detector.num_classes, settings.classes)
    dataset = chosen.dataset
    require_objects(dataset)
    training = find_training(checkpoint.sha256, checkpoint.path) if checkpoint.is_own else None
    detector = checkpoint.detector.deployed().to(device)
    batches = Batches(dataset, protocol, settings.batch_size, settings.skip_corrupt, current_ranks())
    predictions, environment, ran = run_network(detector, batches, chosen.categories, device, settings)
    dataset = without_skipped(dataset, batches.skipped)
    result, values = compute_values(dataset, predictions, settings, asdict(batches.counts))
    record = Record(
        row=None if own else row.id if row and origin else row_id(checkpoint),
        kind="evaluate",
        values=asdict(values),
        settings=asdict(applied_settings(detector, batches, result, chosen.names, ran)),
        inputs=asdict(describe_inputs(dataset, batches, checkpoint, origin, describe_own_row(own), training)),
        environment=asdict(environment),
        seed=seed,
        start=start.isoformat(timespec="seconds"),
        seconds=round(perf_counter() - began, 3),
        command=command or provenance.command(),
    )
    return Evaluation(record, dataset, predictions, result, training)


def evaluate_function(
    function: OwnFunction,
    dataset: CocoDataset,
    settings: EvaluationSettings,
    name: str | None = None,
    published: Published | None = None,
) -> Evaluation:
    """As `evaluate_loaded`, of a function, of which neither weights nor protocol nor device are known.

    Of the settings it needs batch_size, judge, skip_corrupt, detections and classes alone. name: for the
    table; the function's own if None. published: the figures to compare with.
    """
    start, began = datetime.now(UTC), perf_counter()
    require_in_range(1, batch_size=settings.batch_size)
    chosen = choose_by_id(dataset, settings.classes)
    require_objects(chosen.dataset)
    environment = replace(describe_environment(resolve_device("auto")), device=None)
    images = OriginalImages(chosen.dataset, settings.batch_size, settings.skip_corrupt)
    ids = [number for number, _ in dataset.categories]
    predictions = run_function(function, images, ids, chosen.categories)
    warn_of_images(images)
    used = without_skipped(chosen.dataset, images.skipped)
    counts = {"images": len(used.images), "detections": len(predictions)}
    result, values = compute_values(used, predictions, settings, counts)
    own = describe_own_function(function, name or function.label, published)
    record = Record(
        row=None,
        kind="evaluate",
        values=asdict(values),
        settings=asdict(function_settings(images, result, chosen.names)),
        inputs=asdict(describe_inputs(used, images, None, own=own)),
        environment=asdict(environment),
        seed=None,
        start=start.isoformat(timespec="seconds"),
        seconds=round(perf_counter() - began, 3),
        command=provenance.command(),
    )
    return Evaluation(record, used, predictions, result)


def require_stated_network(own: OwnRow | None, checkpoint: Checkpoint) -> None:
    """CheckpointError for a checkpoint that holds another network than the file that names it states."""
    if own is not None and own.row is not None and not has_network_of(own.row, checkpoint.spec):
        raise CheckpointError(
            f"{own.checkpoint} holds the network {checkpoint.spec.name}, not {own.row.spec.name} as row "
            f"{own.id} states: correct its spec or its checkpoint"
        )


def resolve_device(device: str) -> str:
    """A torch device that works; "auto" is CUDA where there is one, else the CPU. Else SettingsError.

    Other kinds are refused, since nothing was ever compared on them: mps, hpu, meta and the like.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.lower() == "gpu" or device.isdigit():
        meant = "cuda" if device.lower() == "gpu" else f"cuda:{device}"
        raise SettingsError(f"device is {device!r}: a GPU is called {meant}")
    try:
        kind = torch.device(device).type
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = "" if "device type" in str(error) else f" ({str(error).splitlines()[0]})"
        raise SettingsError(f"device {device!r} cannot be used{reason}: take cpu, cuda, or auto") from error
    if kind not in ("cpu", "cuda"):
        raise SettingsError(
            f"device {device!r} is not supported, no result was ever compared on it: take cpu, cuda, or auto"
        )
    return device
