"""How to evaluate: what may be asked, the protocol that follows from a checkpoint, and what then ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from yolov9bench.config import require_name, require_one_detector
from yolov9bench.errors import SettingsError
from yolov9bench.evaluation.coco_metrics import CocoResult
from yolov9bench.evaluation.own_detections import OriginalImages
from yolov9bench.evaluation.own_function import DetectFunction
from yolov9bench.nn.detector import Detector
from yolov9bench.predict.batches import Batches
from yolov9bench.records import as_stored
from yolov9bench.records.contents import BackendSettings, EvaluateSettings
from yolov9bench.records.own import OWN_PROTOCOL
from yolov9bench.weights import Checkpoint
from yolov9bench.zoo.backends import TF32
from yolov9bench.zoo.own_rows import OwnRow, read_own_row
from yolov9bench.zoo.protocols import PROTOCOL_OF_FORMAT, Protocol, find_protocol, find_tta_protocol
from yolov9bench.zoo.rows import ROWS, Published, Row, row_of_file

BATCH_SIZE = 16  # images at a time unless told otherwise: changes speed and memory, not the detections


@dataclass(frozen=True)
class EvaluationSettings:
    """How to evaluate what is loaded.

    protocol: a name, or "auto" for that of the checkpoint's format
    batch_size: images at a time; changes no detection but for rounding
    device: a torch device, or "auto"
    image_size: pixels, if not the protocol's own
    judge: pycocotools must agree to 1e-12
    skip_corrupt: leave out images that cannot be decoded, instead of refusing them
    detections: where to store the detections: a file, or a folder that gets one named by its hash
    tta: test-time augmentation, which mmyolo's protocol alone defines, at its own image sizes
    classes: those to evaluate, the data set's name by the detector's; all if there are none
    self_check: first see on a few images whether the detector behaves as its protocol says
    backend: the name of one of `zoo.backends`, or "auto" for the fastest on this processor
    """

    protocol: str = "auto"
    batch_size: int = BATCH_SIZE
    device: str = "cpu"
    image_size: int | None = None
    judge: bool = False
    skip_corrupt: bool = False
    detections: Path | None = None
    tta: bool = False
    classes: Mapping[str, str] = field(default_factory=dict)
    self_check: bool = False
    backend: str = "auto"


@dataclass(frozen=True)
class ChosenDetector:
    """What is evaluated: `function` with its `name`, or else `weights`, with a `row` of one's own if any.

    `own` is the file that described either.
    """

    weights: str | Path = ""
    function: str | DetectFunction | None = None
    name: str | None = None
    row: Row | None = None
    own: OwnRow | None = None

    @property
    def published(self) -> Published | None:
        """The figures that the file states."""
        return None if self.own is None else self.own.published


def choose_detector(
    checkpoint: str | Path | None,
    detector: str | DetectFunction | None,
    row: Row | str | Path | None,
    name: str | None,
) -> ChosenDetector:
    """The one detector asked for; a file that describes it is read. SettingsError for none and for two."""
    described = None if isinstance(row, Row) else row
    require_one_detector(checkpoint=checkpoint, detector=detector, row=described)
    if name is not None and detector is None:
        raise SettingsError("name is of a detector's function, and other detectors have theirs: leave it out")
    if name is not None:
        require_name(name)
    if described is not None:
        own = read_own_row(described)
        return ChosenDetector(own.checkpoint or "", own.detector, own.id, own.row, own)
    return ChosenDetector(checkpoint or "", detector, name, row if isinstance(row, Row) else None)


def applied_settings(
    detector: Detector,
    batches: Batches,
    result: CocoResult,
    classes: dict[str, str],
    backend: BackendSettings,
) -> EvaluateSettings:
    """The settings that ran, as a record has them, read from the objects that ran.

    classes: those chosen, as `ChosenClasses.names`.
    """
    weights = next(detector.parameters())
    return EvaluateSettings(
        protocol=as_stored(batches.protocol),
        batch_size=batches.batch_size,
        dtype=TF32.dtype if backend.name == TF32.name else str(weights.dtype).removeprefix("torch."),
        fused=detector.fused,
        judge=result.judged,
        skip_corrupt=batches.skip_corrupt,
        classes=classes,
        evaluator=result.evaluator,
        backend=backend,
    )


def function_settings(
    images: OriginalImages, result: CocoResult, classes: dict[str, str]
) -> EvaluateSettings:
    """As `applied_settings`, of a function: its protocol is its own, and its network is not known."""
    return EvaluateSettings(
        protocol={"name": OWN_PROTOCOL},
        batch_size=images.batch_size,
        dtype=None,
        fused=None,
        judge=result.judged,
        skip_corrupt=images.skip_corrupt,
        classes=classes,
        evaluator=result.evaluator,
        backend=None,
    )


def choose_protocol(
    checkpoint: Checkpoint, name: str, image_size: int | None, tta: bool, row: Row | None = None
) -> Protocol:
    """The protocol to evaluate by; "auto" is the checkpoint's own, but mmyolo's with `tta`.

    row: a Row of your own, for a checkpoint that was trained for it.
    """
    if tta:
        return find_tta_protocol(name, image_size)
    if name != "auto":
        return find_protocol(name, image_size)
    return own_protocol(checkpoint, row).at_image_size(image_size)


def own_protocol(checkpoint: Checkpoint, row: Row | None = None) -> Protocol:
    """The protocol of a checkpoint: its format's, or that of the row our own file was trained for.

    row: a Row of your own, whose protocol is taken whatever the file, but for one of ours that was trained
    for another unknown row. SettingsError for a file of ours that names no row, or an unknown one.
    """
    is_own = row is not None and row.id not in ROWS and checkpoint.row in (None, *ROWS)
    if row is not None and (is_own or row.id == checkpoint.row):
        return row.protocol
    if checkpoint.format != "yolov9bench":
        return find_protocol(PROTOCOL_OF_FORMAT[checkpoint.format])
    if checkpoint.row is None:
        raise SettingsError(
            "this checkpoint of our own names no row, so no protocol follows from it: "
            "pass one, for instance yolov9"
        )
    if checkpoint.row not in ROWS:
        raise SettingsError(
            f"this checkpoint was trained for row {checkpoint.row!r}, which is not one of the table's: "
            "give a protocol, or that Row itself"
        )
    return ROWS[checkpoint.row].protocol


def row_id(checkpoint: Checkpoint) -> str | None:
    """The row whose published weights these are, or for which our own were trained; None for others."""
    found = row_of_file(checkpoint.sha256)
    return found[0].id if found else checkpoint.row
