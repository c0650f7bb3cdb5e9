"""What an evaluation gives: metrics of its detections with their interval, the detections as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolov9bench.data.coco import CocoDataset
from yolov9bench.evaluation import intervals
from yolov9bench.evaluation.coco_metrics import CocoResult, coco_result
from yolov9bench.evaluation.settings import EvaluationSettings
from yolov9bench.ops.distributed import current_ranks
from yolov9bench.predict.predictions import Predictions, result_sha256
from yolov9bench.predict.result_files import ARRAYS, write_predictions
from yolov9bench.records.contents import EvaluateValues


def compute_values(
    dataset: CocoDataset, predictions: Predictions, settings: EvaluationSettings, counts: dict[str, int]
) -> tuple[CocoResult, EvaluateValues]:
    """Metrics and curves, and the values of a record; detections are written where the settings say."""
    truth = dataset.ground_truth()
    result = coco_result(truth, predictions, settings.judge)
    interval = intervals.ap_interval(truth, predictions)
    values = EvaluateValues(
        **result.metrics,
        AP_interval=interval and list(interval),
        AP_interval_method=interval and intervals.METHOD,
        detections=store_predictions(predictions, settings.detections),
        counts=counts,
    )
    return result, values


def store_predictions(predictions: Predictions, target: Path | None) -> dict[str, Any]:
    """Write the detections, if anywhere, and say what a record needs to find and check them.

    target: a file, or a folder for arrays under a name of their own. The hash is that of the JSON text,
    whatever is written.
    """
    digest = result_sha256(predictions)
    if target is not None:
        target = target if target.suffix else target / f"detections-{digest[:8]}{ARRAYS}"
        if current_ranks().is_main:
            write_predictions(target, predictions)
    return {"file": target.name if target else None, "sha256": digest, "count": len(predictions)}
