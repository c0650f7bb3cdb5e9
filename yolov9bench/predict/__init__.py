"""From images to detections, by the rules of a named protocol."""

from yolov9bench.predict.decode import decode
from yolov9bench.predict.nms import Detections, nms
from yolov9bench.zoo.protocols import PROTOCOLS, Protocol, find_protocol

__all__ = ["PROTOCOLS", "Detections", "Protocol", "decode", "find_protocol", "nms"]
