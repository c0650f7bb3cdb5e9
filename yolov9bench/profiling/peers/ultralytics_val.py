"""Ultralytics' own validation, from its package: python ultralytics_val.py WEIGHTS DATA.yaml FOLDER SHAPE

SHAPE is square or rectangular. It prints the version, and the result file that it wrote.
"""

import json
import sys
from importlib import import_module, metadata
from pathlib import Path


def main() -> None:
    weights, data, folder, shape = sys.argv[1:]
    model = import_module("ultralytics").YOLO(weights)
    found = model.val(
        data=data,
        imgsz=640,
        batch=16,
        rect=shape == "rectangular",
        conf=0.001,
        iou=0.7,
        max_det=300,
        half=False,
        device="cpu",
        workers=0,
        plots=False,
        verbose=False,
        save_json=True,
        project=folder,
        name="peer",
        exist_ok=True,
    )
    result = Path(found.save_dir) / "predictions.json"
    found_by = {"version": metadata.version("ultralytics"), "result": str(result)}
    sys.stdout.write(json.dumps(found_by) + "\n")


if __name__ == "__main__":
    main()
