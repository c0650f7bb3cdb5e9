"""Training in float16, bfloat16 and with a GradScaler, on the CPU, against float32 and hand formulas."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from yolov9bench.data.coco import read_coco
from yolov9bench.errors import TrainingError
from yolov9bench.nn import build
from yolov9bench.train import loop
from yolov9bench.train.epoch_log import memory_and_speed, read_losses
from yolov9bench.train.job import Job
from yolov9bench.train.loop import count_iteration, forward_backward, optimizer_step
from yolov9bench.train.optim import Rates, make_optimizer
from yolov9bench.train.state import TERMS, State, make_state, require_finite
from yolov9bench.train.trainer import train
from yolov9bench.zoo import RECIPES, ROWS
from yolov9bench.zoo.specs import Head, yolov8

SMALL = yolov8("small", (8, 8, 16, 16, 16), (1, 1), Head("dense", 16, 16))
SGD = RECIPES["yolov8-n"].varied(
    augmentation={"image_size": 64}, optimizer={"nominal_batch": 2, "warmup_epochs": 0}, run={"epochs": 2}
)
ADAMW = RECIPES["small"].varied(augmentation={"image_size": 64}, optimizer={"nominal_batch": 2})
RATES = Rates((0.01, 0.008, 0.05), 0.9, accumulation=1)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Memory that nobody has written holds NaN, so that whoever reads it is found out."""
    deterministic: Any = torch.utils.deterministic  # mypy does not see its attribute
    before = deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    deterministic.fill_uninitialized_memory = True
    assert torch.empty(2).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)
    deterministic.fill_uninitialized_memory = before


@pytest.fixture
def state() -> State:
    """A very small detector about to be trained by SGD in float16."""
    return make_state(build(SMALL, classes=2, seed=0).train(), SGD, 2, "float16")


def batch(count: int = 2) -> tuple[Tensor, Tensor]:
    """Noise with one box in each image."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 64, 64), dtype=torch.uint8, generator=generator)
    return images, torch.tensor([[number, number % 2, 10, 10, 40, 50] for number in range(count)]).float()


@pytest.mark.parametrize("overflows", [(), (0,), (2,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("recipe", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_skipped_steps_leave_no_trace(recipe: Any, overflows: tuple[int, ...], poisoned: None) -> None:
    """Our optimiser under GradScaler; witness: torch's plain loop, which never sees the skipped steps."""
    ours, theirs = (build(SMALL, classes=2, seed=0) for _ in range(2))
    optimizer = make_optimizer(ours, recipe, 2)
    plain: dict[str, Any] = {"foreach": False, "fused": False}
    groups = [
        group | {"params": [dict(theirs.named_parameters())[name] for name in names]}
        for group, names in zip(optimizer.param_groups, grouped_names(ours, optimizer), strict=True)
    ]
    witness: torch.optim.Optimizer = (
        torch.optim.SGD([keep(group, "lr momentum weight_decay nesterov") for group in groups], **plain)
        if recipe is SGD
        else torch.optim.AdamW([keep(group, "lr betas weight_decay") for group in groups], **plain)
    )
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for number in range(5):
        generator = torch.Generator().manual_seed(number)
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            gradient = torch.randn(mine.shape, generator=generator)
            mine.grad, other.grad = gradient * scaler.get_scale(), gradient.clone()
        scaler.scale(torch.ones(1))
        if number in overflows:
            next(iter(ours.parameters())).grad.fill_(math.inf)  # type: ignore[union-attr]
        else:
            witness.step()
        scaler.step(optimizer)
        scaler.update()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other, rtol=1e-6, atol=1e-7)


def keep(group: dict[str, Any], names: str) -> dict[str, Any]:
    return {name: group[name] for name in ("params", *names.split())}


def grouped_names(detector: nn.Module, optimizer: torch.optim.Optimizer) -> list[list[str]]:
    names = {id(parameter): name for name, parameter in detector.named_parameters()}
    return [[names[id(each)] for each in group["params"]] for group in optimizer.param_groups]


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_gradients_are_unscaled_before_they_are_clipped(state: State, scale: float) -> None:
    """Gradients of norm 20 are clipped to 10 whatever the scale; by hand the first step moves by that."""
    state.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    state.scaler.scale(torch.ones(1))
    before = [parameter.detach().clone() for parameter in state.detector.parameters()]
    count = sum(parameter.numel() for parameter in state.detector.parameters())
    each = 20 / math.sqrt(count)
    for parameter in state.detector.parameters():
        parameter.grad = torch.full_like(parameter, each * scale)
    recipe = SGD.varied(optimizer={"weight_decay": 0.0, "nesterov": False})
    for group in state.optimizer.param_groups:
        group["weight_decay"], group["nesterov"] = 0.0, False
    optimizer_step(state, Rates((0.5, 0.5, 0.5), 0.9, 1), recipe.optimizer.clip_norm)
    for parameter, old in zip(state.detector.parameters(), before, strict=True):
        assert torch.allclose(parameter, old - 0.5 * each / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_convolutions_run_in_the_precision_asked_for(precision: Any) -> None:
    state = make_state(build(SMALL, classes=2).train(), SGD, 2, precision)
    seen: set[torch.dtype] = set()
    for module in state.detector.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda _module, _inputs, output: seen.add(output.dtype))
    forward_backward(state, *batch(), SGD, precision)
    assert seen == {getattr(torch, precision)}
    assert state.scaler.is_enabled() == (precision == "float16")
    assert all(parameter.dtype == torch.float32 for parameter in state.detector.parameters())
    largest = max(float(p.grad.abs().max()) for p in state.detector.parameters() if p.grad is not None)
    if precision == "float16":
        assert state.scaler.get_scale() == 2**16
        assert largest > 100 or not math.isfinite(largest)  # they wait as they were scaled


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_a_step_in_half_precision_is_close_to_that_in_float32(precision: Any) -> None:
    """Their gradients, unscaled, against float32's: the cosine over all parameters, and the loss."""
    found = {}
    for each in ("float32", precision):
        state = make_state(build(SMALL, classes=2, seed=1).train(), SGD, 2, each)
        if state.scaler.is_enabled():
            state.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        losses = forward_backward(state, *batch(), SGD, each)
        state.scaler.unscale_(state.optimizer)
        gradients = [p.grad.flatten() for p in state.detector.parameters() if p.grad is not None]
        found[each] = losses[TERMS.index("total")].item(), torch.cat(gradients)
    (plain_loss, plain), (half_loss, half) = found["float32"], found[precision]
    assert half_loss == pytest.approx(plain_loss, rel=0.02)
    assert torch.cosine_similarity(plain, half, dim=0) > {"float16": 0.99, "bfloat16": 0.9}[precision]
    assert half.norm() == pytest.approx(plain.norm().item(), rel=0.1)


def spoilt(state: State, at: set[int], where: str) -> None:
    """From now on the loss, or one gradient, of these iterations is NaN."""
    calls = iter(range(10**6))

    def forward_hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        if next(calls) not in at:
            return output
        if where == "loss":
            return output * math.nan
        output.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[no-untyped-call]
        return output

    state.detector.backbone.stem.register_forward_hook(forward_hook)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_float16_skips_a_batch_that_is_not_finite_and_goes_on(state: State, where: str) -> None:
    spoilt(state, {1}, where)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    scales, weights, statistics = [], [], []
    for _ in range(3):
        losses = forward_backward(state, *batch(), SGD, "float16")
        loop.count_iteration(state, losses)
        optimizer_step(state, RATES, SGD.optimizer.clip_norm)
        scales.append(state.scaler.get_scale())
        weights.append([each.detach().clone() for each in state.detector.parameters()])
        statistics.append([each.clone() for each in loop.running_statistics(state.detector)])
    read_losses(state, "float16")
    assert scales == [64, 32, 32]
    assert (state.steps, state.skipped, state.skipped_in_a_row) == (3, 1, 0)
    assert state.unusable == (where == "loss")
    assert all(torch.equal(*pair) for pair in zip(weights[0], weights[1], strict=True))
    assert not all(torch.equal(*pair) for pair in zip(weights[1], weights[2], strict=True))
    if where == "loss":
        assert all(torch.equal(*pair) for pair in zip(statistics[0], statistics[1], strict=True))
    assert all(math.isfinite(total) and total > 0 for total in state.sums.values())
    require_finite(state)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_without_a_scaler_it_is_an_error_before_the_step(precision: Any, where: str) -> None:
    state = make_state(build(SMALL, classes=2).train(), SGD, 2, precision)
    spoilt(state, {0}, where)
    before = [each.detach().clone() for each in state.detector.parameters()]
    with pytest.raises(
        TrainingError, match=r"became (nan|inf) in epoch 1, iteration 1: the training diverged"
    ):
        count_iteration(state, forward_backward(state, *batch(), SGD, precision))
        optimizer_step(state, RATES, SGD.optimizer.clip_norm)
    assert all(torch.equal(*pair) for pair in zip(before, state.detector.parameters(), strict=True))


def test_float16_gives_up_after_so_many_skipped_steps_in_a_row(state: State) -> None:
    state.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    spoilt(state, set(range(100)) - {1}, "gradient")
    with pytest.raises(TrainingError, match="in 32 steps in a row"):
        for _ in range(100):
            forward_backward(state, *batch(), SGD, "float16")
            optimizer_step(state, RATES, SGD.optimizer.clip_norm)
    # One step was taken between the first skipped one and the 32 others, of which the last one was the error.
    assert (state.steps, state.skipped) == (33, 32)


@pytest.mark.parametrize("kind", ["weights", "averages", "momenta"])
def test_nothing_is_kept_that_is_not_finite(state: State, kind: str) -> None:
    state.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    forward_backward(state, *batch(), SGD, "float16")
    optimizer_step(state, RATES, SGD.optimizer.clip_norm)
    require_finite(state)
    with torch.no_grad():
        if kind == "momenta":
            list(state.optimizer.state.values())[3]["momentum_buffer"].view(-1)[0] = math.inf
        else:
            detector = state.detector if kind == "weights" else state.ema.detector
            loop.running_statistics(detector)[2][0] = math.nan
    with pytest.raises(TrainingError, match=f"1 of the {kind} became NaN or infinite"):
        require_finite(state)


def test_channels_last_gives_the_same_losses_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout that a GPU gets, on the CPU in float64, against the usual one."""
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        monkeypatch.setattr(loop, "memory_format", lambda _device, layout=layout: layout)
        detector = build(SMALL, classes=2).double().train().to(memory_format=layout)
        state = make_state(detector, SGD, 2, "float32")
        losses = forward_backward(state, *batch(), SGD, "float32")
        found.append(
            (losses.tolist(), [each.grad for each in state.detector.parameters() if each.grad is not None])
        )
    (ours, gradients), (theirs, others) = found
    assert ours == pytest.approx(theirs, rel=1e-12)
    for mine, other in zip(gradients, others, strict=True):
        assert torch.allclose(mine, other, rtol=1e-9, atol=1e-9)


def test_memory_of_a_gpu_comes_from_its_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 7)
    entry = {"bytes_allocated": 5, "bytes_reserved": 7, "images_per_second": 15.0}
    assert memory_and_speed(torch.device("cuda"), 30, 2.0) == entry
    unknown = {"bytes_allocated": None, "bytes_reserved": None, "images_per_second": 15.0}
    assert memory_and_speed(torch.device("cpu"), 30, 2.0) == unknown
    assert loop.memory_format(torch.device("cuda")) is torch.channels_last
    assert loop.memory_format(torch.device("cpu")) is torch.contiguous_format


@pytest.fixture
def job(tiny: Path, tmp_path: Path) -> Job:
    """Six painted images, three iterations an epoch."""
    images = read_coco(tiny, "val")
    recipe = SGD.varied(
        run={"epochs": 10, "validation_interval": 10},
        augmentation={"close_mosaic": 10},
        optimizer={"nominal_batch": 2},
    )
    recipe = recipe.varied(
        optimizer={"warmup_minimum_iterations": 2, "warmup_bias_learning_rate": 0.0}, ema={"decay": 0.5}
    )
    return Job(replace(ROWS["yolov8-n"], spec=SMALL), recipe, images, images, tmp_path / "run", batch_size=2)


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_float16_trains_to_a_falling_loss_like_float32(job: Job, tmp_path: Path, poisoned: None) -> None:
    """Whole runs with an enabled scaler, side by side with float32; the first steps overflow as they do."""
    logs = {}
    for precision in ("float32", "float16"):
        train(replace(job, precision=precision, out=tmp_path / precision))
        logs[precision] = log_of(tmp_path / precision)
    half, plain = ([entry["total"] for entry in logs[each]] for each in ("float16", "float32"))
    assert len(half) == 10
    assert half[-1] < 0.9 * half[0]
    assert half[0] == pytest.approx(plain[0], rel=0.1)
    assert half[-1] == pytest.approx(plain[-1], rel=0.3)
    assert [entry["scale"] for entry in logs["float32"]] == [None] * 10
    skipped = sum(entry["skipped_steps"] for entry in logs["float16"])
    assert logs["float16"][-1]["scale"] == 2.0 ** (16 - skipped)  # each skipped step halves it, none doubles
    assert logs["float16"][-1]["steps"] - skipped >= 15
    assert sum(entry["skipped_steps"] for entry in logs["float32"]) == 0
