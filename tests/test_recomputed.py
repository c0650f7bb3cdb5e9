"""Activation checkpointing and compiled training, against the plain training of the same seed."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import SPEC, small_data, small_job
from synthetic import narrowed
from torch import Tensor, nn

from yolov9bench import records
from yolov9bench.config import TrainConfig
from yolov9bench.errors import SettingsError
from yolov9bench.nn import build
from yolov9bench.nn.blocks import ConvBNAct
from yolov9bench.nn.recomputed import Recomputable, recompute_activations
from yolov9bench.ops import compiler
from yolov9bench.profiling.training_memory import Workload, predict_training_step
from yolov9bench.train import trainer
from yolov9bench.train.job import configuration_of, own_recipe
from yolov9bench.train.loop import forward_backward, optimizer_step
from yolov9bench.train.optim import Rates
from yolov9bench.train.state import Precision, State, make_state
from yolov9bench.zoo import RECIPES, ROWS, SPECS
from yolov9bench.zoo.specs import Spec

SGD = RECIPES["yolov8-n"].varied(augmentation={"image_size": 64}, optimizer={"nominal_batch": 2})
RATES = Rates((0.01, 0.008, 0.05), 0.9, accumulation=1)
NETWORKS = ("yolov8-n", "yolov9-t", "yolov9-c", "yolov9-e")
Batch = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data") / "demo")


def batch(count: int = 2) -> Batch:
    """Noise with one box in each image."""
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(256, (count, 3, 64, 64), dtype=torch.uint8, generator=generator)
    return images, torch.tensor([[number, number % 2, 10, 10, 40, 50] for number in range(count)]).float()


def small_state(spec: Spec, precision: Precision = "float32") -> State:
    state = make_state(build(narrowed(spec, 8), classes=2, seed=0).train(), SGD, 2, precision)
    if precision == "float16":  # which by the usual scale would skip both steps
        state.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    return state


def two_steps(state: State, precision: Precision) -> dict[str, Tensor]:
    """All that two steps leave: losses, gradients before each, weights, statistics, averages."""
    found: dict[str, Tensor] = {}
    for number in range(2):
        state.optimizer.zero_grad()
        found[f"losses {number}"] = forward_backward(state, *batch(), SGD, precision)
        for name, parameter in state.detector.named_parameters():
            assert parameter.grad is not None, name
            found[f"gradient {number} {name}"] = parameter.grad.clone()
        optimizer_step(state, RATES, clip_norm=10.0)
    found |= {f"weights {name}": value for name, value in state.detector.state_dict().items()}
    return found | {f"averages {name}": value for name, value in state.ema.detector.state_dict().items()}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_steps_are_those_without_it_to_the_bit(name: str, precision: Precision) -> None:
    plain, saving = (small_state(SPECS[name], precision) for _ in range(2))
    recompute_activations(saving.detector)
    expected, found = two_steps(plain, precision), two_steps(saving, precision)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert value.isfinite().all() and torch.equal(found[key], value), key
    assert int(found["weights backbone.stem.norm.num_batches_tracked"]) == 2


def computed(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each block is computed from now on."""
    seen: Counter[str] = Counter()
    for name, block in network.named_modules():
        if isinstance(block, Recomputable):

            def counting(x: Tensor, whole: Any = block.compute, name: str = name) -> Tensor:
                seen[name] += 1
                result: Tensor = whole(x)
                return result

            monkeypatch.setattr(block, "compute", counting)
    return seen


def test_every_block_is_computed_twice_where_a_gradient_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outermost blocks keep their input alone, and of what lies in them nothing is computed a third time."""
    state = small_state(SPECS["yolov9-c"])
    recompute_activations(state.detector)
    seen = computed(state.detector, monkeypatch)
    forward_backward(state, *batch(), SGD, "float32")
    blocks = {n for n, each in state.detector.named_modules() if isinstance(each, Recomputable)}
    # Computing again ends with the last tensor that the gradient needs, which a block's last one may be.
    assert seen.keys() == blocks and set(seen.values()) == {2}
    seen.clear()
    with torch.no_grad():
        state.detector(torch.zeros(1, 3, 64, 64))
    assert seen.keys() == blocks and set(seen.values()) == {1}


@pytest.mark.slow(seconds=8)
@pytest.mark.parametrize("name", ["yolov8-n", "yolov9-c"])
def test_less_than_half_of_the_memory_is_predicted(name: str) -> None:
    work = Workload(SPECS[name], own_recipe(ROWS[name]), 640, 16, boxes=10)
    usual, saving = (
        predict_training_step(replace(work, activation_checkpointing=given)) for given in (False, True)
    )
    assert saving < usual / 2


def test_a_run_is_the_same_and_goes_on_with_or_without_it(data: Path, tmp_path: Path) -> None:
    plain = small_job(data, tmp_path / "plain", max_steps=3)
    saving = replace(plain, out=tmp_path / "saving", activation_checkpointing=True)
    assert configuration_of(saving) == configuration_of(plain)
    trainer.train(plain)
    trainer.train(replace(saving, max_steps=3))
    one, other = (
        torch.load(out / "last.pt", weights_only=True)["training"]["state"]["detector"]
        for out in (plain.out, saving.out)
    )
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.accuracy
def test_a_compiled_run_learns_what_a_plain_one_learns(data: Path, tmp_path: Path) -> None:
    """Other last bits, the same losses and steps: the compiled code ran, and its record says so."""
    job = small_job(data, tmp_path / "plain", max_steps=2)
    trainer.train(job)
    translated = replace(job, out=tmp_path / "compiled", compile=True)
    seen = torch._dynamo.utils.counters
    seen.clear()
    trainer.train(translated)
    assert seen["stats"]["unique_graphs"] and seen["inductor"]
    one, other = (
        torch.load(each.out / "last.pt", weights_only=True)["training"]["state"] for each in (job, translated)
    )
    for plain, own in zip(one["log"], other["log"], strict=True):
        assert own["total"] == pytest.approx(plain["total"], rel=1e-4)
    first = build(SPEC, classes=len(job.train.categories), seed=job.seed).state_dict()
    flat = [
        torch.cat([each[name].double().flatten() for name in first])
        for each in (first, one["detector"], other["detector"])
    ]
    assert (flat[2] - flat[1]).norm() < 0.01 * (flat[1] - flat[0]).norm()
    (record,) = records.select(translated.out, kind="train")
    assert (record.settings["compile"], record.settings["activation_checkpointing"]) == (True, False)


def test_only_one_of_both_and_only_where_it_can_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingsError, match="compile and activation_checkpointing exclude each other"):
        TrainConfig("yolov8-n", "demo", tmp_path, compile=True, activation_checkpointing=True)
    job = small_job(data, tmp_path / "run", compile=True)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SettingsError, match=r"needs a C[+][+] compiler, and no-such-compiler is not here"):
        trainer.train(job)
    assert not job.out.exists() or not [*job.out.glob("*.pt")]
    monkeypatch.setattr(compiler, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="needs the package triton on a GPU"):
        compiler.require_compiler("cuda:0")
    monkeypatch.setattr("yolov9bench.train.checks.current_ranks", lambda: type("Two", (), {"world_size": 2}))
    with pytest.raises(SettingsError, match="compile is for one process"):
        trainer.train(replace(job, world_size=2))


def test_blocks_that_a_network_keeps_for_inference_have_no_part_in_it() -> None:
    state = small_state(SPECS["yolov9-t"])
    recompute_activations(state.detector)
    assert not any(isinstance(each, ConvBNAct) for each in state.detector.deployed().modules())
