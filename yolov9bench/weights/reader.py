"""Read a checkpoint without running any code from it.

torch's own `weights_only` unpickler does the reading. It meets an inert stand-in for every class of the
known training libraries, so that modules pickled as objects come out as plain attributes, and it never
meets anything else: a file that names any other global is refused, by name, before it is unpickled.
"""

from __future__ import annotations

import _compat_pickle
import io
import pickle
import pickletools
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from yolov9bench.errors import CheckpointError, shown
from yolov9bench.weights.kinds import Kind

# Whole libraries whose objects checkpoints hold; none of their code is imported or run.
STANDING_IN_FOR = (
    "addict.",
    "collections.",
    "datetime.",
    "easydict.",
    "lightning.",
    "lightning_fabric.",
    "mmcv.",
    "mmdet.",
    "mmengine.",
    "mmyolo.",
    "models.",
    "munch.",
    "numpy.",
    "omegaconf.",
    "pathlib.",
    "pytorch_lightning.",
    "torch.amp.",
    "torch.cuda.amp.",
    "torch.nn.modules.",
    "torch.nn.parallel.",
    "torch.optim.",
    "torch.torch_version.",
    "ultralytics.",
    "utils.",
    "yacs.",
    "yolo.",
    "zoneinfo.",
)
# mmengine's history buffers pickle their methods by getattr; numpy's old byte strings by encode.
STANDING_IN_FOR_FUNCTIONS = (
    "_codecs.encode",
    "argparse.Namespace",
    "builtins.bool",
    "builtins.bytes",
    "builtins.dict",
    "builtins.float",
    "builtins.frozenset",
    "builtins.getattr",
    "builtins.int",
    "builtins.list",
    "builtins.range",
    "builtins.slice",
    "builtins.str",
    "builtins.tuple",
    "decimal.Decimal",
    "fractions.Fraction",
    "functools.partial",
    "types.SimpleNamespace",
    "uuid.UUID",
)
# Classes into which a pickle puts items afterwards; torch's reader allows that for plain containers alone.
DICTS = ("defaultdict", "AttributeDict", "CfgNode", "ConfigDict", "Dict", "EasyDict", "Munch")
LISTS = ("deque",)
OWN_PROTOCOLS = (2, 3)  # of pickle; torch.save writes 2


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


class InertDict(Inert):
    """Stand-in for a foreign kind of dict: comes out as a plain one, in order."""

    def __new__(cls, *_: object) -> Any:
        return OrderedDict()


class InertList(Inert):
    """Stand-in for a foreign kind of list: comes out as a plain one."""

    def __new__(cls, items: Any = (), *_: object) -> Any:
        return list(items)


def stand_in(name: str) -> type[Inert]:
    """A class of its own that takes the place of one global."""
    last = name.rpartition(".")[2]
    base = InertDict if last in DICTS else InertList if last in LISTS else Inert
    return type(last, (base,), {"path": name})


def read_inert(path: Path, kind: Kind) -> Any:
    """What `torch.save` wrote (zip or older stream), with every foreign object as an Inert.

    Raises CheckpointError for a file that is cut short or damaged, or that names anything unknown.
    """
    stubs = [(stand_in(name), name) for name in require_known_globals(path, kind) if stands_in(name)]
    if kind == "pickle":
        raise CheckpointError(
            f"{path.name} is a pickle that torch.save did not write: save the state dict by torch.save"
        )
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stubs):  # type: ignore[arg-type]
            warnings.simplefilter(
                "ignore"
            )  # of sparse tensors and pickle protocols; here they are refused, or fit
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path.name} is damaged, or holds objects that only code of their own can read: "
            "fetch it again, or have its state dict alone saved"
        ) from error
    except (
        RuntimeError,  # a RecursionError is one
        EOFError,
        ValueError,
        LookupError,
        ArithmeticError,
        AssertionError,
        AttributeError,
        TypeError,
        struct.error,
    ) as error:
        raise CheckpointError(
            f"{path.name} is damaged, its tensors cannot be read: fetch it again"
        ) from error


def require_known_globals(path: Path, kind: Kind) -> list[str]:
    """The globals that a file names; CheckpointError if no known checkpoint format needs one of them."""
    try:
        named = sorted(set(find_globals(path, kind)))
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, LookupError, struct.error) as error:
        raise CheckpointError(
            f"{path.name} is cut short or damaged ({shown(error)}): fetch it again"
        ) from error
    refused = [shown(name) for name in named if not (name in allowed_by_torch() or stands_in(name))]
    if refused:
        raise CheckpointError(
            f"{path.name} names {first_three(refused)}, which no known checkpoint format needs: "
            "nothing was run; do not open it with other tools unless you trust its author"
        )
    return named


def first_three(items: list[str]) -> str:
    """The first three of some texts of a file, and how many more."""
    more = f", and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(shown(item) for item in items[:3]) + more


def stands_in(name: str) -> bool:
    """Whether an Inert takes the place of this global."""
    return name in STANDING_IN_FOR_FUNCTIONS or name.startswith(STANDING_IN_FOR)


def allowed_by_torch() -> set[str]:
    """The globals that torch's reader trusts by itself: tensors, storages, plain containers."""
    from torch import _weights_only_unpickler

    return set(_weights_only_unpickler._get_allowed_globals())


def find_globals(path: Path, kind: Kind) -> Iterator[str]:
    """Every class or function that a checkpoint names, Python 2 names brought up to date as torch does."""
    for pickled in pickled_streams(path, kind):
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name == "PROTO" and argument not in OWN_PROTOCOLS:
                raise CheckpointError(
                    f"{path.name} is pickled by protocol {argument}, not torch.save's own (2): "
                    "save it again without another protocol"
                )
            if opcode.name == "GLOBAL":
                module, name = str(argument).split(" ", 1)
                if (module, name) in _compat_pickle.NAME_MAPPING:
                    module, name = _compat_pickle.NAME_MAPPING[module, name]
                yield f"{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}"
            elif opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
                yield f"<{opcode.name}>"


def pickled_streams(path: Path, kind: Kind) -> Iterator[bytes | io.BufferedReader]:
    """The pickles inside a checkpoint: one in a zip; four before the storages' keys in an older stream."""
    if kind == "zip":
        with zipfile.ZipFile(path) as archive:
            yield archive.read(
                next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
            )
        return
    with path.open("rb") as stream:
        for _ in range(4 if kind == "stream" else 1):
            yield stream
            if not stream.peek(1):
                return
