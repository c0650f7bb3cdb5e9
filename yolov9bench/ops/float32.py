"""How a GPU multiplies float32: in full, or rounded to TF32's ten bits on the way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch


@contextmanager
def float32_as(precision: Literal["ieee", "tf32"]) -> Iterator[None]:
    """Let CUDA's float32 convolutions and products be computed so while the body runs."""
    cudnn: Any = torch.backends.cudnn  # mypy does not see all its attributes
    backends: tuple[Any, ...] = (cudnn.conv, torch.backends.cuda.matmul)
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = precision
    try:
        yield
    finally:
        for backend, kept in zip(backends, before, strict=True):
            backend.fp32_precision = kept
