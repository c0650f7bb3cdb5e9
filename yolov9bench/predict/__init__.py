"""From images to detections, by the settings of a protocol.

The names below are loaded when first asked for: `predictions`, which metrics and plots take, needs no torch.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Detections": "yolov9bench.predict.postprocess",
    "decode": "yolov9bench.predict.postprocess",
    "nms": "yolov9bench.predict.postprocess",
    "PROTOCOLS": "yolov9bench.zoo.protocols",
    "find_protocol": "yolov9bench.zoo.protocols",
}

__all__ = ["PROTOCOLS", "Detections", "decode", "find_protocol", "nms"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
