"""The processes of one run, as torchrun starts them: who this one is, and what they exchange.

torchrun --nproc-per-node 2 -m yolov9bench evaluate --checkpoint yolov8n.pt --dataset coco
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from yolov9bench.errors import SettingsError

WAIT = timedelta(minutes=10)  # for a process that prepares or validates while the others wait
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")  # set by torchrun

Value = TypeVar("Value")

# torch is imported where several processes need it: the command line asks for its rank before anything else.
if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """This process among all: `rank` of `world_size`, and `local_rank` among those of its machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes, logs and shows progress."""
        return self.rank == 0


ALONE = Ranks()


def find_ranks() -> Ranks:
    """What torchrun says of this process; the only one of its run without torchrun.

    SettingsError if some of its variables are missing or are not numbers that fit.
    """
    given = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    if not given:
        return ALONE
    if len(given) < len(VARIABLES) or not all(value.isdecimal() for value in given.values()):
        raise SettingsError(f"torchrun sets {', '.join(VARIABLES)}, but here they are {given}: use torchrun")
    ranks = Ranks(*(int(given[name]) for name in VARIABLES))
    if not ranks.local_rank <= ranks.rank < ranks.world_size:
        raise SettingsError(f"{given} cannot be: a rank is below the number of processes; use torchrun")
    return ranks


def own_device(device: str, ranks: Ranks) -> str:
    """The device of this process: with several, each has the GPU of its local rank.

    SettingsError for a numbered GPU, which all would share, and for more processes than GPUs.
    """
    if ranks.world_size == 1 or not device.startswith("cuda"):
        return device
    if device != "cuda":
        raise SettingsError(
            f"device is {device!r}, but {ranks.world_size} processes need a GPU each: give cuda or auto"
        )
    import torch

    if ranks.local_rank >= torch.cuda.device_count():
        raise SettingsError(
            f"process {ranks.local_rank} of this machine has no GPU, there are {torch.cuda.device_count()}: "
            "start as many processes as there are GPUs"
        )
    return f"cuda:{ranks.local_rank}"


@contextmanager
def process_group(device: str) -> Iterator[Ranks]:
    """Join the processes of this run while the body runs: NCCL between GPUs, gloo between CPUs."""
    ranks = find_ranks()
    if ranks.world_size == 1:
        yield ranks
        return
    import torch
    from torch import distributed

    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=WAIT)
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()


def current_ranks() -> Ranks:
    """This process among those that `process_group` joined; the only one outside of it."""
    from torch import distributed

    return find_ranks() if distributed.is_available() and distributed.is_initialized() else ALONE


def gather(value: Value) -> list[Value]:
    """Every process's value, by rank, in every process; the value alone where there is one process."""
    ranks = current_ranks()
    if ranks.world_size == 1:
        return [value]
    from torch import distributed

    found: list[Any] = [None] * ranks.world_size
    distributed.all_gather_object(found, value)
    return found


def broadcast_from_main(tensors: Iterable[Tensor]) -> None:
    """Give every process the numbers of rank 0, in place."""
    if current_ranks().world_size == 1:
        return
    from torch import distributed

    for tensor in tensors:
        distributed.broadcast(tensor, 0)
