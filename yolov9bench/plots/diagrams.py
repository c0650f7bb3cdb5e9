"""A Spec as boxes and arrows, wired as in `yolov9bench.nn`: what the structure figure shows."""

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
    """One module: its column from the left, its level (0: stride 2, 4: stride 32) and its text."""

    column: int
    level: int
    text: str
    part: Part


@dataclass
class Diagram:
    """The boxes by name, the arrows between them (`across` at several levels), and the columns' headings."""

    title: str
    boxes: dict[str, Box] = field(default_factory=dict)
    arrows: list[tuple[str, str]] = field(default_factory=list)
    across: list[tuple[str, str]] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)


def lay_out(spec: Spec) -> Diagram:
    """Place the boxes and arrows of a network, the auxiliary branch left of the first backbone."""
    diagram = Diagram(f"{spec.name} ({DOWNS[spec.down]} downsampling)")
    if spec.aux_head is not None:
        diagram.headings += ["head", "top-down" if spec.aux == "pyramid" else "backbone"]
    first = len(diagram.headings)
    diagram.headings.append("backbone")
    _add_backbone(diagram, spec, first, "b", "main")
    if spec.aux_head is not None:
        _add_auxiliary(diagram, spec, spec.aux_head)
    source = "b"
    if spec.reversible:
        source = "r"
        diagram.headings.append("second backbone")
        _add_backbone(diagram, spec, first + 1, source, "main")
        _add_reversible(diagram, source, range(5))
    column = len(diagram.headings)
    diagram.headings += ["top-down", "bottom-up", "head"]
    _add_top_down(diagram, spec, column, source, "main", "t")
    _add_bottom_up(diagram, spec, column + 1)
    _add_head(diagram, spec.head, column + 2, ("t2", "u3", "u4"), "head", "h")
    return diagram


def _add_backbone(diagram: Diagram, spec: Spec, column: int, name: str, part: Part) -> None:
    diagram.boxes[f"{name}0"] = Box(column, 0, f"conv\n{spec.stem}", part)
    for level, stage in enumerate(spec.stages, start=1):
        diagram.boxes[f"{name}{level}"] = Box(column, level, _block_text(stage.block), part)
        diagram.arrows.append((f"{name}{level - 1}", f"{name}{level}"))


def _add_auxiliary(diagram: Diagram, spec: Spec, head: Head) -> None:
    """A top-down pyramid, or a second backbone that gets the features of the first at strides 8 to 32."""
    if spec.aux == "pyramid":
        _add_top_down(diagram, spec, 1, "b", "auxiliary", "x")
    else:
        _add_backbone(diagram, spec, 1, "x", "auxiliary")
        _add_reversible(diagram, "x", range(2, 5))
    _add_head(diagram, head, 0, ("x2", "x3", "x4"), "auxiliary", "y")


def _add_reversible(diagram: Diagram, target: str, levels: range) -> None:
    """Each level of the first backbone goes to that level and every finer one of another backbone."""
    diagram.across += [
        (f"b{level}", f"{target}{fine}") for level in levels for fine in levels if fine <= level
    ]


def _add_top_down(diagram: Diagram, spec: Spec, column: int, source: str, part: Part, name: str) -> None:
    pool = "SPPF" if spec.stages[-1].block.kind == "c2f" else "SPPELAN"
    diagram.boxes[f"{name}4"] = Box(column, 4, f"{pool}\n{spec.pool.out}", part)
    for level, block in zip((3, 2), spec.top_down, strict=True):
        diagram.boxes[f"{name}{level}"] = Box(column, level, _block_text(block), part)
        diagram.arrows.append((f"{name}{level + 1}", f"{name}{level}"))
    diagram.arrows += [(f"{source}{level}", f"{name}{level}") for level in (2, 3, 4)]


def _add_bottom_up(diagram: Diagram, spec: Spec, column: int) -> None:
    for level, finer, stage in zip((3, 4), ("t2", "u3"), spec.bottom_up, strict=True):
        diagram.boxes[f"u{level}"] = Box(column, level, _block_text(stage.block), "main")
        diagram.arrows += [(finer, f"u{level}"), (f"t{level}", f"u{level}")]


def _add_head(
    diagram: Diagram, head: Head, column: int, sources: tuple[str, str, str], part: Part, name: str
) -> None:
    for level, source in zip((2, 3, 4), sources, strict=True):
        text = f"box {head.box_width}\nclass {head.class_width}"
        diagram.boxes[f"{name}{level}"] = Box(column, level, text, part)
        diagram.arrows.append((source, f"{name}{level}"))


def _block_text(block: Block) -> str:
    depth = f" (x{block.depth})" if block.depth > 1 else ""
    return f"{BLOCKS[block.kind]}\n{block.out}{depth}"
