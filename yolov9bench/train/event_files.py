"""TensorBoard's event files of a run, beside its own log: losses, rates, speed and AP by iteration.

python -m yolov9bench train --row yolov9-t --dataset demo --out results/runs/train/mine --tensorboard
tensorboard --logdir results/runs/train
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from yolov9bench.errors import SettingsError
from yolov9bench.io.files import storage_errors

Show = Callable[[Mapping[str, float | None], int], None]


def require_writer() -> Any:
    """TensorBoard's class that writes; SettingsError if the package, which is an extra, is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SettingsError(
            "tensorboard is not installed: run pip install tensorboard, or leave the flag --tensorboard out"
        ) from error
    return SummaryWriter


@contextmanager
def event_files(folder: Path | None, iteration: int) -> Iterator[Show | None]:
    """A function that writes numbers by name, at an iteration, into a new file of the folder; None for None.

    iteration: up to which the run is trained already. What other files in the folder have of later ones is
    from before an interruption, and TensorBoard leaves it out.
    """
    if folder is None:
        yield None
        return
    with storage_errors(folder):
        writer = require_writer()(folder, purge_step=iteration + 1)

    def show(numbers: Mapping[str, float | None], iteration: int) -> None:
        with storage_errors(folder):
            for name, value in numbers.items():
                if value is not None:
                    writer.add_scalar(name, value, iteration)
            writer.flush()

    try:
        yield show
    finally:
        with suppress(OSError):  # `show` has said what cannot be written
            writer.close()
