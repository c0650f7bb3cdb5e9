"""Training in two processes on the CPU: a step beside its formula, runs that are killed and started again."""

import copy
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, multiprocessing

from yolov9bench.nn.detector import Detector, build
from yolov9bench.ops.distributed import process_group
from yolov9bench.train.loop import forward_backward, optimizer_step
from yolov9bench.train.loss import detection_loss
from yolov9bench.train.optim import Rates
from yolov9bench.train.state import make_state
from yolov9bench.zoo import RECIPES
from yolov9bench.zoo.specs import Head, yolov8

SMALL = yolov8("small", (8, 8, 16, 16, 16), (1, 1), Head("dense", 16, 16))
RECIPE = RECIPES["yolov8-n"].varied(
    optimizer={"nesterov": False, "momentum": 0.0, "weight_decay": 0.0, "clip_norm": 1e9}
)
RATE = 0.01


def small_detector() -> Detector:
    """In float64, BatchNorm in eval mode, so that no statistics depend on who shares a batch."""
    return build(SMALL, classes=2, seed=0).double().eval()


def halves() -> list[tuple[Tensor, Tensor]]:
    """Two images of noise for each process, with four objects on the first and one on the second."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 2, 3, 64, 64), generator=generator, dtype=torch.uint8)
    boxes = [[4.0, 4, 30, 40], [20, 10, 60, 60], [8, 30, 40, 62], [30, 2, 63, 30]]
    first = torch.tensor([[number % 2, number % 2, *box] for number, box in enumerate(boxes)])
    second = torch.tensor([[1.0, 0, 10, 10, 50, 50]])
    return [(images[0], first), (images[1], second)]


def free_port() -> str:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


def one_step(rank: int, port: str, out: Path) -> None:
    """What torchrun would start: one of two processes, which takes one step on its half."""
    torch.set_num_threads(1)
    place = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ.update(place | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
    with process_group("cpu"):
        state = make_state(small_detector(), RECIPE, 4, "float32")
        forward_backward(state, *halves()[rank], RECIPE, "float32")
        optimizer_step(state, Rates((RATE, RATE, RATE), 0.0, 1), RECIPE.optimizer.clip_norm)
        torch.save(state.detector.state_dict(), out / f"{rank}.pt")


def stepped(*losses: Any) -> dict[str, Tensor]:
    """The weights after a plain step down the gradient of a sum of losses."""
    detector = small_detector()
    sum(loss(detector) for loss in losses).backward()
    with torch.no_grad():
        for parameter in detector.parameters():
            if parameter.grad is not None:
                parameter -= RATE * parameter.grad
    return copy.deepcopy(detector.state_dict())


def loss_on(images: Tensor, targets: Tensor) -> Any:
    return lambda detector: detection_loss(detector(images.double() / 255), targets.double(), RECIPE)["total"]


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name].double() - value.double()).abs().max()) for name, value in other.items())


@pytest.mark.slow(15)
def test_a_step_of_two_processes_is_that_of_both_halves_losses(tmp_path: Path) -> None:
    """Each process divides by the scores of its own objects alone, as both references do.

    So the step is down the sum of the halves' losses (their mean times two), and not that of the joint batch,
    whose one divisor is shared: the objects of the emptier half would count less.
    """
    multiprocessing.spawn(one_step, (free_port(), tmp_path), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert distance(found[0], found[1]) == 0
    first, second = halves()
    expected = stepped(loss_on(*first), loss_on(*second))
    assert distance(found[0], expected) < 1e-6
    moved = torch.cat([second[1][:, :1] + 2, second[1][:, 1:]], dim=1)
    joint = stepped(loss_on(torch.cat([first[0], second[0]]), torch.cat([first[1], moved])))
    assert distance(found[0], joint) > 1e-4
    assert distance(small_detector().state_dict(), expected) > 1e-3
