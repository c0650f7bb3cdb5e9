"""The processes of one run, as torchrun starts them: how they meet, what they exchange, and when one ends.

torchrun --nproc-per-node 2 -m yolov9bench evaluate --checkpoint yolov8n.pt --dataset coco
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar

from yolov9bench.errors import BenchError, ProcessError
from yolov9bench.ops.lifeline import end_with_launcher
from yolov9bench.ops.ranks import ALONE, Ranks, find_ranks

WAIT = timedelta(minutes=10)  # for the others to start, and for their gradients
WAIT_FOR_MAIN = timedelta(hours=12)  # while rank 0 fetches data, writes or computes metrics
SETTLING = 2.0  # seconds until a process whose connections are closed is seen to have ended
# How the libraries beneath begin an error about a process that does not answer; they have no class for it.
UNANSWERED = ("gloo", "nccl", "connection closed", "connection reset", "timed out", "timeout", "broken pipe")

Value = TypeVar("Value")

logger = logging.getLogger("yolov9bench")

# torch is imported where several processes need it: the command line asks for its rank before anything else.
if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup


@dataclass(frozen=True)
class _Joined:
    """What `process_group` joined: the group for objects, patient and between CPUs, and each rank's place."""

    ranks: Ranks
    objects: ProcessGroup
    places: tuple[tuple[str, int], ...]  # host and process id by rank


_JOINED: ContextVar[_Joined | None] = ContextVar("joined", default=None)


@contextmanager
def process_group(device: str) -> Iterator[Ranks]:
    """Join the processes of this run while the body runs: NCCL between GPUs, gloo between CPUs.

    ProcessError if they cannot be reached, or if one of them ends meanwhile; a process whose torchrun has
    ended ends as well.
    """
    ranks = find_ranks()
    if ranks.world_size == 1:
        yield ranks
        return
    from torch import distributed

    _join(device, ranks)
    before = signal.signal(signal.SIGTERM, _stopped)
    try:
        yield ranks
    except BaseException as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends, and must be let finish its sentence
        if isinstance(error, RuntimeError) and any(word in str(error).lower() for word in UNANSWERED):
            error = ProcessError(_unanswered())
        if isinstance(error, BenchError) and ranks.local_rank:
            logger.error("%s: %s", ranks, error)
        raise error
    else:
        signal.signal(signal.SIGTERM, before)
        distributed.destroy_process_group()  # not after an error, where it might wait for what has ended
    finally:
        _JOINED.set(None)


def _join(device: str, ranks: Ranks) -> None:
    import torch
    from torch import distributed

    end_with_launcher()
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    place = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
    try:
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=WAIT)
        objects: Any = distributed.new_group(backend="gloo", timeout=WAIT_FOR_MAIN)
    except (RuntimeError, ValueError) as error:
        raise ProcessError(
            f"the other processes cannot be met at {place} ({str(error).splitlines()[0]}): start all of "
            "them with one torchrun command a machine, and let the machines reach this address"
        ) from error
    places: list[Any] = [None] * ranks.world_size
    distributed.all_gather_object(places, (socket.gethostname(), os.getpid()), group=objects)
    _JOINED.set(_Joined(ranks, objects, tuple(places)))


def _stopped(signum: int, frame: object) -> None:
    """SIGTERM: torchrun sends it when it is stopped itself, and when another of its processes has ended."""
    raise ProcessError(
        _unanswered()
        if _ended()
        else "stopped by SIGTERM: the same command continues from the last checkpoint"
    )


def _ended() -> list[int]:
    """The ranks of this machine whose process is gone."""
    host = socket.gethostname()
    joined = _JOINED.get()
    places = () if joined is None else joined.places
    return [rank for rank, (where, process) in enumerate(places) if where == host and _has_ended(process)]


def _unanswered() -> str:
    """The sentence about the others; it names those of this machine that have ended.

    The connections of a process that is killed close a moment before the system shows it as ended.
    """
    latest = monotonic() + SETTLING
    while not (gone := _ended()) and monotonic() < latest:
        sleep(0.05)
    named = f"process {', '.join(map(str, gone))}" if gone else "another process"
    return (
        f"{named} has ended or does not answer, and says itself why, unless it was killed: once that is "
        "mended, the same command continues a training from its last checkpoint"
    )


def _has_ended(process: int) -> bool:
    """Whether a process of this machine is gone, or dead and not yet waited for (Linux tells that apart)."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except OSError:  # of another user, or a system without /proc
        return False


def current_ranks() -> Ranks:
    """This process among those that `process_group` joined; the only one outside of it."""
    joined = _JOINED.get()
    return ALONE if joined is None else joined.ranks


def gather(value: Value) -> list[Value]:
    """Every process's value, by rank, in every process; the value alone where there is one process."""
    joined = _JOINED.get()
    if joined is None:
        return [value]
    from torch import distributed

    found: list[Any] = [None] * joined.ranks.world_size
    distributed.all_gather_object(found, value, group=joined.objects)
    return found


def value_of_main(value: Value) -> Value:
    """The value of rank 0 in every process; the others wait for it and give any."""
    joined = _JOINED.get()
    if joined is None:
        return value
    from torch import distributed

    found: list[Any] = [value]
    distributed.broadcast_object_list(found, 0, group=joined.objects)
    given: Value = found[0]
    return given


def wait_for_all() -> None:
    """Return once every process is here."""
    gather(None)


@contextmanager
def first_of_machine_first() -> Iterator[None]:
    """The body runs in the first process of each machine, then in the others: what it makes is made once."""
    is_first = current_ranks().local_rank == 0
    if not is_first:
        wait_for_all()
    yield
    if is_first:
        wait_for_all()


def broadcast_from_main(tensors: Iterable[Tensor]) -> None:
    """Give every process the numbers of rank 0, in place."""
    if _JOINED.get() is None:
        return
    from torch import distributed

    for tensor in tensors:
        distributed.broadcast(tensor, 0)


def add_over_processes(tensor: Tensor) -> Tensor:
    """The sum of every process's tensor, in place."""
    if _JOINED.get() is not None:
        from torch import distributed

        distributed.all_reduce(tensor)
    return tensor
