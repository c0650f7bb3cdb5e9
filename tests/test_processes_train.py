"""Training in two processes on the CPU: a step beside its formula, and a run with all that it leaves."""

import copy
import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_runs import FILES, file_bytes, small_data, small_job
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from yolov9bench import records
from yolov9bench.errors import SettingsError, TrainingError
from yolov9bench.nn.detector import Detector, build
from yolov9bench.ops.distributed import process_group
from yolov9bench.ops.ranks import Ranks
from yolov9bench.train import loop, trainer
from yolov9bench.train.checkpoint import read_checkpoint, resume, write_run
from yolov9bench.train.job import Job, configuration_of, name_run
from yolov9bench.train.loop import forward_backward, optimizer_step
from yolov9bench.train.loss import detection_loss
from yolov9bench.train.optim import Rates
from yolov9bench.train.state import make_state, synchronise_statistics
from yolov9bench.train.trainer import prepare, train
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
    first = torch.cat([torch.tensor([[0.0, 0], [1, 1], [0, 0], [1, 1]]), torch.tensor(boxes)], dim=1)
    second = torch.tensor([[1.0, 0, 10, 10, 50, 50]])
    return [(images[0], first), (images[1], second)]


def free_port() -> str:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


def run_both(rank: int, port: str, out: Path, data: Path) -> None:
    """One of two processes that torchrun would start: it takes one step on its half, then trains a run."""
    torch.set_num_threads(1)
    place = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ.update(place | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
    with process_group("cpu"):
        state = make_state(small_detector(), RECIPE, 4, "float32")
        forward_backward(state, *halves()[rank], RECIPE, "float32")
        optimizer_step(state, Rates((RATE, RATE, RATE), 0.0, 1), RECIPE.optimizer.clip_norm)
        torch.save(state.detector.state_dict(), out / f"{rank}.pt")
        assert train(two_processes_job(data, out)) == out / "run/best.pt"
        train(replace(two_processes_job(data, out), out=out / "frozen", freeze=3, max_steps=2))
        checkpoints_on_the_way(rank, replace(two_processes_job(data, out), out=out / "short"), out)


def checkpoints_on_the_way(rank: int, job: Job, out: Path) -> None:
    """Train where a checkpoint is always due by rank 0's clock, never by the other's; 2 steps a question."""
    steps: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0 if rank == 0 else 1e9)
        patch.setattr(loop, "STEPS_BETWEEN_QUESTIONS", 2)
        patch.setattr(trainer, "save_checkpoint", lambda _job, state, *_: steps.append(state.steps))
        train(job)
    (out / f"{rank}.json").write_text(json.dumps(steps))


def two_processes_job(data: Path, out: Path) -> Job:
    """Five images for two processes: three each, one of them twice; an odd one in the last batch of two."""
    return replace(small_job(data, out / "run"), world_size=2)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    spawn(run_both, (free_port(), folder, small_data(folder / "data")), nprocs=2)  # type: ignore[no-untyped-call]
    return folder


def stepped(*losses: Callable[[Detector], Tensor]) -> dict[str, Tensor]:
    """The weights after a plain step down the gradient of a sum of losses."""
    detector = small_detector()
    torch.stack([loss(detector) for loss in losses]).sum().backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter in detector.parameters():
            if parameter.grad is not None:
                parameter.sub_(RATE * parameter.grad)
    return copy.deepcopy(detector.state_dict())


def loss_on(images: Tensor, targets: Tensor) -> Callable[[Detector], Tensor]:
    return lambda detector: detection_loss(detector(images.double() / 255), targets.double(), RECIPE)["total"]


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name].double() - value.double()).abs().max()) for name, value in other.items())


@pytest.mark.slow(20)
def test_a_step_of_two_processes_is_that_of_both_halves_losses(out: Path) -> None:
    """Each process divides by the scores of its own objects alone, as both references do.

    So the step is down the sum of the halves' losses (their mean times two), and not that of the joint batch,
    whose one divisor is shared: the objects of the emptier half would count less.
    """
    found = [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert distance(found[0], found[1]) == 0
    first, second = halves()
    expected = stepped(loss_on(*first), loss_on(*second))
    assert distance(found[0], expected) < 1e-6
    moved = torch.cat([second[1][:, :1] + 2, second[1][:, 1:]], dim=1)
    joint = stepped(loss_on(torch.cat([first[0], second[0]]), torch.cat([first[1], moved])))
    assert distance(found[0], joint) > 1e-4
    assert distance(small_detector().state_dict(), expected) > 1e-3


def test_a_run_of_two_processes_leaves_what_one_leaves(out: Path) -> None:
    assert sorted(path.name for path in (out / "run").iterdir()) == FILES
    entries = [json.loads(line) for line in (out / "run/log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in entries] == [0, 1, 2]
    assert [entry["steps"] for entry in entries] == [2, 4, 6]  # three images each, two at a time
    for entry in entries:
        assert len(entry["processes"]) == 2
        assert all(each["images_per_second"] > 0 for each in entry["processes"])
    written = json.loads((out / "run/run.json").read_text())
    assert (written["world_size"], written["environment"]["device"]) == (2, "cpu")
    (record,) = records.select(out / "run")
    assert (record.settings["processes"], len(record.values["parts"][0]["devices"])) == (2, 2)
    assert record.values["device_hours"] == pytest.approx(2 * record.seconds / 3600, abs=1e-4)


def test_frozen_parts_stay_in_several_processes(out: Path) -> None:
    """Stem and two stages of the fresh network, statistics included; the stage behind them has moved."""
    state = torch.load(out / "frozen/last.pt", weights_only=True)["training"]["state"]
    fresh = prepare(replace(two_processes_job(out / "data", out), out=out / "none"))[0].detector.state_dict()
    frozen = ("backbone.stem.", "backbone.stages.0.", "backbone.stages.1.")
    kept = [key for key, value in state["detector"].items() if torch.equal(value, fresh[key])]
    assert [key for key in fresh if key.startswith(frozen)] == [
        key for key in kept if key.startswith("backbone.")
    ]


def test_rank_0_says_when_a_checkpoint_is_due(out: Path) -> None:
    """After every second step, and at the end of each epoch of two steps: the same in both processes."""
    found = [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]
    assert found == [[2, 2, 4, 4, 6, 6]] * 2


def test_a_smaller_batch_continues_at_the_same_image_of_each_process(out: Path, tmp_path: Path) -> None:
    """After one batch of two of the second epoch, in which each process trains on three images."""
    shutil.copytree(out / "run", tmp_path / "run")
    before = replace(two_processes_job(out / "data", out), out=tmp_path / "run")
    write_run(before, configuration_of(before), stopped="2 images do not fit")
    job = replace(before, batch_size=1)
    content = read_checkpoint(job)
    assert content is not None
    content["training"]["state"] |= {"epoch": 1, "batch": 1, "iteration": 3}
    state, schedule = prepare(job, content)
    resume(job, state, configuration_of(job), content)
    assert (schedule.batches_per_epoch, state.batch, state.iteration) == (3, 2, 3 + 2)


@pytest.mark.parametrize("world_size", [1, 3])
def test_another_number_of_processes_is_refused_and_both_are_named(
    out: Path, world_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the other number of processes would see the folder; nothing in it changes."""
    before = file_bytes(out / "run")
    monkeypatch.setattr("yolov9bench.train.checks.current_ranks", lambda: Ranks(0, world_size))
    with pytest.raises(TrainingError, match=f"holds a run in 2 processes, and this is one in {world_size}"):
        train(replace(two_processes_job(out / "data", out), world_size=world_size))
    assert file_bytes(out / "run") == before


def test_a_job_for_other_processes_than_there_are_is_refused(out: Path, tmp_path: Path) -> None:
    job = replace(two_processes_job(out / "data", out), out=tmp_path / "run")
    with pytest.raises(SettingsError, match="the job is for 2 processes, but here are 1"):
        train(job)
    assert not job.out.exists()


def test_one_process_keeps_the_name_it_had_and_two_have_another(out: Path) -> None:
    two = two_processes_job(out / "data", out)
    one = replace(two, world_size=1)
    assert configuration_of(one)["world_size"] == 1
    assert name_run(one) != name_run(two) != name_run(replace(two, world_size=3))


def test_statistics_of_all_processes_keep_names_and_parameters() -> None:
    """The structure alone: torch has SyncBatchNorm's arithmetic on GPUs only, and none is here."""
    detector = build(SMALL, classes=2, seed=0)
    names, parameters = list(detector.state_dict()), list(detector.parameters())
    norms = sum(isinstance(each, nn.BatchNorm2d) for each in detector.modules())
    settings = {(each.eps, each.momentum) for each in detector.modules() if isinstance(each, nn.BatchNorm2d)}
    synchronise_statistics(detector)
    found = [each for each in detector.modules() if isinstance(each, nn.SyncBatchNorm)]
    assert len(found) == norms > 20
    assert not any(isinstance(each, nn.BatchNorm2d) for each in detector.modules())
    assert {(each.eps, each.momentum) for each in found} == settings
    assert list(detector.state_dict()) == names
    assert all(one is other for one, other in zip(detector.parameters(), parameters, strict=True))
