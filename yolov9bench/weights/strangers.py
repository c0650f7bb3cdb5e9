"""Say which other network a file holds, by the classes that it names or by telling keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from yolov9bench.errors import CheckpointError, shown

DETECTOR = "give the file of a detector of upright boxes"
FAMILY = "known are YOLOv8, YOLOv9 and GELAN with three levels, so give one of these"
LAYER = r"^model\.\d+\."


@dataclass(frozen=True)
class Stranger:
    """A network that is not ours: told by one of its classes, or by keys that match all of the patterns."""

    what: str
    classes: tuple[str, ...]
    keys: tuple[str, ...]
    remedy: str


# The order matters: a segmenting YOLO11 is told by what it does, and YOLOv10 by more than its double head.
STRANGERS = (
    Stranger(
        "a segmentation network",
        ("Segment", "DSegment", "DualDSegment", "Segment26", "SegmentationModel", "SegmentModel", "Panoptic"),
        (LAYER + r"proto\.",),
        DETECTOR,
    ),
    Stranger("a pose network", ("Pose", "Pose26", "PoseModel"), (), DETECTOR),
    Stranger("a network for rotated boxes (OBB)", ("OBB", "OBB26", "OBBModel"), (), DETECTOR),
    Stranger(
        "a classification network",
        ("Classify", "ClassificationModel"),
        (LAYER + r"linear\.weight$",),
        DETECTOR,
    ),
    Stranger(
        "an RT-DETR",
        ("RTDETRDecoder", "RTDETRDetectionModel"),
        (LAYER + r"decoder\.layers\.\d",),
        FAMILY,
    ),
    Stranger(
        "a YOLO-World or YOLOE",
        ("WorldDetect", "WorldModel", "YOLOEDetect", "YOLOEModel"),
        (LAYER + r"cv4\.\d\.logit_scale$",),
        FAMILY,
    ),
    Stranger(
        "a YOLOv10",
        ("v10Detect", "YOLOv10DetectionModel", "SCDown", "C2fCIB"),
        (LAYER + r"attn\.qkv\.",),
        FAMILY,
    ),
    Stranger("a YOLOv13", ("HyperACE", "DSC3k2"), (), FAMILY),
    Stranger("a YOLO26", (), (LAYER + r"one2one_",), FAMILY),
    Stranger("a YOLO12", ("A2C2f",), (LAYER + r"m\.\d\.\d\.attn\.",), FAMILY),
    Stranger("a YOLO11", ("C3k2", "C2PSA"), (LAYER + r"m\.\d\.attn\.",), FAMILY),
    Stranger(
        "a YOLOv7",
        ("IDetect", "IAuxDetect", "IBin", "SPPCSPC"),
        (LAYER + r"i[am]\.\d\.implicit$",),
        FAMILY,
    ),
    Stranger(
        "a YOLOv5",
        ("C3", "C3TR", "C3SPP", "C3Ghost", "BottleneckCSP", "Focus"),
        (r"^model\.2\.cv3\.conv\.weight$", r"^model\.2\.m\.0\.cv1\.conv\.weight$"),
        FAMILY,
    ),
    Stranger("a YOLOv3", (), (LAYER + r"0\.cv1\.conv\.weight$",), FAMILY),
    Stranger("a network with anchors, like YOLOv3 or YOLOv5", (), (LAYER + r"anchors$",), FAMILY),
    Stranger(
        "a YOLOv9 with three heads", ("TripleDetect", "TripleDDetect"), (LAYER + r"cv6\.0\.0\.conv",), FAMILY
    ),
    Stranger("a P2 or P6 variant, with four levels or more", (), (LAYER + r"cv[2-5]\.3\.0\.",), FAMILY),
    Stranger("an RTMDet", (), (r"^bbox_head\.head_module\.rtm_cls\.",), FAMILY),
    Stranger("a YOLOv5 or YOLOv7 of mmyolo", (), (r"^bbox_head\.head_module\.convs_pred\.",), FAMILY),
)


def refuse_strangers(path: Path, classes: Iterable[str], tensors: Mapping[str, Tensor]) -> None:
    """CheckpointError for the file of another network, with the class or the key that tells it.

    `classes` are dotted names of pickled modules, none for a plain state dict.
    """
    named = {dotted.rpartition(".")[2]: dotted for dotted in classes if not dotted.startswith("torch.")}
    for stranger in STRANGERS:
        telling = find_class(stranger, named) or find_keys(stranger, tensors)
        if telling is not None:
            raise CheckpointError(f"{path.name} holds {stranger.what} (it has {telling}): {stranger.remedy}")
    for what, key in fourth_branches(tensors):
        raise CheckpointError(f"{path.name} holds {what} (it has {shown(key)}): {DETECTOR}")


def find_class(stranger: Stranger, named: Mapping[str, str]) -> str | None:
    """The dotted name of a class that tells this network."""
    return next((shown(named[name]) for name in stranger.classes if name in named), None)


def find_keys(stranger: Stranger, tensors: Mapping[str, Tensor]) -> str | None:
    """A key that tells this network, if all of its patterns are matched."""
    matched = [next((key for key in tensors if re.search(each, key)), None) for each in stranger.keys]
    return shown(matched[0]) if matched and None not in matched else None


def fourth_branches(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """A head's branch beside boxes and classes: one angle a box, or key points.

    The official dual heads have a fourth branch too, the boxes of the main head, and a fifth.
    """
    for key, value in tensors.items():
        fourth = re.match(r"(model\.\d+\.cv)4(\.0\.2)\.weight$", key)
        if fourth and f"{fourth[1]}5{fourth[2]}.weight" not in tensors and value.ndim == 4:
            angle = value.shape[0] == 1
            yield ("a network for rotated boxes (OBB)" if angle else "a pose network"), key
