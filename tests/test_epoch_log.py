"""What a run says of itself: losses read from the device, and lines about its pace."""

import logging
import math

import pytest
import torch
from small_runs import SPEC

from yolov9bench.errors import TrainingError
from yolov9bench.nn.detector import build
from yolov9bench.train import epoch_log
from yolov9bench.train.epoch_log import Pace, gpu_memory, mean_losses, read_losses
from yolov9bench.train.loop import count_iteration
from yolov9bench.train.optim import Schedule
from yolov9bench.train.state import TERMS, Precision, State, make_state
from yolov9bench.zoo import RECIPES

RECIPE = RECIPES["yolov8-n"]
NAN = math.nan


@pytest.fixture
def state() -> State:
    return make_state(build(SPEC, classes=2), RECIPE, 4, "float32")


def count(state: State, *losses: list[float]) -> None:
    for each in losses:
        count_iteration(state, torch.tensor(each))


@pytest.mark.parametrize("cuts", [(), (1,), (1, 2)])
def test_losses_add_up_however_often_they_are_read(state: State, cuts: tuple[int, ...]) -> None:
    """To the last bit: 0.1 and the like are no sums of powers of two."""
    losses = [[0.1, 0.2, 0.3, 0.6], [0.7, 0.1, 0.9, 1.7], [1e-3, 3e7, 0.3, 3e7]]
    for number, each in enumerate(losses):
        count(state, each)
        if number in cuts:
            read_losses(state, "float32")
    read_losses(state, "float32")
    assert not state.unread
    for place, term in enumerate(TERMS):
        expected = 0.0
        for each in losses:
            expected += torch.tensor(each)[place].item()
        assert state.sums[term] == expected
    assert mean_losses(state)["total"] == state.sums["total"] / 3


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_loss_that_is_not_finite_is_named_by_its_iteration(state: State, precision: Precision) -> None:
    count(state, [1, 1, 1, 3])
    read_losses(state, precision)
    count(state, [1, 1, 1, 3], [1, NAN, 1, NAN], [1, 1, 1, 3])
    with pytest.raises(
        TrainingError, match="the loss became nan in epoch 0, iteration 2: the training diverged"
    ):
        read_losses(state, precision)


def test_in_float16_it_is_left_out_and_counted(state: State) -> None:
    count(state, [1, 1, 1, 3], [1, math.inf, 1, math.inf], [2, 2, 2, 6])
    read_losses(state, "float16")
    assert state.sums == {"box": 3, "cls": 3, "dfl": 3, "total": 9}
    assert state.unusable == 1
    assert mean_losses(state)["total"] == 4.5


def test_the_time_left_is_said_once_from_the_iterations_after_the_first(
    state: State, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a clock by hand: the first five iterations take an hour each, the others two seconds."""
    now = [0.0]
    monkeypatch.setattr(epoch_log, "perf_counter", lambda: now[0])
    monkeypatch.setattr(epoch_log, "ITERATIONS_BETWEEN_LINES", 40)
    pace = Pace(Schedule(RECIPE, batches_per_epoch=100, epochs=10, images_per_iteration=8))
    with caplog.at_level(logging.INFO):
        for number in range(45):
            now[0] += 3600 if number < 5 else 2
            count(state, [1, 1, 1, 3])
            pace.count(state, "float32")
    assert [record.getMessage() for record in caplog.records] == [
        "2 s an iteration of 8 images: about 32 min 30 s left, validation aside",  # 975 iterations
        "epoch 0, iteration 40 of 100: loss 3.0000",
    ]


def test_memory_of_a_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7_250_000_000)
    assert gpu_memory(torch.device("cuda")) == "; at most 7.2 GB of GPU memory were in use"
    assert gpu_memory(torch.device("cpu")) == ""
