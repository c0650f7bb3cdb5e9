"""How a network is computed on the processor: how its maps are laid out, and how many images at a time.

Backends differ in the order of their sums, so in the last bits, and in speed; none changes the precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yolov9bench.errors import require_choice

CHUNKS = (1, 2, 4, 8)  # images at a time


@dataclass(frozen=True)
class Backend:
    """One way to compute a network: `chunk` images of a batch at a time, None for the whole of it.

    `channels_last`: maps lie in memory as [B, H, W, C], which spares the convolutions a rearrangement.
    """

    name: str
    channels_last: bool = False
    chunk: int | None = None


PLAIN = Backend("plain")
BACKENDS: Mapping[str, Backend] = {
    each.name: each
    for each in (
        PLAIN,
        *(Backend(f"contiguous-{chunk}", False, chunk) for chunk in CHUNKS),
        *(Backend(f"channels-last-{chunk}", True, chunk) for chunk in CHUNKS),
    )
}


def find_backend(name: str) -> Backend:
    """A backend by name; SettingsError with a suggestion for an unknown one."""
    require_choice("backend", name, BACKENDS)
    return BACKENDS[name]
