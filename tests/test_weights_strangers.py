"""Other networks are refused by what they are: from the classes of a pickle, and from a state dict's keys.

Classes and keys are those that the libraries' releases have; they are listed here by hand.
"""

from pathlib import Path

import pytest
import torch
from synthetic import NETWORKS, foreign_class, key_list
from torch import Tensor

from yolov9bench.errors import CheckpointError
from yolov9bench.weights import load
from yolov9bench.weights.strangers import refuse_strangers

V8 = "ultralytics.nn.modules"
BOXES = "give the file of a detector of upright boxes"
FAMILY = "known are YOLOv8, YOLOv9 and GELAN with three levels, so give one of these"


def complaint(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path)
    sentence = str(caught.value)
    assert path.name in sentence and sentence.isprintable()
    assert "mixes" not in sentence and "fetch it again" not in sentence
    return sentence


@pytest.mark.parametrize(
    ("name", "expected", "remedy"),
    [
        (f"{V8}.head.Segment", "a segmentation network", BOXES),
        ("models.yolo.DSegment", "a segmentation network", BOXES),
        ("ultralytics.nn.tasks.SegmentationModel", "a segmentation network", BOXES),
        (f"{V8}.head.Pose", "a pose network", BOXES),
        (f"{V8}.head.OBB", "a network for rotated boxes (OBB)", BOXES),
        (f"{V8}.head.Classify", "a classification network", BOXES),
        (f"{V8}.head.RTDETRDecoder", "an RT-DETR", FAMILY),
        (f"{V8}.head.WorldDetect", "a YOLO-World or YOLOE", FAMILY),
        (f"{V8}.head.v10Detect", "a YOLOv10", FAMILY),
        (f"{V8}.block.C3k2", "a YOLO11", FAMILY),
        (f"{V8}.block.A2C2f", "a YOLO12", FAMILY),
        (f"{V8}.block.C3", "a YOLOv5", FAMILY),
        ("models.common.C3", "a YOLOv5", FAMILY),
        ("models.common.SPPCSPC", "a YOLOv7", FAMILY),
        ("models.yolo.TripleDDetect", "a YOLOv9 with three heads", FAMILY),
    ],
)
@pytest.mark.parametrize("bare", [True, False])
def test_classes(tmp_path: Path, name: str, expected: str, remedy: str, bare: bool) -> None:
    """A stub of the class is a layer of the network; the others may be the very ones of a YOLOv8."""
    library = name.partition(".")[0]
    with foreign_class(f"{library}.network.Model") as make_network, foreign_class(name) as make_layer:
        network = make_network({"model.0.conv.weight": torch.zeros(1)})
        network.get_submodule("model").add_module("1", make_layer({}))
        torch.save(network if bare else {"model": network}, tmp_path / "file.pt")
    assert complaint(tmp_path / "file.pt") == f"file.pt holds {expected} (it has {name}): {remedy}"


ONE = torch.zeros(1)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["model.22.cv4.0.2.weight", "model.22.proto.cv1.conv.weight"], "a segmentation network"),
        (["model.9.conv.conv.weight", "model.9.linear.weight"], "a classification network"),
        (["model.28.input_proj.0.0.weight", "model.28.decoder.layers.0.norm1.weight"], "an RT-DETR"),
        (["model.22.cv4.0.bias", "model.22.cv4.0.logit_scale"], "a YOLO-World or YOLOE"),
        (["model.10.attn.qkv.conv.weight", "model.23.one2one_cv2.0.0.conv.weight"], "a YOLOv10"),
        (["model.10.m.0.attn.qkv.conv.weight", "model.23.one2one_cv2.0.0.conv.weight"], "a YOLO26"),
        (["model.10.m.0.attn.qkv.conv.weight", "model.23.cv2.0.0.conv.weight"], "a YOLO11"),
        (["model.6.m.0.0.attn.qkv.conv.weight", "model.21.cv2.0.0.conv.weight"], "a YOLO12"),
        (["model.2.cv3.conv.weight", "model.2.m.0.cv1.conv.weight", "model.24.anchors"], "a YOLOv5"),
        (
            ["model.2.cv3.conv.weight", "model.2.m.0.cv1.conv.weight", "model.24.cv2.0.0.conv.weight"],
            "a YOLOv5",
        ),
        (["model.4.0.cv1.conv.weight", "model.28.cv2.0.0.conv.weight"], "a YOLOv3"),
        (["model.28.anchors", "model.28.m.0.weight"], "a network with anchors, like YOLOv3 or YOLOv5"),
        (["model.105.ia.0.implicit", "model.105.anchors"], "a YOLOv7"),
        (["model.28.cv2.2.0.conv.weight", "model.28.cv2.3.0.conv.weight"], "a P2 or P6 variant, with four"),
        (["backbone.stem.conv.weight", "bbox_head.head_module.rtm_cls.0.weight"], "an RTMDet"),
        (["backbone.stem.conv.weight", "bbox_head.head_module.convs_pred.0.weight"], "a YOLOv5 or YOLOv7 of"),
    ],
)
def test_keys(tmp_path: Path, keys: list[str], expected: str) -> None:
    torch.save({f"module.{key}": ONE for key in keys}, tmp_path / "file.pt")
    assert f"file.pt holds {expected}" in complaint(tmp_path / "file.pt")


@pytest.mark.parametrize(
    ("outputs", "expected"), [(51, "a pose network"), (1, "a network for rotated boxes (OBB)")]
)
def test_a_branch_beside_boxes_and_classes(tmp_path: Path, outputs: int, expected: str) -> None:
    """17 key points of three numbers each, or one angle: otherwise these are a YOLOv8's tensors."""
    branch = {"model.22.cv4.0.2.weight": torch.zeros(outputs, 16, 1, 1)}
    torch.save(branch | {"model.22.cv2.0.0.conv.weight": ONE}, tmp_path / "file.pt")
    assert f"holds {expected} (it has model.22.cv4.0.2.weight)" in complaint(tmp_path / "file.pt")


def test_no_known_network_is_a_stranger(shared: Path) -> None:
    """Over the complete key lists of all networks that the references release and that load here."""
    for listed in NETWORKS.values():
        entries = key_list(shared / listed.path)
        tensors: dict[str, Tensor] = {each.key: torch.empty(each.shape, device="meta") for each in entries}
        refuse_strangers(Path(listed.name), (), tensors)
