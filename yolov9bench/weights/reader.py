"""Read a checkpoint without running any code from it.

torch's own `weights_only` unpickler does the reading. It meets an inert stand-in for every class of the
known training libraries, so that modules pickled as objects come out as plain attributes, and it never
meets anything else: a file that names any other global is refused, by name, before it is unpickled.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolov9bench.errors import CheckpointError

# Whole libraries whose objects checkpoints hold; none of their code is imported or run.
STANDING_IN_FOR = (
    "lightning.",
    "mmcv.",
    "mmdet.",
    "mmengine.",
    "mmyolo.",
    "models.",
    "numpy.",
    "omegaconf.",
    "pathlib.",
    "pytorch_lightning.",
    "torch.nn.modules.",
    "ultralytics.",
    "utils.",
    "yolo.",
)
# mmengine's history buffers pickle their methods by getattr; numpy's old byte strings by encode.
STANDING_IN_FOR_FUNCTIONS = (
    "_codecs.encode",
    "argparse.Namespace",
    "builtins.getattr",
    "types.SimpleNamespace",
)


class Inert:
    """Stand-in for one class or function of a foreign library: keeps what it is given, does nothing."""

    path = ""

    def __new__(cls, *_: object) -> Inert:
        return super().__new__(cls)

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.attributes = dict(state) if isinstance(state, dict) else {"state": state}


def read_inert(path: Path) -> Any:
    """What `torch.save` wrote (zip or legacy stream), with every foreign object as an Inert.

    Raises CheckpointError for a file that is missing, cut short, no checkpoint, or names anything unknown.
    """
    stubs = [
        (type(name.rpartition(".")[2], (Inert,), {"path": name}), name)
        for name in _find_known_globals(path)
        if stands_in(name)
    ]
    try:
        with torch.serialization.safe_globals(stubs):  # type: ignore[arg-type]
            return torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        AttributeError,
        TypeError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path.name} cannot be read ({reason}): it is damaged; fetch it again"
        ) from error


def _find_known_globals(path: Path) -> list[str]:
    """The globals that a file names; CheckpointError if no known checkpoint format needs one of them."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: check the path")
    try:
        named = sorted(set(find_globals(path)))
    except (
        zipfile.BadZipFile,
        OSError,
        EOFError,
        ValueError,
        IndexError,
        KeyError,
        UnicodeDecodeError,
    ) as error:
        raise CheckpointError(
            f"{path.name} is cut short or no PyTorch checkpoint ({error}): fetch it again"
        ) from error
    refused = [name for name in named if not (name in allowed_by_torch() or stands_in(name))]
    if refused:
        raise CheckpointError(
            f"{path.name} names {', '.join(refused)}, which no known checkpoint format needs: "
            "nothing was run; do not open it with other tools unless you trust its author"
        )
    return named


def stands_in(name: str) -> bool:
    """Whether an Inert takes the place of this global."""
    return name in STANDING_IN_FOR_FUNCTIONS or name.startswith(STANDING_IN_FOR)


def allowed_by_torch() -> set[str]:
    """The globals that torch's reader trusts by itself: tensors, storages, plain containers."""
    from torch import _weights_only_unpickler

    return set(_weights_only_unpickler._get_allowed_globals())


def find_globals(path: Path) -> Iterator[str]:
    """Every class or function that a checkpoint names, with Python 2 module names brought up to date."""
    for pickled in pickled_streams(path):
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name == "GLOBAL":
                module, name = str(argument).split(" ", 1)
                yield f"{'builtins' if module == '__builtin__' else module}.{name}"
            elif opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
                yield f"<{opcode.name}>"


def pickled_streams(path: Path) -> Iterator[bytes | io.BufferedReader]:
    """The pickles inside a checkpoint: one in a zip; four before the storages' keys in a legacy stream."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = [
                name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"
            ]
            if len(members) != 1:
                raise ValueError("it has no data.pkl")
            yield archive.read(members[0])
        return
    with path.open("rb") as stream:
        if stream.read(1) != pickle.PROTO:
            raise ValueError("it is neither a zip nor a pickle")
        stream.seek(0)
        for _ in range(4):
            yield stream
            if not stream.peek(1):
                return


def module_tensors(module: Inert, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers of a pickled torch module, under the keys its state_dict would have."""
    for kind in ("_parameters", "_buffers"):
        for name, value in module.attributes.get(kind, {}).items():
            if isinstance(value, Tensor):
                yield prefix + name, value
    for name, child in module.attributes.get("_modules", {}).items():
        if isinstance(child, Inert):
            yield from module_tensors(child, f"{prefix}{name}.")
