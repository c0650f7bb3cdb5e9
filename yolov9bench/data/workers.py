"""Worker processes of the loader: the shared memory they need, and what is said when one is lost."""

from __future__ import annotations

import logging
import pickle
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import torch
from numpy.typing import NDArray
from torch import Tensor

from yolov9bench.data.loading import Loading
from yolov9bench.errors import BenchError, DatasetError, SettingsError

PREFETCHED = 2  # batches that a worker keeps ready, as DataLoader has it: 39 MB for 16 images of 640 px
SHARED_MEMORY = Path("/dev/shm")  # where Linux keeps it; elsewhere its size is not known

# What DataLoader and torch's allocator say, which have no class of their own for it.
LOST = re.compile(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) (.+)", re.DOTALL)
logger = logging.getLogger("yolov9bench")
NO_SHARED_MEMORY = ("shared memory(shm)", "Bus error", "unable to write to file </torch_")


def choose_pipes(needed: int, loading: Loading, place: Path = SHARED_MEMORY) -> bool:
    """Whether workers get and give copies through pipes: they need more bytes of shared memory than are free.

    Writing beyond it would kill one. Pipes are slower, which is said. SettingsError where decoded images are
    kept in memory, of which each worker would have a copy.
    """
    if not place.is_dir():
        return False
    free = shutil.disk_usage(place).free
    if needed <= free:
        return False
    fault = (
        f"{loading.workers} workers need {needed / 1e9:.2f} GB of shared memory, but {place} has "
        f"{free / 1e9:.2f} GB free"
    )
    if loading.cache == "ram":
        raise SettingsError(
            f"{fault}: make it larger (docker run --shm-size), give cache disk or none, or workers 0"
        )
    logger.warning(
        "%s: their batches go through pipes, which is slower; docker run --shm-size makes it larger", fault
    )
    return True


class ByValue:
    """Stands for an object of which workers get a copy, with its tensors, which would else be shared."""

    def __init__(self, content: object) -> None:
        self._content = content

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return pickle.loads, (pickle.dumps(self._content),)


def as_tensors(arrays: Sequence[NDArray[Any]], pin_memory: bool) -> tuple[Tensor, Tensor]:
    """A batch that came through a pipe; `pin_memory`: in page-locked memory, as DataLoader gives tensors."""
    images, targets = (torch.from_numpy(each) for each in arrays)
    return (images.pin_memory(), targets.pin_memory()) if pin_memory else (images, targets)


def explain_lost(error: Exception, workers: int) -> str | None:
    """The sentence for a worker that died or could not start; None for any other error.

    An OSError or EOFError is one of talking to a worker: those within it are handled there.
    """
    text = str(error)
    lost = LOST.match(text)
    if not workers:
        return None
    if any(mark in text for mark in NO_SHARED_MEMORY):
        return (
            f"the shared memory is too small for {workers} workers: make {SHARED_MEMORY} larger (docker run "
            "--shm-size), or give fewer --workers, or 0"
        )
    if isinstance(error, MemoryError):
        return f"memory ran out in one of {workers} workers: give fewer --workers, or 0"
    if "Too many open files" in text:
        return (
            f"{workers} workers need more open files than are allowed: raise the limit (ulimit -n), or give "
            "fewer --workers, or 0"
        )
    if lost is None and not isinstance(error, OSError | EOFError):
        return None
    how = lost[1].partition(".")[0].strip() if lost else "stopped answering"
    which = "the worker process" if workers == 1 else f"one of {workers} worker processes"
    return (
        f"{which} {how.replace('is killed', 'was killed')}: memory may be short, or it could not start (then "
        "its own message stands above); give fewer --workers, or 0 to use none"
    )


def failure_of_sample(error: Exception, name: str) -> BenchError:
    """The sentence for an image that could not be prepared; raises what is a mistake in this code."""
    if isinstance(error, BenchError):
        return error
    if isinstance(error, MemoryError) or (isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem):
        return SettingsError(
            f"memory ran out while image {name} was prepared: give fewer --workers, or 0, or free memory"
        )
    if isinstance(error, OSError):
        return DatasetError(f"image {name} could not be prepared ({error}): restore it")
    raise error
