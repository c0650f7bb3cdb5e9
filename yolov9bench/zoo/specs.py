"""Architectures as plain facts: one frozen Spec per variant, with final widths and depths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

BlockKind = Literal["c2f", "elan", "rep-elan"]
DownKind = Literal["conv", "aconv", "adown"]
HeadForm = Literal["grouped", "dense", "depthwise"]
Auxiliary = Literal["pyramid", "reversible"]
Reference = Literal["mmyolo", "official", "ultralytics"]


@dataclass(frozen=True)
class Block:
    """One aggregation block: 1x1 entry of width `split`, halved; a chain of parts of width `part`; 1x1 exit.

    c2f: `depth` bottlenecks, each a part. elan: two parts of one 3x3 convolution. rep-elan: two parts, each a
    CSP of `depth` re-parameterizable bottlenecks followed by a 3x3 convolution.
    """

    kind: BlockKind
    out: int
    split: int
    part: int
    depth: int = 1
    shortcut: bool = True


@dataclass(frozen=True)
class Stage:
    """Halve the resolution to `down` channels, then aggregate."""

    down: int
    block: Block


@dataclass(frozen=True)
class Pool:
    """SPPF or SPPELAN: 1x1 to `hidden`, three chained 5x5 max pools, 1x1 of the four to `out`."""

    hidden: int
    out: int


@dataclass(frozen=True)
class Head:
    """Widths of the box and class branches of a three-level head.

    `class_width` depends on the class count: the Specs below state it for 80 classes, `for_classes` gives
    that for others.
    """

    form: HeadForm
    box_width: int
    class_width: int


@dataclass(frozen=True)
class ClassRule:
    """How the class branch widens: `per_class` channels a class, at most `limit`, at least those of P3."""

    per_class: int
    limit: int | None


@dataclass(frozen=True)
class Spec:
    """One architecture.

    `stages` have strides 4, 8, 16 and 32 behind a stem of stride 2; the first halves by a convolution, the
    others and the pyramid by `down`. `top_down` builds P4 and P3, `bottom_up` P4 and P5. `reversible` puts a
    second backbone, fed by the first at every level, in front of the pyramid. `aux` is the branch that
    exists in training only (programmable gradient information, arXiv:2402.13616): a second
    top-down pyramid on the first backbone, or a reversible backbone fed at strides 8 to 32.
    """

    name: str
    stem: int
    stages: tuple[Stage, Stage, Stage, Stage]
    down: DownKind
    pool: Pool
    top_down: tuple[Block, Block]
    bottom_up: tuple[Stage, Stage]
    head: Head
    reversible: bool = False
    aux: Auxiliary | None = None
    aux_head: Head | None = None


def c2f(out: int, depth: int, shortcut: bool = True) -> Block:
    """YOLOv8's block: `depth` bottlenecks of half the output's width."""
    return Block("c2f", out, split=out, part=out // 2, depth=depth, shortcut=shortcut)


def elan(out: int) -> Block:
    """GELAN's first block in the two small networks."""
    return Block("elan", out, split=out, part=out // 2)


def rep_elan(out: int, depth: int, split: int | None = None) -> Block:
    """GELAN's block (RepNCSPELAN4): parts half as wide as the split, the output's width if omitted."""
    split = split or out
    return Block("rep-elan", out, split=split, part=split // 2, depth=depth)


def yolov8(name: str, widths: tuple[int, int, int, int, int], depths: tuple[int, int], head: Head) -> Spec:
    """A YOLOv8: widths of the stem and the four stages, depths of the outer and of the inner stages."""
    stem, w4, w8, w16, w32 = widths
    outer, inner = depths
    return Spec(
        name,
        stem=stem,
        stages=(
            Stage(w4, c2f(w4, outer)),
            Stage(w8, c2f(w8, inner)),
            Stage(w16, c2f(w16, inner)),
            Stage(w32, c2f(w32, outer)),
        ),
        down="conv",
        pool=Pool(w32 // 2, w32),
        top_down=(c2f(w16, outer, shortcut=False), c2f(w8, outer, shortcut=False)),
        bottom_up=(
            Stage(w8, c2f(w16, outer, shortcut=False)),
            Stage(w16, c2f(w32, outer, shortcut=False)),
        ),
        head=head,
    )


YOLOV8 = (
    yolov8("yolov8-n", (16, 32, 64, 128, 256), (1, 2), Head("dense", 64, 80)),
    yolov8("yolov8-s", (32, 64, 128, 256, 512), (1, 2), Head("dense", 64, 128)),
    yolov8("yolov8-m", (48, 96, 192, 384, 576), (2, 4), Head("dense", 64, 192)),
    yolov8("yolov8-l", (64, 128, 256, 512, 512), (3, 6), Head("dense", 64, 256)),
    yolov8("yolov8-x", (80, 160, 320, 640, 640), (3, 6), Head("dense", 80, 320)),
)

GELAN_T = Spec(
    "gelan-t",
    stem=16,
    stages=(
        Stage(32, elan(32)),
        Stage(64, rep_elan(64, depth=3)),
        Stage(96, rep_elan(96, depth=3)),
        Stage(128, rep_elan(128, depth=3)),
    ),
    down="aconv",
    pool=Pool(64, 128),
    top_down=(rep_elan(96, depth=3), rep_elan(64, depth=3)),
    bottom_up=(Stage(48, rep_elan(96, depth=3)), Stage(64, rep_elan(128, depth=3))),
    head=Head("grouped", 64, 128),
)

GELAN_S = Spec(
    "gelan-s",
    stem=32,
    stages=(
        Stage(64, elan(64)),
        Stage(128, rep_elan(128, depth=3)),
        Stage(192, rep_elan(192, depth=3)),
        Stage(256, rep_elan(256, depth=3)),
    ),
    down="aconv",
    pool=Pool(128, 256),
    top_down=(rep_elan(192, depth=3), rep_elan(128, depth=3)),
    bottom_up=(Stage(96, rep_elan(192, depth=3)), Stage(128, rep_elan(256, depth=3))),
    head=Head("grouped", 64, 128),
)

# The public YAML asks for 180 channels in the first downsampling of the bottom-up path and gets 184: every
# output width is rounded up to a multiple of 8.
GELAN_M = Spec(
    "gelan-m",
    stem=32,
    stages=(
        Stage(64, rep_elan(128, depth=1)),
        Stage(240, rep_elan(240, depth=1)),
        Stage(360, rep_elan(360, depth=1)),
        Stage(480, rep_elan(480, depth=1)),
    ),
    down="aconv",
    pool=Pool(240, 480),
    top_down=(rep_elan(360, depth=1), rep_elan(240, depth=1)),
    bottom_up=(Stage(184, rep_elan(360, depth=1)), Stage(240, rep_elan(480, depth=1))),
    head=Head("grouped", 64, 240),
)

GELAN_C = Spec(
    "gelan-c",
    stem=64,
    stages=(
        Stage(128, rep_elan(256, depth=1, split=128)),
        Stage(256, rep_elan(512, depth=1, split=256)),
        Stage(512, rep_elan(512, depth=1)),
        Stage(512, rep_elan(512, depth=1)),
    ),
    down="adown",
    pool=Pool(256, 512),
    top_down=(rep_elan(512, depth=1), rep_elan(256, depth=1)),
    bottom_up=(Stage(256, rep_elan(512, depth=1)), Stage(512, rep_elan(512, depth=1))),
    head=Head("grouped", 64, 256),
)

GELAN_E = Spec(
    "gelan-e",
    stem=64,
    stages=(
        Stage(128, rep_elan(256, depth=2, split=128)),
        Stage(256, rep_elan(512, depth=2, split=256)),
        Stage(512, rep_elan(1024, depth=2, split=512)),
        Stage(1024, rep_elan(1024, depth=2, split=512)),
    ),
    down="adown",
    pool=Pool(256, 512),
    top_down=(rep_elan(512, depth=2), rep_elan(256, depth=2)),
    bottom_up=(Stage(256, rep_elan(512, depth=2)), Stage(512, rep_elan(512, depth=2, split=1024))),
    head=Head("grouped", 64, 256),
    reversible=True,
)

GELAN = (GELAN_T, GELAN_S, GELAN_M, GELAN_C, GELAN_E)


def with_class_width(spec: Spec, width: int) -> Spec:
    """The same network with another width in the class branch of its heads."""
    aux_head = spec.aux_head and replace(spec.aux_head, class_width=width)
    return replace(spec, head=replace(spec.head, class_width=width), aux_head=aux_head)


# The class width by class count, in whose code it is so: class `Detect`, ultralytics/nn/modules/head.py;
# `YOLOv8HeadModule`, mmyolo/models/dense_heads/yolov8_head.py, whose class count has no limit; `DDetect` and
# `DualDDetect`, models/yolo.py of WongKinYiu/yolov9, which `Detection` of MultimediaTechLab's
# yolo/model/module.py repeats. The second official rule is that of the published t, inferred from its width
# of 80 for 80 classes; the other sizes have 128 channels and more at P3, where both say the same.
CLASS_RULES: dict[Reference, tuple[ClassRule, ...]] = {
    "ultralytics": (ClassRule(1, 100),),
    "mmyolo": (ClassRule(1, None),),
    "official": (ClassRule(2, 128), ClassRule(1, 128)),
}


def class_width(rule: ClassRule, channels: int, classes: int) -> int:
    """Width of a class branch behind a P3 of `channels`: max(channels, min(per_class * classes, limit))."""
    wanted = rule.per_class * classes
    return max(channels, wanted if rule.limit is None else min(wanted, rule.limit))


def for_classes(spec: Spec, classes: int, reference: Reference) -> Spec:
    """The Spec as a reference builds it for so many classes; the given one is that for 80.

    A head whose width is not what a rule of the reference gives for 80 classes has a width of its own and
    keeps it.
    """
    p3 = spec.top_down[1].out
    head = _head_for(spec.head, p3, classes, reference)
    if spec.aux_head is None:
        return replace(spec, head=head)
    aux_p3 = p3 if spec.aux == "pyramid" else spec.stages[1].block.out
    return replace(spec, head=head, aux_head=_head_for(spec.aux_head, aux_p3, classes, reference))


def _head_for(head: Head, channels: int, classes: int, reference: Reference) -> Head:
    for rule in CLASS_RULES[reference]:
        if class_width(rule, channels, 80) == head.class_width:
            return replace(head, class_width=class_width(rule, channels, classes))
    return head


YOLOV9_T = replace(GELAN_T, name="yolov9-t", aux="pyramid", aux_head=GELAN_T.head)
YOLOV9 = (
    YOLOV9_T,
    replace(GELAN_S, name="yolov9-s", aux="pyramid", aux_head=GELAN_S.head),
    replace(GELAN_M, name="yolov9-m", aux="reversible", aux_head=GELAN_M.head),
    replace(GELAN_C, name="yolov9-c", aux="reversible", aux_head=Head("grouped", 128, 512)),
    replace(GELAN_E, name="yolov9-e", aux="pyramid", aux_head=GELAN_E.head),
)

# The weights published as yolov9-t have a class branch of 80 channels, which the public code (128) cannot
# hold: 2.0 M parameters and 7.7 GFLOPs in its README's table are those of this network.
YOLOV9_T_80 = replace(with_class_width(YOLOV9_T, 80), name="yolov9-t-80")
GELAN_T_80 = replace(with_class_width(GELAN_T, 80), name="gelan-t-80")


def _ultralytics(gelan: Spec, class_width: int) -> Spec:
    head = replace(gelan.head, form="dense", class_width=class_width)
    return replace(gelan, name=f"ultralytics-yolov9{gelan.name[-1]}", head=head)


ULTRALYTICS_YOLOV9 = (
    _ultralytics(GELAN_T, 80),
    _ultralytics(GELAN_S, 128),
    _ultralytics(GELAN_M, 240),
    _ultralytics(GELAN_C, 256),
    _ultralytics(GELAN_E, 256),
)

SPECS: dict[str, Spec] = {
    spec.name: spec for spec in (*YOLOV8, *GELAN, GELAN_T_80, *YOLOV9, YOLOV9_T_80, *ULTRALYTICS_YOLOV9)
}

# Trainable, unfused parameters for 80 classes; the frozen DFL projection 0..15 is no parameter here.
PARAMETERS: dict[str, int] = {
    "yolov8-n": 3_157_184,
    "yolov8-s": 11_166_544,
    "yolov8-m": 25_902_624,
    "yolov8-l": 43_691_504,
    "yolov8-x": 68_229_632,
    "gelan-t": 2_442_624,
    "gelan-t-80": 2_036_544,
    "gelan-s": 7_226_192,
    "gelan-m": 20_123_984,
    "gelan-c": 25_498_736,
    "gelan-e": 58_114_416,
    "yolov9-t": 3_717_648,
    "yolov9-t-80": 2_905_488,
    "yolov9-s": 9_804_480,
    "yolov9-m": 32_878_400,
    "yolov9-c": 51_182_048,
    "yolov9-e": 69_529_632,
    "ultralytics-yolov9t": 2_128_704,
    "ultralytics-yolov9s": 7_318_352,
    "ultralytics-yolov9m": 20_216_144,
    "ultralytics-yolov9c": 25_590_896,
    "ultralytics-yolov9e": 58_206_576,
}


def spec_from_dict(fields: Mapping[str, Any]) -> Spec:
    """A Spec from what `dataclasses.asdict` made of it. Raises TypeError or KeyError if it is none."""

    def stage(entry: Mapping[str, Any]) -> Stage:
        return Stage(entry["down"], Block(**entry["block"]))

    aux_head = fields["aux_head"]
    nested = {
        "stages": tuple(stage(entry) for entry in fields["stages"]),
        "pool": Pool(**fields["pool"]),
        "top_down": tuple(Block(**entry) for entry in fields["top_down"]),
        "bottom_up": tuple(stage(entry) for entry in fields["bottom_up"]),
        "head": Head(**fields["head"]),
        "aux_head": None if aux_head is None else Head(**aux_head),
    }
    return Spec(**{**fields, **nested})
