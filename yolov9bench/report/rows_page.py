"""The page behind the table's Config column: the networks, and every row with its Spec and Recipe."""

from __future__ import annotations

from collections.abc import Iterable

from yolov9bench.report.table import ABSENT, markdown_table
from yolov9bench.zoo.listing import row_text
from yolov9bench.zoo.rows import ROWS, Row
from yolov9bench.zoo.specs import PARAMETERS, SPECS, Block, Spec, Stage

TOP = """# Rows

What each row of the [table](table.md) consists of: a Spec, which says what the network is; a Recipe, which
says how it is trained; and what its authors published.

<!-- Written by `python -m yolov9bench report` from yolov9bench/zoo: change that, not this. -->
"""
NETWORKS = """## Networks

Channels behind the stem, the four stages (strides 4 to 32), the pooling, the top-down path (P4, P3) and the
bottom-up path (P4, P5); of the hidden layers of the head's box and class branches; and of those of the
auxiliary head, which exists in training only. Parameters are the trainable ones for 80 classes, auxiliary
branch included.
"""
NETWORK_HEADER = (
    "Spec",
    "Block, downsampling",
    "Stem",
    "Stages",
    "Pool",
    "Top-down",
    "Bottom-up",
    "Head",
    "Auxiliary branch",
    "Parameters",
)


def render_page() -> str:
    """The whole page as Markdown, with an anchor for every row id."""
    table = markdown_table(NETWORK_HEADER, map(_network_cells, SPECS.values()))
    return "\n".join([TOP, NETWORKS, table, "", *(_row_section(row) for row in ROWS.values())])


def _network_cells(spec: Spec) -> tuple[str, ...]:
    """The widths of one network."""
    head = f"{spec.head.form} {spec.head.box_width}, {spec.head.class_width}"
    aux = ABSENT
    if spec.aux and spec.aux_head:
        aux = f"{spec.aux} {spec.aux_head.box_width}, {spec.aux_head.class_width}"
    return (
        spec.name + (" (second, reversible backbone)" if spec.reversible else ""),
        f"{spec.stages[-1].block.kind}, {spec.down}",
        str(spec.stem),
        _widths(spec.stages),
        str(spec.pool.out),
        _widths(spec.top_down),
        _widths(spec.bottom_up),
        head,
        aux,
        f"{PARAMETERS[spec.name]:,}",
    )


def _row_section(row: Row) -> str:
    """One row under a heading with its id as anchor: links, and all its fields in a block of text."""
    links = [f"[{asset.name}]({asset.url})" for asset in row.assets]
    links += [f"[training log]({row.log_url})"] if row.log_url else []
    return "\n".join(
        [
            f'<a id="{row.id}"></a>',
            "",
            f"## {row.id}",
            "",
            f"Weights ({row.licence}): {', '.join(links)}.",
            "",
            "```text",
            row_text(row),
            "```",
            "",
        ]
    )


def _widths(parts: Iterable[Stage | Block]) -> str:
    return ", ".join(str(each.block.out if isinstance(each, Stage) else each.out) for each in parts)
