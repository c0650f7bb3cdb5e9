"""What went into an evaluation, as a record has it: the data set, and a checkpoint or a function."""

from __future__ import annotations

from yolov9bench.data.coco import CocoDataset
from yolov9bench.data.demo import DEMO_NAME
from yolov9bench.data.download import Origin
from yolov9bench.evaluation.own_detections import OriginalImages
from yolov9bench.evaluation.own_function import OwnFunction
from yolov9bench.predict.batches import Batches
from yolov9bench.records import Record, as_stored
from yolov9bench.records.contents import UNPINNED, Download, EvaluateInputs
from yolov9bench.records.lineage import name_of
from yolov9bench.records.own import OWN_PROTOCOL, OwnDetector, stated_figures
from yolov9bench.weights import Checkpoint
from yolov9bench.zoo.own_rows import OwnRow
from yolov9bench.zoo.rows import Published


def describe_inputs(
    dataset: CocoDataset,
    images: Batches | OriginalImages,
    checkpoint: Checkpoint | None,
    origin: Origin | None = None,
    own: OwnDetector | None = None,
    training: Record | None = None,
) -> EvaluateInputs:
    """Hashes and counts; a function has no checkpoint. origin: of weights whose hash is known nowhere.

    training: the record of the one that wrote the weights.
    """
    download = None if origin is None else Download(url=origin.url, bytes=origin.bytes, hash=UNPINNED)
    return EvaluateInputs(
        weights_sha256=None if checkpoint is None else checkpoint.sha256,
        format=None if checkpoint is None else checkpoint.format,
        flavour=None if checkpoint is None else checkpoint.flavour,
        spec=None if checkpoint is None else checkpoint.spec.name,
        classes=None if checkpoint is None else checkpoint.detector.num_classes,
        demo=dataset.description == DEMO_NAME,
        split=dataset.split,
        annotations_sha256=dataset.annotations_sha256,
        image_list_sha256=dataset.image_list_sha256,
        images=len(dataset.images),
        images_skipped=images.skipped,
        images_of_other_size=len(images.other_size),
        download=download,
        training=name_of(training),
        own=own,
    )


def describe_own_function(function: OwnFunction, name: str, published: Published | None) -> OwnDetector:
    """A function, whose stated figures are of its own protocol."""
    return OwnDetector(
        name=name,
        function=function.label,
        function_sha256=function.sha256,
        commit=function.commit,
        protocol={"name": OWN_PROTOCOL},
        published=stated_figures(published),
    )


def describe_own_row(own: OwnRow | None) -> OwnDetector | None:
    """A row from a file; None for what is none."""
    if own is None or own.row is None:
        return None
    return OwnDetector(
        name=own.id,
        function=None,
        function_sha256=None,
        commit=None,
        protocol=as_stored(own.row.protocol),
        published=stated_figures(own.published),
    )
