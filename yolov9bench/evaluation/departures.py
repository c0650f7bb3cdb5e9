"""Single departures from a protocol, each as a user met it, with the public reports that it explains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from yolov9bench.errors import SettingsError
from yolov9bench.zoo.protocols import Protocol

ORDERS = 5  # random orders of images of equal height / width
RECTANGULAR_GROUP = (
    16  # images of one shape, where the baseline has none: the batch of Ultralytics' validation
)


@dataclass(frozen=True)
class Procedure:
    """The whole way from an image file to AP: a Protocol, and what every Protocol has alike.

    Inputs: `resizing` "pil" is Pillow's Lanczos filter in place of the protocol's; without `scale_up` small
    images keep their size; `padding` is the grey around the image; `tie_seed` shuffles images of equal
    height / width before they are grouped, which keep the order of their ids if it is None.
    Selection: `nms_arithmetic` "float16" shifts images and classes apart and suppresses in half precision.
    Truth: `coordinates` "input" compares boxes in pixels of the network's input; "dropped" `crowds` are no
    part of the truth, so that detections on them count as wrong.
    `formula`: COCO's AP, or the one that the references compute by themselves, see `own_formula`.
    """

    protocol: Protocol
    resizing: Literal["opencv", "pil"] = "opencv"
    scale_up: bool = True
    padding: int = 114
    tie_seed: int | None = None
    nms_arithmetic: Literal["float32", "float16"] = "float32"
    coordinates: Literal["original", "input"] = "original"
    crowds: Literal["ignored", "dropped"] = "ignored"
    formula: Literal["coco", "own"] = "coco"

    def changed(self, changes: Mapping[str, Any]) -> Procedure:
        """The procedure with other settings, its own and its protocol's, by name."""
        own = {name for part in fields(self) if (name := part.name) in changes}
        protocol = replace(self.protocol, **{name: changes[name] for name in changes if name not in own})
        return replace(self, protocol=protocol, **{name: changes[name] for name in own})

    @property
    def pixels(self) -> tuple[object, ...]:
        """What decides an input's pixels but for its shape: equal for procedures with the same ones."""
        protocol = self.protocol
        resize = (protocol.image_size, protocol.rounding, protocol.shrinking, self.resizing)
        return (*resize, self.scale_up, self.padding)

    @property
    def inputs(self) -> tuple[object, ...]:
        """What decides the network's inputs: procedures that agree in it share one run of the network."""
        protocol = self.protocol
        shape = (protocol.rectangular, protocol.group_size, protocol.margin, protocol.stride)
        return (*self.pixels, *shape, self.tie_seed)


@dataclass(frozen=True)
class Departure:
    """One thing that is done otherwise than by the baseline.

    `sentence` says what; `reports` name public threads that it explains, as repository#number, or the code
    that has it, as repository@commit.
    `changes` are the settings of a Procedure that differ; several are runs of which the mean counts.
    """

    name: str
    sentence: str
    reports: tuple[str, ...]
    changes: tuple[dict[str, Any], ...] = field(hash=False)


def list_departures(baseline: Protocol, orders: int = ORDERS) -> tuple[Departure, ...]:
    """The departures from a protocol, less those that would change nothing in it.

    orders: how many random orders of images of equal height / width; 0 for none. SettingsError for a protocol
    with several views, in which a departure would have no single meaning.
    """
    if len(baseline.views) > 1:
        raise SettingsError(
            f"protocol {baseline.name} has several views, and a study needs one: take one without TTA"
        )
    usual = Procedure(baseline)
    found = (*_of_inputs(baseline, orders), *_of_selection(), *_of_truth())
    return tuple(each for each in found if any(usual.changed(change) != usual for change in each.changes))


def _of_inputs(baseline: Protocol, orders: int) -> tuple[Departure, ...]:
    shaped, order = (_square(), _order(orders)) if baseline.rectangular else (_rectangular(), ())
    other_shrinking = "linear" if baseline.shrinking == "area" else "area"
    other_rounding = "ceil" if baseline.rounding == "truncate" else "truncate"
    rounded = {"ceil": "rounded up", "truncate": "truncated"}
    return (
        shaped,
        *order,
        Departure(
            f"{other_shrinking} resize",
            f"Images are shrunk by OpenCV's {other_shrinking} interpolation, not its {baseline.shrinking}.",
            ("ultralytics/yolov3#41",),
            ({"shrinking": other_shrinking},),
        ),
        Departure(
            "PIL resize",
            "Images are resized by Pillow's Lanczos filter, not by OpenCV.",
            ("MultimediaTechLab/YOLO@c4cb5f6",),
            ({"resizing": "pil"},),
        ),
        Departure(
            f"sides {rounded[other_rounding]}",
            f"The sides of a resized image are {rounded[other_rounding]}, not {rounded[baseline.rounding]}.",
            ("ultralytics/ultralytics#5069",),
            ({"rounding": other_rounding},),
        ),
        Departure(
            "no scale-up",
            "Images smaller than the input keep their size.",
            ("ultralytics/yolov3#1255",),
            ({"scale_up": False},),
        ),
        Departure(
            "padding 0",
            "Images are padded with black, not with grey 114.",
            ("ultralytics/yolov3#41", "roboflow/single_artifact_benchmarking@9476fb8"),
            ({"padding": 0},),
        ),
    )


def _square() -> Departure:
    return Departure(
        "square inputs",
        "Every image is padded to a square, not to the shape of its group.",
        ("ultralytics/ultralytics#24467", "ultralytics/yolov5#13109"),
        ({"rectangular": False, "group_size": 1},),
    )


def _rectangular() -> Departure:
    return Departure(
        "rectangular inputs",
        f"Images are padded to the shape of their group of {RECTANGULAR_GROUP}, not to a square.",
        ("ultralytics/ultralytics#24467", "ultralytics/yolov5#13109"),
        ({"rectangular": True, "group_size": RECTANGULAR_GROUP},),
    )


def _order(orders: int) -> tuple[Departure, ...]:
    if not orders:
        return ()
    return (
        Departure(
            "order of ties",
            "Images of equal height / width are grouped in a random order, as an unstable sort leaves them.",
            ("AlexeyAB/darknet#5920", "ultralytics/yolov5#5168"),
            tuple({"tie_seed": seed} for seed in range(orders)),
        ),
    )


def _of_selection() -> tuple[Departure, ...]:
    return (
        Departure(
            "single label",
            "A box is detected as its best class alone.",
            ("PINTO0309/YOLO#7", "roboflow/model-leaderboard@0e3b439"),
            ({"multi_label": False},),
        ),
        Departure(
            "conf .01",
            "Scores of 0.01 and less are left out.",
            ("LibreYOLO/libreyolo#113", "ultralytics/ultralytics#22806"),
            ({"score_threshold": 0.01},),
        ),
        Departure(
            "conf .25",
            "Scores of 0.25 and less are left out, as for looking at images.",
            ("roboflow/model-leaderboard@0e3b439", "ultralytics/ultralytics#6865"),
            ({"score_threshold": 0.25},),
        ),
        Departure(
            "NMS IoU .45",
            "Boxes of one class may overlap by an IoU of 0.45.",
            ("roboflow/model-leaderboard@0e3b439", "LibreYOLO/libreyolo#113"),
            ({"nms_iou": 0.45},),
        ),
        Departure(
            "NMS IoU .65",
            "Boxes of one class may overlap by an IoU of 0.65.",
            ("ultralytics/yolov3#734", "ultralytics/ultralytics#22806"),
            ({"nms_iou": 0.65},),
        ),
        Departure(
            "100 boxes",
            "An image has at most 100 detections of all classes together.",
            ("roboflow/model-leaderboard@0e3b439",),
            ({"max_detections": 100},),
        ),
        Departure(
            "class-agnostic NMS",
            "A box suppresses those of every class.",
            ("PINTO0309/YOLO#7",),
            ({"class_shift": 0.0},),
        ),
        Departure(
            "float16 NMS",
            "16 images are suppressed as one, shifted apart in half precision, which rounds and overflows.",
            ("MultimediaTechLab/YOLO#231", "MultimediaTechLab/YOLO#234"),
            ({"nms_arithmetic": "float16"},),
        ),
    )


def _of_truth() -> tuple[Departure, ...]:
    return (
        Departure(
            "crowds dropped",
            "Detections on crowds count as wrong, since the crowds are no part of the ground truth.",
            ("ultralytics/ultralytics#3608", "ultralytics/ultralytics#4708"),
            ({"crowds": "dropped"},),
        ),
        Departure(
            "letterboxed boxes",
            "Detections and truth are compared in input pixels, so that S, M and L hold other objects.",
            ("MultimediaTechLab/YOLO@c4cb5f6",),
            ({"coordinates": "input"},),
        ),
        Departure(
            "own formula",
            "AP as the references compute it while training: crowds unknown, trapezoids, another matching.",
            ("ultralytics/ultralytics#3608", "ultralytics/ultralytics#10326", "ultralytics/ultralytics#4708"),
            ({"formula": "own"},),
        ),
    )
