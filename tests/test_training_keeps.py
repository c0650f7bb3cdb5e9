"""What a run keeps, logs and sees, against averages, means, gradients and rates worked out beside it."""

import copy
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import FILES, NOT_STEERED, RECIPE, SPEC, Killed, small_data, small_job, stub_validation
from synthetic import lively, narrowed
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from yolov9bench.data.coco import read_coco
from yolov9bench.data.loader import TrainingBatches
from yolov9bench.data.training_sample import training_sample
from yolov9bench.data.training_set import training_set
from yolov9bench.errors import TrainingError
from yolov9bench.io.files import atomic_path
from yolov9bench.nn import Detector, build
from yolov9bench.nn.blocks import ConvBNAct
from yolov9bench.ops.images import read_image
from yolov9bench.ops.kept_memory import find_glibc, give_back_free
from yolov9bench.train import checkpoint, loop, trainer
from yolov9bench.train.checkpoint import is_finished, read_log
from yolov9bench.train.initialise import initialise_head
from yolov9bench.train.job import first_images
from yolov9bench.train.loss import detection_loss
from yolov9bench.train.trainer import train
from yolov9bench.weights import load, save
from yolov9bench.zoo.specs import SPECS, Head, yolov8

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data") / "demo")


@pytest.fixture
def snapshots(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[State]]:
    """The trained network's tensors: as built, and after each step of any optimiser."""
    found: list[State] = []
    networks: list[Detector] = []
    whole = build

    def building(*arguments: Any) -> Detector:
        networks.append(whole(*arguments))
        found.append(copy.deepcopy(networks[-1].state_dict()))
        return networks[-1]

    monkeypatch.setattr(trainer, "build", building)
    hook = register_optimizer_step_post_hook(
        lambda *_: found.append(copy.deepcopy(networks[-1].state_dict()))
    )
    yield found
    hook.remove()


def average(snapshots: list[State], decay: float, ramp: float) -> State:
    """update n keeps the share decay * (1 - exp(-n / ramp)) of the average; in float64."""
    mean = {key: value.double() for key, value in snapshots[0].items()}
    for update, seen in enumerate(snapshots[1:], start=1):
        share = decay * (1 - math.exp(-update / ramp))
        mean = {key: share * mean[key] + (1 - share) * value.double() for key, value in seen.items()}
    return {key: value for key, value in mean.items() if not key.endswith("num_batches_tracked")}


def distance(one: State, other: State) -> float:
    """The largest difference between any two numbers of the same name."""
    return max(float((other[key].double() - value.double()).abs().max()) for key, value in one.items())


def test_best_is_the_average_after_the_best_epoch(
    data: Path, tmp_path: Path, snapshots: list[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = stub_validation(monkeypatch, iter([0.3, 0.5, 0.4]))
    job = small_job(data, tmp_path / "run", decay=0.8, tau=2, learning_rate=0.01)
    assert train(job) == job.out / "best.pt"
    assert len(snapshots) == 1 + 9
    averages = [average(snapshots[: 1 + 3 * epoch], 0.8, 2) for epoch in (1, 2, 3)]
    best = load(job.out / "best.pt", training=True).detector.state_dict()
    assert distance(averages[1], best) < 1e-6
    for other in (averages[0], averages[2], snapshots[6], snapshots[9]):
        assert distance(averages[1], other) > 1e-3
    assert [entry["AP"] for entry in read_log(job)] == [0.3, 0.5, 0.4]
    for expected, (validated, batches, *_) in zip(averages, seen, strict=True):
        detector = build(SPEC, classes=6)
        detector.load_state_dict({key: value.float() for key, value in expected.items()}, strict=False)
        assert distance(detector.deployed().state_dict(), validated.state_dict()) < 1e-5
        assert (batches.dataset.split, batches.protocol.image_size) == ("val", 64)
        assert len(batches.dataset.images) == 3


def test_last_holds_the_average_to_detect_with_and_the_weights_to_go_on_from(
    data: Path, tmp_path: Path, snapshots: list[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_validation(monkeypatch, count(0.9, -0.01))
    job = small_job(data, tmp_path / "run", epochs=2, decay=0.8, tau=2, learning_rate=0.01)
    train(job)
    expected = average(snapshots, 0.8, 2)
    assert distance(expected, load(job.out / "last.pt", training=True).detector.state_dict()) < 1e-6
    saved = torch.load(job.out / "last.pt", weights_only=True)["training"]["state"]
    assert distance(snapshots[-1], saved["detector"]) == 0
    assert distance(expected, snapshots[-1]) > 1e-3
    counts = [value for key, value in saved["detector"].items() if key.endswith("num_batches_tracked")]
    assert counts and {int(count) for count in counts} == {6}  # trained in train mode, batch by batch


def test_the_best_of_an_interrupted_run_stays_the_best(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = small_job(data, tmp_path / "run")
    stub_validation(monkeypatch, iter([0.5, Killed()]))
    with pytest.raises(Killed):
        train(job)
    assert not is_finished(job)
    best = (job.out / "best.pt").read_bytes()
    stub_validation(monkeypatch, iter([0.4, 0.49]))
    train(job)
    assert (job.out / "best.pt").read_bytes() == best
    assert is_finished(job)
    for gone in ("last.pt", "best.pt"):
        (job.out / gone).unlink()
        assert not is_finished(job)


@pytest.mark.parametrize(
    ("recipe", "max_steps", "measured"),
    [
        ({"validation_interval": 2, "close_mosaic": 0}, None, [2, 4]),
        ({"validation_interval": 4, "close_mosaic": 2}, None, [3, 4]),
        ({"validation_interval": 4, "close_mosaic": 1}, 4, [2]),  # the run ends in its second epoch
    ],
)
def test_epochs_are_validated_as_the_recipe_says_and_the_last_of_a_run(
    data: Path,
    tmp_path: Path,
    recipe: dict[str, int],
    max_steps: int | None,
    measured: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stub_validation(monkeypatch, count(0.9, -0.01))
    job = small_job(data, tmp_path / "run", epochs=4, max_steps=max_steps, **recipe)
    train(job)
    entries = read_log(job)
    assert [entry["epoch"] + 1 for entry in entries if entry["AP"] is not None] == measured
    assert entries[-1]["steps"] == (max_steps or 12)
    assert is_finished(job)


def watched_losses(monkeypatch: pytest.MonkeyPatch, note: Callable[[dict[str, Tensor], Tensor], Any]) -> None:
    """Have every batch's loss terms and targets noted before the loop sees them."""
    whole = detection_loss

    def noting(outputs: Any, targets: Tensor, recipe: Any) -> dict[str, Tensor]:
        losses = whole(outputs, targets, recipe)
        note(losses, targets)
        return losses

    monkeypatch.setattr(loop, "detection_loss", noting)


def test_the_log_has_the_mean_losses_of_an_epoch_and_the_rates_that_were_applied(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three batches an epoch, the last of one image; five iterations of warm-up."""
    noted: list[dict[str, float]] = []
    watched_losses(
        monkeypatch,
        lambda losses, _: noted.append({key: value.item() for key, value in losses.items()}),
    )
    stub_validation(monkeypatch, count(0.9, -0.01))
    numbers = {"learning_rate": 0.01, "final_learning_rate_factor": 0.1, "momentum": 0.9}
    warm = {
        "warmup_minimum_iterations": 5,
        "warmup_bias_learning_rate": 0.05,
        "warmup_momentum": 0.8,
        "schedule_lag_epochs": 0,
    }
    job = small_job(data, tmp_path / "run", epochs=4, **numbers, **warm)
    grown: list[list[int]] = []
    applied: list[tuple[float, float, float]] = []

    def rates_of(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        weights, norms, biases = optimizer.param_groups
        assert weights["lr"] == norms["lr"]
        applied.append((weights["lr"], biases["lr"], weights["betas"][0]))

    hook = register_optimizer_step_pre_hook(rates_of)
    try:
        train(job, watch=lambda log: grown.append([entry["epoch"] for entry in log]))
    finally:
        hook.remove()
    assert len(noted) == len(applied) == 12
    for iteration, (rate, bias_rate, momentum) in enumerate(applied):
        full = 0.01 * ((1 - iteration // 3 / 4) * 0.9 + 0.1)
        progress = min(iteration / 5, 1)
        assert rate == pytest.approx(full * progress, rel=1e-9)
        assert bias_rate == pytest.approx(0.05 + (full - 0.05) * progress, rel=1e-9)
        assert momentum == pytest.approx(0.8 + 0.1 * progress, rel=1e-9)
    entries = read_log(job)
    assert grown == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]
    for number, entry in enumerate(entries):
        for term in ("box", "cls", "dfl", "total"):
            mean = sum(losses[term] for losses in noted[3 * number : 3 * number + 3]) / 3
            assert entry[term] == pytest.approx(mean, rel=1e-6), (number, term)
        full = 0.01 * ((1 - number / 4) * 0.9 + 0.1)
        progress = min((3 * number + 2) / 5, 1)
        assert entry["rate"] == pytest.approx(full * progress, rel=1e-9)
        assert entry["bias_rate"] == pytest.approx(0.05 + (full - 0.05) * progress, rel=1e-9)
        assert entry["momentum"] == pytest.approx(0.8 + 0.1 * progress, rel=1e-9)
    assert len({entry["total"] for entry in entries}) == 4


def test_gradients_do_not_wait_across_epochs(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches a step and three an epoch: one is left over, whose gradients no step may have."""
    networks: list[Detector] = []
    waiting: list[list[Tensor]] = []
    iterations: list[int] = []
    checked: list[int] = []

    def building(*given: Any) -> Detector:
        networks.append(build(*given))
        return networks[-1]

    monkeypatch.setattr(trainer, "build", building)

    def note(losses: dict[str, Tensor], _: Tensor) -> None:
        if len(iterations) % 3 == 0:
            waiting.clear()  # an epoch begins
        iterations.append(len(iterations))
        parameters = list(networks[0].parameters())
        waiting.append(list(torch.autograd.grad(losses["total"], parameters, retain_graph=True)))

    def check(*_: Any) -> None:
        for parameter, *found in zip(networks[0].parameters(), *waiting, strict=True):
            assert parameter.grad is not None
            assert torch.allclose(parameter.grad, sum(found, torch.zeros(())), rtol=1e-4, atol=1e-5)
        checked.append(iterations[-1])
        waiting.clear()

    watched_losses(monkeypatch, note)
    stub_validation(monkeypatch, count(0.9, -0.01))
    hook = register_optimizer_step_pre_hook(check)
    try:
        train(small_job(data, tmp_path / "run", nominal_batch=4, clip_norm=1e9))
    finally:
        hook.remove()
    assert checked == [1, 3, 5, 7]
    assert len(iterations) == 9


def test_checkpoints_come_after_ten_minutes_and_after_each_epoch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An iteration takes 250 s here: 500 s do not call for a checkpoint, 750 s do, counted from the last."""
    clock = [0.0]
    kept: list[int] = []
    whole = save

    def saving(path: Path, *arguments: Any) -> None:
        if path.name == "last.pt":
            kept.append(arguments[-1]["state"]["steps"])
        whole(path, *arguments)

    def passed(*_: Any) -> None:
        clock[0] += 250

    watched_losses(monkeypatch, passed)
    stub_validation(monkeypatch, count(0.9, -0.01))
    monkeypatch.setattr(loop, "monotonic", lambda: clock[0])
    monkeypatch.setattr(checkpoint, "save", saving)
    train(small_job(data, tmp_path / "run", batch_size=1, nominal_batch=1, epochs=2))
    assert kept == [3, 5, 8, 10]


@pytest.mark.parametrize(
    "name", ["last.pt", "best.pt", "log.jsonl", "run.json", "records/yolov8-n/train-.json"]
)
def test_what_a_kill_left_half_written_is_removed_and_nothing_else(
    data: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The half-written file has the name under which such files are written."""
    stub_validation(monkeypatch, count(0.9, -0.01))
    job = small_job(data, tmp_path / "run", max_steps=1)
    with atomic_path(job.out / name) as stray:
        stray.write_bytes(b"half")
    (job.out / name).rename(stray)
    others = ["notes.txt", "epoch3.pt", ".hidden.pt", "last-good.pt"]
    for other in others:
        (job.out / other).write_text("mine")
    train(job)
    left = {path.name for path in job.out.iterdir()}
    assert left == {*FILES, *others}
    assert len(list((job.out / "records/yolov8-n").iterdir())) == 1


def head_convolutions(detector: Detector) -> dict[str, nn.Conv2d]:
    return {
        name: module.conv
        for name, module in detector.main.head.named_modules()
        if isinstance(module, ConvBNAct)
    }


@pytest.mark.parametrize("way", ["default", "kaiming-normal"])
def test_a_run_starts_from_the_initialisation_of_its_recipe(
    data: Path, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rates of 0 the weights after a step are those before it."""
    stub_validation(monkeypatch, count(0.9, -0.01))
    spec = yolov8("wide", (8, 8, 16, 32, 48), (1, 1), Head("dense", 32, 24))
    job = small_job(data, tmp_path / "run", spec=spec, seed=3, max_steps=1, **NOT_STEERED)
    job = replace(job, recipe=job.recipe.varied(run={"head_initialisation": way}))
    train(job)
    found = load(job.out / "last.pt", training=True).detector
    plain = build(spec, classes=6, seed=3)
    drawn = {f"main.head.{name}.conv.weight" for name in head_convolutions(plain)}
    drawn = drawn if way == "kaiming-normal" else set()
    for name, parameter in plain.named_parameters():
        assert torch.equal(found.get_parameter(name), parameter) == (name not in drawn), name
    assert len(drawn) == (12 if way == "kaiming-normal" else 0)


def test_head_convolutions_have_the_standard_deviation_of_their_fan_out() -> None:
    """sqrt(2 / (k * k * out)); mean and deviation of n numbers are known to 1 / sqrt(n), 1 / sqrt(2n)."""
    spec = yolov8("wide", (8, 8, 16, 32, 48), (1, 1), Head("dense", 32, 24))
    detector, plain = build(spec, classes=6), build(spec, classes=6)
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    initialise_head(detector, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)
    convolutions = head_convolutions(detector)
    assert len(convolutions) == 12
    for name, convolution in convolutions.items():
        expected = math.sqrt(2 / (3 * 3 * convolution.out_channels))
        values = convolution.weight.detach().double()
        assert convolution.kernel_size == (3, 3)
        assert values.std().item() == pytest.approx(expected, rel=5 / math.sqrt(2 * values.numel())), name
        assert abs(values.mean().item()) < 5 * expected / math.sqrt(values.numel()), name
    changed = {
        name
        for name, value in plain.state_dict().items()
        if not torch.equal(value, detector.state_dict()[name])
    }
    assert changed == {f"main.head.{name}.conv.weight" for name in convolutions}
    again, other = build(spec, classes=6), build(spec, classes=6)
    initialise_head(again, seed=5)
    initialise_head(other, seed=6)
    first = next(iter(convolutions))
    assert torch.equal(head_convolutions(again)[first].weight, convolutions[first].weight)
    assert not torch.equal(head_convolutions(other)[first].weight, convolutions[first].weight)


def test_a_run_goes_through_the_batches_of_its_seed_and_epochs(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    read: list[Path] = []
    whole = read_image

    def reading(path: Path) -> Any:
        read.append(path)
        return whole(path)

    watched_losses(monkeypatch, lambda _, targets: seen.append(targets.clone()))
    stub_validation(monkeypatch, count(0.9, -0.01))
    monkeypatch.setattr("yolov9bench.data.training_set.read_image", reading)
    job = small_job(data, tmp_path / "run", seed=4)
    train(job)
    assert {path.parent.name for path in read} == {"train"}
    assert {path.name for path in read} == {f"{number:06d}.png" for number in range(1, 6)}
    expected = [
        targets
        for epoch in range(3)
        for _, targets in TrainingBatches(read_coco(data, "train"), job.recipe, 2, seed=4, epoch=epoch)
    ]
    assert len(seen) == len(expected) == 9
    for ours, theirs in zip(seen, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_the_first_images_of_a_run_are_those_of_its_seed_and_first_epoch(data: Path, tmp_path: Path) -> None:
    job = small_job(data, tmp_path / "run", seed=4, mosaic_prob=1.0)
    images = training_set(job.train, job.recipe.augmentation.mask_refine)
    found = first_images(job, 12)
    assert len(found) == 5
    assert len(first_images(job, 2)) == 2
    for index, sample in enumerate(found):
        expected = training_sample(images, index, job.recipe, seed=4, epoch=0)
        assert (sample.pixels == expected.pixels).all() and (sample.boxes == expected.boxes).all()


def test_training_starts_from_all_of_a_checkpoint_auxiliary_branch_included(
    data: Path, tmp_path: Path
) -> None:
    spec = narrowed(SPECS["yolov9-c"], 8)
    start = lively(spec, classes=6)
    save(tmp_path / "start.pt", start, None)
    state, _ = trainer.prepare(small_job(data, tmp_path / "run", spec=spec, start=tmp_path / "start.pt"))
    found, expected = state.detector.state_dict(), start.state_dict()
    assert any(name.startswith("aux.") for name in expected)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_the_configuration_of_a_run_is_written_beside_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_validation(monkeypatch, count(0.9, -0.01))
    monkeypatch.setattr("sys.argv", ["yolov9bench", "train", "--seed", "9"])
    job = small_job(data, tmp_path / "run", max_steps=1, seed=9)
    train(job)
    written = json.loads((job.out / "run.json").read_text())
    assert (written["seed"], written["batch_size"], written["max_steps"]) == (9, 2, 1)
    assert written["recipe"]["optimizer"]["nominal_batch"] == RECIPE.optimizer.nominal_batch
    assert written["command"][-2:] == ["--seed", "9"]


@pytest.mark.skipif(find_glibc() is None, reason="no glibc")
def test_a_training_on_a_cpu_keeps_what_a_step_frees(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen from within: a step of 256 MB in place of all steps, after which the run is given up."""
    size, found = 256 * 2**20, []

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def step(*_: object) -> None:
        give_back_free()  # what other tests of this process left free would take the 256 MB
        before = resident()
        torch.ones(size, dtype=torch.uint8)
        found.append(resident() - before)
        raise TrainingError("given up")

    monkeypatch.setattr(trainer, "fit", step)
    with pytest.raises(TrainingError, match="given up"):
        train(small_job(data, tmp_path / "run"))
    assert found[0] > 200 * 2**20
