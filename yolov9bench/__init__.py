"""yolov9bench: the results tables of YOLOv8 and YOLOv9 as something to run.

`build`, `load`, `decode`, `nms`, `evaluate` and `train_row` are loaded when first asked for, so that
the facts need no torch.
"""

from importlib import import_module, metadata
from typing import Any

_HOMES = {
    "build": "yolov9bench.nn",
    "load": "yolov9bench.weights",
    "decode": "yolov9bench.predict",
    "nms": "yolov9bench.predict",
    "evaluate": "yolov9bench.evaluation.evaluate",
    "train_row": "yolov9bench.train.trainer",
}

__all__ = ["build", "decode", "evaluate", "load", "nms", "train_row"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return metadata.version(__name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
