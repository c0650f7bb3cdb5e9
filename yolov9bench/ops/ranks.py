"""Which of several processes this one is, as torchrun says, and the device that is its own."""

from __future__ import annotations

import os
from dataclasses import dataclass

from yolov9bench.errors import SettingsError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK")  # set by torchrun


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

    def __str__(self) -> str:
        return f"process {self.rank} of {self.world_size}"


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


def processes_here() -> int:
    """How many processes of this run are on this machine, as torchrun says."""
    given = os.environ.get("LOCAL_WORLD_SIZE", "1")
    if not given.isdecimal() or given == "0":
        raise SettingsError(
            f"LOCAL_WORLD_SIZE is {given!r}, but torchrun sets a number from 1 up: use torchrun"
        )
    return int(given)


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
