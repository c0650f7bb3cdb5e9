"""The networks: one skeleton, composed from a Spec."""

from yolov9bench.nn.detector import Detector, Outputs, build
from yolov9bench.nn.head import BINS, STRIDES, Level, Levels

__all__ = ["BINS", "STRIDES", "Detector", "Level", "Levels", "Outputs", "build"]
