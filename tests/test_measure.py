"""Costs of a row: timing on a clock of our own, a GPU's peaks, and the record and text of a whole row."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from record_parts import PARTS, field_names, keys_of

from yolov9bench import __main__ as door
from yolov9bench.errors import SettingsError
from yolov9bench.profiling import latency, profile, summary, training_memory
from yolov9bench.profiling.latency import Timing, find_best_batch, percentile, time_runs
from yolov9bench.profiling.peak_memory import measure_peak, process_bytes
from yolov9bench.records import Record
from yolov9bench.records.contents import PLAIN, MeasureContents, read_measure
from yolov9bench.zoo import ROWS


class Clock:
    """Stands still, but for what `run` takes."""

    def __init__(self, durations: Callable[[int], float]) -> None:
        self.now = 0.0
        self.runs = 0
        self.durations = durations

    def __call__(self) -> float:
        return self.now

    def run(self) -> None:
        self.now += self.durations(self.runs)
        self.runs += 1


def test_percentiles_are_nearest_ranks() -> None:
    """Worked out by hand: of 1..10 the 5th, the 10th (9.5 rounds up) and the 10th; of 1..200 the 190th."""
    assert [percentile(range(10, 0, -1), each) for each in (50, 95, 99)] == [5, 10, 10]
    assert [percentile(range(1, 201), each) for each in (50, 95, 99)] == [100, 190, 198]
    assert percentile([3.0], 50) == 3.0


def test_timing_warms_up_and_stops_when_the_seconds_are_used_up() -> None:
    """Runs of 1/8 s: 2 s of warm-up are 16 runs, of which the slow first; 10 s of timing are 80."""
    clock = Clock(lambda number: 1.0 if number == 0 else 0.125)
    found = time_runs(clock.run, 4, 10.0, clock)
    assert (found.batch, found.runs, found.p50, found.p95, found.p99) == (4, 80, 0.125, 0.125, None)
    assert clock.runs == 1 + 8 + 80
    assert found.images_per_second == 32.0


def test_percentiles_of_timed_runs() -> None:
    """One slow run in ten: the median is a fast one, p95 and p99 are slow."""
    clock = Clock(lambda number: 0.5 if number % 10 == 9 else 0.0625)
    found = time_runs(clock.run, 1, 20.0, clock)
    assert found.runs > 100
    assert (found.p50, found.p95, found.p99) == (0.0625, 0.5, 0.5)


def test_slow_runs_are_few_and_fast_ones_are_limited() -> None:
    slow = Clock(lambda _: 60.0)
    assert time_runs(slow.run, 1, 10.0, slow) == Timing(1, latency.LEAST_RUNS, 60.0, None, None)
    assert slow.runs == 1 + latency.LEAST_RUNS
    fast = Clock(lambda _: 2.0**-10)
    assert time_runs(fast.run, 1, 10.0, fast).runs == latency.MOST_RUNS


def test_the_best_batch_is_the_last_that_gains() -> None:
    """Images a second: 10, 19, 30, 30.3: the last gains one percent, which ends the search."""
    seconds = {1: 1 / 10, 2: 2 / 19, 4: 4 / 30, 8: 8 / 30.3}
    asked = []

    def timing_of(batch: int) -> Timing:
        asked.append(batch)
        return Timing(batch, 3, seconds[batch], None, None)

    assert find_best_batch(timing_of, timing_of(1)).batch == 8
    assert asked == [1, 2, 4, 8]
    seconds[8] = 8 / 29.9
    assert find_best_batch(timing_of, timing_of(1)).batch == 4


def test_the_best_batch_fits_into_the_gpu() -> None:
    def timing_of(batch: int) -> Timing:
        if batch > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return Timing(batch, 3, 1.0, None, None)

    assert find_best_batch(timing_of, timing_of(1)).batch == 4


def test_a_cpu_has_no_peak() -> None:
    with pytest.raises(SettingsError, match="'cpu' does not count its memory"):
        measure_peak(lambda: None, "cpu")


def test_the_drivers_count_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one of two GPUs, whose UUIDs end in 2e and 1f."""
    gpus = {"cuda:0": SimpleNamespace(uuid="2e"), "cuda:1": SimpleNamespace(uuid="1f")}
    monkeypatch.setattr(torch.cuda, "get_device_properties", gpus.__getitem__)

    def answering(text: str) -> None:
        done = subprocess.CompletedProcess([], 0, stdout=text)
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)

    own = os.getpid()
    answering(f"GPU-1f, {own}, 700\nGPU-2e, {own + 1}, 300\nGPU-2e, {own}, 512\n")
    assert process_bytes("cuda:0") == 512 * 2**20
    assert process_bytes("cuda:1") == 700 * 2**20
    answering(f"GPU-2e, {own + 1}, 300\n")
    assert process_bytes("cuda:0") is None
    answering(f"GPU-2e, {own}, [N/A]\n")
    assert process_bytes("cuda:0") is None

    def missing(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(subprocess, "run", missing)
    assert process_bytes("cuda:0") is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU to measure the memory of")
def test_a_gpus_peak_is_what_was_alive_at_once() -> None:
    def run() -> None:
        one = torch.empty(2**26, dtype=torch.uint8, device="cuda")
        del one
        torch.empty(2**25, dtype=torch.uint8, device="cuda")

    before = torch.cuda.memory_allocated()
    found = measure_peak(run, "cuda")
    assert found.allocated_bytes - before == 2**26
    assert found.reserved_bytes >= found.allocated_bytes


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The record and the text of a whole row on the CPU, small and short."""
    out = tmp_path_factory.mktemp("measure")
    flags = ["--device", "cpu", "--image-size", "64", "--batch-size", "2", "--json", str(out / "record.json")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "SECONDS", 0.05)
        patch.setattr(sys, "argv", ["yolov9bench", "measure", "yolov8-n", *flags])
        with (out / "text").open("w") as text:
            patch.setattr(sys, "stdout", text)
            assert door.main() == 0
    return json.loads((out / "record.json").read_text()), (out / "text").read_text()


@pytest.mark.accuracy
def test_a_measurement_writes_the_keys_that_are_read(answer: tuple[dict[str, Any], str]) -> None:
    stored, _ = answer
    record = Record(**{name: part for name, part in stored.items() if name != "schema"})
    assert keys_of(asdict(record)) == field_names(MeasureContents)
    assert json.loads(json.dumps(asdict(read_measure(record)))) == {part: stored[part] for part in PARTS}


@pytest.mark.accuracy
def test_a_rows_record(answer: tuple[dict[str, Any], str]) -> None:
    record, _ = answer
    values, settings = record["values"], record["settings"]
    assert (record["row"], record["kind"], record["environment"]["device"]) == ("yolov8-n", "measure", "cpu")
    assert values["parameters"]["training"] == 3_157_184
    assert values["parameters"]["deployed"] < 3_157_184
    assert values["gflops"]["deployed"] <= values["gflops"]["training"]
    assert values["latency_seconds"]["batch"] == 1 and values["latency_seconds"]["runs"] >= 3
    assert values["throughput"]["images_per_second"] >= values["latency_seconds"]["images_per_second"]
    training = values["memory"]["training"]
    for figures in (*training.values(), values["memory"]["inference"]):
        assert figures["predicted_bytes"] > 0
        assert [figures[f"{name}_bytes"] for name in ("allocated", "reserved", "process")] == [None] * 3
    assert training["crowded"]["predicted_bytes"] > training["plain"]["predicted_bytes"]
    # Weights in half precision and little beside them.
    assert 2 * 3_150_000 < values["memory"]["inference"]["predicted_bytes"] < 2 * 3_150_000 + 2**20
    assert settings["training"]["plain"]["precision"] == "float16"
    assert settings["training"]["crowded"]["boxes_an_image"] == 997
    assert settings["recipe"]["name"] == "yolov8-n"
    # Two images of 64 px have 2 * 84 anchors; the fullest of 50 batches of two.
    published = settings["training"]["published_setup"]
    assert (published["batch_size"], published["fullest_of_images"]) == (2, 100)
    assert published["gradient_bytes"] == 4 * 3_157_184
    assert published["assigner_bytes"] == 2 * published["boxes_an_image"] * (84 * 101 + 10 * 8)
    assert settings["training"]["plain"]["assigner_bytes"] is None
    added = training["published_setup"]["predicted_bytes"] - training["plain"]["predicted_bytes"]
    assert added >= 4 * 3_157_184


@pytest.mark.accuracy
def test_a_rows_text_keeps_published_and_predicted_apart(answer: tuple[dict[str, Any], str]) -> None:
    _, text = answer
    lines = {line[:26].strip(): line[28:] for line in text.splitlines()}
    assert "yolov8-n at 64 px" in text
    assert "3,157,184" in lines["parameters"]
    assert lines["training memory, plain"].endswith("GiB predicted")
    assert lines["in the published set-up"].endswith("GiB predicted")
    assert "the fullest of 100 images, those between two lines of the log" in text
    assert "with buckets and kept gradients of 0.01 GiB each" in text
    # 2.8e9 bytes and 2.8 * 1000 * 2**20 bytes, in units of 2**30.
    assert "published Mem (GB)" in text and "2.61 GiB" in text and "(2.73 GiB)" in text
    assert "allocated" not in lines["training memory, plain"]


@pytest.mark.accuracy
def test_measured_memory_shows_the_error_of_the_prediction(answer: tuple[dict[str, Any], str]) -> None:
    record = json.loads(json.dumps(answer[0]))
    plain = record["values"]["memory"]["training"]["plain"]
    plain |= {"predicted_bytes": 9 * 2**28, "allocated_bytes": 10 * 2**28, "reserved_bytes": 3 * 2**30}
    text = summary.summary(Record(**{name: value for name, value in record.items() if name != "schema"}))
    said = "2.25 GiB predicted, 2.50 GiB allocated, 3.00 GiB reserved, error of the prediction -10.0 %"
    assert said in text


@pytest.mark.accuracy
def test_a_row_of_unknown_training_has_no_training_memory(answer: tuple[dict[str, Any], str]) -> None:
    assert profile.workloads(ROWS["ultralytics-yolov8n"], 640, 16) == {}
    record = {name: value for name, value in answer[0].items() if name != "schema"}
    record["values"] = record["values"] | {"memory": record["values"]["memory"] | {"training": None}}
    record["settings"] = record["settings"] | {"training": None, "recipe": None}
    text = summary.summary(replace(Record(**record), row="ultralytics-yolov8n"))
    assert "— (the recipe is not known)" in text
    assert "published Mem" not in text


@pytest.mark.parametrize(
    ("row", "sizes", "sentence"),
    [
        ("yolov8-q", {}, "yolov8-q"),
        ("yolov8-n", {"image_size": 100}, "image_size 100 is not a multiple of 32"),
        ("yolov8-n", {"image_size": 0}, "image_size 0 is not a multiple of 32"),
        ("yolov8-n", {"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(row: str, sizes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        profile.measure_row(row, "cpu", **sizes)


def test_a_step_of_the_published_batch_leaves_no_gradient_waiting() -> None:
    """16 images on each of 8 GPUs are more than the nominal 64; 4 on each are half of it."""
    plain = profile.workloads(ROWS["yolov8-n"], 640, 16)["plain"]
    assert (plain.accumulation, plain.boxes, plain.batch_size) == (1, 59, 16)
    assert profile.workloads(ROWS["yolov8-n"], 640, 4)["plain"].accumulation == 2


@pytest.mark.slow
def test_every_row_with_a_recipe_has_all_workloads() -> None:
    for row in ROWS.values():
        names = set() if row.recipe is None else {"plain", "crowded", "published_setup"}
        assert set(profile.workloads(row, 640, 16)) == names


def test_a_step_that_does_not_fit_is_predicted_only_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What was measured before it is kept; on a GPU, which a replaced function stands for."""

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(training_memory, "measure_training_step", full)
    monkeypatch.setattr(training_memory, "predict_training_step", lambda _: 5 * 10**9)
    work = replace(profile.workloads(ROWS["yolov8-n"], 64, 2)[PLAIN], boxes=3)
    found = profile.measure_training_memory(work, "cuda")
    assert (found.predicted_bytes, found.allocated_bytes) == (5 * 10**9, None)
    assert "2 images of 64 px with 3 boxes each is not measured (CUDA out of memory" in caplog.text
    assert "measure a smaller batch_size" in caplog.text


def test_one_image_that_does_not_fit_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(latency, "make_forward", full)
    with pytest.raises(
        SettingsError, match=r"one image of 96 px does not fit .* measure a smaller image_size"
    ):
        profile.time_detector(ROWS["yolov8-n"].spec, "cpu", 96)
