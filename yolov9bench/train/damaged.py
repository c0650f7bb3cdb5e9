"""Files of a run that were damaged or removed since they were written: a sentence for each."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from yolov9bench.errors import BenchError, TrainingError, shown
from yolov9bench.train.state import State

COUNTERS = ("epoch", "batch", "steps")  # of the state: whether a run is finished is asked of these
AGAIN = "restore it from a copy, or choose another folder to train from the beginning"


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """TrainingError for whatever a damaged `path` makes the body raise; a BenchError stays what it is."""
    try:
        yield
    except BenchError:
        raise
    except Exception as error:  # the parts of a damaged file can be anything, and so can what they raise
        lines = str(error).splitlines() or [""]
        reason = shown(f"{type(error).__name__}: {lines[0]}")
        raise TrainingError(f"{path} is damaged ({reason}): {AGAIN}") from error


def load_training(last: Path) -> dict[str, Any]:
    """What a run's last.pt holds, on the CPU; `training` is missing in a checkpoint that is no run's.

    TrainingError for a file that is cut, or that has other bytes than were written, by the checksums in it.
    """
    with sound(last):
        with zipfile.ZipFile(last) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise ValueError(f"the checksum of {broken} differs")
        content: dict[str, Any] = torch.load(last, map_location="cpu", weights_only=True)
        training = content.get("training")
        if training is not None:
            numbers = [training["state"][name] for name in COUNTERS]
            if not all(type(number) is int for number in numbers) or not training["configuration"]:
                raise TypeError(f"{', '.join(COUNTERS)} are {numbers}")
    return content


def require_best(out: Path, state: State) -> None:
    """TrainingError if the best checkpoint of a run that has had one is gone: no later one can be it."""
    if state.best >= 0 and not (out / "best.pt").is_file():
        raise TrainingError(
            f"{out / 'best.pt'}, of AP {state.best:.4f}, is gone: restore it from a copy, evaluate last.pt "
            "in its place, or choose another folder to train from the beginning"
        )
