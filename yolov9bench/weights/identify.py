"""Find the Spec of a checkpoint: the known network whose shapes it has, with the head that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from yolov9bench.errors import CheckpointError
from yolov9bench.nn.detector import skeleton
from yolov9bench.weights.formats import Contents
from yolov9bench.weights.names import Format, rename_table
from yolov9bench.zoo.specs import (
    GELAN,
    SPECS,
    ULTRALYTICS_YOLOV9,
    YOLOV8,
    YOLOV9,
    Reference,
    Spec,
    for_classes,
)

CANDIDATES: Mapping[Format, tuple[Spec, ...]] = {
    "official": (*YOLOV9, *GELAN),
    "ultralytics": (*YOLOV8, *ULTRALYTICS_YOLOV9),
    "mmyolo": YOLOV8,
    "multimediatechlab": YOLOV9,
}
NEAR = 0.25  # share of widths from which a candidate is built and compared
REFERENCES: Mapping[Format, Reference] = {
    "official": "official",
    "ultralytics": "ultralytics",
    "mmyolo": "mmyolo",
    "multimediatechlab": "official",
}


def identify_spec(path: Path, contents: Contents) -> tuple[Spec, int]:
    """The Spec whose blocks stand where the file's do, with the file's head widths, and its class count."""
    if contents.own is not None:
        return contents.own.spec, class_count(path, contents, contents.own.spec)
    candidates = CANDIDATES[contents.format]
    best, share = best_candidate(contents, candidates)
    if share <= 0.5:
        known = ", ".join(spec.name for spec in candidates)
        raise CheckpointError(
            f"{path.name} has the keys of the {contents.format} format but fits none of {known}: "
            "it is another network, which needs a Spec of its own"
        )
    best = with_head_of(contents, best)
    classes = class_count(path, contents, best)
    return with_known_name(best, classes, REFERENCES[contents.format]), classes


def with_known_name(found: Spec, classes: int, reference: Reference) -> Spec:
    """A file's Spec under the name of the known one that the reference builds so for this class count.

    Else, for a file of other origin, of the known one with the very widths; else under its own.
    """
    built = [for_classes(spec, classes, reference) for spec in SPECS.values()]
    same = (spec for spec in (*built, *SPECS.values()) if replace(spec, name=found.name) == found)
    return next(same, found)


def best_candidate(contents: Contents, candidates: Sequence[Spec]) -> tuple[Spec, float]:
    """The first candidate that fits the file best, and the share of shapes that agree.

    Only those whose widths are near the file's are built, which takes a tenth of a second each, the nearest
    first, and nothing after one that fits wholly: no other order has another first one that fits wholly.
    """
    nearness = {spec: width_agreement(contents, spec) for spec in candidates}
    fits = dict.fromkeys(candidates, 0.0)
    for spec in sorted(candidates, key=lambda spec: -nearness[spec]):
        if nearness[spec] > NEAR:
            fits[spec] = shape_agreement(contents, spec)
        if fits[spec] == 1:
            return spec, 1.0
    best = max(candidates, key=lambda spec: fits[spec])
    return best, fits[best]


def width_agreement(contents: Contents, spec: Spec) -> float:
    """Share of a candidate's stem and stages that give as many channels in the file; quick, none is built."""
    widths = {"backbone.stem.conv.weight": spec.stem}
    for index, stage in enumerate(spec.stages):
        widths[f"backbone.stages.{index}.block.exit.conv.weight"] = stage.block.out
        widths[f"backbone.stages.{index}.block.entry.conv.weight"] = stage.block.split
    table = rename_table(spec, contents.format, widths)
    found = [contents.tensors.get(table[own]) for own in widths]
    agreeing = [
        own
        for own, value in zip(widths, found, strict=True)
        if value is not None and value.shape[:1] == (widths[own],)
    ]
    return len(agreeing) / len(widths)


def shape_agreement(contents: Contents, spec: Spec) -> float:
    """Share of a candidate's entry, exit and stem convolutions that the file has, in their shape."""
    shapes = identifying_shapes(spec)
    table = rename_table(spec, contents.format, shapes)
    tensors = contents.tensors
    found = [key for key in shapes if table[key] in tensors and tensors[table[key]].shape == shapes[key]]
    return len(found) / len(shapes)


@cache  # building the ten candidates of a format takes seconds
def identifying_shapes(spec: Spec) -> Mapping[str, torch.Size]:
    """Shapes of the convolutions that distinguish a network from others; none depends on the class count."""
    endings = ("stem.conv.weight", "entry.conv.weight", "exit.conv.weight", "boxes.0.0.conv.weight")
    state = skeleton(spec, 80).state_dict()
    return {own: value.shape for own, value in state.items() if own.endswith(endings)}


def with_head_of(contents: Contents, spec: Spec) -> Spec:
    """The same Spec with the class widths, and the depthwise form, that the file's tensors show."""
    depthwise = replace(spec, head=replace(spec.head, form="depthwise"))
    telling = rename_table(depthwise, contents.format, ["main.head.classes.0.0.0.conv.weight"])
    if set(telling.values()) & contents.tensors.keys():
        spec = depthwise
    width = last_class_shape(contents, spec, "main")[1]
    spec = replace(spec, head=replace(spec.head, class_width=width or spec.head.class_width))
    if spec.aux_head is not None:
        width = last_class_shape(contents, spec, "aux")[1]
        spec = replace(spec, aux_head=replace(spec.aux_head, class_width=width or spec.aux_head.class_width))
    return spec


def class_count(path: Path, contents: Contents, spec: Spec) -> int:
    """Classes of the main head, which must agree with the file's names."""
    classes = last_class_shape(contents, spec, "main")[0]
    if classes == 0:
        raise CheckpointError(
            f"{path.name} lacks the class branch of its head: it cannot detect; check where it comes from"
        )
    if contents.names is not None and len(contents.names) != classes:
        raise CheckpointError(
            f"{path.name} names {len(contents.names)} classes but its head has {classes}: "
            "it mixes two networks"
        )
    return classes


def last_class_shape(contents: Contents, spec: Spec, branch: str) -> tuple[int, int]:
    """(classes, class width) of the last class convolution, from the first level that has it; else zeros."""
    keys = [f"{branch}.head.classes.{level}.2.weight" for level in range(3)]
    for foreign in rename_table(spec, contents.format, keys).values():
        weight = contents.tensors.get(foreign)
        if weight is not None and weight.ndim == 4:
            return weight.shape[0], weight.shape[1]
    return 0, 0
