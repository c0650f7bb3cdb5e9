"""Seeded changes to plain data and to bytes: values that no program expects where it expects one."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any

DEEP: list[Any] = []
for _ in range(60):
    DEEP = [DEEP]

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, -1, 3, 255, 2**20, 2**20 + 1, 10**9, 2**31, 2**53 + 1, 2**63 - 1, 2**63),
    *(
        2**64,
        -(2**63),
        10**30,
        10**400,
        0.5,
        -0.0,
        1e-320,
        1e308,
        -1e308,
        1e39,
        math.inf,
        -math.inf,
        math.nan,
    ),
    *(
        "",
        " ",
        "x" * 300,
        "\ud800",
        "a\ud800.png",
        "\0",
        "a\nb",
        "\x1b[31m",
        "1",
        "0",
        "1e9",
        "NaN",
        "é",
        "None",
    ),
    *("../../etc/passwd", "/etc/passwd", "..", ".", "C:\\x\\1.png", "http://host/%2e%2e/x", "~", "a/../../b"),
    *([], {}, [[]], [{}], [1], ["x"], [None], [1, 2, 3, 4], [0, 0, 0, 0], [-5, -5, 3, 3], [1e308] * 4),
    *(
        [math.nan] * 4,
        [10**400] * 4,
        [1e-320] * 4,
        [True] * 4,
        ["1"] * 4,
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6]],
    ),
    *([[1, 2, 3, 4, 5, 6, 7]], [[math.inf] * 6], [[1e308] * 8], [[1, 1] * 3, []], {"x": 1}, {"": {}}, DEEP),
    {"size": [24, 32], "counts": [1, 2, 3]},
    {"size": [24, 32], "counts": [0, 24 * 32]},
    {"size": [24, 32], "counts": "o" * 40},
    {"size": [24, 32], "counts": "PPP0"},
    {"size": [2**20, 2**20], "counts": [2**40]},
    {"size": [10**9, 10**9], "counts": "0"},
    {"size": [24, 32], "counts": [-1, 24 * 32 + 1]},
    "2026-01-01T00:00:00",
    "9999-12-31T23:59:59+00:00",
    "0001-01-01T00:00:00+00:00",
    "2026-01-31T12:00:00Z",
    "0" * 64,
    "f" * 40,
)

TOKENS = (
    *(b"NaN", b"-Infinity", b"1e999", b"1" * 5000, b"[" * 3000, b'{"a":' * 3000, b'"\\ud800"', b"\\u0000"),
    *(
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"//",
        b"'",
        b",",
        b":",
        b"{",
        b"}",
        b"]",
        b'"',
        b"\\",
    ),
    *(
        b'"images": [], ',
        b'"id": 1, ',
        b'"width": -1, ',
        b'"values": {}, ',
        b'"schema": 1, ',
        b"true",
        b"null",
    ),
    *(
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\x00\x00\x00\x00",
        b"\x80\x00",
        b"%s%n",
        b"\r\n",
        b"\x00\x01",
    ),
)


def slots(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in nested lists and dictionaries, as (container, key)."""
    waiting = [tree]
    while waiting:
        container = waiting.pop()
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            yield container, key
            if isinstance(container[key], dict | list) and container[key]:
                waiting.append(container[key])


def mutated(tree: Any, random: Random, most: int = 3) -> Any:
    """A copy with one to `most` values replaced, removed, doubled, exchanged or put under another key."""
    changed = copy.deepcopy(tree)
    for _ in range(random.randint(1, most)):
        places = list(slots(changed))
        if not places:
            break
        container, key = random.choice(places)
        action = random.randrange(10)
        if action == 0:
            del container[key]
        elif action == 1 and isinstance(container, list):
            container.insert(random.randrange(len(container) + 1), copy.deepcopy(container[key]))
        elif action == 2:
            other, name = random.choice(places)
            container[key] = copy.deepcopy(other[name]) if other is not container else container[key]
        elif action == 3 and isinstance(container, dict):
            name = random.choice((*map(str, container), "extra", "", "\ud800"))
            container[name] = container.pop(key)
        elif action in (4, 5) and type(container[key]) in (int, float):
            factor = random.choice((-1, 0, 1, 2, 0.5, 1e6, 1e300))
            with suppress(OverflowError):  # of an integer beyond every double
                container[key] = container[key] * factor
        elif action in (6, 7):  # what another place of the same name has, which is of the right kind
            others = [each[name] for each, name in places if name == key]
            container[key] = copy.deepcopy(random.choice(others))
        else:
            container[key] = copy.deepcopy(random.choice(HOSTILE))
    return changed


def mutated_bytes(content: bytes, random: Random, most: int = 3) -> bytes:
    """A copy with one to `most` bytes flipped, or parts of it removed, doubled, cut off or put in."""
    changed = bytearray(content)
    for _ in range(random.randint(1, most)):
        place = random.randrange(len(changed) + 1)
        # Half of the changes are among the first bytes, where formats state sizes.
        place = min(place, random.randrange(64)) if random.random() < 0.5 else place
        end = place + random.choice((1, 2, 4, 16, 400))
        action = random.randrange(6)
        if action == 0:
            del changed[place:end]
        elif action == 1:
            changed[place:place] = changed[place:end]
        elif action == 2:
            del changed[place:]
        elif action == 3:
            changed[place:place] = random.choice(TOKENS)
        elif action == 4:
            token = random.choice(TOKENS)
            changed[place : place + len(token)] = token
        elif place < len(changed):
            changed[place] ^= 1 << random.randrange(8)
    return bytes(changed)


def as_json(tree: Any) -> bytes:
    """A tree as JSON, whatever is in it; a lone surrogate becomes an escape, NaN and infinity are words."""
    return json.dumps(tree).encode()
