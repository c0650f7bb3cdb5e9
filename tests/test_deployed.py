"""Building and deploying: what every detector promises, whatever its blocks."""

import math
from dataclasses import replace

import pytest
import torch
from synthetic import depthwise, lively, narrowed

from yolov9bench.nn import STRIDES, Detector, Outputs, build
from yolov9bench.nn.blocks import ConvBNAct, RepConv
from yolov9bench.nn.detector import skeleton
from yolov9bench.zoo.specs import SPECS, Spec

# c2f, elan and rep-elan; conv, aconv and adown; the three heads; both auxiliary branches; two backbones.
KINDS = [
    SPECS["yolov8-n"],
    SPECS["yolov9-t"],
    narrowed(SPECS["yolov9-c"], 4),
    narrowed(SPECS["yolov9-e"], 4),
    replace(narrowed(SPECS["ultralytics-yolov9c"], 4), name="dense"),
    replace(narrowed(depthwise("ultralytics-yolov9c"), 4), name="depthwise"),
]


def image(height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.rand(1, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec.name)
@torch.no_grad()
def test_deployed_equals_the_plain_network(spec: Spec) -> None:
    detector = lively(spec, classes=5).double()
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    deployed = detector.deployed()
    plain, folded = detector(image()).main, deployed(image()).main
    for level, expected in zip(folded, plain, strict=True):
        for ours, theirs in zip(level, expected, strict=True):
            assert float(theirs.std()) > 0.01, "a network whose outputs do not vary shows nothing"
            assert float((ours - theirs).abs().max()) <= 1e-6 * float(theirs.abs().max())
    assert (deployed.aux, deployed.spec.aux, deployed.fused) == (None, None, True)
    assert not any(isinstance(module, ConvBNAct | RepConv) for module in deployed.modules())
    assert not deployed.training
    assert not any(parameter.requires_grad for parameter in deployed.parameters())
    assert (detector.spec, detector.fused) == (spec, False)
    assert (detector.aux is None) == (spec.aux is None)
    after = detector.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@torch.no_grad()
def test_deploying_a_deployed_detector_changes_nothing() -> None:
    once = lively(SPECS["gelan-t"], classes=2).deployed()
    twice = once.deployed()
    assert twice is not once
    expected = once.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in twice.state_dict().items())


@torch.no_grad()
def test_folding_keeps_the_precision_of_the_weights() -> None:
    """Kernels are multiplied in float64 and rounded once, whatever the model's dtype."""
    detector = lively(SPECS["yolov8-n"], classes=2)
    exact = detector.double().deployed().state_dict()
    for dtype in (torch.float32, torch.float16):
        rounded = detector.to(dtype).deployed().state_dict()
        assert {value.dtype for value in rounded.values()} == {dtype}
        for key, value in rounded.items():
            assert float((value.double() - exact[key]).abs().max()) <= 2e-3 * float(exact[key].abs().max())


@torch.no_grad()
def test_statistics_in_use_are_the_running_ones() -> None:
    """A deployed detector gives the same for an image alone and in a batch, as eval mode does."""
    deployed = lively(SPECS["gelan-t"], classes=2).double().deployed()
    pair = torch.cat([image(), 1 - image()])
    for alone, together in zip(deployed(pair[:1]).main, deployed(pair).main, strict=True):
        assert torch.allclose(alone.box_logits, together.box_logits[:1], rtol=1e-9)


def require_shapes(detector: Detector, classes: int, height: int, width: int) -> None:
    """Maps of three strides, of both branches, in the type that every mode returns."""
    outputs = detector(torch.zeros(2, 3, height, width))
    assert isinstance(outputs, Outputs)
    assert (outputs.aux is None) == (detector.aux is None)
    for levels in filter(None, outputs):
        for level, stride in zip(levels, STRIDES, strict=True):
            assert level.box_logits.shape == (2, 64, height // stride, width // stride)
            assert level.class_logits.shape == (2, classes, height // stride, width // stride)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "classes"), [("yolov8-n", 80), ("yolov9-t", 1), ("gelan-t-80", 3)])
def test_outputs_are_of_one_type_in_every_mode(name: str, classes: int, training: bool) -> None:
    detector = build(SPECS[name], classes).train(training)
    require_shapes(detector, classes, 64, 96)
    deployed = detector.deployed()
    assert (detector.training, deployed.training) == (training, False)
    require_shapes(deployed, classes, 96, 32)


def test_without_aux_is_a_gelan_by_its_spec() -> None:
    detector = build(SPECS["yolov9-t"]).without_aux()
    assert replace(detector.spec, name="gelan-t") == SPECS["gelan-t"]
    assert detector.state_dict().keys() == skeleton(SPECS["gelan-t"], 80).state_dict().keys()


def test_every_weight_learns() -> None:
    """A loss on all outputs reaches each parameter, so no part of the graph is cut off or unused."""
    detector = build(SPECS["yolov9-t"], classes=2)
    outputs = detector(torch.rand(2, 3, 64, 64))
    total = torch.zeros(())
    for levels in filter(None, outputs):
        total = total + sum((part**2).mean() for level in levels for part in level)
    names, parameters = zip(*detector.named_parameters(), strict=True)
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    assert [name for name, gradient in zip(names, gradients, strict=True) if gradient is None] == []


def test_a_seed_decides_every_weight() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (build(SPECS["yolov9-t"], 2, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    kernels = [key for key, value in first.items() if value.ndim == 4]
    assert not any(torch.equal(first[key], other[key]) for key in kernels)


@pytest.mark.parametrize("name", ["yolov8-n", "yolov9-t"])
@pytest.mark.parametrize("classes", [80, 1])
def test_head_biases_start_from_the_prior(name: str, classes: int) -> None:
    """Five objects in an image of 640 px, spread over cells and classes; every bin alike."""
    detector = build(SPECS[name], classes)
    for branch in filter(None, (detector.main, detector.aux)):
        state = branch.head.state_dict()
        for level, stride in enumerate(STRIDES):
            assert torch.equal(state[f"boxes.{level}.2.bias"], torch.ones(64))
            prior = math.log(5 / classes / (640 / stride) ** 2)
            assert torch.allclose(state[f"classes.{level}.2.bias"], torch.full((classes,), prior), atol=1e-6)


def test_recorded_biases() -> None:
    """The three numbers that all references start from with 80 classes."""
    state = build(SPECS["gelan-t"]).main.head.state_dict()
    values = [float(state[f"classes.{level}.2.bias"][0]) for level in range(3)]
    assert values == pytest.approx([-11.536642, -10.150348, -8.764053], abs=1e-6)


def test_normalisation_is_the_references() -> None:
    """Epsilon 1e-3 and momentum 0.03 in every layer, from the facts of all four libraries."""
    norms = [
        module for module in build(SPECS["yolov9-t"]).modules() if isinstance(module, torch.nn.BatchNorm2d)
    ]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.03)}


def test_impossible_detectors_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one class, not 0"):
        build(SPECS["gelan-t"], classes=0)
    with pytest.raises(ValueError, match="yolov9-t has an auxiliary branch but no aux_head"):
        build(replace(SPECS["yolov9-t"], aux_head=None))
