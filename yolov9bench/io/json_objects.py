"""The objects of a long JSON list one at a time, so that memory does not depend on what all of them hold."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

LONGEST = 2**20  # characters of one object; lists within lists take some twenty times that in bytes

DECODER = json.JSONDecoder()
BEGINNING = re.compile(r"[ \t\n\r]*\[[ \t\n\r]*(\][ \t\n\r]*\Z)?")
SEPARATOR = re.compile(r"[ \t\n\r]*(?:,[ \t\n\r]*|\][ \t\n\r]*(\Z))")


def read_objects(text: str) -> Iterator[dict[str, Any]]:
    """The objects of a JSON list, each read when it is asked for.

    ValueError, once it is reached, for what is no such list, and for an object of more than LONGEST
    characters.
    """
    before = BEGINNING.match(text)
    if before is None:
        raise ValueError("it is no list")
    first, part = before.end(), ""
    while before[1] is None:
        place = before.end()
        if not text.startswith("{", place):
            raise ValueError(f"no object begins at character {place:,}")
        try:
            value, end = DECODER.raw_decode(part, place - first)
        except json.JSONDecodeError as error:  # as where the part ends within this object
            if place == first and part:
                raise ValueError(f"no object of up to {LONGEST:,} characters is at {place:,}") from error
            first, part = place, text[place : place + LONGEST]
            continue
        except RecursionError as error:
            raise ValueError("it has lists in lists without an end") from error
        yield value
        before = SEPARATOR.match(text, first + end)
        if before is None:
            raise ValueError(f"its list is broken at character {first + end:,}")
