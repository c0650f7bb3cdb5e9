"""Costs on a GPU that is made up: what is measured there, in which order, and that it reaches the record."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from yolov9bench.errors import SettingsError
from yolov9bench.nn import build
from yolov9bench.profiling import latency, peak_memory, profile, summary, training_memory
from yolov9bench.profiling.flops import count_gflops
from yolov9bench.profiling.latency import Timing, find_best_batch, percentile, time_runs
from yolov9bench.profiling.peak_memory import Peak, process_bytes
from yolov9bench.profiling.training_memory import Workload
from yolov9bench.zoo import RECIPES, ROWS
from yolov9bench.zoo.specs import Head, yolov8

SMALL = yolov8("small", (8, 8, 16, 16, 16), (1, 1), Head("dense", 16, 16))
FOUND = Peak(5_000, 7_000, 9_000)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """torch.cuda with figures of our own; the list says what was called, in order."""
    calls: list[str] = []

    def noting(name: str, value: int | None = None) -> Callable[..., int | None]:
        def call(*devices: str) -> int | None:
            calls.append(" ".join([name, *devices]))
            return value

        return call

    for name in ("empty_cache", "reset_peak_memory_stats", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, noting(name))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", noting("allocated", 3 * 2**20))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", noting("reserved", 4 * 2**20))
    monkeypatch.setattr(peak_memory, "process_bytes", lambda _: 5 * 2**20)
    return calls


def test_a_peak_begins_before_the_run_and_ends_when_the_gpu_has(gpu: list[str]) -> None:
    """Read before the GPU has finished, or not reset, it would be another run's."""
    found = peak_memory.measure_peak(lambda: gpu.append("run"), "cuda:1")
    assert found == Peak(3 * 2**20, 4 * 2**20, 5 * 2**20)
    assert gpu.index("reset_peak_memory_stats cuda:1") < gpu.index("run") < gpu.index("synchronize cuda:1")
    assert gpu.index("synchronize cuda:1") < gpu.index("allocated cuda:1")


@pytest.mark.parametrize("near", ["1{pid}", "{pid}1"])
def test_another_process_of_like_number_is_another(monkeypatch: pytest.MonkeyPatch, near: str) -> None:
    pid = str(os.getpid())
    lines = f"GPU-2e, {near.format(pid=pid)}, 300\nGPU-2e, {pid}, 512\n"
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="2e"))
    done = subprocess.CompletedProcess([], 0, stdout=lines)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert process_bytes("cuda:0") == 536_870_912


def test_memory_of_training_is_measured_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measured(work: Workload, device: str) -> Peak:
        asked.append((work.batch_size, device))
        return FOUND

    monkeypatch.setattr(training_memory, "measure_training_step", measured)
    monkeypatch.setattr(training_memory, "predict_training_step", lambda work: 4_000)
    work = Workload(SMALL, RECIPES["yolov8-n"], 64, 3, 1)
    whole = {"predicted_bytes": 4_000, "allocated_bytes": 5_000}
    assert asdict(profile.measure_training_memory(work, "cuda:0")) == whole | {
        "reserved_bytes": 7_000,
        "process_bytes": 9_000,
    }
    assert asked == [(3, "cuda:0")]
    nothing = {"allocated_bytes": None, "reserved_bytes": None, "process_bytes": None}
    assert asdict(profile.measure_training_memory(work, "cpu")) == whole | nothing
    assert asked == [(3, "cuda:0")]


def test_memory_of_inference_is_measured_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bytes a weight are predicted, and feature maps of one image of 32 px, a few KiB."""
    runs = []
    monkeypatch.setattr(profile, "build_deployed", lambda spec, device: build(spec, 80).deployed())

    def measure_peak(run: Callable[[], object], device: str) -> Peak:
        run()
        return FOUND

    monkeypatch.setattr(profile, "measure_peak", measure_peak)
    monkeypatch.setattr(
        latency, "make_forward", lambda detector, batch, size: lambda: runs.append((batch, size))
    )
    on_gpu, on_cpu = (
        asdict(profile.measure_inference_memory(SMALL, device, 32)) for device in ("cuda", "cpu")
    )
    assert (on_gpu["allocated_bytes"], on_gpu["reserved_bytes"]) == (5_000, 7_000)
    assert runs == [(1, 32)] * 2  # once before the peak begins, as the first run takes more
    assert on_cpu == on_gpu | dict.fromkeys(("allocated_bytes", "reserved_bytes", "process_bytes"))
    tensors = build(SMALL, 80).deployed().state_dict().values()
    weights = sum(-(-2 * tensor.numel() // 512) * 512 for tensor in tensors)
    assert on_cpu["predicted_bytes"] is not None
    assert weights < on_cpu["predicted_bytes"] < weights + 64 * 1024


def test_a_run_is_of_the_whole_batch_and_keeps_nothing_for_a_gradient() -> None:
    seen = []
    detector = build(SMALL, 80).deployed()
    detector.register_forward_hook(
        lambda module, inputs, outputs: seen.append(
            (tuple(inputs[0].shape), torch.is_inference_mode_enabled())
        )
    )
    latency.make_forward(detector, 3, 64)()
    assert seen == [((3, 3, 64, 64), True)]


def test_the_batch_that_is_timed_is_the_batch_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches 1, 2 and 4 take as long as one image, 8 four times as long."""
    monkeypatch.setattr(profile, "build_deployed", lambda spec, device: f"{spec.name} on {device}")
    monkeypatch.setattr(latency, "make_forward", lambda detector, batch, size: (detector, batch, size))
    ran = []

    def timing(run: Any, batch: int, seconds: float) -> Timing:
        ran.append((*run, batch, seconds))
        return Timing(batch, 3, 4.0 if batch == 8 else 1.0, None, None)

    monkeypatch.setattr(latency, "time_runs", timing)
    single, best = profile.time_detector(SMALL, "cuda", 96)
    assert (single.batch, best.batch) == (1, 4)
    assert ran == [("small on cuda", batch, 96, batch, 10.0) for batch in (1, 2, 4, 8)]


def test_half_precision_on_a_gpu_alone() -> None:
    assert [profile.inference_precision(each) for each in ("cuda", "cuda:1", "cpu")] == [
        "float16",
        "float16",
        "float32",
    ]


def test_arithmetic_is_of_both_graphs_at_the_size_asked_for() -> None:
    """Four times the pixels are four times the multiply-adds; deploying folds the norms' parameters away."""
    small, large = profile.count_costs(SMALL, 64), profile.count_costs(SMALL, 128)
    (parameters, small_gflops), (_, large_gflops) = small, large
    assert large_gflops.training == pytest.approx(4 * (small_gflops.training or 0), rel=1e-9)
    assert large_gflops.deployed == pytest.approx(4 * (small_gflops.deployed or 0), rel=1e-9)
    assert small[0] == large[0]
    norms = [each for each in build(SMALL, 80).modules() if isinstance(each, torch.nn.BatchNorm2d)]
    saved = sum(norm.num_features for norm in norms)  # weight and bias go, the convolution gets a bias
    assert len(norms) > 30
    assert parameters.training is not None and parameters.deployed is not None
    assert parameters.training - parameters.deployed == saved


@pytest.mark.parametrize("runs", [19, 20, 99, 100])
def test_percentiles_need_their_runs(runs: int) -> None:
    """p95 from 20 runs on and p99 from 100: the last slow one of them is what they name."""
    now = [0.0]
    took: list[float] = []

    def run() -> None:
        took.append(1.0)
        now[0] += 1.0

    found = time_runs(run, 1, float(runs), lambda: now[0])
    assert found.runs == runs
    assert (found.p95 is None, found.p99 is None) == (runs < 20, runs < 100)


@pytest.mark.parametrize(
    ("count", "percent", "rank"),
    [(3, 50, 2), (4, 50, 2), (5, 50, 3), (21, 95, 20), (101, 99, 100), (1, 1, 1)],
)
def test_a_percentile_is_not_exceeded_by_its_share(count: int, percent: int, rank: int) -> None:
    """Rounded up: of three runs one and a half must not exceed the median, so two."""
    values = range(1, count + 1)
    assert percentile(values, percent) == rank
    assert sum(value <= rank for value in values) * 100 >= percent * count
    assert sum(value < rank for value in values) * 100 < percent * count


def test_a_larger_batch_that_gains_too_little_ends_the_search_but_counts() -> None:
    """101 images a second after 100 are the best, though the search ends; 99 are not."""
    for last, best in ((101, 2), (100, 1), (99, 1)):
        larger = Timing(2, 3, 2 / last, None, None)
        assert find_best_batch({2: larger}.__getitem__, Timing(1, 3, 1 / 100, None, None)).batch == best


def test_a_rows_usual_batch_is_16_images_and_its_boxes_follow_the_batch() -> None:
    row = ROWS["yolov8-n"]
    usual = {size: profile.workloads(row, 640, size)["plain"].boxes for size in (1, 16, 64)}
    assert usual[1] < usual[16] < usual[64]
    defaults = profile.measure_row.__defaults__
    assert defaults == ("auto", 640, 16, False)


@pytest.mark.parametrize(("size", "fits"), [(-32, False), (0, False), (16, False), (32, True), (48, False)])
def test_sizes_of_images_are_multiples_of_32_from_32_up(size: int, fits: bool) -> None:
    if fits:
        assert profile.workloads(ROWS["yolov8-n"], size, 1)["plain"].image_size == size
    else:
        with pytest.raises(SettingsError, match="is not a multiple of 32"):
            profile.workloads(ROWS["yolov8-n"], size, 1)


def test_milliseconds_and_units_of_what_is_published() -> None:
    """2.5 GB are 2.33 GiB if a GB is 1e9 bytes, and 2.44 GiB if it is 1000 MiB."""
    assert summary._milliseconds(0.01234) == "12.3 ms"
    row = ROWS["yolov8-n"]
    lines = summary._published(replace(row, published=replace(row.published, memory_gb=2.5)))
    text = " ".join(line for _, line in lines)
    assert "2.33 GiB" in text and "(2.44 GiB)" in text and "(2.50 GiB)" in text


@pytest.mark.parametrize("classes", [1, 80])
def test_gflops_are_those_of_every_convolution_that_runs(classes: int) -> None:
    """Counted on a real run: 2 * kernel * inputs a group * outputs * places, in 1e9 and not in 2**30."""
    detector = build(SMALL, classes).deployed()
    counts: list[int] = []

    def note(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> None:
        assert isinstance(module, torch.nn.Conv2d)
        counts.append(2 * module.weight.numel() * output.shape[2] * output.shape[3])

    for module in detector.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(note)
    with torch.no_grad():
        detector(torch.zeros(1, 3, 64, 96))
    assert len(counts) > 40
    seen = sum(counts) * 64 * 64 / (64 * 96)  # convolutions cost as much for every pixel
    assert count_gflops(detector, 64) == pytest.approx(seen / 1e9, rel=1e-9)


def test_memory_of_inference_is_without_the_auxiliary_branch() -> None:
    """yolov9-t trains 2.9 million numbers and deploys 2.0, of two bytes each."""
    spec = ROWS["yolov9-t"].spec
    assert spec.aux is not None
    weights = sum(each.numel() for each in build(spec, 80).deployed().parameters())
    predicted = profile.measure_inference_memory(spec, "cpu", 32).predicted_bytes
    assert predicted is not None
    assert 2 * weights < predicted < 2.2 * weights


def test_memory_alone_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every figure of time is None, and the text says so; what is predicted is there."""

    def refuse(*_: Any) -> None:
        raise AssertionError("time was measured")

    monkeypatch.setattr(profile, "time_detector", refuse)
    monkeypatch.setattr(training_memory, "predict_training_step", lambda work: 4_000)
    record = profile.measure_row("yolov8-n", "cpu", 64, 2, memory_only=True)
    figures = [*record.values["latency_seconds"].values(), *record.values["throughput"].values()]
    assert set(figures) == {None} and record.settings["seconds_a_figure"] is None
    assert record.values["memory"]["training"]["plain"]["predicted_bytes"] == 4_000
    text = summary.summary(record)
    assert "— (not measured)" in text and "None" not in text
