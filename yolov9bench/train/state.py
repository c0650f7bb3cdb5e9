"""What changes while training, and whether it is still finite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from yolov9bench.errors import TrainingError
from yolov9bench.nn.detector import Detector
from yolov9bench.ops.distributed import current_ranks
from yolov9bench.train.optim import Ema, make_optimizer
from yolov9bench.zoo.recipe import Recipe

Precision = Literal["float32", "float16", "bfloat16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

Batch = tuple[
    Tensor, Tensor
]  # images uint8 [B, 3, H, W] in RGB; targets [n, 6]: image, class, x1, y1, x2, y2 px

TERMS = ("box", "cls", "dfl", "total")


@dataclass
class State:
    """Everything that changes while training; what `as_dict` returns brings it back exactly.

    `model` is the detector as it is run: itself, or wrapped so that gradients are averaged over processes.
    `epoch` and `batch` are the next ones to be trained. `pending` counts the iterations since the last step
    of the optimiser, whose gradients wait for it; at a checkpoint there are none. `steps` counts all steps,
    those included that float16 skipped because a gradient was not finite: `skipped` of this epoch and
    `skipped_in_a_row` up to now. `unread` are losses [4] of this epoch that wait on the device; `sums` has
    those that were read, of all processes, less the `unusable` ones, which were not finite. `seconds` is the
    time behind what was saved, of every part of the run, validation included.
    """

    detector: Detector
    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema
    scaler: torch.amp.GradScaler
    epoch: int = 0
    batch: int = 0
    iteration: int = 0
    pending: int = 0
    steps: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    unusable: int = 0
    best: float = -1.0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(TERMS, 0.0))
    log: list[dict[str, Any]] = field(default_factory=list)
    unread: list[Tensor] = field(default_factory=list)

    COUNTERS = (
        "epoch",
        "batch",
        "iteration",
        "pending",
        "steps",
        "skipped",
        "skipped_in_a_row",
        "unusable",
        "best",
        "seconds",
        "sums",
        "log",
    )

    def require_exchange(self, now: bool) -> None:
        """Whether the coming backward pass averages gradients over the processes, as DDP's `no_sync` does."""
        if isinstance(self.model, DistributedDataParallel):
            self.model.require_backward_grad_sync = now

    def begin_next_epoch(self) -> None:
        """Move on to the first batch of the next epoch, with sums and counts of an epoch at 0."""
        self.epoch, self.batch, self.skipped, self.unusable = self.epoch + 1, 0, 0, 0
        self.sums = dict.fromkeys(TERMS, 0.0)

    def as_dict(self) -> dict[str, Any]:
        """Tensors and plain data; the tensors are those in use, to be written at once."""
        counters = {name: getattr(self, name) for name in self.COUNTERS}
        return counters | {
            "detector": self.detector.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Continue from what `as_dict` returned.

        The optimiser keeps its own settings: those of a file may be of another way to compute a step, and
        rates are set again before every step. Counters that an older file lacks stay at 0.
        """
        self.detector.load_state_dict(saved["detector"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": saved["optimizer"]["state"], "param_groups": groups})
        self.ema.restore(saved["ema"])
        if saved["scaler"]:  # empty where the run was not in float16 so far
            self.scaler.load_state_dict(saved["scaler"])
        for name in self.COUNTERS:
            setattr(self, name, saved.get(name, getattr(self, name)))


def make_state(detector: Detector, recipe: Recipe, images_per_iteration: int, precision: Precision) -> State:
    """The state before the first iteration, on the detector's device; images of all processes."""
    device = next(detector.parameters()).device.type
    scaler = torch.amp.GradScaler(device, enabled=precision == "float16")
    ema = Ema(detector, recipe.ema)  # with plain BatchNorm
    model = share_training(detector, recipe.run.syncbn)
    return State(detector, model, make_optimizer(detector, recipe, images_per_iteration), ema, scaler)


def share_training(detector: Detector, syncbn: bool) -> nn.Module:
    """The detector as it is run: with several processes its gradients are averaged over them.

    syncbn: BatchNorm's statistics are those of all processes' images, on GPUs; torch has none on CPUs. Every
    forward pass begins with the statistics of rank 0, which are validated and saved, so that a resumed run
    goes as the uninterrupted one. No parameter is unused: the auxiliary branch is part of the loss.
    """
    ranks = current_ranks()
    if ranks.world_size == 1:
        return detector
    device = next(detector.parameters()).device
    if syncbn and device.type == "cuda":
        synchronise_statistics(detector)
    # Buffers of rank 0 before every forward pass, and no look for unused parameters: both are its defaults.
    return DistributedDataParallel(detector, device_ids=[device] if device.type == "cuda" else None)


def synchronise_statistics(detector: Detector) -> None:
    """Let every BatchNorm of the detector take its statistics from the images of all processes, in place."""
    for module in detector.children():
        nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]


def is_done(counters: Mapping[str, Any], epochs: int, max_steps: int | None) -> bool:
    """Whether a run with these counters of its State has no epoch left to train or to end.

    A run may be cut between its last step and the end of that epoch: it is not done then.
    """
    at_the_end = counters["epoch"] >= epochs or has_reached(counters["steps"], max_steps)
    return counters["batch"] == 0 and at_the_end


def has_reached(steps: int, max_steps: int | None) -> bool:
    """Whether a run of so many steps has taken all that it may."""
    return max_steps is not None and steps >= max_steps


def require_finite(state: State) -> None:
    """TrainingError if anything that a checkpoint keeps is not finite: the last good one is to stay."""
    kept = {"weights": state.detector.state_dict(), "averages": state.ema.detector.state_dict()}
    momenta = {
        f"{number}.{name}": value
        for number, values in enumerate(state.optimizer.state.values())
        for name, value in values.items()
    }
    for kind, tensors in (kept | {"momenta": momenta}).items():
        broken = find_not_finite(tensors)
        if broken:
            raise divergence_error(
                state, f"{len(broken)} of the {kind} became NaN or infinite (first {broken[0]})"
            )


def find_not_finite(tensors: Mapping[str, Any]) -> list[str]:
    """The names of the floating-point tensors that hold NaN or infinity."""
    floats = {
        name: value
        for name, value in tensors.items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    if not floats:
        return []
    flags = torch.stack([value.isfinite().all().cpu() for value in floats.values()])
    return [name for name, finite in zip(floats, flags.tolist(), strict=True) if not finite]


def divergence_error(state: State, what: str, iteration: int | None = None) -> TrainingError:
    """The error for a run whose numbers are no longer finite; the caller knows what was kept.

    iteration: the one it happened in, counted from 1 in the epoch, if not the last one.
    """
    number = state.batch if iteration is None else iteration
    return TrainingError(f"{what} in epoch {state.epoch + 1}, iteration {number}: the training diverged")
