"""The Recipes: those of the published rows, and two for little data."""

from __future__ import annotations

from yolov9bench.errors import require_choice
from yolov9bench.zoo.recipe import (
    AssignerSettings,
    AugmentationSettings,
    EmaSettings,
    LossSettings,
    OptimizerSettings,
    Recipe,
    RunSettings,
)

YOLOV8_N = Recipe(
    name="yolov8-n",
    run=RunSettings(
        epochs=500,
        validation_interval=10,
        gpus=8,
        images_per_gpu=16,
        # Neither is in a configuration file: SyncBN is on beyond one GPU, AMP is a flag of the run.
        syncbn=True,
        amp=True,
        # mmcv initialises its own convolutions, and the head is never reset as backbone and neck are.
        head_initialisation="kaiming-normal",
    ),
    optimizer=OptimizerSettings(
        algorithm="sgd",
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
    ),
    ema=EmaSettings(
        decay=0.9999,
        tau=2000,
        first_update_copies=True,
    ),
    assigner=AssignerSettings(
        topk=10,
        alpha=0.5,
        beta=6.0,
    ),
    loss=LossSettings(
        box_gain=7.5,
        class_gain=0.5,
        dfl_gain=1.5,
        aux_weight=0.25,
    ),
    augmentation=AugmentationSettings(
        image_size=640,
        mask_refine=False,
        mosaic_prob=1.0,
        mosaic_shuffled=False,
        scale_range=(0.5, 1.5),
        translate=0.1,
        mixup_prob=0.0,
        mixup_beta=32.0,
        copy_paste=0.0,
        copy_paste_overlap=0.3,
        min_area_ratio=0.1,
        min_area_ratio_of_boxes=0.1,
        min_box_side=2.0,
        max_aspect=100.0,
        rare_filter_prob=0.01,
        hsv_gains=(0.015, 0.7, 0.4),
        hflip_prob=0.5,
        close_mosaic=10,
        closing_mask_refine=False,
        closing_min_area_ratio=0.1,
        # mmyolo pads with the float 114.0, which OpenCV reads as blue only.
        closing_pad_bgr=(114, 0, 0),
        closing_shrinking="area",
    ),
)

YOLOV8_PLAIN = (
    YOLOV8_N,
    YOLOV8_N.varied("yolov8-s"),
    YOLOV8_N.varied("yolov8-m", augmentation={"scale_range": (0.1, 1.9), "mixup_prob": 0.1}),
    YOLOV8_N.varied("yolov8-l", augmentation={"scale_range": (0.1, 1.9), "mixup_prob": 0.15}),
    YOLOV8_N.varied("yolov8-x", augmentation={"scale_range": (0.1, 1.9), "mixup_prob": 0.15}),
)


def _mask_refine(plain: Recipe, copy_paste: float) -> Recipe:
    return plain.varied(
        f"{plain.name}-mask-refine",
        augmentation={
            "mask_refine": True,
            "copy_paste": copy_paste,
            "min_area_ratio": 0.01,
            "min_area_ratio_of_boxes": 0.01,
            "closing_mask_refine": True,
            "closing_min_area_ratio": 0.01,
        },
    )


# The zoo's note names copy-paste for l and x only; m's configuration file has it too.
YOLOV8_MASK_REFINE = tuple(
    _mask_refine(plain, copy_paste)
    for plain, copy_paste in zip(YOLOV8_PLAIN, (0.0, 0.0, 0.1, 0.3, 0.3), strict=True)
)

# Boxes are polygon extents, and polygons are warped while there is a mosaic, but not in the closing epochs.
YOLOV9 = YOLOV8_N.varied(
    "yolov9",
    run={"validation_interval": 1, "head_initialisation": "default"},
    augmentation={
        "mask_refine": True,
        "mosaic_shuffled": True,
        "scale_range": (0.1, 1.9),
        "mixup_prob": 0.15,
        "copy_paste": 0.3,
        "min_area_ratio": 0.01,
        "close_mosaic": 15,
        "closing_pad_bgr": (114, 114, 114),
        "closing_shrinking": "linear",
    },
    optimizer={"warmup_minimum_iterations": 100, "schedule_lag_epochs": 0},
    ema={"first_update_copies": False},
)
GELAN = YOLOV9.varied("gelan", run={"gpus": 4, "images_per_gpu": 32})

# Of no published row: for some hundred to some thousand images on one device, in thousands of steps rather
# than hundreds of thousands. So everything that takes time to settle (warm-up, averaging) is short, no step
# waits for more images, AdamW learns from the first steps on, and images are changed less.
SMALL = YOLOV9.varied(
    "small",
    run={"epochs": 100, "validation_interval": 5, "gpus": 1, "syncbn": False},
    optimizer={
        "algorithm": "adamw",
        "learning_rate": 0.001,
        "weight_decay": 0.01,
        "nominal_batch": 16,
        "warmup_bias_learning_rate": 0.0,
    },
    ema={"decay": 0.999, "tau": 200},
    augmentation={"scale_range": (0.5, 1.5), "mixup_prob": 0.0, "copy_paste": 0.0, "close_mosaic": 10},
)

# For the embedded demo set on a small machine, in minutes: many small steps on images enlarged from 128 px,
# on which the smallest objects are a single cell of the finest level.
DEMO = SMALL.varied(
    "demo",
    run={"epochs": 20, "validation_interval": 5, "images_per_gpu": 8, "amp": False},
    augmentation={"image_size": 192, "mosaic_prob": 0.5, "close_mosaic": 5},
    optimizer={
        "learning_rate": 0.002,
        "momentum": 0.9,
        "warmup_momentum": 0.9,
        "nominal_batch": 8,
        "warmup_minimum_iterations": 50,
    },
    ema={"decay": 0.99},
)

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (*YOLOV8_PLAIN, *YOLOV8_MASK_REFINE, YOLOV9, GELAN, SMALL, DEMO)
}


def find_recipe(name: str) -> Recipe:
    """A recipe by name; SettingsError with a suggestion if there is none."""
    require_choice("recipe", name, RECIPES)
    return RECIPES[name]
