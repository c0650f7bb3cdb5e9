"""The GPU memory of a row's training step: predicted anywhere, measured where there is a GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch

from yolov9bench.nn.detector import Detector, build, skeleton
from yolov9bench.nn.head import STRIDES
from yolov9bench.nn.recomputed import recompute_activations
from yolov9bench.profiling import published_setup
from yolov9bench.profiling.box_counts import COCO_IMAGES
from yolov9bench.profiling.memory_tracker import counted
from yolov9bench.profiling.peak_memory import Peak, measure_peak
from yolov9bench.records.contents import StepSettings
from yolov9bench.train.loop import forward_backward, optimizer_step
from yolov9bench.train.optim import Schedule
from yolov9bench.train.state import Batch, Precision, State, make_state
from yolov9bench.zoo.recipe import Recipe
from yolov9bench.zoo.specs import Spec

CLASSES = 80
# More than two blended mosaics of COCO's fullest images have, with some 90 boxes each and a third of these
# pasted again. At 640 px those of one image are more than the assigner takes at once (PAIRS_AT_ONCE).
CROWDED = 997


@dataclass(frozen=True)
class Workload:
    """A training step: what is trained, how, and the batch, with so many `boxes` in every image.

    `batch_size` is that of one of the recipe's GPUs, which decides how many iterations make a step. `boxes`
    are those of the fullest of `fullest_of` images, None where they are no such number. In the published
    set-up a step takes more than ours does: see `published_setup`.
    """

    spec: Spec
    recipe: Recipe
    image_size: int
    batch_size: int
    boxes: int
    fullest_of: int | None = None
    setup: Literal["own", "published"] = "own"
    activation_checkpointing: bool = False

    @property
    def schedule(self) -> Schedule:
        """Its batch on each of the recipe's GPUs is one iteration; COCO's images are an epoch."""
        images = self.batch_size * self.recipe.run.gpus
        return Schedule(self.recipe, math.ceil(COCO_IMAGES / images), self.recipe.run.epochs, images)

    @property
    def accumulation(self) -> int:
        """Iterations a step once warmed up."""
        return self.schedule.at(self.schedule.warmup_iterations).accumulation

    @property
    def precision(self) -> Precision:
        """float16 where the recipe trains in mixed precision."""
        return "float16" if self.recipe.run.amp else "float32"

    @property
    def anchors(self) -> int:
        """Anchors of an image."""
        return sum((self.image_size // stride) ** 2 for stride in STRIDES)

    def positives(self, images: int) -> int:
        """The most anchors of so many images that can learn an object: every object gets all it may claim."""
        return images * min(self.boxes * self.recipe.assigner.topk, self.anchors)

    def marked(self, shape: torch.Size) -> int:
        """Elements of a mask: [n], the targets of one image, or [B, A], the anchors that learn an object.

        Of other pairs, such as objects and the anchors inside them, as many a row are assumed, or all.
        """
        return self.boxes if len(shape) == 1 else min(self.positives(shape[0]), shape.numel())

    def settings(self) -> StepSettings:
        """Its batch, as a record has it, and in the published set-up what that adds."""
        is_published, topk = self.setup == "published", self.recipe.assigner.topk
        gradients = published_setup.gradient_bytes(skeleton(self.spec, CLASSES)) if is_published else None
        assigner = published_setup.assigner_bytes(self.batch_size, self.boxes, self.anchors, topk)
        return StepSettings(
            batch_size=self.batch_size,
            boxes_an_image=self.boxes,
            fullest_of_images=self.fullest_of,
            assumed_positives=self.positives(self.batch_size),
            precision=self.precision,
            iterations_a_step=self.accumulation,
            gradient_bytes=gradients,
            assigner_bytes=assigner if is_published else None,
        )


def predict_training_step(work: Workload) -> int:
    """Bytes that torch's allocator would have handed out at the peak of a training step on one GPU.

    The training loop's own functions run on tensors without data, in the published set-up with what that
    adds. Left out: workspaces, which cuDNN chooses when it runs.
    """
    with counted(work.marked) as memory:
        state = make_state(
            Detector(work.spec, CLASSES), work.recipe, work.schedule.images_per_iteration, work.precision
        )
        if work.activation_checkpointing:
            recompute_activations(state.detector)
        shape = (work.batch_size, 3, work.image_size, work.image_size)
        # A GPU's convolutions want channels last, and the loop copies the batch to it. On the CPU it copies
        # into the usual order what is channels last: as many bytes.
        images = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
        memory.leave_out(images)
        batch = images, torch.empty(work.batch_size * work.boxes, 6)
        warm_up(work, state, batch)
        buckets = None
        if work.setup == "published":
            buckets = published_setup.add_to_step(state.detector, work.boxes, work.recipe.assigner.topk)
        train_step(work, state, batch)
        del state, batch, images, buckets
    return memory.peak


def measure_training_step(work: Workload, device: str) -> Peak:
    """The peaks of a real training step on a CUDA device, on noise and random boxes."""
    detector = build(work.spec, CLASSES).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = make_state(detector, work.recipe, work.schedule.images_per_iteration, work.precision)
    if work.activation_checkpointing:
        recompute_activations(state.detector)
    batch = noise(work)
    warm_up(work, state, batch)
    return measure_peak(lambda: train_step(work, state, batch), device)


def noise(work: Workload) -> Batch:
    """A batch of noise, its boxes between a tenth of an image's side and half of it."""
    generator = torch.Generator().manual_seed(0)
    count, size = work.batch_size * work.boxes, work.image_size
    images = torch.randint(256, (work.batch_size, 3, size, size), dtype=torch.uint8, generator=generator)
    sides = torch.empty(count, 2).uniform_(0.1, 0.5, generator=generator) * size
    corners = torch.rand(count, 2, generator=generator) * (size - sides)
    image = torch.arange(work.batch_size).repeat_interleave(work.boxes).unsqueeze(1)
    label = torch.randint(CLASSES, (count, 1), generator=generator)
    return images, torch.cat([image, label, corners, corners + sides], dim=1)


def warm_up(work: Workload, state: State, batch: Batch) -> None:
    """Steps until one was taken, from which on the optimiser keeps its momentum; float16 may skip the first.

    TrainingError from `step` where too many are skipped in a row.
    """
    state.detector.train()
    train_step(work, state, batch)
    while state.skipped_in_a_row:
        train_step(work, state, batch)


def train_step(work: Workload, state: State, batch: Batch) -> None:
    """A step of the optimiser; of the iterations whose gradients wait for it, two are as good as more."""
    for _ in range(min(work.accumulation, 2)):
        forward_backward(state, *batch, work.recipe, work.precision)
    optimizer_step(state, work.schedule.at(0), work.recipe.optimizer.clip_norm)
