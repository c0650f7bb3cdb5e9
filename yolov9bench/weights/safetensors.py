"""Read a safetensors file: the length of a header, the header in JSON, and the numbers of every tensor.

The layout is https://github.com/huggingface/safetensors#format. Nothing in it can be run.
"""

from __future__ import annotations

import ast
import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from yolov9bench.errors import CheckpointError, shown
from yolov9bench.weights.containers import require_few, require_name
from yolov9bench.weights.stored import read_exactly

LENGTH_BYTES = 8
# The largest known network's header has 0.3 MB, and Python takes 40 bytes of memory for a byte of JSON.
MOST_HEADER_BYTES = 1 << 21
MOST_NAMES_LETTERS = 1 << 16  # of class names, read as a literal of Python
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class Span:
    """Where a tensor lies: bytes `begin` to `end` behind the header."""

    key: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], object]:
    """The tensors under their keys, and the entry `names` of the metadata, None where there is none.

    Raises CheckpointError for a file that is cut short or whose header does not describe its bytes.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        behind = path.stat().st_size - LENGTH_BYTES - length
        if behind < 0:
            raise CheckpointError(
                f"{path.name} is cut short within the header of {length} bytes: fetch it again"
            )
        if length > MOST_HEADER_BYTES:
            raise CheckpointError(
                f"{path.name} has a header of {length} bytes, more than {MOST_HEADER_BYTES}: "
                "save the weights of one network alone"
            )
        header = parse_header(path, file.read(length))
        metadata = header.pop("__metadata__", None)
        require_few(path, len(header))
        spans = sorted(
            (parse_span(path, *entry) for entry in header.items()), key=lambda span: (span.begin, span.end)
        )
        require_whole(path, spans, behind)
        tensors = {
            span.key: as_tensor(span, read_exactly(path.name, file, span.end - span.begin)) for span in spans
        }
    names = metadata.get("names") if isinstance(metadata, dict) else None
    return tensors, None if names is None else parse_names(path, names)


def parse_header(path: Path, header: bytes) -> dict[str, Any]:
    """The header's entries; a key that stands twice is refused."""

    def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key stands twice")
        return dict(pairs)

    try:
        entries = json.loads(header, object_pairs_hook=without_twins)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path.name} has a damaged header ({shown(error)}): fetch it again, or save it again"
        ) from error
    if not isinstance(entries, dict):
        raise CheckpointError(f"{path.name} has a header without tensors: save it again")
    return entries


def parse_span(path: Path, key: str, entry: object) -> Span:
    """One entry of the header; the bytes must be as many as its type and shape need."""
    require_name(path, key)
    described = entry if isinstance(entry, dict) else {}
    name, shape, offsets = (described.get(word) for word in ("dtype", "shape", "data_offsets"))
    if not (are_counts(shape) and are_counts(offsets) and len(offsets) == 2 and isinstance(name, str)):
        raise CheckpointError(f"{path.name} does not say what {shown(key)} is in its header: save it again")
    if name not in DTYPES:
        raise CheckpointError(
            f"{path.name} has {shown(key)} as {shown(name, 20)}, not a type of weights: save it as F32 or F16"
        )
    dtype, (begin, end) = DTYPES[name], offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise CheckpointError(
            f"{path.name} gives {shown(key)} {end - begin} bytes, where {name} of shape {shown(shape)} "
            f"needs {math.prod(shape) * dtype.itemsize}: save it again"
        )
    return Span(key, dtype, tuple(shape), begin, end)


def are_counts(values: object) -> TypeGuard[list[int]]:
    """Whether these are a short list of whole numbers from 0 up."""
    return (
        isinstance(values, list)
        and len(values) <= 8
        and all(type(each) is int and 0 <= each < 2**40 for each in values)
    )


def require_whole(path: Path, spans: list[Span], size: int) -> None:
    """CheckpointError unless the tensors, in order, fill the file without gap or overlap."""
    place = 0
    for span in spans:
        if span.begin != place:
            raise CheckpointError(
                f"{path.name} has {shown(span.key)} begin at byte {span.begin}, not {place}: save it again"
            )
        place = span.end
    if place > size:
        raise CheckpointError(f"{path.name} is cut short by {place - size} bytes: fetch it again")
    if place < size:
        raise CheckpointError(f"{path.name} has {size - place} bytes behind its last tensor: save it again")


def as_tensor(span: Span, data: bytearray) -> Tensor:
    """The tensor in these bytes."""
    if not data:
        return torch.empty(span.shape, dtype=span.dtype)
    return torch.frombuffer(data, dtype=span.dtype).reshape(span.shape)


def parse_names(path: Path, names: object) -> object:
    """Class names from the metadata, which are text there: JSON, or a literal as Python prints it."""
    text = names if isinstance(names, str) and len(names) <= MOST_NAMES_LETTERS else ""
    for parse in (json.loads, ast.literal_eval):
        try:
            with warnings.catch_warnings(action="ignore"):  # of Python, about what it takes for code
                found: object = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
        if isinstance(found, dict | list | tuple):
            return found
    what = f"'{shown(names, 40)}'" if isinstance(names, str) else type(names).__name__
    raise CheckpointError(
        f"{path.name} has class names that cannot be read ({what}): write them as a JSON list"
    )
