"""A checkpoint over a data set: images to detections to COCO metrics to a Record.

python -m yolov9bench evaluate --checkpoint yolov9-c-converted.pt --dataset coco --json record.json
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from yolov9bench.config import parse_classes, require_checkpoint
from yolov9bench.data.classes import choose_classes
from yolov9bench.data.coco import CocoDataset, read_coco
from yolov9bench.data.demo import DEMO_NAME
from yolov9bench.data.download import Origin
from yolov9bench.errors import DatasetError, SettingsError, require_in_range
from yolov9bench.evaluation import intervals
from yolov9bench.evaluation.coco_metrics import CocoResult, coco_result
from yolov9bench.evaluation.settings import (
    BATCH_SIZE,
    EvaluationSettings,
    applied_settings,
    choose_protocol,
    row_id,
)
from yolov9bench.io import provenance
from yolov9bench.io.files import write_text
from yolov9bench.io.machine import describe_environment
from yolov9bench.io.progress import counted, track
from yolov9bench.nn.detector import Detector
from yolov9bench.ops.distributed import current_ranks, gather, process_group
from yolov9bench.ops.ranks import find_ranks, own_device
from yolov9bench.predict.batches import Batches
from yolov9bench.predict.detect import detect_batch
from yolov9bench.predict.postprocess import Counts, counting
from yolov9bench.predict.predictions import Arrays, Predictions, predictions_of, result_json
from yolov9bench.records import Record
from yolov9bench.records.contents import (
    UNPINNED,
    Download,
    EvaluateInputs,
    EvaluateValues,
)
from yolov9bench.records.lineage import find_training, name_of
from yolov9bench.weights import Checkpoint
from yolov9bench.weights.fetch import load_any
from yolov9bench.zoo.protocols import Protocol
from yolov9bench.zoo.rows import Row

logger = logging.getLogger("yolov9bench")


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
    checkpoint: str | Path,
    dataset: str | Path,
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
    row: Row | None = None,
    annotations: str | Path | None = None,
    images: str | Path | None = None,
    classes: str | Sequence[Any] = (),
) -> Record:
    """Evaluate a checkpoint, a file or a row's id, on a COCO-format folder and return the Record.

    Other keywords are those of `EvaluationSettings`; only `detections` is written. limit: the first image ids
    only, ground truth likewise. Any detector can be evaluated with `tta`. row: your own, for a checkpoint
    that was trained for it. annotations, images: the file of boxes and the folder of images, where they lie
    elsewhere than the split's are looked for. classes: "person" or "bicycle=bike", for a data set that shares
    only some with the detector. Raises BenchErrors that name the offender and the remedy.
    """
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
    )
    require_checkpoint(checkpoint)
    places = (None if path is None else Path(path) for path in (annotations, images))
    data = read_coco(Path(dataset), split, limit, *places)
    with process_group(settings.device):
        return evaluate_loaded(load_any(checkpoint), data, settings, row=row).record


def evaluate_loaded(
    checkpoint: Checkpoint,
    dataset: CocoDataset,
    settings: EvaluationSettings,
    seed: int | None = None,
    row: Row | None = None,
    origin: Origin | None = None,
    command: list[str] | None = None,
) -> Evaluation:
    """As `evaluate`, on what is loaded already, with the detections and curves that figures need.

    row, origin: of a checkpoint whose hash is known nowhere, the row whose own download brought it, and from
    where; a known hash identifies the row by itself. command: for the record, if not that of this process.
    """
    start, began = datetime.now(UTC), perf_counter()
    device = resolve_device(settings.device)
    protocol = choose_protocol(checkpoint, settings.protocol, settings.image_size, settings.tta, row)
    require_in_range(1, batch_size=settings.batch_size)
    chosen = choose_classes(dataset, checkpoint.names, checkpoint.detector.num_classes, settings.classes)
    dataset = chosen.dataset
    require_objects(dataset)
    training = find_training(checkpoint.sha256, checkpoint.path) if checkpoint.is_own else None
    detector = checkpoint.detector.deployed().to(device)
    batches = Batches(dataset, protocol, settings.batch_size, settings.skip_corrupt, current_ranks())
    with full_float32():
        environment = describe_environment(str(next(detector.parameters()).device))
        try:
            predictions = run_inference(detector, batches, chosen.categories, device)
        except torch.OutOfMemoryError as error:
            raise too_large(settings.batch_size, protocol) from error
    dataset = without_skipped(dataset, batches.skipped)
    truth = dataset.ground_truth()
    result = coco_result(truth, predictions, settings.judge)
    interval = intervals.ap_interval(truth, predictions)
    stored = store_predictions(predictions, settings.detections)
    values = EvaluateValues(
        **result.metrics,
        AP_interval=interval and list(interval),
        AP_interval_method=interval and intervals.METHOD,
        detections=stored,
        counts=asdict(batches.counts),
    )
    record = Record(
        row=row.id if row and origin else row_id(checkpoint),
        kind="evaluate",
        values=asdict(values),
        settings=asdict(applied_settings(detector, batches, result, chosen.names)),
        inputs=asdict(describe_inputs(checkpoint, dataset, batches, origin, training)),
        environment=asdict(environment),
        seed=seed,
        start=start.isoformat(timespec="seconds"),
        seconds=round(perf_counter() - began, 3),
        command=command or provenance.command(),
    )
    return Evaluation(record, dataset, predictions, result, training)


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep CUDA from rounding float32 convolutions and products to TF32, its default for convolutions."""
    cudnn: Any = torch.backends.cudnn  # mypy does not see all its attributes
    backends: tuple[Any, ...] = (cudnn.conv, torch.backends.cuda.matmul)
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def run_inference(
    detector: Detector, batches: Batches, categories: Sequence[int | None], device: str
) -> Predictions:
    """The detections of a whole data set, by ascending image id whatever order the protocol took.

    categories: as `predictions_of` takes them.
    """
    count, protocol = counted(len(batches.dataset.images), "images"), batches.protocol
    logger.info("evaluating %s under protocol %s on %s", count, protocol.name, device)
    by_image: dict[int, Arrays] = {}
    is_main = current_ranks().is_main
    for batch in track(batches, len(batches), f"evaluating {count}", "batches") if is_main else batches:
        with counting(batches.counts):
            detections = detect_batch(detector, batch, protocol, device)
        for image, each in zip(batch.images, detections, strict=True):
            boxes, scores, labels = (part.cpu().numpy() for part in each)
            by_image[image.id] = boxes, scores, labels
            batches.counts.images += 1
            batches.counts.detections += len(scores)
    by_image = join_shares(by_image, batches)
    warn_of_images(batches)
    return predictions_of(by_image, categories)


def warn_of_images(batches: Batches) -> None:
    """Say which images were left out, have another size than annotated, or are almost black."""
    if batches.skipped:
        left_out = counted(len(batches.skipped), "images")
        logger.warning("left out %s that cannot be decoded: %s", left_out, batches.skipped)
    if batches.other_size:
        what, first = "another size than annotated", batches.other_size[0]
        logger.warning("%s %s (first %s): their own counts", _have(batches.other_size), what, first)
    if batches.dim:
        what, first = "16 bits a pixel with 12 in use", min(batches.dim)
        remedy = "almost black: scale the pixel values"
        logger.warning("%s %s (first %s), %s", _have(batches.dim), what, first, remedy)


def _have(images: Sequence[str]) -> str:
    return f"{counted(len(images), 'images')} {'has' if len(images) == 1 else 'have'}"


def join_shares(by_image: dict[int, Arrays], batches: Batches) -> dict[int, Arrays]:
    """The detections of every process, and in `batches` what each counted, left out or found otherwise."""
    counts = asdict(batches.counts)
    shares = gather((by_image, batches.skipped, batches.other_size, batches.dim, counts))
    order = {image.file_name: place for place, image in enumerate(batches.dataset.images)}
    batches.skipped = sorted(chain.from_iterable(skipped for _, skipped, *_ in shares), key=order.__getitem__)
    batches.other_size = sorted(
        chain.from_iterable(other for _, _, other, *_ in shares), key=order.__getitem__
    )
    batches.dim = list(chain.from_iterable(dim for *_, dim, _ in shares))
    batches.counts = Counts(**{key: sum(each[key] for *_, each in shares) for key in counts})
    return {number: arrays for found, *_ in shares for number, arrays in found.items()}


def too_large(images: int, protocol: Protocol) -> SettingsError:
    """The error for so many images at a time that a GPU has no memory for."""
    remedy = f"give batch_size {images // 2}" if images > 1 else "give a smaller image_size, or device cpu"
    size = protocol.image_size
    return SettingsError(
        f"a batch of {counted(images, 'images')} of {size} px does not fit into the GPU's memory: {remedy}"
    )


def store_predictions(predictions: Predictions, target: Path | None) -> dict[str, Any]:
    """Write the detections as JSON, if anywhere, and say what a record needs to find and check them."""
    text = result_json(predictions)
    digest = hashlib.sha256(text.encode()).hexdigest()
    if target is not None:
        target = target if target.suffix else target / f"detections-{digest[:8]}.json"
        if current_ranks().is_main:
            write_text(target, text)
    return {"file": target.name if target else None, "sha256": digest, "count": len(predictions)}


def without_skipped(dataset: CocoDataset, skipped: list[str]) -> CocoDataset:
    """The data set less the images that were left out, so that nothing on them counts as missed."""
    if not skipped:
        return dataset
    kept = tuple(image for image in dataset.images if image.file_name not in skipped)
    if not kept:
        raise DatasetError(
            f"none of the {len(skipped)} images in {dataset.folder} can be decoded: fetch them again"
        )
    return dataset.restricted(kept)


def require_objects(dataset: CocoDataset) -> None:
    """DatasetError for images on which no object is annotated, crowds apart: every metric would be -1."""
    if not dataset.has_objects:
        raise DatasetError(
            f"no object is annotated on the {len(dataset.images)} images of {dataset.folder} "
            f"({len(dataset.annotations)} crowds), so that there is nothing to score: choose other images"
        )


def describe_inputs(
    checkpoint: Checkpoint,
    dataset: CocoDataset,
    batches: Batches,
    origin: Origin | None,
    training: Record | None = None,
) -> EvaluateInputs:
    """What went in, as a record has it; `origin` is of weights whose hash is known nowhere."""
    download = None if origin is None else Download(url=origin.url, bytes=origin.bytes, hash=UNPINNED)
    return EvaluateInputs(
        weights_sha256=checkpoint.sha256,
        format=checkpoint.format,
        flavour=checkpoint.flavour,
        spec=checkpoint.spec.name,
        classes=checkpoint.detector.num_classes,
        demo=dataset.description == DEMO_NAME,
        split=dataset.split,
        annotations_sha256=dataset.annotations_sha256,
        image_list_sha256=dataset.image_list_sha256,
        images=len(dataset.images),
        images_skipped=batches.skipped,
        images_of_other_size=len(batches.other_size),
        download=download,
        training=name_of(training),
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
