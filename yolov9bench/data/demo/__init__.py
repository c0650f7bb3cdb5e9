"""The embedded demo set: painted shapes with exact outlines, drawn from a seed."""

from yolov9bench.data.demo.scenes import DEMO_NAME, demo_hash, make_demo

__all__ = ["DEMO_NAME", "demo_hash", "make_demo"]
