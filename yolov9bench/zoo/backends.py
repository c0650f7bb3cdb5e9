"""How a network is computed: how its maps are laid out, how many images at a time, and by which numbers.

Backends of float32 differ in the order of their sums, so in the last bits, and in speed. Those of 16 bits
round every weight and map, TF32 what a CUDA device multiplies. They are taken by name alone, and so is the
compiled one, which takes its time before the first image.
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
    `dtype`: of weights and maps; what follows the network is computed in float32 or better in any case.
    `is_compiled`: torch.compile translates the network for each shape of a batch.
    """

    name: str
    channels_last: bool = False
    chunk: int | None = None
    dtype: str = "float32"
    is_compiled: bool = False


PLAIN = Backend("plain")
EXACT: Mapping[str, Backend] = {
    each.name: each
    for each in (
        PLAIN,
        *(Backend(f"contiguous-{chunk}", False, chunk) for chunk in CHUNKS),
        *(Backend(f"channels-last-{chunk}", True, chunk) for chunk in CHUNKS),
    )
}
SIXTEEN_BITS: Mapping[str, Backend] = {
    name: Backend(name, channels_last=True, dtype=name) for name in ("bfloat16", "float16")
}
TF32 = Backend("tf32", channels_last=True, dtype="tf32")
REDUCED: Mapping[str, Backend] = {**SIXTEEN_BITS, TF32.name: TF32}
COMPILED = Backend("compiled", channels_last=True, is_compiled=True)
BACKENDS: Mapping[str, Backend] = {**EXACT, COMPILED.name: COMPILED, **REDUCED}


def find_backend(name: str) -> Backend:
    """A backend by name; SettingsError with a suggestion for an unknown one."""
    require_choice("backend", name, BACKENDS)
    return BACKENDS[name]
