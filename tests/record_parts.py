"""A record that states nothing, and the keys of a record's parts."""

from dataclasses import fields
from typing import Any, get_type_hints

from yolov9bench.records import Record

PARTS = ("values", "settings", "inputs", "environment")
EMPTY = Record(
    row="yolov9-c",
    kind="evaluate",
    values={},
    settings={},
    inputs={},
    environment={},
    seed=0,
    start="2026-01-01T00:00:00+00:00",
    seconds=1.0,
    command=[],
)


def keys_of(plain: dict[str, Any]) -> set[str]:
    """The keys of every part of a record, as in inputs.images."""
    return {f"{part}.{key}" for part in PARTS for key in plain[part]}


def field_names(form: type) -> set[str]:
    hints = get_type_hints(form)
    return {f"{part}.{field.name}" for part in PARTS for field in fields(hints[part])}
