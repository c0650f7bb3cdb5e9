"""Groups, schedule and averaged weights against recorded numbers of the references and closed forms."""

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic import narrowed
from torch import Tensor

from yolov9bench.errors import SettingsError
from yolov9bench.nn import Detector, build
from yolov9bench.nn.detector import skeleton
from yolov9bench.train.optim import Ema, Rates, Schedule, make_optimizer, parameter_groups, scale_weight_decay
from yolov9bench.zoo import RECIPES, SPECS

TOLERANCE = 1e-9
YOLOV9, YOLOV8 = RECIPES["yolov9"], RECIPES["yolov8-n"]
COCO_BATCHES = 925  # an epoch of train2017 with 128 images an iteration


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def official(shared: Path) -> Any:
    return read(shared / "facts/yolov9/goldens/schedule.json")


@pytest.fixture
def mmyolo(shared: Path) -> Any:
    return read(shared / "facts/mmyolo/goldens/schedule_and_ckpt.json")


def small(seed: int = 0) -> Detector:
    """A narrow yolov9-t, auxiliary branch included, in float64."""
    return build(narrowed(SPECS["yolov9-t"], by=4), classes=3, seed=seed).double()


def close(value: float) -> Any:
    return pytest.approx(value, rel=TOLERANCE, abs=TOLERANCE)


def test_factors_are_the_official_ones(official: Any) -> None:
    schedule = Schedule(YOLOV9, COCO_BATCHES, epochs=500, images_per_iteration=128)
    factors = {int(epoch): factor for epoch, factor in official["linear"].items()}
    assert len(factors) == 9
    for epoch, factor in factors.items():
        assert schedule.factor(epoch) == close(factor)
        if epoch > 3:  # warmed up, and in step with the epochs
            rates = schedule.at(epoch * COCO_BATCHES)
            assert rates.learning_rates == close_all([0.01 * factor] * 3)


def close_all(values: list[float]) -> Any:
    return pytest.approx(tuple(values), rel=TOLERANCE, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "images", "batches"), [("bs16_nb7393", 16, 7393), ("bs128_nb925", 128, 925)]
)
def test_warm_up_is_the_official_one(official: Any, name: str, images: int, batches: int) -> None:
    expected = official[f"warmup_{name}"]
    schedule = Schedule(YOLOV9, batches, epochs=500, images_per_iteration=images)
    assert schedule.warmup_iterations == expected["nw"]
    assert scale_weight_decay(YOLOV9, images) == close(expected["weight_decay"])
    assert schedule.at(500 * batches - 1).accumulation == expected["accumulate"]
    for iteration, point in expected["points"].items():
        rates = schedule.at(int(iteration))
        others, bias = point["lr_other"], point["lr_bias"]
        assert rates.learning_rates == close_all([others, others, bias])
        assert (rates.momentum, rates.accumulation) == (close(point["momentum"]), point["accumulate"])


def test_schedule_is_mmyolos_one_epoch_late(mmyolo: Any) -> None:
    schedule = Schedule(YOLOV8, COCO_BATCHES, epochs=500, images_per_iteration=128)
    points = mmyolo["schedule_8x16_925it"]
    assert {point["iter"] for point in points} >= {0, 925, 2775, 4624, 4625, 462499}
    for point in points:
        rates = schedule.at(point["iter"])
        assert rates.learning_rates == close_all(point["lr"]), point["iter"]
        assert (rates.momentum,) * 3 == close_all(point["momentum"]), point["iter"]


def test_the_lag_begins_after_the_epoch_in_which_warm_up_ends() -> None:
    """Worked by hand: 1000 iterations of warm-up end within epoch 3, and epoch 4 repeats its rate."""
    schedule = Schedule(YOLOV8, 300, epochs=10, images_per_iteration=128)
    rates = [schedule.at(iteration).learning_rates[0] for iteration in (1000, 1199, 1200, 1500, 2999)]
    # 0.01 * (1 - 0.99 * epoch / 10) for the epochs 3, 3, 3, 4, 8
    assert rates == pytest.approx([0.00703, 0.00703, 0.00703, 0.00604, 0.00208], rel=TOLERANCE)


@pytest.mark.parametrize(
    ("batches", "expected"), [(1, 100), (33, 100), (34, 102), (925, 2775)], ids=lambda value: str(value)
)
def test_warm_up_has_a_least_length(batches: int, expected: int) -> None:
    assert Schedule(YOLOV9, batches, 500, 16).warmup_iterations == expected


def test_no_warm_up_is_possible() -> None:
    recipe = YOLOV9.varied(optimizer={"warmup_epochs": 0.0, "warmup_minimum_iterations": 0})
    rates = Schedule(recipe, 10, 5, 16).at(0)
    assert (rates.learning_rates, rates.momentum, rates.accumulation) == ((0.01, 0.01, 0.01), 0.937, 4)


@pytest.mark.parametrize("name", ["batches_per_epoch", "epochs", "images_per_iteration"])
def test_a_number_below_one_is_refused(name: str) -> None:
    numbers = {"batches_per_epoch": 10, "epochs": 10, "images_per_iteration": 10} | {name: 0}
    with pytest.raises(SettingsError, match=f"{name} is 0"):
        Schedule(YOLOV9, **numbers)


def test_groups_of_yolov8_n_are_mmyolos(mmyolo: Any) -> None:
    detector = skeleton(SPECS["yolov8-n"], 80)
    for gpus in (1, 4, 8):
        groups = parameter_groups(detector, scale_weight_decay(YOLOV8, 16 * gpus))
        found = [(len(group["params"]), group["weight_decay"]) for group in groups]
        expected = mmyolo[f"groups_world{gpus}"]
        assert found == [(group["n"], close(group["weight_decay"])) for group in expected]


@pytest.mark.parametrize("name", [f"{kind}-{size}" for kind in ("yolov9", "gelan") for size in "tsmce"])
def test_groups_hold_the_official_tensors(shared: Path, name: str) -> None:
    expected = read(shared / "facts/yolov9/models.json")[name]["param_groups"]
    detector = skeleton(SPECS[name], 80)
    weights, norms, biases = (group["params"] for group in parameter_groups(detector, 0.001))
    projections = 1 if detector.aux is None else 2  # the official decayed group counts the frozen DFL weights
    assert len(weights) == expected["decay"] - projections
    assert (len(norms), len(biases)) == (expected["bn_weight"], expected["bias"])


def test_each_parameter_has_one_group_by_its_shape() -> None:
    detector = small()
    groups = [group["params"] for group in parameter_groups(detector, 0.001)]
    identities = [id(parameter) for group in groups for parameter in group]
    assert sorted(identities) == sorted(id(parameter) for parameter in detector.parameters())
    assert [{parameter.ndim for parameter in group} for group in groups] == [{4}, {1}, {1}]
    names = {id(parameter): name for name, parameter in detector.named_parameters()}
    assert all(names[id(parameter)].endswith("norm.weight") for parameter in groups[1])
    assert all(names[id(parameter)].endswith(".bias") for parameter in groups[2])


@pytest.mark.parametrize(
    ("images", "expected"),
    [(128, 0.001), (64, 0.0005), (16, 0.0005), (256, 0.002), (48, 0.000375), (20, 0.00046875), (1, 0.0005)],
)
def test_weight_decay_follows_the_images_of_a_step(images: int, expected: float) -> None:
    """By hand: 0.0005 * images * max(round(64 / images), 1) / 64; 48 gives 1 iteration, 20 gives 3."""
    assert scale_weight_decay(YOLOV9, images) == close(expected)


def gradients(detector: Detector, seed: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for parameter in detector.parameters():
        yield torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def test_steps_are_those_of_the_formula() -> None:
    """Four steps written out: decayed gradient, velocity, Nesterov's look-ahead, with rates that change."""
    detector, schedule = small(), Schedule(YOLOV9, 40, 10, 128)
    optimizer = make_optimizer(detector, YOLOV9, 128)
    values = {name: parameter.detach().clone() for name, parameter in detector.named_parameters()}
    velocities = {name: torch.zeros_like(value) for name, value in values.items()}
    for iteration in (0, 1, 50, 399):
        rates = schedule.at(iteration)
        rates.apply(optimizer)
        for (name, parameter), gradient in zip(
            detector.named_parameters(), gradients(detector, iteration), strict=True
        ):
            parameter.grad = gradient
            is_weight, is_bias = parameter.ndim == 4, name.endswith(".bias")
            slope = gradient + (0.001 * values[name] if is_weight else 0)
            velocities[name] = rates.momentum * velocities[name] + slope if iteration else slope
            rate = rates.learning_rates[2 if is_bias else 0 if is_weight else 1]
            values[name] = values[name] - rate * (slope + rates.momentum * velocities[name])
        optimizer.step()
        for name, parameter in detector.named_parameters():
            assert torch.allclose(parameter, values[name], rtol=TOLERANCE, atol=TOLERANCE), (iteration, name)


def test_steps_of_adamw_are_those_of_its_paper() -> None:
    """Algorithm 2 of arXiv:1711.05101 written out, its decay times the rate; first beta and rates change."""
    recipe = YOLOV9.varied(optimizer={"algorithm": "adamw", "weight_decay": 0.02})
    detector = small()
    optimizer = make_optimizer(detector, recipe, 128)
    values = {name: parameter.detach().clone() for name, parameter in detector.named_parameters()}
    means = {name: torch.zeros_like(value) for name, value in values.items()}
    squares = {name: torch.zeros_like(value) for name, value in values.items()}
    for number, momentum in enumerate((0.8, 0.85, 0.9), start=1):
        rates = Rates((0.001, 0.002, 0.003), momentum, accumulation=1)
        rates.apply(optimizer)
        for (name, parameter), gradient in zip(
            detector.named_parameters(), gradients(detector, number), strict=True
        ):
            parameter.grad = gradient
            is_weight, is_bias = parameter.ndim == 4, name.endswith(".bias")
            rate = rates.learning_rates[2 if is_bias else 0 if is_weight else 1]
            means[name] = momentum * means[name] + (1 - momentum) * gradient
            squares[name] = 0.999 * squares[name] + 0.001 * gradient**2
            mean, square = means[name] / (1 - momentum**number), squares[name] / (1 - 0.999**number)
            shrink = 1 - rate * 0.02 if is_weight else 1
            values[name] = shrink * values[name] - rate * mean / (square.sqrt() + 1e-8)
        optimizer.step()
        for name, parameter in detector.named_parameters():
            assert torch.allclose(parameter, values[name], rtol=TOLERANCE, atol=TOLERANCE), (number, name)


def test_ema_decays_are_the_official_ones(official: Any) -> None:
    ema = Ema(small(), YOLOV9.ema)
    assert len(official["ema_decay"]) == 9
    for update, decay in official["ema_decay"].items():
        assert ema.decay(int(update)) == close(decay)


def test_ema_decays_are_mmyolos(mmyolo: Any) -> None:
    ema = Ema(small(), YOLOV8.ema)
    assert ema.decay(1) == 0
    for point in mmyolo["ema_momentum"]:  # `step` counts the updates before this one
        assert 1 - ema.decay(point["step"] + 1) == close(point["momentum"])


def shifted(detector: Detector, by: int) -> Detector:
    """The same detector with `by` added to every number it keeps, counts of batches included."""
    moved = copy.deepcopy(detector)
    for tensor in moved.state_dict().values():
        tensor.add_(by)
    return moved


@pytest.mark.parametrize(("recipe", "first"), [(YOLOV9, 0), (YOLOV8, 1)], ids=["yolov9", "mmyolo"])
def test_ema_is_the_weighted_sum_of_what_it_saw(recipe: Any, first: int) -> None:
    """Closed form: weights i lies in the average after 5 updates with (1 - d_i) * d_(i+1) * ... * d_5."""
    start = small()
    ema = Ema(start, recipe.ema)
    seen = [shifted(start, by=place) for place in range(6)]
    for detector in seen[1:]:
        ema.update(detector)
    decays = [0.0, *(0.9999 * (1 - math.exp(-update / 2000)) for update in range(1, 6))]
    decays[first] = 0.0  # nothing before the first copy counts
    shares = [(1 - decays[place]) * math.prod(decays[place + 1 :]) for place in range(6)]
    assert sum(shares) == close(1)
    states = [detector.state_dict() for detector in seen]
    for name, average in ema.detector.state_dict().items():
        values = [state[name] for state in states]
        if name.endswith("num_batches_tracked"):
            assert average == values[first] == first
        else:
            expected = sum(share * value for share, value in zip(shares, values, strict=True))
            assert torch.allclose(average, expected, rtol=TOLERANCE, atol=TOLERANCE), name
    assert any("running_var" in name for name in states[0])


def test_ema_leaves_the_trained_detector_alone_and_is_ready_to_validate() -> None:
    detector = small().train()
    before = copy.deepcopy(detector.state_dict())
    ema = Ema(detector, YOLOV9.ema)
    ema.update(shifted(detector, by=3))
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    assert detector.training and all(parameter.requires_grad for parameter in detector.parameters())
    assert not ema.detector.training
    assert not any(parameter.requires_grad for parameter in ema.detector.parameters())


@pytest.mark.parametrize("recipe", [YOLOV9, YOLOV8], ids=["yolov9", "mmyolo"])
def test_ema_goes_on_where_it_stopped(recipe: Any, tmp_path: Path) -> None:
    start = small()
    whole, halted = Ema(start, recipe.ema), Ema(start, recipe.ema)
    for place in (1, 2, 3):
        whole.update(shifted(start, by=place))
    for place in (1, 2):
        halted.update(shifted(start, by=place))
    torch.save(halted.state(), tmp_path / "state.pt")
    resumed = Ema(small(seed=1), recipe.ema)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    resumed.update(shifted(start, by=3))
    averages = resumed.detector.state_dict()
    for name, average in whole.detector.state_dict().items():
        assert torch.equal(averages[name], average), name
