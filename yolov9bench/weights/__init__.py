"""Checkpoints of five formats in, one Detector out."""

from yolov9bench.weights.load import Checkpoint, inspect, load, save

__all__ = ["Checkpoint", "inspect", "load", "save"]
