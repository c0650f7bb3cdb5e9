"""A Spec as boxes and arrows, the way `yolov9bench.nn` wires it: what the drawing of the structures shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from yolov9bench.zoo.specs import Block, Head, Spec

BLOCKS = {"c2f": "C2f", "elan": "ELAN", "rep-elan": "RepELAN"}
DOWNS = {"conv": "convolution", "aconv": "AConv", "adown": "ADown"}
STRIDES = (2, 4, 8, 16, 32)  # of level 0 to 4
Part = Literal["main", "head", "auxiliary"]


@dataclass(frozen=True)
class Box:
    """One module: its column, from the left, its level (0: stride 2, 4: stride 32) and what it says."""

    column: int
    level: int
    text: str
    part: Part


@dataclass
class Skeleton:
    """The boxes by name, the arrows between them (`across` at several levels), and the columns' headings."""

    title: str
    boxes: dict[str, Box] = field(default_factory=dict)
    arrows: list[tuple[str, str]] = field(default_factory=list)
    across: list[tuple[str, str]] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)


def skeleton(spec: Spec) -> Skeleton:
    """The boxes and arrows of a network, the auxiliary branch on the left of the first backbone."""
    drawn = Skeleton(f"{spec.name} ({DOWNS[spec.down]} downsampling)")
    if spec.aux_head is not None:
        drawn.headings += ["head", "top-down" if spec.aux == "pyramid" else "backbone"]
    first = len(drawn.headings)
    drawn.headings.append("backbone")
    _add_backbone(drawn, spec, first, "b", "main")
    if spec.aux_head is not None:
        _add_auxiliary(drawn, spec, spec.aux_head)
    feeding = "b"
    if spec.reversible:
        feeding = "r"
        drawn.headings.append("second backbone")
        _add_backbone(drawn, spec, first + 1, feeding, "main")
        _add_reversible(drawn, feeding, range(5))
    column = len(drawn.headings)
    drawn.headings += ["top-down", "bottom-up", "head"]
    _add_top_down(drawn, spec, column, feeding, "main", "t")
    _add_bottom_up(drawn, spec, column + 1)
    _add_head(drawn, spec.head, column + 2, ("t2", "u3", "u4"), "head", "h")
    return drawn


def _add_backbone(drawn: Skeleton, spec: Spec, column: int, name: str, part: Part) -> None:
    drawn.boxes[f"{name}0"] = Box(column, 0, f"conv\n{spec.stem}", part)
    for level, stage in enumerate(spec.stages, start=1):
        drawn.boxes[f"{name}{level}"] = Box(column, level, _block_text(stage.block), part)
        drawn.arrows.append((f"{name}{level - 1}", f"{name}{level}"))


def _add_auxiliary(drawn: Skeleton, spec: Spec, head: Head) -> None:
    """A top-down pyramid, or a second backbone that the first one feeds at strides 8 to 32."""
    if spec.aux == "pyramid":
        _add_top_down(drawn, spec, 1, "b", "auxiliary", "x")
    else:
        _add_backbone(drawn, spec, 1, "x", "auxiliary")
        _add_reversible(drawn, "x", range(2, 5))
    _add_head(drawn, head, 0, ("x2", "x3", "x4"), "auxiliary", "y")


def _add_reversible(drawn: Skeleton, target: str, levels: range) -> None:
    """Each level of the first backbone goes to that level and every finer one of another backbone."""
    drawn.across += [(f"b{level}", f"{target}{fine}") for level in levels for fine in levels if fine <= level]


def _add_top_down(drawn: Skeleton, spec: Spec, column: int, feeding: str, part: Part, name: str) -> None:
    pool = "SPPF" if spec.stages[-1].block.kind == "c2f" else "SPPELAN"
    drawn.boxes[f"{name}4"] = Box(column, 4, f"{pool}\n{spec.pool.out}", part)
    for level, block in zip((3, 2), spec.top_down, strict=True):
        drawn.boxes[f"{name}{level}"] = Box(column, level, _block_text(block), part)
        drawn.arrows.append((f"{name}{level + 1}", f"{name}{level}"))
    drawn.arrows += [(f"{feeding}{level}", f"{name}{level}") for level in (2, 3, 4)]


def _add_bottom_up(drawn: Skeleton, spec: Spec, column: int) -> None:
    for level, finer, stage in zip((3, 4), ("t2", "u3"), spec.bottom_up, strict=True):
        drawn.boxes[f"u{level}"] = Box(column, level, _block_text(stage.block), "main")
        drawn.arrows += [(finer, f"u{level}"), (f"t{level}", f"u{level}")]


def _add_head(
    drawn: Skeleton, head: Head, column: int, fed_by: tuple[str, str, str], part: Part, name: str
) -> None:
    for level, source in zip((2, 3, 4), fed_by, strict=True):
        text = f"box {head.box_width}\nclass {head.class_width}"
        drawn.boxes[f"{name}{level}"] = Box(column, level, text, part)
        drawn.arrows.append((source, f"{name}{level}"))


def _block_text(block: Block) -> str:
    depth = f" (x{block.depth})" if block.depth > 1 else ""
    return f"{BLOCKS[block.kind]}\n{block.out}{depth}"
