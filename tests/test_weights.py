"""Reading checkpoints of the five formats, in every layout that their libraries write."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic import NETWORKS, depthwise, foreign_class, foreign_tensors, lively, synthetic_tensors
from torch import Tensor

from yolov9bench.nn import Detector, Levels
from yolov9bench.weights import Checkpoint, inspect, load, save
from yolov9bench.weights.names import Format
from yolov9bench.zoo.specs import PARAMETERS, SPECS, Spec, with_class_width

OFFICIAL_CLASS = "models.yolo.DetectionModel"
ULTRALYTICS_CLASS = "ultralytics.nn.tasks.DetectionModel"
DFL = torch.arange(16.0).reshape(1, 16, 1, 1)
NAMES = {0: "cat", 1: "dog", 2: "bird"}


def outputs_of(detector: Detector) -> list[Tensor]:
    """All raw maps of one random image, in eval mode and float64."""
    image = torch.rand(1, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        outputs = detector.eval().double()(image)
    branches: list[Levels] = [levels for levels in outputs if levels is not None]
    return [part for levels in branches for level in levels for part in level]


def require_same(found: Detector, expected: Detector, close: float = 0.0) -> None:
    ours, theirs = outputs_of(found), outputs_of(expected)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert float((one - other).abs().max()) <= close * float(other.abs().max())


def write(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def halves(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As released files keep them."""
    return {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}


def doubled(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Other weights of the same shapes."""
    return {key: value * 2 for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("form", "spec"),
    [
        ("official", SPECS["gelan-t"]),
        ("official", SPECS["gelan-t-80"]),
        ("official", SPECS["yolov9-t"]),
        ("official", SPECS["yolov9-t-80"]),
        ("official", with_class_width(SPECS["yolov9-t"], 96)),
        ("ultralytics", SPECS["yolov8-n"]),
        ("ultralytics", SPECS["ultralytics-yolov9t"]),
        ("ultralytics", with_class_width(depthwise("ultralytics-yolov9t"), 64)),
        ("mmyolo", SPECS["yolov8-n"]),
        ("multimediatechlab", SPECS["yolov9-t"]),
        ("multimediatechlab", SPECS["yolov9-t-80"]),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.name}-{value.head.class_width}",
)
def test_plain_state_dicts(tmp_path: Path, form: Format, spec: Spec) -> None:
    original = lively(spec, classes=3)
    path = tmp_path / "plain.pt"
    tensors = OrderedDict(foreign_tensors(original, form))
    torch.save(tensors, path, _use_new_zipfile_serialization=form != "mmyolo")  # which writes bare streams
    checkpoint = load(path, training=True)
    assert (checkpoint.format, checkpoint.spec, checkpoint.names) == (form, spec, None)
    assert (checkpoint.fused, checkpoint.dropped, checkpoint.row) == (False, (), None)
    assert checkpoint.parameters_trainable == sum(value.numel() for value in original.parameters())
    assert checkpoint.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint.detector.training
    assert checkpoint.detector.num_classes == 3
    require_same(checkpoint.detector, original)


def test_detecting_drops_the_auxiliary_branch_and_says_so(tmp_path: Path) -> None:
    original = lively(SPECS["yolov9-t"], classes=3)
    tensors = foreign_tensors(original, "official")
    constants = {"model.29.dfl.conv.weight": DFL, "model.29.dfl2.conv.weight": DFL.half()}
    checkpoint = load(write(tmp_path / "dual.pt", halves(tensors) | constants))
    assert not checkpoint.detector.training
    assert {value.dtype for value in checkpoint.detector.parameters()} == {torch.float32}
    assert checkpoint.detector.aux is None
    auxiliary = {key for key in tensors if key.startswith(("model.29.cv2.", "model.29.cv3."))}
    auxiliary |= {key for key in tensors if 22 <= int(key.split(".")[1]) <= 28}
    assert set(checkpoint.dropped) == auxiliary | set(constants)
    assert len(checkpoint.dropped) == len(set(checkpoint.dropped))
    assert replace(checkpoint.spec, name="gelan-t") == SPECS["gelan-t"]
    assert checkpoint.parameters_trainable == sum(value.numel() for value in original.parameters())
    require_same(checkpoint.detector, original.without_aux(), close=0.05)  # float16


@pytest.mark.parametrize(("last", "flavour"), [("cat", "gelan"), ("gelan-converted", "converted")])
def test_official_training_files_give_their_average(tmp_path: Path, last: str, flavour: str) -> None:
    original = lively(SPECS["gelan-t"], classes=3)
    tensors = foreign_tensors(original, "official") | {"model.22.dfl.conv.weight": DFL}
    with foreign_class(OFFICIAL_CLASS) as make:
        live = make(doubled(tensors), names=list(NAMES.values()), hyp={"lr0": 0.01})
        content = {"epoch": 3, "model": live, "ema": make(tensors, names=list(NAMES.values())), "updates": 7}
        path = write(tmp_path / f"{last}.pt", content | {"optimizer": {"state": {}}, "best_fitness": 0.5})
    checkpoint = load(path, training=True)
    assert (checkpoint.format, checkpoint.flavour) == ("official", flavour)
    assert (checkpoint.names, checkpoint.dropped) == (NAMES, ("model", "model.22.dfl.conv.weight"))
    require_same(checkpoint.detector, original)


@pytest.mark.parametrize("training", [True, False])
def test_ultralytics_files(tmp_path: Path, training: bool) -> None:
    """Stripped files hold the network as `model`; training files have None there, and their average."""
    original = lively(SPECS["ultralytics-yolov9t"], classes=3)
    tensors = foreign_tensors(original, "ultralytics")
    with foreign_class(ULTRALYTICS_CLASS) as make:
        module = make(tensors, names=NAMES, yaml={"nc": 3}, stride=torch.tensor([8.0, 16.0, 32.0]))
        content = {"model": None if training else module, "ema": module if training else None}
        others: dict[str, Any] = {"optimizer": {"state": {}} if training else None, "version": "8.3.3"}
        path = write(tmp_path / "best.pt", content | others)
    checkpoint = load(path)
    assert (checkpoint.format, checkpoint.flavour) == ("ultralytics", "training" if training else "stripped")
    assert (checkpoint.names, checkpoint.dropped) == (NAMES, ())
    require_same(checkpoint.detector, original)


@pytest.mark.parametrize("name", ["ultralytics-yolov9t", "yolov8-n"])
def test_folded_ultralytics_files(tmp_path: Path, name: str) -> None:
    folded = lively(SPECS[name], classes=3).deployed()
    with foreign_class(ULTRALYTICS_CLASS) as make:
        module = make(foreign_tensors(folded, "ultralytics"), names=NAMES)
        path = write(tmp_path / "folded.pt", {"model": module, "ema": None})
    checkpoint = load(path)
    assert (checkpoint.fused, checkpoint.detector.fused, checkpoint.spec) == (True, True, SPECS[name])
    require_same(checkpoint.detector, folded)


def test_folded_dual_files(tmp_path: Path) -> None:
    listed = replace(NETWORKS["yolov9-t.fused"], classes=3)
    shapes = foreign_tensors(listed.skeleton(), "official")
    tensors = {key: torch.full(value.shape, 0.5) for key, value in shapes.items()}
    checkpoint = load(write(tmp_path / "folded.pt", tensors))
    assert (checkpoint.fused, checkpoint.flavour, checkpoint.detector.aux) == (True, "plain", None)
    assert all(bool((value == 0.5).all()) for value in checkpoint.detector.parameters())


@pytest.mark.parametrize("averaged", [True, False])
def test_lightning_files_give_their_average_if_they_have_one(tmp_path: Path, averaged: bool) -> None:
    original = lively(SPECS["yolov9-t"], classes=3)
    tensors = foreign_tensors(original, "multimediatechlab")
    live = doubled(tensors) if averaged else tensors
    state = {f"model.model.{key}": value for key, value in live.items()}
    if averaged:
        state |= {f"ema.model.{key}": value for key, value in tensors.items()}
    path = write(tmp_path / "last.ckpt", {"state_dict": state, "epoch": 2, "global_step": 9, "loops": {}})
    checkpoint = load(path, training=True)
    assert checkpoint.format == "multimediatechlab"
    assert checkpoint.flavour == ("lightning-ema" if averaged else "lightning")
    assert set(checkpoint.dropped) == {key for key in state if averaged and key.startswith("model.")}
    require_same(checkpoint.detector, original)


def test_mmyolo_work_dir_files_give_their_state_dict(tmp_path: Path) -> None:
    """There the averaged weights lie in `state_dict`, and the live ones in `ema_state_dict`."""
    original = lively(SPECS["yolov8-n"], classes=3)
    tensors = foreign_tensors(original, "mmyolo")
    constants = {
        "data_preprocessor.mean": torch.zeros(3, 1, 1),
        "bbox_head.prior_generator.priors_base_sizes": torch.ones(3),
    }
    with foreign_class("mmengine.logging.history_buffer.HistoryBuffer") as make:
        content = {
            "meta": {"epoch": 3, "dataset_meta": {"classes": tuple(NAMES.values()), "palette": [(1, 2, 3)]}},
            "state_dict": OrderedDict(tensors | constants),
            "message_hub": {"log_scalars": {"train/lr": make({})}, "runtime_info": {"epoch": 3}},
            "optimizer": {"state": {}, "param_groups": []},
            "ema_state_dict": {f"module.{key}": value for key, value in doubled(tensors).items()},
        }
        path = write(tmp_path / "epoch_3.pth", content)
    checkpoint = load(path)
    assert (checkpoint.format, checkpoint.flavour, checkpoint.names) == ("mmyolo", "work-dir", NAMES)
    assert set(checkpoint.dropped) == {*constants, "message_hub", "optimizer", "ema_state_dict"}
    require_same(checkpoint.detector, original)


@pytest.mark.parametrize("folded", [False, True])
def test_our_own_files(tmp_path: Path, folded: bool) -> None:
    original = lively(replace(SPECS["yolov9-t"], stem=8), classes=3)
    original = original.deployed() if folded else original
    path = tmp_path / "deep/own.pt"
    save(path, original, NAMES, row="yolov9-t")
    checkpoint = load(path, training=not folded)
    assert (checkpoint.format, checkpoint.flavour, checkpoint.row) == ("yolov9bench", "weights", "yolov9-t")
    assert (checkpoint.spec, checkpoint.names, checkpoint.dropped) == (original.spec, NAMES, ())
    assert (checkpoint.fused, checkpoint.detector.fused) == (folded, folded)
    require_same(checkpoint.detector, original)
    assert [entry.name for entry in path.parent.iterdir()] == ["own.pt"]


def test_our_own_files_are_plain_data(tmp_path: Path) -> None:
    """Readable without this library: tensors and containers, by torch's reader that runs no code."""
    original = lively(SPECS["yolov8-n"], classes=2)
    save(tmp_path / "own.pt", original, names=None)
    content = torch.load(tmp_path / "own.pt", weights_only=True)
    state = original.state_dict()
    assert content["state_dict"].keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in content["state_dict"].items())
    assert (content["names"], content["row"], content["fused"]) == (None, None, False)
    assert content["spec"]["name"] == "yolov8-n"
    assert load(tmp_path / "own.pt").names is None


def test_our_own_files_lose_the_auxiliary_branch_like_others(tmp_path: Path) -> None:
    original = lively(SPECS["yolov9-t"], classes=2)
    save(tmp_path / "own.pt", original, names=None)
    checkpoint = load(tmp_path / "own.pt")
    assert set(checkpoint.dropped) == {key for key in original.state_dict() if key.startswith("aux.")}
    require_same(checkpoint.detector, original.without_aux())


def test_inspecting(tmp_path: Path) -> None:
    path = tmp_path / "own.pt"
    save(path, lively(SPECS["yolov9-t-80"], classes=3), NAMES)
    assert inspect(path) == {
        "format": "yolov9bench",
        "flavour": "weights",
        "head": "grouped",
        "fused": False,
        "spec": "yolov9-t-80",
        "num_classes": 3,
        "names": NAMES,
        "parameters_trainable": PARAMETERS["yolov9-t-80"] - 77 * 3 * 2 * 81,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


CKPT = "facts/{}/ckpt/{}"
PUBLISHED = "yolov8_n_synthetic_syncbn_fast_8xb16-500e_coco_20230114_131804-e3b4ea6a.pth"
REAL = {
    CKPT.format("yolov9", "yolov9-t.pt"):
        ("official", "dual", "grouped", "yolov9-t", 80, "person", 3_717_648),
    CKPT.format("yolov9", "yolov9-t-converted.pt"):
        ("official", "converted", "grouped", "gelan-t", 80, "person", 2_442_624),
    CKPT.format("yolov9", "gelan-t.pt"): ("official", "gelan", "grouped", "gelan-t", 80, "person", 2_442_624),
    CKPT.format("more_formats", "ultra_yolov9t.pt"):
        ("ultralytics", "stripped", "dense", "ultralytics-yolov9t", 80, "person", 2_128_704),
    CKPT.format("more_formats", "ultra_yolov9t_train_nc3.pt"):
        ("ultralytics", "training", "dense", "ultralytics-yolov9t", 3, "a", 2_005_977),
    CKPT.format("mmyolo", PUBLISHED): ("mmyolo", "published", "dense", "yolov8-n", 80, "person", 3_157_184),
    CKPT.format("mmyolo", "yolov8_n_synthetic_with_message_hub.pth"):
        ("mmyolo", "message-hub", "dense", "yolov8-n", 80, "person", 3_157_184),
    "weights/yolov8n.pt": ("ultralytics", "stripped", "dense", "yolov8-n", 80, "person", 3_157_184),
    "weights/yolov9t_one_class.pt":
        ("ultralytics", "stripped", "depthwise", "ultralytics-yolov9t", 1, "ball", 1_765_107),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL, ids=lambda name: Path(name).name)
def test_files_of_the_libraries(shared: Path, name: str) -> None:
    """What the references themselves say of files that they wrote; two of these hold trained weights."""
    found = inspect(shared / name)
    keys = ("format", "flavour", "head", "spec", "num_classes")
    assert (*(found[key] for key in keys), found["names"][0], found["parameters_trainable"]) == REAL[name]
    assert len(found["names"]) == found["num_classes"]
    assert not found["fused"]
    assert found["sha256"] == hashlib.sha256((shared / name).read_bytes()).hexdigest()


def test_a_hash_that_was_written_down(shared: Path) -> None:
    """mmyolo names a published file by the first digits of its hash."""
    assert inspect(shared / CKPT.format("mmyolo", PUBLISHED))["sha256"].startswith("e3b4ea6a")


@pytest.mark.parametrize("name", ["gelan-t", "ultra_yolov9t"])
def test_files_of_the_libraries_hold_the_known_weights(shared: Path, name: str) -> None:
    """Pickled modules give the very tensors that they were written with."""
    folder = Path(NETWORKS[name].path).parents[1]
    checkpoint: Checkpoint = load(shared / folder / "ckpt" / f"{name}.pt", training=True)
    found = foreign_tensors(checkpoint.detector, checkpoint.format)
    for key, value in synthetic_tensors(shared, name).items():
        if ".dfl." not in key:
            assert torch.equal(found[key], value.to(found[key].dtype)), key
