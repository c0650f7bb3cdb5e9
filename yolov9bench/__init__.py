"""yolov9bench: the results tables of YOLOv8 and YOLOv9 as something to run.

`build`, `load`, `decode` and `nms` are loaded when first asked for, so that the facts need no torch.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "build": "yolov9bench.nn",
    "load": "yolov9bench.weights",
    "decode": "yolov9bench.predict",
    "nms": "yolov9bench.predict",
}

__all__ = ["build", "decode", "load", "nms"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
