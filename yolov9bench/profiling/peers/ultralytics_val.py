"""Ultralytics' own validation: python ultralytics_val.py WEIGHTS DATA.yaml FOLDER SHAPE THREADS

SHAPE is square or rectangular. It prints the result file that it wrote, and the category that it has for each
label. Ultralytics chooses a number of threads by itself: here it gets the one that is told.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def main() -> None:
    weights, data, folder, shape, threads = sys.argv[1:]
    model: Any = import_module("ultralytics").YOLO(weights)
    categories: list[int] = []
    model.add_callback("on_val_start", lambda _: import_module("torch").set_num_threads(int(threads)))
    model.add_callback("on_val_end", lambda validator: categories.extend(map(int, validator.class_map)))
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
    result = str(Path(found.save_dir) / "predictions.json")
    sys.stdout.write(json.dumps({"result": result, "categories": categories}) + "\n")


if __name__ == "__main__":
    main()
