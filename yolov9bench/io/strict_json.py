"""JSON of which there is one reading."""

from __future__ import annotations

import json
from typing import Any

from yolov9bench.errors import shown_value


def parse_json(text: str) -> Any:
    """Plain data from JSON; ValueError also for a key that stands twice, and for lists too deep to follow.

    Of a doubled key other readers show the first value, or the last, so that two people see two files.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_twins)
    except RecursionError as error:
        raise ValueError("it has lists in lists without an end") from error


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    known = dict(pairs)
    if len(known) < len(pairs):
        keys = [key for key, _ in pairs]
        twin = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {shown_value(twin)} is there twice")
    return known
