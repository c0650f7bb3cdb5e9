"""Training as plain facts: one frozen Recipe per way of training, every number a field."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from yolov9bench.errors import require_choice


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: what the references differ in, and what a trainer needs to repeat them.

    Sources: for YOLOv8 mmyolo 0.6.0, its ten configuration files and the notes of its model zoo; for YOLOv9
    and GELAN the repository WongKinYiu/yolov9, its published commands and its hyp.scratch-high.yaml.

    `mask_refine` takes an object's box from its polygons, when it is loaded and again after the affine warp.
    The `closing_` fields hold in the last `closing_epochs`, which see single letterboxed images: no mosaic,
    no mixup, no copy-paste.
    """

    name: str

    # Where it runs.
    epochs: int
    validation_interval: int  # epochs from one validation to the next; the closing epochs all have one
    gpus: int
    images_per_gpu: int
    image_size: int  # pixels, square
    mask_refine: bool
    syncbn: bool  # batch statistics over all GPUs
    amp: bool  # float16 autocast of forward and loss, scaled gradients

    # Optimiser.
    optimizer: Literal["sgd", "adamw"]  # both references train by SGD
    learning_rate: float  # of every parameter group once warmed up
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

    # Averaged weights: update n, from 1, has the decay ema_decay * (1 - exp(-n / ema_ramp_updates)).
    ema_decay: float
    ema_ramp_updates: int
    ema_first_update_copies: bool  # update 1 takes the weights as they are

    # Start: the 3x3 convolutions of the head from torch's default, or from a normal law of fan-out.
    head_initialisation: Literal["default", "kaiming-normal"]

    # Assignment: anchors a box may take, by score ** alpha * IoU ** beta (TOOD, arXiv:2108.07755).
    assigner_topk: int
    assigner_alpha: float
    assigner_beta: float

    # Loss: weights of the terms, and of all the terms of an auxiliary head where the network has one.
    box_gain: float
    class_gain: float
    dfl_gain: float
    aux_weight: float

    # Augmentation; mosaic, mixup and flip are probabilities per image.
    mosaic: float
    mosaic_shuffled: bool  # the four places fall to the images at random; else the first lies top left
    scale_range: tuple[float, float]  # factor of the affine warp, also in the closing epochs
    translate: float  # greatest shift, as a fraction of image_size; also in the closing epochs
    mixup: float
    mixup_beta: float  # both parameters of the Beta law of the blend
    copy_paste: float  # share of the mosaic's admissible objects that are pasted, mirrored
    copy_paste_overlap: float  # admissible: the mirrored box covers less than this share of every other box
    min_area_ratio: float  # boxes must keep more than this share of their area in the affine warp
    min_area_ratio_of_boxes: float  # the same where nothing in the warped image has a polygon
    min_box_side: float  # pixels; boxes must be wider and higher than this after the affine warp
    max_aspect: float  # boxes must be less oblong than this after the affine warp
    rare_filter: float  # probability of each of blur, median blur, grey and local histogram equalisation
    hsv_gains: tuple[float, float, float]  # greatest relative change of hue, saturation and value
    flip: float  # left to right
    closing_epochs: int
    closing_mask_refine: bool
    closing_min_area_ratio: float
    closing_pad_bgr: tuple[int, int, int]  # colour of the letterbox, 0..255
    closing_shrinking: Literal["area", "linear"]  # interpolation where the letterbox makes images smaller


YOLOV8_N = Recipe(
    name="yolov8-n",
    epochs=500,
    validation_interval=10,
    gpus=8,
    images_per_gpu=16,
    image_size=640,
    mask_refine=False,
    # Neither is in a configuration file: SyncBN is on beyond one GPU, AMP is a flag of the run.
    syncbn=True,
    amp=True,
    optimizer="sgd",
    learning_rate=0.01,
    final_learning_rate_factor=0.01,
    momentum=0.937,
    nesterov=True,
    # 0.0005 is stated for 64 images a step and scaled by the images: twice that at 128.
    weight_decay=0.001,
    nominal_batch=64,
    clip_norm=10.0,
    warmup_epochs=3.0,
    warmup_minimum_iterations=1000,
    warmup_bias_learning_rate=0.1,
    warmup_momentum=0.8,
    schedule="linear",
    # mmyolo sets the rate when an epoch ends, from the number of the epoch that ended.
    schedule_lag_epochs=1,
    ema_decay=0.9999,
    ema_ramp_updates=2000,
    ema_first_update_copies=True,
    # mmcv initialises its own convolutions, and the head is never reset as backbone and neck are.
    head_initialisation="kaiming-normal",
    assigner_topk=10,
    assigner_alpha=0.5,
    assigner_beta=6.0,
    box_gain=7.5,
    class_gain=0.5,
    dfl_gain=1.5,
    aux_weight=0.25,
    mosaic=1.0,
    mosaic_shuffled=False,
    scale_range=(0.5, 1.5),
    translate=0.1,
    mixup=0.0,
    mixup_beta=32.0,
    copy_paste=0.0,
    copy_paste_overlap=0.3,
    min_area_ratio=0.1,
    min_area_ratio_of_boxes=0.1,
    min_box_side=2.0,
    max_aspect=100.0,
    rare_filter=0.01,
    hsv_gains=(0.015, 0.7, 0.4),
    flip=0.5,
    closing_epochs=10,
    closing_mask_refine=False,
    closing_min_area_ratio=0.1,
    # mmyolo pads with the float 114.0, which OpenCV reads as blue only.
    closing_pad_bgr=(114, 0, 0),
    closing_shrinking="area",
)

YOLOV8_PLAIN = (
    YOLOV8_N,
    replace(YOLOV8_N, name="yolov8-s"),
    replace(YOLOV8_N, name="yolov8-m", scale_range=(0.1, 1.9), mixup=0.1),
    replace(YOLOV8_N, name="yolov8-l", scale_range=(0.1, 1.9), mixup=0.15),
    replace(YOLOV8_N, name="yolov8-x", scale_range=(0.1, 1.9), mixup=0.15),
)


def _mask_refine(plain: Recipe, copy_paste: float) -> Recipe:
    return replace(
        plain,
        name=f"{plain.name}-mask-refine",
        mask_refine=True,
        copy_paste=copy_paste,
        min_area_ratio=0.01,
        min_area_ratio_of_boxes=0.01,
        closing_mask_refine=True,
        closing_min_area_ratio=0.01,
    )


# The zoo's note names copy-paste for l and x only; m's configuration file has it too.
YOLOV8_MASK_REFINE = tuple(
    _mask_refine(plain, copy_paste)
    for plain, copy_paste in zip(YOLOV8_PLAIN, (0.0, 0.0, 0.1, 0.3, 0.3), strict=True)
)

# Boxes are polygon extents, and polygons are warped while there is a mosaic, but not in the closing epochs.
YOLOV9 = replace(
    YOLOV8_N,
    name="yolov9",
    validation_interval=1,
    mask_refine=True,
    warmup_minimum_iterations=100,
    schedule_lag_epochs=0,
    ema_first_update_copies=False,
    head_initialisation="default",
    mosaic_shuffled=True,
    scale_range=(0.1, 1.9),
    mixup=0.15,
    copy_paste=0.3,
    min_area_ratio=0.01,
    closing_epochs=15,
    closing_pad_bgr=(114, 114, 114),
    closing_shrinking="linear",
)
GELAN = replace(YOLOV9, name="gelan", gpus=4, images_per_gpu=32)

# Of no published row: for some hundred to some thousand images on one device, in thousands of steps rather
# than hundreds of thousands. So everything that takes time to settle (warm-up, averaging) is short, no step
# waits for more images, AdamW learns from the first steps on, and images are changed less.
SMALL = replace(
    YOLOV9,
    name="small",
    epochs=100,
    validation_interval=5,
    gpus=1,
    syncbn=False,
    optimizer="adamw",
    learning_rate=0.001,
    weight_decay=0.01,
    nominal_batch=16,
    warmup_bias_learning_rate=0.0,
    ema_decay=0.999,
    ema_ramp_updates=200,
    scale_range=(0.5, 1.5),
    mixup=0.0,
    copy_paste=0.0,
    closing_epochs=10,
)

# For the embedded demo set on a small machine, in minutes: many small steps on images enlarged from 128 px,
# on which the smallest objects are a single cell of the finest level.
DEMO = replace(
    SMALL,
    name="demo",
    epochs=20,
    validation_interval=5,
    images_per_gpu=8,
    image_size=192,
    amp=False,
    learning_rate=0.002,
    momentum=0.9,
    warmup_momentum=0.9,
    nominal_batch=8,
    warmup_minimum_iterations=50,
    ema_decay=0.99,
    mosaic=0.5,
    closing_epochs=5,
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (*YOLOV8_PLAIN, *YOLOV8_MASK_REFINE, YOLOV9, GELAN, SMALL, DEMO)
}


def find_recipe(name: str) -> Recipe:
    """A recipe by name; SettingsError with a suggestion if there is none."""
    require_choice("recipe", name, RECIPES)
    return RECIPES[name]
