"""Evaluation protocols: every number between an image file and a list of detections, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from yolov9bench.errors import SettingsError, require_choice, require_image_size


@dataclass(frozen=True)
class View:
    """One look at an image: the protocol's image size times `scale`, the padded input flipped or not."""

    scale: float = 1.0
    flipped: bool = False


@dataclass(frozen=True)
class Protocol:
    """How images become detections, in one view of an image or in several; a record stores what ran.

    Input: the long side is scaled to `image_size` px (sides truncated or rounded up, shrunk by `shrinking`,
    enlarged bilinearly) and centred on grey 114, in a square or, with `rectangular`, in its group's shape:
    images sorted by height / width, taken by `group_size`, sides of as many strides as the group needs plus
    `margin`, rounded up (so square images get 672 px, not 640).
    Candidates: every (box, class) with score > `score_threshold`, or with `multi_label` off the best class of
    each box; the best `max_candidates`; suppression of IoU > `nms_iou` within a class; the first
    `max_detections`. Classes are kept apart by shifting boxes by class * `class_shift` px, or with "extent"
    by the boxes' own extent below 10,000 candidates and class by class from there.
    Suppression happens in `nms_coordinates`. `scale_back` "height" undoes the resize by the height's ratio
    alone and subtracts half-pixel paddings as they are; "axes" takes each axis's own ratio and whole pixels.

    Several `views` are test-time augmentation: each is detected as above, up to boxes in the original image;
    those of flipped views are flipped back there. The boxes of all views, in the views' order, are suppressed
    once more within a class, at IoU > `merge_iou`, their scores unchanged, and the first
    `merge_max_detections` kept. `mirror_padding`: whether a flipped view's left padding is taken to be what
    was its right. mmyolo forgets this; where the padding is odd (one pixel more on the right) it puts boxes
    one input pixel off. With one view nothing is merged.
    """

    name: str
    rounding: Literal["truncate", "ceil"]
    shrinking: Literal["area", "linear"]
    rectangular: bool
    nms_coordinates: Literal["input", "original"]
    scale_back: Literal["height", "axes"]
    class_shift: float | Literal["extent"]
    image_size: int = 640
    stride: int = 32
    group_size: int = 1
    margin: float = 0.5
    score_threshold: float = 0.001
    nms_iou: float = 0.7
    multi_label: bool = True
    max_candidates: int = 30_000
    max_detections: int = 300
    views: tuple[View, ...] = (View(),)
    merge_iou: float = 0.65
    merge_max_detections: int = 300
    mirror_padding: bool = False

    def __post_init__(self) -> None:
        for size in (self.image_size, *self.view_sizes):
            require_image_size(size, self.stride)

    @property
    def view_sizes(self) -> tuple[int, ...]:
        """The image size of each view, in pixels."""
        return tuple(round(self.image_size * view.scale) for view in self.views)

    def at_image_size(self, image_size: int | None) -> Protocol:
        """The same settings at another image size in pixels; SettingsError for one that no network takes."""
        return self if image_size is None else replace(self, image_size=image_size)


YOLOV9 = Protocol(
    "yolov9",
    rounding="truncate",
    shrinking="area",
    rectangular=True,
    nms_coordinates="input",
    scale_back="height",
    class_shift=7680.0,
    group_size=32,
)
ULTRALYTICS = Protocol(
    "ultralytics",
    rounding="ceil",
    shrinking="linear",
    rectangular=True,
    nms_coordinates="input",
    scale_back="axes",
    class_shift=7680.0,
    group_size=16,
)
ULTRALYTICS_SQUARE = replace(ULTRALYTICS, name="ultralytics-square", rectangular=False, group_size=1)
MMYOLO = Protocol(
    "mmyolo",
    rounding="truncate",
    shrinking="area",
    rectangular=False,
    nms_coordinates="original",
    scale_back="axes",
    class_shift="extent",
)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for protocol in (YOLOV9, ULTRALYTICS, ULTRALYTICS_SQUARE, MMYOLO)
}

# The TTA column of mmyolo's YOLOv8 table: `tools/test.py --tta` with configs/_base_/det_p5_tta.py, whose
# views are 640, 320 and 960 px, each flipped and not.
MMYOLO_TTA = replace(
    MMYOLO,
    name="mmyolo+tta",
    views=tuple(View(scale, flipped) for scale in (1.0, 0.5, 1.5) for flipped in (True, False)),
    merge_iou=0.65,
    merge_max_detections=300,
)

# The protocol with test-time augmentation that belongs to a plain one; the other references publish none.
TTA_PROTOCOLS: dict[str, Protocol] = {MMYOLO.name: MMYOLO_TTA}

# What `auto` means for a file; our own files say which row they were trained for, and take that row's.
PROTOCOL_OF_FORMAT = {
    "official": "yolov9",
    "ultralytics": "ultralytics",
    "mmyolo": "mmyolo",
    "multimediatechlab": "yolov9",
}


def find_protocol(name: str, image_size: int | None = None) -> Protocol:
    """A protocol by name, at another image size if one is given. Raises SettingsError with a suggestion."""
    if name == "yolov8":  # the nearest name would be yolov9's, which is another procedure
        raise SettingsError(
            "there is no protocol 'yolov8': its authors validate by ultralytics, mmyolo's YOLOv8 by mmyolo"
        )
    require_choice("protocol", name, PROTOCOLS)
    return PROTOCOLS[name].at_image_size(image_size)


def find_tta_protocol(name: str, image_size: int | None = None) -> Protocol:
    """The protocol with views for a plain one's name or "auto"; SettingsError for one that has none."""
    if name not in ("auto", MMYOLO.name):
        raise SettingsError(
            f"test-time augmentation is defined for protocol {MMYOLO.name}, not {name!r}: "
            f"take {MMYOLO.name} or auto, or leave tta out"
        )
    if image_size is not None:
        sizes = ", ".join(str(size) for size in dict.fromkeys(MMYOLO_TTA.view_sizes))
        raise SettingsError(
            f"image_size {image_size} cannot go with tta, whose views are {sizes} px: leave one of them out"
        )
    return MMYOLO_TTA
