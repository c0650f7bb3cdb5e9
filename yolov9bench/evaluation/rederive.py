"""The metrics of a record computed again, from the detections that it names and their annotations."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from yolov9bench.data.annotations import read_annotations
from yolov9bench.data.coco import image_list_sha256_of
from yolov9bench.data.demo import make_demo
from yolov9bench.errors import RecordError, exists, shown, shown_value
from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.evaluation.intervals import METHOD, ap_interval
from yolov9bench.evaluation.truth import GroundTruth
from yolov9bench.io.files import finished_files, sha256_of
from yolov9bench.io.names import name_fault
from yolov9bench.predict.predictions import Predictions, predictions_from_json, result_sha256
from yolov9bench.predict.result_files import ARRAYS, read_predictions
from yolov9bench.records import Record
from yolov9bench.records.contents import METRICS, EvaluateContents, EvaluateInputs
from yolov9bench.records.detections import path_of_detections, read_detections

METRIC_TOLERANCE = 1e-12  # of a metric that is computed again from the same detections
INTERVAL_TOLERANCE = 1e-9  # of an interval's ends, which are sums of thousands of terms
SCORE_STEP = 1e-5  # of stored scores


class Annotations:
    """Annotation files by the sha256 of their bytes; each is read once, when it is first asked for."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._read: dict[str, GroundTruth] = {}

    def get(self, sha256: str) -> GroundTruth | None:
        """What the file with this hash holds, None if there is none; DatasetError as `read_annotations`."""
        if sha256 in self._files and sha256 not in self._read:
            self._read[sha256] = read_annotations(self._files[sha256])
        return self._read.get(sha256)


@contextmanager
def find_annotations(
    found: Iterable[Record], given: Sequence[Path], data_folder: Path | None
) -> Iterator[Annotations]:
    """The annotations of records: among `given`, under `data_folder` (coco/ and demo/), or drawn again.

    Each file is hashed at most once, and none once all that the records name are found. The demo set of a
    record's seed is drawn where its file is missing.
    """
    named = [(record, sha256) for record in found for sha256 in _annotations_of(record)]
    wanted = {sha256 for _, sha256 in named}
    folders = [] if data_folder is None else [data_folder / "coco", data_folder / "demo"]
    files = [*given, *(file for each in folders for file in finished_files(each, "annotations/*.json"))]
    known: dict[str, Path] = {}
    for file in {each.resolve(): each for each in files}.values():
        if wanted <= known.keys():
            break
        known[sha256_of(file)] = file
    drawn_again = {
        record.seed or 0
        for record, sha256 in named
        if record.inputs.get("demo") is True and sha256 not in known and (record.seed or 0) >= 0
    }
    with tempfile.TemporaryDirectory() as scratch:
        for seed in drawn_again:
            drawn = make_demo(Path(scratch, str(seed)), seed)
            known |= {sha256_of(file): file for file in drawn.glob("annotations/*.json")}
        yield Annotations(known)


def _annotations_of(record: Record) -> list[str]:
    """The sha256 of the annotations that a record is about."""
    keys = {"evaluate": ("",), "compare": ("",), "study": ("",), "train": ("train", "validation")}.get(
        record.kind, ()
    )
    data = [record.inputs.get(key) if key else record.inputs for key in keys]
    return [str(each.get("annotations_sha256")) for each in data if isinstance(each, dict)]


def find_detections(
    sha256: str, path: Path, results_dir: Path, stated: EvaluateContents
) -> Predictions | None:
    """The detections that a record names; RecordError if a file that should be them is not."""
    return find_file(sha256, (stated.values.detections or {}).get("file"), path, results_dir)


def find_file(sha256: str, name: str | None, path: Path, results_dir: Path) -> Predictions | None:
    """The detections of a hash, kept under it or as a file `name` by the record at `path` or its results.

    None where they are not, or the record names no hash. RecordError for a name that leads elsewhere, for
    other detections than those of the hash, and for what are no detections.
    """
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        return None
    places = [path_of_detections(results_dir, sha256)]
    if name:
        _require_file_name(name)
        folders = (path.parent, results_dir / "detections", results_dir / "runs" / "detections")
        places += [folder / str(name) for folder in folders]
    place = next((each for each in places if exists("detections", each) and each.is_file()), None)
    if place is None:
        return None
    own, predictions = _read_hashed(place)
    if own != sha256:
        raise RecordError(f"{place.name} are other detections (sha256 {own[:8]}…) than the record names")
    return predictions


def _require_file_name(name: object) -> None:
    """RecordError unless it is the plain name of a file: a record must not have others looked at."""
    if not isinstance(name, str) or name_fault(name) is not None:
        raise RecordError(f"detections are said to be in {shown_value(name)}, which is no file's name")


def _read_hashed(path: Path) -> tuple[str, Predictions]:
    """Detections and the sha256 of their text; RecordError for a file that cannot be read."""
    if path.suffix == ARRAYS:
        predictions = read_predictions(path)
        return result_sha256(predictions), predictions
    text = read_detections(path)
    return hashlib.sha256(text.encode()).hexdigest(), _parsed(text, path)


def _parsed(text: str, path: Path) -> Predictions:
    try:
        return predictions_from_json(text)
    except ValueError as error:
        said = f"{path.name} holds no detections ({shown(error)})"
        raise RecordError(f"{said}: evaluate again") from error


def find_contradictions(detections: Predictions, stated: EvaluateContents) -> list[str]:
    """What the stored detections contradict: count, threshold, most detections of an image."""
    protocol, faults = stated.settings.protocol or {}, []
    count = (stated.values.detections or {}).get("count")
    if count != len(detections):
        faults.append(f"{count} detections are stated and {len(detections)} stored")
    counts = stated.values.counts or {}
    if counts and counts.get("images") != stated.inputs.images:
        faults.append(f"{counts.get('images')} images were run and {stated.inputs.images} are stated")
    if counts and not stated.settings.classes and counts.get("detections") != len(detections):
        faults.append(f"{counts.get('detections')} detections were kept and {len(detections)} are stored")
    lowest = float(detections.scores.min()) if len(detections) else None
    threshold = protocol.get("score_threshold")
    if lowest is not None and isinstance(threshold, float | int) and lowest < threshold - SCORE_STEP:
        faults.append(f"the lowest score is {lowest}, below the stated threshold {threshold}")
    return faults


def find_wrong_metrics(
    detections: Predictions, annotations: GroundTruth, stated: EvaluateContents
) -> list[str]:
    """Which of the twelve metrics, or of the ends of AP's interval, the detections do not give.

    On the images that the record states. Intervals of other methods than today's are not computed again.
    """
    try:
        truth = select_truth(annotations, stated.inputs, stated.settings.classes)
    except RecordError as error:
        return [str(error)]
    found = coco_metrics(truth, detections)
    wrong = [
        f"{name} is {value!r}, its detections give {found[name]!r}"
        for name in METRICS
        for value in [getattr(stated.values, name)]
        if value is None or abs(value - found[name]) > METRIC_TOLERANCE
    ]
    if not wrong and stated.values.AP_interval_method == METHOD:
        interval = ap_interval(truth, detections)
        if not are_equal(stated.values.AP_interval, interval):
            wrong.append(f"AP_interval is {stated.values.AP_interval}, its detections give {interval}")
    return wrong


def are_equal(stated: Sequence[float] | None, found: Sequence[float] | None) -> bool:
    """Whether two intervals are the same, to INTERVAL_TOLERANCE, or both none."""
    if stated is None or found is None:
        return stated is found
    ends = zip(stated, found, strict=False)
    return len(stated) == len(found) and all(abs(one - other) <= INTERVAL_TOLERANCE for one, other in ends)


def select_truth(
    annotations: GroundTruth, inputs: EvaluateInputs, classes: Mapping[str, str] | None = None
) -> GroundTruth:
    """The part of its annotations that a record was evaluated on; RecordError for images it cannot have had.

    classes: as the record's settings state them; of others than the chosen ones no object counts.
    """
    skipped, images = inputs.images_skipped or [], inputs.images or 0
    ordered = sorted(annotations["images"], key=lambda image: image["id"])
    used = [image for image in ordered[: images + len(skipped)] if image["file_name"] not in skipped]
    if len(used) != images:
        raise RecordError(f"{images:,} images are stated, and the annotations have {len(ordered):,}")
    listed = image_list_sha256_of((image["id"], image["file_name"]) for image in used)
    if listed != inputs.image_list_sha256:
        raise RecordError("the images are not the first ones of the annotations by id")
    ids = {image["id"] for image in used}
    kept = [entry for entry in annotations["annotations"] if entry["image_id"] in ids]
    categories = annotations["categories"]
    if classes:
        categories = [each for each in categories if each["name"] in classes.values()]
    return {"images": used, "annotations": kept, "categories": categories}


def require_detections(path: Path, results_dir: Path, stated: EvaluateContents) -> Predictions:
    """As `find_detections`; RecordError also where they are not there."""
    sha256 = str((stated.values.detections or {}).get("sha256"))
    detections = find_detections(sha256, path, results_dir, stated)
    if detections is None:
        raise RecordError(
            f"the detections of {path.name} (sha256 {sha256[:8]}…) are not in {results_dir}: "
            "name the folder that keeps them by --results"
        )
    return detections


def require_truth(
    path: Path, content: GroundTruth | None, detections: Predictions, stated: EvaluateContents
) -> GroundTruth:
    """What the record was evaluated on, once its detections give its metrics there; else RecordError."""
    if content is None:
        sha256 = str(stated.inputs.annotations_sha256)
        raise RecordError(
            f"the annotations of {path.name} (sha256 {sha256[:8]}…) are not found: give them by --annotations"
        )
    faults = find_contradictions(detections, stated) or find_wrong_metrics(detections, content, stated)
    if faults:
        raise RecordError(f"{path.name} is false ({faults[0]}): see `yolov9bench verify`")
    return select_truth(content, stated.inputs, stated.settings.classes)
