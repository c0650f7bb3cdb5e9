"""The networks: their outputs against recorded ones of four references, and what every detector promises."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparisons import Compare
from numpy.typing import NDArray
from synthetic import converted_tensors, narrowed, synthetic_tensors
from torch import Tensor
from torchvision.ops import box_convert

from yolov9bench.nn import Levels, Outputs
from yolov9bench.nn.backbone import Backbone, CBBackbone
from yolov9bench.nn.blocks import SPPF, AConv, ADown, SiLU
from yolov9bench.predict.postprocess import decode
from yolov9bench.records.parity import Reference
from yolov9bench.weights import load
from yolov9bench.zoo.specs import SPECS

Array = NDArray[Any]
# Boxes in pixels and scores, against the references' float64 and float32 runs of the same weights.
CLOSE_F64 = (1e-8, 1e-10)
CLOSE_F32 = (0.05, 2e-4)
CLOSE_RAW = 2e-3  # logits, against float32

OFFICIAL = "facts/yolov9/goldens/model_{}.npz"
OTHER = "facts/more_formats/goldens/model_{}.npz"
REAL_FILES = {
    "gelan-t": "facts/yolov9/ckpt/gelan-t.pt",
    "yolov9-t": "facts/yolov9/ckpt/yolov9-t.pt",
    "yolov9-t-converted": "facts/yolov9/ckpt/yolov9-t-converted.pt",
    "ultra_yolov9t": "facts/more_formats/ckpt/ultra_yolov9t.pt",
}
FAST = ["gelan-t", "yolov9-t", "yolov9-t-converted", "yolov9-s-converted"]
FAST_OTHERS = ["ultra_yolov9t", "ultra_yolov9t.dwhead", "ultra_yolov8n", "mtl_v9-s"]
LARGE = ["yolov9-m", "yolov9-c", "yolov9-c-converted", "gelan-c", "yolov9-e", "yolov9-e-converted", "gelan-e"]
LARGE_OTHERS = ["ultra_yolov9c", "ultra_yolov9e"]
MMYOLO_FILE = "facts/mmyolo/ckpt/yolov8_n_synthetic_syncbn_fast_8xb16-500e_coco_20230114_131804-e3b4ea6a.pth"


@dataclass(frozen=True)
class Case:
    """One golden: its arrays, and what our detector makes of its image in float64."""

    name: str
    golden: dict[str, Array]
    outputs: Outputs
    main_alone: Outputs
    deployed: Outputs


def checkpoint_file(shared: Path, folder: Path, name: str) -> Path:
    """A file that a reference wrote, or where there is none its tensors as a plain state dict."""
    if name in REAL_FILES:
        return shared / REAL_FILES[name]
    dual = name.removesuffix("-converted")
    tensors = synthetic_tensors(shared, name) if dual == name else converted_tensors(shared, dual)
    path = folder / f"{name}.pt"
    torch.save(tensors, path)
    return path


@pytest.fixture(
    scope="module",
    params=[
        *FAST,
        *FAST_OTHERS,
        *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE + LARGE_OTHERS),
    ],
)
def case(
    request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    name = request.param
    place = OTHER if name in FAST_OTHERS + LARGE_OTHERS else OFFICIAL
    with np.load(shared / place.format(name)) as arrays:
        golden = dict(arrays)
    path = checkpoint_file(shared, tmp_path_factory.getbasetemp(), name)
    detector = load(path, training=True).detector.eval().double()
    if not path.is_relative_to(shared):
        path.unlink()  # up to 140 MB
    image = (
        torch.from_numpy(golden["image_u8"]).float() / 255
    ).double()  # as the references, down to the bit
    with torch.no_grad():
        outputs, deployed = detector(image), detector.deployed()(image)
        yield Case(name, golden, outputs, detector.without_aux()(image), deployed)


def reference_of(case: Case) -> Reference:
    families: dict[str, Reference] = {"ultra": "ultralytics", "mtl": "multimediatechlab"}
    return families.get(case.name.partition("_")[0], "yolov9")


def branches(case: Case) -> dict[str, Levels]:
    """The outputs by the prefix they have in the golden."""
    if case.name.startswith("ultra_"):
        return {"": case.outputs.main}
    with_aux = {} if case.outputs.aux is None else {"aux_": case.outputs.aux}
    return {"main_": case.outputs.main, **with_aux}


def recorded(golden: dict[str, Array], prefix: str, ending: str) -> tuple[Tensor, Tensor] | None:
    """Boxes [B, A, 4] (xyxy px) and scores [B, A, C] of a golden; None where it has none of this kind."""
    if f"{prefix}decoded{ending}" in golden:
        decoded = torch.from_numpy(golden[f"{prefix}decoded{ending}"]).double().transpose(1, 2)
        return box_convert(decoded[..., :4], "cxcywh", "xyxy"), decoded[..., 4:]
    if f"{prefix}boxes_xyxy{ending}" in golden:
        boxes, scores = golden[f"{prefix}boxes_xyxy{ending}"], golden[f"{prefix}scores"]
        return torch.from_numpy(boxes).double(), torch.from_numpy(scores).double()
    return None


def raw_maps(golden: dict[str, Array], prefix: str) -> list[tuple[Array, Array]]:
    """Box and class logits by level. MultimediaTechLab's box logits are [B, bin, side, h, w]."""
    if f"{prefix}raw_p3" in golden:
        maps = [golden[f"{prefix}raw_p{level}"] for level in (3, 4, 5)]
        return [(one[:, :64], one[:, 64:]) for one in maps]
    pairs = [(golden[f"{prefix}anchor_p{level}"], golden[f"{prefix}class_p{level}"]) for level in (3, 4, 5)]
    return [(box.swapaxes(1, 2).reshape(len(box), 64, *box.shape[3:]), score) for box, score in pairs]


def deviation(found: Tensor, expected: Tensor | Array) -> float:
    expected = torch.as_tensor(expected).to(found.dtype)
    assert found.shape == expected.shape
    return float((found - expected).abs().max())


def test_boxes_and_scores(case: Case, parity: Compare) -> None:
    held, compared = parity(reference_of(case), "network outputs"), 0
    for prefix, levels in branches(case).items():
        for ending, kind, ours, (close_boxes, close_scores) in (
            ("_f64", "beside float64", levels, CLOSE_F64),
            ("", "beside float32", levels, CLOSE_F32),
            # The reference's own folding.
            ("_fused", "folded, beside float32", case.deployed.main, CLOSE_F32),
        ):
            expected = recorded(case.golden, prefix, ending)
            if expected is None:
                continue
            boxes, scores = decode(ours)
            held.require_close(f"boxes, {kind}", "px", boxes, expected[0], close_boxes)
            if ending != "_f64" or "mtl" not in case.name:  # it has its scores in float32 alone
                held.require_close(f"scores, {kind}", "score", scores, expected[1], close_scores)
            compared += 1
    assert compared == (3 if case.name.startswith("ultra_") else 2 * len(branches(case)))


def test_raw_maps(case: Case, parity: Compare) -> None:
    held = parity(reference_of(case), "network outputs")
    for prefix, levels in branches(case).items():
        for level, (boxes, classes) in zip(levels, raw_maps(case.golden, prefix), strict=True):
            held.require_close("box logits", "logit", level.box_logits, boxes, CLOSE_RAW)
            held.require_close("class logits", "logit", level.class_logits, classes, CLOSE_RAW)


def test_folded_outputs(case: Case) -> None:
    """Folding changes nothing but the order of additions."""
    for folded, plain in zip(case.deployed.main, case.outputs.main, strict=True):
        for ours, before in zip(folded, plain, strict=True):
            assert deviation(ours, before) <= 1e-6 * float(before.abs().max())


def test_the_auxiliary_branch_is_no_part_of_the_main_one(case: Case) -> None:
    assert case.main_alone.aux is None
    assert case.deployed.aux is None
    for alone, beside in zip(case.main_alone.main, case.outputs.main, strict=True):
        assert torch.equal(alone.box_logits, beside.box_logits)
        assert torch.equal(alone.class_logits, beside.class_logits)


def test_cases_are_all_goldens(shared: Path) -> None:
    there = {path.stem.removeprefix("model_") for path in shared.glob("facts/*/goldens/model_*.npz")}
    assert there == {*FAST, *FAST_OTHERS, *LARGE, *LARGE_OTHERS}


@pytest.mark.parametrize("size", ["64x64", "128x160"])
def test_mmyolo_maps(shared: Path, size: str, parity: Compare) -> None:
    held = parity("mmyolo", "network outputs")
    with np.load(shared / f"facts/mmyolo/goldens/raw_n_{size}.npz") as arrays:
        golden = dict(arrays)
    detector = load(shared / MMYOLO_FILE, training=True).detector.eval().double()
    images = torch.from_numpy(golden["input"]).double()
    with torch.no_grad():
        levels = detector(images).main
        features = detector.main.pyramid(detector.backbone(images)) if detector.main.pyramid else []
    for index, (level, feature) in enumerate(zip(levels, features, strict=True)):
        held.require_close("box logits", "logit", level.box_logits, golden[f"dist_logit{index}"], CLOSE_RAW)
        held.require_close(
            "class logits", "logit", level.class_logits, golden[f"cls_logit{index}"], CLOSE_RAW
        )
        kept = golden[f"neck{index}"]
        held.require_close("pyramid's features", "activation", feature[:, : kept.shape[1]], kept, CLOSE_RAW)
    boxes, scores = decode(levels)
    held.require_close("boxes, beside float32", "px", boxes, golden["decoded_xyxy"], CLOSE_F32[0])
    held.require_close("scores, beside float32", "score", scores, golden["scores"], CLOSE_F32[1])


def test_a_dual_file_detects_as_its_converted_one(shared: Path) -> None:
    image = torch.rand(1, 3, 96, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    dual, converted = (
        load(shared / REAL_FILES[name], training=True).detector.eval().double()
        for name in ("yolov9-t", "yolov9-t-converted")
    )
    with torch.no_grad():
        for ours, theirs in zip(dual(image).main, converted(image).main, strict=True):
            assert torch.equal(ours.box_logits, theirs.box_logits)
            assert torch.equal(ours.class_logits, theirs.class_logits)


def windows(x: Tensor, side: int) -> Tensor:
    """The largest value around each cell, by brute force."""
    height, width = x.shape[2:]
    reach = side // 2
    found = torch.empty_like(x)
    for row in range(height):
        for column in range(width):
            part = x[:, :, max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
            found[:, :, row, column] = part.amax(dim=(2, 3))
    return found


def averaged(x: Tensor) -> Tensor:
    """Each cell with its right, lower and lower right neighbours."""
    return (x[..., :-1, :-1] + x[..., 1:, :-1] + x[..., :-1, 1:] + x[..., 1:, 1:]) / 4


def enlarged(x: Tensor, times: int) -> Tensor:
    """Each cell repeated: nearest-neighbour enlarging."""
    return x.repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)


@torch.no_grad()
def test_pooling_joins_windows_of_5_9_and_13() -> None:
    pool = SPPF(3, 2, 8).eval()
    x = torch.rand(1, 3, 15, 17)
    inner = pool.entry(x)
    joined = torch.cat([inner, windows(inner, 5), windows(inner, 9), windows(inner, 13)], dim=1)
    assert torch.equal(pool(x), pool.exit(joined))


def test_an_activation_overwrites_its_input_only_where_no_gradient_is_wanted() -> None:
    """x * sigmoid(x), whose gradient is s + x s (1 - s)."""
    inputs = torch.linspace(-6, 6, 13, dtype=torch.float64)
    sigmoid = 1 / (1 + (-inputs).exp())
    with torch.enable_grad():
        leaf = inputs.clone().requires_grad_()
        before = leaf * 1
        outputs = SiLU()(before)
        outputs.sum().backward()
    torch.testing.assert_close(outputs, inputs * sigmoid)
    torch.testing.assert_close(leaf.grad, sigmoid + inputs * sigmoid * (1 - sigmoid))
    assert before.equal(inputs)
    with torch.no_grad():
        given = inputs.clone()
        assert SiLU()(given).data_ptr() == given.data_ptr()
        torch.testing.assert_close(given, inputs * sigmoid)


@torch.no_grad()
def test_downsampling_averages_before_it_convolves() -> None:
    x = torch.rand(1, 4, 6, 8)
    aconv, adown = AConv(4, 6).eval(), ADown(4, 6).eval()
    assert torch.allclose(aconv(x), aconv.wide(averaged(x)), atol=1e-6)
    first, second = averaged(x).chunk(2, dim=1)
    halves = adown.wide(first), adown.pooled(windows(second, 3)[..., ::2, ::2])
    assert torch.allclose(adown(x), torch.cat(halves, dim=1), atol=1e-6)
    assert aconv(x).shape == adown(x).shape == (1, 6, 3, 4)


@torch.no_grad()
def test_a_reversible_backbone_adds_what_coarser_levels_send() -> None:
    """At stride 8 come the first pieces of all three levels, at 16 the second of two, at 32 the last one."""
    spec = narrowed(SPECS["yolov9-c"], 8)
    module = CBBackbone(spec, levels=(3, 4, 5)).eval()
    images = torch.rand(1, 3, 64, 96)
    features = Backbone(spec).eval()(images)
    widths = [stage.down for stage in spec.stages[1:]]
    pieces = [
        projection(feature).split(widths[:count], dim=1)
        for count, (projection, feature) in enumerate(zip(module.projections, features[2:], strict=True), 1)
    ]
    second = module.backbone
    outputs = [second.stem(images)]
    for index, stage in enumerate(second.stages):
        x = stage.down(outputs[-1])  # type: ignore[operator]
        for coarser in range(max(index - 1, 0), 3 if index else 0):
            x = x + enlarged(pieces[coarser][index - 1], 2 ** (coarser - index + 1))
        outputs.append(stage.block(x))  # type: ignore[operator]
    for ours, expected in zip(module(images, features), outputs, strict=True):
        assert torch.allclose(ours, expected, atol=1e-6)
