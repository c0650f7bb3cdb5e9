"""Second opinions on an evaluation: other measures of its stored detections, by other annotations too.

python -m yolov9bench second-opinion results/records/yolov9-c/evaluate-....json --annotations val2017.json
python -m yolov9bench second-opinion results/records/... --corrected corrected.json    # AP by those beside
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

from yolov9bench import records
from yolov9bench.data.annotations import read_annotations
from yolov9bench.errors import DatasetError, RecordError, SettingsError, shown_value
from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.evaluation.diagnostics import Calibration, calibration
from yolov9bench.evaluation.lrp import Lrp, lrp_error
from yolov9bench.evaluation.rederive import (
    find_annotations,
    require_detections,
    require_truth,
)
from yolov9bench.evaluation.truth import GroundTruth
from yolov9bench.io.files import sha256_of
from yolov9bench.io.progress import counted
from yolov9bench.predict.predictions import Predictions
from yolov9bench.records.contents import METRICS, EvaluateContents, read_evaluate

GIVEN = "corrected annotations given by the user"
HARDEST = 5  # classes that the text names
ABSENT = "—"


@dataclass(frozen=True)
class Corrected:
    """The twelve metrics of the same detections against other annotations, named by the file's sha256.

    `annotations`: how many there are on the record's images and of its classes.
    """

    source: str
    sha256: str
    annotations: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class SecondOpinion:
    """What else the detections of a record say; `metrics` are the record's own twelve, as fractions."""

    record: str
    row: str | None
    protocol: str
    images: int
    metrics: dict[str, float]
    lrp: Lrp
    calibration: Calibration
    corrected: Corrected | None

    def __str__(self) -> str:
        row, images = self.row or "custom", counted(self.images, "images")
        title = f"{self.record} of {row}, protocol {self.protocol}, {images}"
        parts = [_metrics_text(self), _lrp_text(self.lrp), _calibration_text(self.calibration)]
        return "\n\n".join([title, *parts])


def give_second_opinion(
    path: Path,
    results_dir: Path,
    annotations: Sequence[Path] = (),
    corrected: Path | None = None,
    data_folder: Path | None = None,
) -> SecondOpinion:
    """Measure the detections of a record of an evaluation again, by LRP and calibration.

    Detections and annotations are found by their hashes, as `verify` finds them; they must give the record's
    own metrics. corrected: annotations of the same images and classes by another hand. RecordError: not an
    evaluation, something is not found, or the record is false; SettingsError, DatasetError: `corrected`
    cannot be used.
    """
    record = records.read(path)
    if record.kind != "evaluate":
        raise RecordError(f"{path} is a record of kind {record.kind}: give one of an evaluation")
    stated = read_evaluate(record)
    other = None if corrected is None else _hash_of_other(corrected, stated)
    detections = require_detections(path, results_dir, stated)
    with find_annotations([record], annotations, data_folder) as known:
        content = known.get(str(stated.inputs.annotations_sha256))
    truth = require_truth(path, content, detections, stated)
    return SecondOpinion(
        record=path.stem,
        row=record.row,
        protocol=str(stated.settings.protocol_name),
        images=len(truth["images"]),
        metrics={name: record.values[name] for name in METRICS},
        corrected=None if corrected is None else _measure_against(corrected, str(other), truth, detections),
        lrp=lrp_error(truth, detections),
        calibration=calibration(truth, detections),
    )


def _hash_of_other(corrected: Path, stated: EvaluateContents) -> str:
    sha256 = sha256_of(corrected)
    if sha256 == stated.inputs.annotations_sha256:
        raise SettingsError(f"corrected {corrected} are the record's own annotations: give other ones")
    return sha256


def _measure_against(file: Path, sha256: str, truth: GroundTruth, detections: Predictions) -> Corrected:
    """The metrics by other annotations of the same images and classes; DatasetError for those of others."""
    content = read_annotations(file)
    for kind, one, key in (("images", "image", "file_name"), ("categories", "category", "name")):
        there = {each["id"]: each[key] for each in content[kind]}
        for each in truth[kind]:
            if there.get(each["id"]) != each[key]:
                raise DatasetError(
                    f"{file} has no {one} {each['id']} named {shown_value(each[key])}, which the record has: "
                    "give corrected annotations of its images and classes"
                )
    images, classes = ({each["id"] for each in truth[kind]} for kind in ("images", "categories"))
    kept = [
        entry
        for entry in content["annotations"]
        if entry["image_id"] in images and entry["category_id"] in classes
    ]
    other = {"images": truth["images"], "annotations": kept, "categories": truth["categories"]}
    return Corrected(GIVEN, sha256, len(kept), coco_metrics(other, detections))


def _metrics_text(opinion: SecondOpinion) -> str:
    """The record's metrics, and those by other annotations in a column of their own."""
    header, columns = ["", "own annotations"], [opinion.metrics]
    if opinion.corrected is not None:
        header.append("corrected")
        columns.append(opinion.corrected.metrics)
    lines = [[name, *(f"{each[name]:.5f}" for each in columns)] for name in METRICS]
    table = tabulate(lines, header, "plain", disable_numparse=True)
    if opinion.corrected is None:
        return table
    count = counted(opinion.corrected.annotations, "annotations")
    return f"{table}\ncorrected: {opinion.corrected.source}, {count}, sha256 {opinion.corrected.sha256}"


def _lrp_text(lrp: Lrp) -> str:
    hardest = sorted(lrp.classes.items(), key=lambda item: (-item[1].error, item[0]))[:HARDEST]
    named = ", ".join(f"{name} {found.error:.3f}" for name, found in hardest)
    lines = [
        ["localisation (1 - IoU)", _fraction(lrp.localisation)],
        ["false positives", _fraction(lrp.false_positives)],
        ["false negatives", _fraction(lrp.false_negatives)],
    ]
    return "\n".join(
        [
            f"optimal LRP error at IoU .50 (0 is best), mean of {counted(len(lrp.classes), 'classes')}: "
            f"{_fraction(lrp.error)}",
            tabulate(lines, tablefmt="plain", disable_numparse=True),
            f"highest: {named or ABSENT}",
        ]
    )


def _calibration_text(found: Calibration) -> str:
    header = ["scores", "detections", "mean score", "right"]
    lines = [
        [f"{each.low:.1f} to {each.high:.1f}", f"{each.count:,}", f"{each.score:.3f}", f"{each.right:.3f}"]
        for each in found.bins
    ]
    return (
        f"calibration at IoU .50 (0 is best): expected error {found.error:.5f}, largest {found.largest:.5f}\n"
        + tabulate(lines, header, "plain", disable_numparse=True, stralign="right")
    )


def _fraction(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.5f}"
