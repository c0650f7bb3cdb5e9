"""The names that checkpoints of the known libraries have in them; a file with any other is refused.

None of them is looked up or called, known or not. A name that no checkpoint needs tells of a file that was
made to act in other readers.
"""

from __future__ import annotations

import re

from yolov9bench.errors import CheckpointError, shown

# Whole libraries whose objects checkpoints hold.
LIBRARIES = (
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
    "torch._utils._rebuild_",
    "torch.amp.",
    "torch.cuda.amp.",
    "torch.nn.modules.",
    "torch.nn.parallel.",
    "torch.nn.parameter.",
    "torch.optim.",
    "torch.storage.",
    "torch.torch_version.",
    "ultralytics.",
    "utils.",
    "yacs.",
    "yolo.",
    "zoneinfo.",
)
# Types, and two functions: mmengine's history buffers pickle methods by getattr, numpy bytes by encode.
SINGLE = frozenset(
    (
        "_codecs.encode",
        "argparse.Namespace",
        "builtins.bool",
        "builtins.bytearray",
        "builtins.bytes",
        "builtins.complex",
        "builtins.dict",
        "builtins.float",
        "builtins.frozenset",
        "builtins.getattr",
        "builtins.int",
        "builtins.list",
        "builtins.range",
        "builtins.set",
        "builtins.slice",
        "builtins.str",
        "builtins.tuple",
        "decimal.Decimal",
        "fractions.Fraction",
        "functools.partial",
        "torch._tensor._rebuild_from_type_v2",
        "torch.Size",
        "torch.Tensor",
        "torch.device",
        "torch.serialization._get_layout",
        "types.SimpleNamespace",
        "uuid.UUID",
    )
)
# Storages and tensors of one type; types, layouts and ways of quantising.
OF_TORCH = re.compile(
    r"torch\.(cuda\.)?[A-Z][A-Za-z0-9]*(Storage|Tensor)|torch\.(bool|u?int\d+|b?float\d\w*|complex\d+|q\w*int\w+"
    r"|strided|sparse_\w+|per_\w+)"
)


def is_known(name: str) -> bool:
    """Whether checkpoints of a known library name this."""
    return name in SINGLE or name.startswith(LIBRARIES) or OF_TORCH.fullmatch(name) is not None


def require_known(file: str, names: set[str]) -> None:
    """CheckpointError if a file names anything that no known checkpoint format needs."""
    refused = sorted(name for name in names if not is_known(name))
    if refused:
        raise CheckpointError(
            f"{file} names {first_three(refused)}, which no known checkpoint format needs: "
            "nothing was run; do not open it with other tools unless you trust its author"
        )


def first_three(items: list[str]) -> str:
    """The first three of some texts of a file, and how many more."""
    more = f", and {len(items) - 3} more" if len(items) > 3 else ""
    return ", ".join(shown(item) for item in items[:3]) + more
