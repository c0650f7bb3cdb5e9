"""COCO's metrics by another library: python coco_metrics_by.py LIBRARY ANNOTATIONS.json RESULTS.json

LIBRARY is pycocotools, faster_coco_eval or hotcoco. It prints the twelve metrics.
"""

import contextlib
import io
import json
import sys
from importlib import import_module
from typing import Any

NAMES = {
    "pycocotools": ("pycocotools.coco", "COCO", "pycocotools.cocoeval", "COCOeval", "loadRes"),
    "faster_coco_eval": ("faster_coco_eval", "COCO", "faster_coco_eval", "COCOeval_faster", "loadRes"),
    "hotcoco": ("hotcoco", "COCO", "hotcoco", "COCOeval", "load_res"),
}


def main() -> None:
    library, annotations, results = sys.argv[1:]
    reader, coco, metrics, coco_eval, load = NAMES[library]
    with contextlib.redirect_stdout(io.StringIO()):
        truth: Any = getattr(import_module(reader), coco)(annotations)
        evaluator: Any = getattr(import_module(metrics), coco_eval)(
            truth, getattr(truth, load)(results), "bbox"
        )
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    values = [float(each) for each in list(evaluator.stats)[:12]]
    sys.stdout.write(json.dumps({"metrics": values}) + "\n")


if __name__ == "__main__":
    main()
