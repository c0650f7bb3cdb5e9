"""Checkpoints for tests: the networks of the key lists, their synthetic weights, files in foreign layouts.

Random networks need no shared material; `synthetic_tensors` rebuilds the very weights the goldens were made
with, from the generator `facts/yolov9/weights.py`.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from yolov9bench.nn import Detector, build
from yolov9bench.nn.detector import skeleton
from yolov9bench.weights import save
from yolov9bench.weights.names import Format, rename_table
from yolov9bench.zoo.specs import SPECS, Spec, spec_from_dict, with_class_width

CBLINEAR = {"m": (23, 24, 25), "c": (23, 24, 25), "e": (10, 11, 12, 13, 14)}  # layers, by size


@dataclass(frozen=True)
class Entry:
    """One line of a key list; `source` is the official key that holds the same tensor."""

    key: str
    shape: tuple[int, ...]
    dtype: str
    source: str | None


@dataclass(frozen=True)
class Listed:
    """A network of the key lists, and the Detector of ours that must hold it."""

    path: str  # of its key list, in the shared material
    form: Format
    spec: Spec
    classes: int = 80
    fused: bool = False

    @property
    def name(self) -> str:
        return Path(self.path).stem

    def skeleton(self) -> Detector:
        return skeleton(self.spec, self.classes, self.fused)


def depthwise(name: str) -> Spec:
    return replace(SPECS[name], head=replace(SPECS[name].head, form="depthwise"))


def narrowed(spec: Spec, by: int) -> Spec:
    """The same wiring with all widths divided, for tests that need a network but not its size."""

    def divided(fields: Any) -> Any:
        if isinstance(fields, dict):
            return {key: value if key == "depth" else divided(value) for key, value in fields.items()}
        if isinstance(fields, tuple):
            return tuple(map(divided, fields))
        return fields // by if type(fields) is int else fields

    return spec_from_dict(divided(asdict(spec)))


def listed_networks() -> list[Listed]:
    """Every key list of a network that we have, but the converted ones, which are gelan's (`converted`)."""
    official, other, mmyolo = (
        f"facts/{folder}/state_dict_keys" for folder in ("yolov9", "more_formats", "mmyolo")
    )
    v9, v8 = "ultralytics-yolov9", "yolov8-"
    plain = [
        Listed(f"{official}/{kind}-{size}.txt", "official", SPECS[f"{kind}-{size}"])
        for kind in ("gelan", "yolov9")
        for size in "tsmce"
    ]
    plain += [Listed(f"{other}/ultra_yolov9{size}.txt", "ultralytics", SPECS[v9 + size]) for size in "tsmce"]
    plain += [Listed(f"{other}/ultra_yolov8{size}.txt", "ultralytics", SPECS[v8 + size]) for size in "nsmlx"]
    narrow = with_class_width(depthwise(f"{v9}t"), 64)
    heads = [
        Listed(f"{other}/ultra_yolov9t.dwhead.txt", "ultralytics", depthwise(f"{v9}t")),
        Listed(f"{other}/ultra_yolov9t.dwhead.nc1.txt", "ultralytics", narrow, classes=1),
        Listed(f"{other}/ultra_yolov9c.dwhead.txt", "ultralytics", depthwise(f"{v9}c")),
        Listed(f"{other}/ultra_yolov8n.dwhead.txt", "ultralytics", depthwise(f"{v8}n")),
        Listed(f"{other}/ultra_yolov9t.nc3.txt", "ultralytics", with_class_width(SPECS[f"{v9}t"], 64), 3),
    ]
    fused = [replace(one, path=one.path.replace(".txt", ".fused.txt"), fused=True) for one in plain]
    mtl = [
        Listed(f"{other}/mtl_v9-{size}.txt", "multimediatechlab", SPECS[f"yolov9-{size}"]) for size in "tsmc"
    ]
    return (
        plain
        + heads
        + fused
        + mtl
        + [Listed(f"{mmyolo}/{size}.txt", "mmyolo", SPECS[v8 + size]) for size in "nsmlx"]
    )


NETWORKS = {("mmyolo_" if one.form == "mmyolo" else "") + one.name: one for one in listed_networks()}


def key_list(path: Path) -> list[Entry]:
    """The lines of a key list: key, shape, dtype and, in some, the official key."""
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            key, shape, dtype, source = [*line.split("\t"), None][:4]
            assert key and shape and dtype
            sides = shape.strip("()[]").replace(" ", "").split(",")
            entries.append(Entry(key, tuple(int(side) for side in sides if side), dtype, source))
    return entries


@lru_cache(maxsize=1)
def weight_generator(shared: Path) -> Any:
    """The numpy generator of the goldens' weights, leaving no bytecode beside it."""
    place = shared / "facts/yolov9/weights.py"
    spec = importlib.util.spec_from_file_location("golden_weights", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=1)  # a converted network follows its dual one; the largest takes 140 MB
def synthetic_tensors(shared: Path, name: str) -> dict[str, Tensor]:
    """The goldens' weights of one network, in float16, under the keys of its file."""
    listed = NETWORKS[name]
    path = shared / listed.path
    generator = weight_generator(shared)
    statistics = np.load(path.parents[1] / "goldens" / f"bnstats_{name}.npz")
    size = name.partition(".")[0][-1]
    has_projections = listed.spec.reversible or listed.spec.aux == "reversible"
    cblinear = CBLINEAR[size] if has_projections else ()
    with statistics:
        return {
            entry.key: torch.from_numpy(
                np.array(generator.tensor(entry.source or entry.key, entry.shape, statistics, cblinear))
            )
            for entry in key_list(path)
        }


def converted_tensors(shared: Path, name: str) -> dict[str, Tensor]:
    """The same network as the reference converts it: under gelan's keys, without the auxiliary branch."""
    dual = synthetic_tensors(shared, name)
    path = shared / f"facts/yolov9/state_dict_keys/{name}-converted.txt"
    return {entry.key: dual[entry.source or ""] for entry in key_list(path)}


def lively(spec: Spec, classes: int = 80, seed: int = 0) -> Detector:
    """A random detector in eval mode in which every layer matters: normalised by statistics of its own.

    Freshly built, each layer shrinks what it gets, so that the outputs are next to constant.
    """
    detector = build(spec, classes, seed)
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in detector.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the statistics of what passes next, not an average with the initial ones
        nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
        nn.init.normal_(norm.bias, 0.0, 0.3, generator=generator)
    with torch.no_grad():
        detector.train()(torch.rand(2, 3, 64, 96, generator=generator))
    for norm in norms:
        norm.momentum = 0.03
    return detector.eval()


def foreign_tensors(detector: Detector, form: Format) -> dict[str, Tensor]:
    """The state dict of a detector under the keys of a foreign format, DFL constants left out."""
    state = detector.state_dict()
    return {foreign: state[own] for own, foreign in rename_table(detector.spec, form, state).items()}


@contextmanager
def foreign_class(path: str) -> Iterator[Callable[..., nn.Module]]:
    """A maker of modules whose class goes by a foreign library's name, which exists within the block alone.

    `make(tensors, **attributes)` returns a tree of modules with that state dict and these attributes.
    """
    module, _, name = path.rpartition(".")
    kind = type(name, (nn.Module,), {"__module__": module, "__qualname__": name})
    with pytest.MonkeyPatch.context() as patch:
        parts = module.split(".")
        for length in range(1, len(parts) + 1):
            patch.setitem(sys.modules, ".".join(parts[:length]), ModuleType(parts[length - 1]))
        patch.setattr(sys.modules[module], name, kind, raising=False)

        def make(tensors: Mapping[str, Tensor], **attributes: object) -> nn.Module:
            return filled(kind(), tensors, attributes)

        yield make


def filled(root: nn.Module, tensors: Mapping[str, Tensor], attributes: Mapping[str, object]) -> nn.Module:
    """Plant tensors in a module under their dotted keys: parameters, or buffers where BatchNorm has them."""
    for key, tensor in tensors.items():
        *folders, leaf = key.split(".")
        module = root
        for folder in folders:
            if folder not in module._modules:
                module.add_module(folder, nn.Module())
            module = module.get_submodule(folder)
        if leaf.startswith(("running_", "num_batches")):
            module.register_buffer(leaf, tensor)
        else:
            module.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
    for name, value in attributes.items():
        setattr(root, name, value)
    return root


def small_file(path: Path, row: str = "yolov9-t") -> Path:
    """A file of our own for the classes red and blue, by a network so narrow that it loads at once."""
    save(path, build(narrowed(SPECS["yolov8-n"], 4), classes=2), {0: "red", 1: "blue"}, row=row)
    return path
