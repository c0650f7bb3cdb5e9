"""What a run says of itself: losses read from the device, and lines about its pace."""

import logging
import math

import pytest
import torch
from small_runs import SPEC

from yolov9bench.errors import TrainingError
from yolov9bench.nn.detector import build
from yolov9bench.ops.ranks import Ranks
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
        TrainingError, match="the loss became nan in epoch 1, iteration 3: the training diverged"
    ):
        read_losses(state, precision)


def test_in_float16_it_is_left_out_and_counted(state: State) -> None:
    count(state, [1, 1, 1, 3], [1, math.inf, 1, math.inf], [2, 2, 2, 6])
    read_losses(state, "float16")
    assert state.sums == {"box": 3, "cls": 3, "dfl": 3, "total": 9}
    assert state.unusable == 1
    assert mean_losses(state)["total"] == 4.5


def test_a_line_every_few_seconds_says_place_losses_speed_and_time_left(
    state: State, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a clock by hand: each iteration takes two seconds, and a validation of an hour comes after six."""
    now = [0.0]
    monkeypatch.setattr(epoch_log, "perf_counter", lambda: now[0])
    pace = Pace(Schedule(RECIPE, batches_per_epoch=6, epochs=10, images_per_iteration=8))
    waiting, told = [], []
    with caplog.at_level(logging.INFO):
        for number in range(9):
            if number == 6:
                now[0] += 3600
                state.begin_next_epoch()
            if number in (0, 6):
                pace.begin(state)
            now[0] += 2
            count(state, [1, 1, number, 4 * (2 + number)])  # a batch of four
            told.append(pace.tell(state, "float32"))
            waiting.append(len(state.unread))
    assert waiting == [1, 2, 0] * 3  # nothing is read from the device between the lines
    assert [record.getMessage().removesuffix(" left, validation aside") for record in caplog.records] == [
        "epoch 1 of 10, iteration 3 of 6: loss 3.0000 (box 1, cls 1, dfl 1), 4 images/s, about 1 min 54 s",
        "epoch 1 of 10, iteration 6 of 6: loss 4.5000 (box 1, cls 1, dfl 2.5), 4 images/s, about 1 min 48 s",
        "epoch 2 of 10, iteration 3 of 6: loss 9.0000 (box 1, cls 1, dfl 7), 4 images/s, about 1 min 42 s",
    ]
    shown = {"box": 1, "cls": 1, "dfl": 7, "total": 36, "images_per_second": 4}
    assert [each for each in told if each][-1] == shown and told.count(None) == 6


def test_the_last_step_bounds_what_is_left(state: State) -> None:
    """Two iterations make a step of this recipe's 64 images: five steps of eight are ten iterations."""
    schedule = Schedule(RECIPE, batches_per_epoch=1000, epochs=10, images_per_iteration=32)
    state.iteration, state.steps = 5000, 3
    assert (Pace(schedule).iterations_left(state), Pace(schedule, 8).iterations_left(state)) == (5000, 10)
    assert Pace(schedule, 10**6).iterations_left(state) == 5000


def test_several_processes_ask_rank_0_whether_a_line_is_due(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the same iterations in all, or one would wait for losses that another does not read."""
    asked: list[int] = []
    pace = Pace(Schedule(RECIPE, batches_per_epoch=100, epochs=1, images_per_iteration=8))
    monkeypatch.setattr(epoch_log, "current_ranks", lambda: Ranks(0, 2, 0))
    monkeypatch.setattr(epoch_log, "value_of_main", lambda due: asked.append(state.iteration))
    for _ in range(25):
        count(state, [1, 1, 1, 3])
        assert pace.tell(state, "float32") is None
    assert asked == [10, 20]


def test_memory_of_a_gpu_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7_250_000_000)
    assert gpu_memory(torch.device("cuda")) == ", at most 7.2 GB of GPU memory in use"
    assert gpu_memory(torch.device("cpu")) == ""
