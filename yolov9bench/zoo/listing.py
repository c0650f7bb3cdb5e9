"""Rows as text and JSON, for the command line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from typing import Any

from yolov9bench.zoo.protocols import Protocol
from yolov9bench.zoo.recipe import Recipe
from yolov9bench.zoo.rows import ROWS, Asset, Published, Row
from yolov9bench.zoo.specs import Spec

ABSENT = "—"
HEADER = (
    "id",
    "backbone",
    "size",
    "mask refine",
    "box AP",
    "TTA box AP",
    "Mem GB",
    "protocol",
    "download",
)


def _cell(value: object) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _cells(row: Row) -> tuple[str, ...]:
    published = row.published
    return (
        row.id,
        row.backbone,
        _cell(row.image_size),
        _cell(row.mask_refine),
        row.box_ap_text,
        _cell(published.tta_box_ap),
        _cell(published.memory_gb),
        row.protocol.name,
        row.download.name,
    )


def rows_table() -> str:
    """Every row on a line, columns aligned; AP in percent and memory in GB as published, "—" where not."""
    lines = [HEADER, *(_cells(row) for row in ROWS.values())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _facts(fact: Row | Spec | Published | Asset) -> Iterator[str]:
    """One indented line per field, and one per item of a tuple of blocks or stages."""
    for field in fields(fact):
        value: Any = getattr(fact, field.name)
        if isinstance(value, Spec | Recipe | Published) or field.name == "assets":
            continue
        if isinstance(value, Protocol):
            value = value.name
        if isinstance(value, tuple) and value and not isinstance(value[0], int | float):
            yield from (f"  {field.name}[{index}]: {item}" for index, item in enumerate(value))
        else:
            yield f"  {field.name}: {_cell(value)}"


def _recipe_facts(recipe: Recipe) -> Iterator[str]:
    """The name, then one indented line per number."""
    yield f"  name: {recipe.name}"
    yield from (f"  {name}: {_cell(value)}" for name, value in recipe.numbers().items())


def row_text(row: Row) -> str:
    """All that is known of a row: figures, files, recipe and architecture, a fact a line."""
    lines = ["row", *_facts(row), "published", *_facts(row.published)]
    for asset in row.assets:
        lines += ["asset", *_facts(asset), f"  strict: {_cell(asset.strict)}"]
    lines += ["recipe", *(_recipe_facts(row.recipe) if row.recipe else [f"  {ABSENT}"])]
    lines += ["spec", *_facts(row.spec)]
    return "\n".join(lines)


def rows_json(rows: Iterable[Row]) -> str:
    """The rows in full as a JSON list of objects, null where nothing is known."""
    return json.dumps(
        [asdict(row) | {"protocol": row.protocol.name} for row in rows], indent=2, ensure_ascii=False
    )
