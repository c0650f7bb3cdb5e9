"""The baseline of a study computed again; its departures need the network."""

from __future__ import annotations

from pathlib import Path

from yolov9bench.evaluation.coco_metrics import coco_metrics
from yolov9bench.evaluation.rederive import METRIC_TOLERANCE, Annotations, find_file, select_truth
from yolov9bench.predict.result_files import ARRAYS
from yolov9bench.records.study import PARTS, StudyContents


def find_wrong_baseline(
    stated: StudyContents, path: Path, results_dir: Path, annotations: Annotations
) -> list[str]:
    """Which metrics of the baseline its detections do not give, where these and the annotations are there.

    RecordError for images that the annotations do not have, and for detections of another hash.
    """
    sha256 = str(stated.values.detections)
    names = (f"detections-{sha256[:8]}{suffix}" for suffix in (ARRAYS, ".json"))
    tried = (find_file(sha256, name, path, results_dir) for name in names)
    detections = next((each for each in tried if each is not None), None)
    content = annotations.get(str(stated.inputs.annotations_sha256))
    if detections is None or content is None:
        return []
    found = coco_metrics(select_truth(content, stated.inputs), detections)
    baseline = stated.values.baseline or {}
    return [
        f"{name} of the baseline is {value!r}, its detections give {found[name]!r}"
        for name in PARTS
        for value in [baseline.get(name)]
        if value is None or abs(value - found[name]) > METRIC_TOLERANCE
    ]
