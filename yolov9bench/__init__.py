"""yolov9bench: the published AP of YOLOv8 and YOLOv9 detectors, measured again.

    checkpoint = yolov9bench.load("yolov9-m")            # a row's published file, or a path
    yolov9bench.predict(checkpoint, "street.jpg").plot()
    yolov9bench.evaluate("yolov9-m.pt", "data/coco")     # -> Record: values, settings, inputs, environment
    yolov9bench.evaluate(detector=detect, dataset="data/coco")  # a function of your own
    yolov9bench.train("yolov8-n", "demo", "runs/n")      # -> the best checkpoint
    yolov9bench.reproduce(family="yolov9", size="m")     # -> Record, and a verdict in the log
    yolov9bench.verify("results")                        # -> what became of each record

Each name is loaded when it is first asked for, so that the facts (`yolov9bench.zoo`) need no torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspect import Signature

_HOMES = {
    "build": "yolov9bench.nn",
    "load": "yolov9bench.weights.fetch:load_any",
    "decode": "yolov9bench.predict",
    "nms": "yolov9bench.predict",
    "evaluate": "yolov9bench.evaluation.evaluate",
    "train_row": "yolov9bench.train.trainer",
}
# Packages and modules that are functions too: yolov9bench.predict(...) beside yolov9bench.predict.nms.
_CALLS = {
    "predict": "yolov9bench.inference",
    "train": "yolov9bench.train.trainer:train_row",
    "reproduce": "yolov9bench.reproduce",
    "verify": "yolov9bench.verify",
}

__all__ = [
    "build", "decode", "evaluate", "load", "nms", "predict", "reproduce", "train", "train_row", "verify",
]  # fmt: skip


class _CallableModule(ModuleType):
    # A module of this package that is also the function of its name, imported when it is called. It shows the
    # function's signature and docstring, to `help` and to the question mark of Jupyter.

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return _function_of(self)(*arguments, **named)

    @property
    def __signature__(self) -> Signature:
        from inspect import signature

        return signature(_function_of(self))

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        from inspect import getdoc

        name = self.__name__.rpartition(".")[2]
        return f"{name}{self.__signature__}\n\n{getdoc(_function_of(self))}"


class _Package(ModuleType):
    """This package: modules in _CALLS become callable in the moment that the import binds them."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _CALLS and type(value) is ModuleType:
            value.__class__ = _CallableModule
        super().__setattr__(name, value)


def _function_of(module: ModuleType) -> Any:
    name = module.__name__.rpartition(".")[2]
    home, _, function = _CALLS[name].partition(":")
    return getattr(import_module(home), function or name)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name in _CALLS:
        return import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home, _, function = _HOMES[name].partition(":")
    return getattr(import_module(home), function or name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


sys.modules[__name__].__class__ = _Package
