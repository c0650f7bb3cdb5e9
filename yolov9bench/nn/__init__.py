"""The networks: one skeleton, composed from a Spec."""

from yolov9bench.nn.detector import Detector, Outputs, build
from yolov9bench.nn.head import REG_MAX, STRIDES, Level, Levels

__all__ = ["REG_MAX", "STRIDES", "Detector", "Level", "Levels", "Outputs", "build"]
