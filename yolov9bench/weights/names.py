"""Rename tables: which key of a foreign state dict holds which tensor of ours, one dialect per format.

A dialect says how blocks name their parts; `places` says where each block of a Spec stands. Both together
give `rename_table`, a one-to-one map that a test compares with the complete key lists of the references.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from yolov9bench.zoo.specs import Spec

Format = Literal["official", "ultralytics", "mmyolo", "multimediatechlab", "yolov9bench"]
Names = Mapping[str, str]


@dataclass(frozen=True)
class Place:
    """One block: its prefix in our keys and in the foreign ones, and the foreign names of its parts."""

    own: str
    foreign: str
    names: Names


@dataclass(frozen=True)
class Dialect:
    """Part names by kind of block; "parts.0" and "parts.1" go before "parts", and "norm" is bn everywhere."""

    blocks: Mapping[str, Names]
    constants: str  # pattern of the keys of the DFL projection, frozen at 0..15


_INDEXED_ELAN = {
    "entry": "cv1",
    "parts.0": "cv2",
    "parts.1": "cv3",
    "exit": "cv4",
    "main": "cv1",
    "side": "cv2",
    "merge": "cv3",
    "bottlenecks": "m",
    "first": "cv1",
    "second": "cv2",
    "three": "conv1",
    "one": "conv2",
}
_MTL_ELAN = {
    "entry": "conv1",
    "parts.0": "conv2",
    "parts.1": "conv3",
    "exit": "conv4",
    "main": "conv1",
    "side": "conv2",
    "merge": "conv3",
    "bottlenecks": "bottleneck",
    "first": "conv1",
    "second": "conv2",
    "three": "conv1",
    "one": "conv2",
}

INDEXED = Dialect(
    blocks={
        "c2f": {"entry": "cv1", "parts": "m", "exit": "cv2", "first": "cv1", "second": "cv2"},
        "elan": _INDEXED_ELAN,
        "rep-elan": _INDEXED_ELAN,
        "sppf": {"entry": "cv1", "exit": "cv2"},
        "sppelan": {"entry": "cv1", "exit": "cv5"},
        "conv": {},
        "aconv": {"wide": "cv1"},
        "adown": {"wide": "cv1", "pooled": "cv2"},
    },
    constants=r"\.dfl2?\.conv\.weight$",
)
MMYOLO = Dialect(
    blocks={
        "c2f": {
            "entry": "main_conv",
            "parts": "blocks",
            "exit": "final_conv",
            "first": "conv1",
            "second": "conv2",
        },
        "sppf": {"entry": "conv1", "exit": "conv2"},
        "conv": {},
    },
    constants=r"\.proj$",
)
MTL = Dialect(
    blocks={
        "elan": _MTL_ELAN,
        "rep-elan": _MTL_ELAN,
        "sppelan": {"entry": "conv1", "exit": "conv5"},
        "conv": {},
        "aconv": {"wide": "conv"},
        "adown": {"wide": "conv1", "pooled": "conv2"},
    },
    constants=r"\.anc2vec\.anc2vec\.weight$",
)
DIALECTS: Mapping[str, Dialect] = {
    "official": INDEXED,
    "ultralytics": INDEXED,
    "mmyolo": MMYOLO,
    "multimediatechlab": MTL,
}


def rename_table(spec: Spec, form: Format, keys: Iterable[str]) -> dict[str, str]:
    """Our state-dict keys -> the keys of that format.

    `keys` are those of a Detector of this Spec, folded or not. Raises ValueError if two would share a name.
    """
    if form == "yolov9bench":
        return {key: key for key in keys}
    by_prefix = {place.own: place for place in places(spec, form)}
    table = {}
    for key in keys:
        parts = key.split(".")
        prefix = next(
            ".".join(parts[:length])
            for length in range(len(parts), 0, -1)
            if ".".join(parts[:length]) in by_prefix
        )
        place = by_prefix[prefix]
        table[key] = f"{place.foreign}.{translate(parts[prefix.count('.') + 1 :], place.names)}"
    if len(set(table.values())) != len(table):
        raise ValueError(f"the {form} rename table of {spec.name} maps two of our keys to one of theirs")
    return table


def translate(parts: list[str], names: Names) -> str:
    """A key below a block in foreign words; numbers and leaf names stay."""
    words = []
    while parts:
        pair = ".".join(parts[:2])
        if pair in names:
            words.append(names[pair])
            parts = parts[2:]
        else:
            words.append(names.get(parts[0], "bn" if parts[0] == "norm" else parts[0]))
            parts = parts[1:]
    return ".".join(words)


def places(spec: Spec, form: Format) -> Iterator[Place]:
    """Every block of a Spec, in the layout of a format."""
    blocks = DIALECTS[form].blocks
    where = mmyolo_prefixes(spec) if form == "mmyolo" else indexed_prefixes(spec, form)
    for own, foreign in where:
        yield Place(own, foreign, blocks.get(block_kind(spec, own), {}))


def block_kind(spec: Spec, own: str) -> str:
    """The kind of block behind one of our prefixes, in the words of a Dialect ("" for heads and the like)."""
    kinds: dict[str, str] = {
        f"stages.{index}.block": stage.block.kind for index, stage in enumerate(spec.stages)
    }
    kinds |= {f"top_down.{index}": block.kind for index, block in enumerate(spec.top_down)}
    kinds |= {f"bottom_up.{index}.block": stage.block.kind for index, stage in enumerate(spec.bottom_up)}
    kinds |= {
        f"stages.{index}.down": "conv" if index == 0 else spec.down for index in range(len(spec.stages))
    }
    kinds |= {f"bottom_up.{index}.down": spec.down for index in range(len(spec.bottom_up))}
    kinds["pool"] = "sppf" if spec.down == "conv" else "sppelan"
    return next((kind for ending, kind in kinds.items() if own.endswith(f".{ending}")), "")


def indexed_prefixes(spec: Spec, form: Format) -> Iterator[tuple[str, str]]:
    """Own and foreign prefixes where blocks are numbered in the order of a layer list.

    Layers without weights (upsampling, joining, CBFuse) take a number too. Networks with a second backbone
    start at 1 (layer 0 hands the image on), except in MultimediaTechLab's files, which also put the main
    head before the auxiliary branch. yolov9-e's auxiliary pyramid stands before the main one.
    """
    mtl = form == "multimediatechlab"
    prefix = "" if mtl else "model."
    layer = 1 if not mtl and (spec.reversible or spec.aux == "reversible") else 0

    def numbered(owns: list[str]) -> Iterator[tuple[str, str]]:
        nonlocal layer
        for own in owns:
            if own:
                yield own, f"{prefix}{layer}.conv" if ".projections." in own else f"{prefix}{layer}"
            layer += 1

    yield from numbered(backbone_layers("backbone"))
    if spec.reversible:
        yield from numbered(reversible_layers("main.reversible", (1, 2, 3, 4, 5)))
    main, aux = pyramid_layers("main.pyramid", bottom_up=True), []
    if spec.aux == "pyramid":
        aux = pyramid_layers("aux.pyramid", bottom_up=False)
    elif spec.aux == "reversible":
        aux = reversible_layers("aux.reversible", (3, 4, 5))
    if mtl:
        yield from numbered(main)
        yield from mtl_head("main.head", layer)
        layer += 1
        yield from numbered(aux)
        if spec.aux:
            yield from mtl_head("aux.head", layer)
        return
    yield from numbered(aux + main if spec.reversible else main + aux)
    names = {"main": ("cv4", "cv5"), "aux": ("cv2", "cv3")} if spec.aux else {"main": ("cv2", "cv3")}
    for branch, (boxes, classes) in names.items():
        yield f"{branch}.head.boxes", f"{prefix}{layer}.{boxes}"
        yield f"{branch}.head.classes", f"{prefix}{layer}.{classes}"


def backbone_layers(own: str, fused_levels: tuple[int, ...] = ()) -> list[str]:
    """Our prefixes in layer order, "" where a layer has no weights; a level that is fused has such a one."""
    layers = [f"{own}.stem", *([""] if 1 in fused_levels else [])]
    for index in range(4):
        fuse = [""] if index + 2 in fused_levels else []
        layers += [f"{own}.stages.{index}.down", *fuse, f"{own}.stages.{index}.block"]
    return layers


def reversible_layers(own: str, levels: tuple[int, ...]) -> list[str]:
    """The projections (CBLinear), then the second backbone."""
    projections = [f"{own}.projections.{index}" for index in range(len(levels))]
    return projections + backbone_layers(f"{own}.backbone", levels)


def pyramid_layers(own: str, bottom_up: bool) -> list[str]:
    """Pooling, then (upsample, join, block) twice, then (downsample, join, block) twice."""
    layers = [f"{own}.pool", "", "", f"{own}.top_down.0", "", "", f"{own}.top_down.1"]
    for index in range(2 if bottom_up else 0):
        layers += [f"{own}.bottom_up.{index}.down", "", f"{own}.bottom_up.{index}.block"]
    return layers


def mtl_head(own: str, layer: int) -> Iterator[tuple[str, str]]:
    """MultimediaTechLab's heads: by level first, then by branch."""
    for level in range(3):
        yield f"{own}.boxes.{level}", f"{layer}.heads.{level}.anchor_conv"
        yield f"{own}.classes.{level}", f"{layer}.heads.{level}.class_conv"


def mmyolo_prefixes(spec: Spec) -> Iterator[tuple[str, str]]:
    """mmyolo's YOLOv8: stages from 1, the pool as third part of stage 4, named neck layers."""
    yield "backbone.stem", "backbone.stem"
    for index in range(len(spec.stages)):
        yield f"backbone.stages.{index}.down", f"backbone.stage{index + 1}.0"
        yield f"backbone.stages.{index}.block", f"backbone.stage{index + 1}.1"
    yield "main.pyramid.pool", "backbone.stage4.2"
    for index in range(2):
        yield f"main.pyramid.top_down.{index}", f"neck.top_down_layers.{index}"
        yield f"main.pyramid.bottom_up.{index}.down", f"neck.downsample_layers.{index}"
        yield f"main.pyramid.bottom_up.{index}.block", f"neck.bottom_up_layers.{index}"
    yield "main.head.boxes", "bbox_head.head_module.reg_preds"
    yield "main.head.classes", "bbox_head.head_module.cls_preds"


def is_constant(key: str, form: Format) -> bool:
    """Whether a foreign key is the frozen DFL projection, which our networks do not store."""
    return form != "yolov9bench" and re.search(DIALECTS[form].constants, key) is not None
