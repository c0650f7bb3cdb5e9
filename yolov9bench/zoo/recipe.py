"""What a Recipe is: how a network is trained, in parts, every number a field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal


@dataclass(frozen=True)
class RunSettings:
    """How long a training lasts, and on how many GPUs it runs."""

    epochs: int
    validation_interval: int  # epochs from one validation to the next; the closing epochs all have one
    gpus: int
    images_per_gpu: int
    syncbn: bool  # batch statistics over all GPUs
    amp: bool  # float16 autocast of forward and loss, scaled gradients
    # The 3x3 convolutions of the head: torch's default, or a normal distribution of fan-out.
    head_initialisation: Literal["default", "kaiming-normal"]


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimizer, its schedule and its warm-up."""

    algorithm: Literal["sgd", "adamw"]  # both references train by SGD
    learning_rate: float  # of every parameter group after warm-up
    final_learning_rate_factor: float  # the schedule ends at this fraction of learning_rate
    momentum: float  # of AdamW the first beta
    nesterov: bool  # SGD alone
    weight_decay: float  # as applied with gpus * images_per_gpu images a step; not on biases and BatchNorm
    nominal_batch: int  # images a step; gradients are accumulated up to it on fewer
    clip_norm: float  # greatest global norm of the unscaled gradients
    warmup_epochs: float
    warmup_minimum_iterations: int
    warmup_bias_learning_rate: float  # where biases start; all other groups start at 0
    warmup_momentum: float  # where momentum starts
    schedule: Literal["linear"]  # the factor's course over the epochs, from 1 to final_learning_rate_factor
    schedule_lag_epochs: int  # epoch e runs at the factor of e - lag, from the epoch after warm-up on


@dataclass(frozen=True)
class EmaSettings:
    """Averaged weights: update n, from 1, has the decay `decay * (1 - exp(-n / tau))`."""

    decay: float
    tau: int  # updates
    first_update_copies: bool  # update 1 takes the weights as they are


@dataclass(frozen=True)
class AssignerSettings:
    """Anchors that a box may take, by score ** alpha * IoU ** beta (TOOD, arXiv:2108.07755)."""

    topk: int
    alpha: float
    beta: float


@dataclass(frozen=True)
class LossSettings:
    """Weights of the loss terms, and of all the terms of an auxiliary head where the network has one."""

    box_gain: float
    class_gain: float
    dfl_gain: float
    aux_weight: float


@dataclass(frozen=True)
class AugmentationSettings:
    """What is done to images and objects; a `_prob` is a probability per image.

    `mask_refine` takes an object's box from its polygons, when it is loaded and again after the affine warp.
    The `closing_` fields hold in the last `close_mosaic` epochs, which see single letterboxed images: no
    mosaic, no mixup, no copy-paste.
    """

    image_size: int  # pixels, square
    mask_refine: bool
    mosaic_prob: float
    mosaic_shuffled: bool  # the four places fall to the images at random; else the first lies top left
    scale_range: tuple[float, float]  # factor of the affine warp, also in the closing epochs
    translate: float  # greatest shift, as a fraction of image_size; also in the closing epochs
    mixup_prob: float
    mixup_beta: float  # both parameters of the Beta distribution of the blend
    copy_paste: float  # share of the mosaic's admissible objects that are pasted, mirrored
    copy_paste_overlap: float  # admissible: the mirrored box covers less than this share of every other box
    min_area_ratio: float  # boxes must keep more than this share of their area in the affine warp
    min_area_ratio_of_boxes: float  # the same where nothing in the warped image has a polygon
    min_box_side: float  # pixels; boxes must be wider and higher than this after the affine warp
    max_aspect: float  # boxes must be less oblong than this after the affine warp
    rare_filter_prob: float  # of each of blur, median blur, grey and local histogram equalisation
    hsv_gains: tuple[float, float, float]  # greatest relative change of hue, saturation and value
    hflip_prob: float  # left to right
    close_mosaic: int  # epochs at the end
    closing_mask_refine: bool
    closing_min_area_ratio: float
    closing_pad_bgr: tuple[int, int, int]  # colour of the letterbox, 0..255
    closing_shrinking: Literal["area", "linear"]  # interpolation where the letterbox makes images smaller


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: what the references differ in, and what a trainer needs to repeat them.

    Sources: for YOLOv8 mmyolo 0.6.0, its ten configuration files and the notes of its model zoo; for YOLOv9
    and GELAN the repository WongKinYiu/yolov9, its published commands and its hyp.scratch-high.yaml.
    """

    name: str
    run: RunSettings
    optimizer: OptimizerSettings
    ema: EmaSettings
    assigner: AssignerSettings
    loss: LossSettings
    augmentation: AugmentationSettings

    def varied(self, name: str | None = None, **parts: Mapping[str, Any]) -> Recipe:
        """A recipe with other numbers in some parts, as in `varied(optimizer={"learning_rate": 0.1})`."""
        changed: dict[str, Any] = {
            part: replace(getattr(self, part), **numbers) for part, numbers in parts.items()
        }
        return replace(self, name=name or self.name, **changed)

    def numbers(self) -> dict[str, Any]:
        """All of them by part and name, as in {"run.epochs": 500, ...}."""
        parts = {part.name: getattr(self, part.name) for part in fields(self) if part.name != "name"}
        return {f"{name}.{key}": value for name, part in parts.items() for key, value in vars(part).items()}
