"""Hold a checkpoint's tensors against the network that they fill: every key, shape, type and number."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from yolov9bench.errors import CheckpointError, shown
from yolov9bench.nn.detector import Detector
from yolov9bench.weights.formats import Contents
from yolov9bench.weights.known import first_three
from yolov9bench.weights.names import is_constant


def require_complete(
    path: Path, contents: Contents, detector: Detector, table: Mapping[str, str]
) -> tuple[str, ...]:
    """Refuse missing and extra keys, wrong shapes and numbers; return the keys of the DFL constants."""
    tensors = contents.tensors
    constants = tuple(key for key in tensors if is_constant(key, contents.format))
    for key in constants:
        given = tensors[key]
        is_real = given.numel() == 16 and not given.is_complex()
        if not is_real or not torch.equal(given.flatten().float(), torch.arange(16.0)):
            raise CheckpointError(
                f"{path.name}: {shown(key)} is not 0..15, so its boxes mean something else; refused"
            )
    faults = [
        f"{label} {len(keys)} key{'s'[: len(keys) > 1]} ({first_three(keys)})"
        for label, keys in (
            ("lacks", [foreign for foreign in table.values() if foreign not in tensors]),
            ("has also", sorted(tensors.keys() - set(table.values()) - set(constants))),
            ("has the wrong shape or type in", find_wrong_tensors(contents, detector, table)),
        )
        if keys
    ]
    if faults:
        raise CheckpointError(
            f"{path.name}, read as {contents.format} {detector.spec.name}, {'; '.join(faults)}: "
            "it is damaged or another network; check where it comes from"
        )
    return constants


def find_wrong_tensors(contents: Contents, detector: Detector, table: Mapping[str, str]) -> list[str]:
    """A few words for each tensor of the file that has another type or shape than the network's."""
    tensors, wanted = contents.tensors, detector.state_dict()
    wrong = [
        f"{table[own]} is {tensors[table[own]].dtype}, not {value.dtype}"
        for own, value in wanted.items()
        if table[own] in tensors and not fits_type(tensors[table[own]], value)
    ]
    shapes = {table[own]: value.shape for own, value in wanted.items()}
    return wrong + [
        f"{key} is {tuple(tensors[key].shape)}, not {tuple(shape)}"
        for key, shape in shapes.items()
        if key in tensors and tensors[key].shape != shape
    ]


def fits_type(given: Tensor, wanted: Tensor) -> bool:
    """Whether weights are real numbers; a counter may be stored as any of these too."""
    return given.is_floating_point() or not (wanted.is_floating_point() or given.is_complex())


def as_plain_tensors(
    path: Path, contents: Contents, detector: Detector, table: Mapping[str, str]
) -> dict[str, Tensor]:
    """Tensors of their own under our keys: float32, and counters as int64.

    CheckpointError for NaN and infinity, also where a float64 is beyond float32.
    """
    filled, broken = {}, []
    for own, wanted in detector.state_dict().items():
        given = contents.tensors[table[own]].detach()
        kept = torch.float32 if given.is_floating_point() else given.dtype
        plain = torch.empty(given.shape, dtype=kept).copy_(given)
        if not plain.isfinite().all():
            broken.append(table[own])
        filled[own] = plain.to(wanted.dtype)
    if broken:
        raise CheckpointError(
            f"{path.name} has NaN or infinity in {first_three(broken)} as float32: "
            "its training diverged, or they are too large; take an earlier checkpoint"
        )
    return filled
