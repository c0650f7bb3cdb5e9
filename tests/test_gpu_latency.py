"""The latency of one image by every way, on the CPU; nvidia-smi is a program of the test's own."""

import os
import shutil
from pathlib import Path
from time import sleep

import pytest
import torch
from torch import nn

from yolov9bench.nn import Detector, build
from yolov9bench.nn.head import last_bias
from yolov9bench.profiling import gpu_latency
from yolov9bench.profiling.gpu_latency import Latency, measure_latencies, watched_clocks, ways_on
from yolov9bench.profiling.latency import Timing
from yolov9bench.profiling.speed import _latency_row
from yolov9bench.zoo.specs import Head, yolov8

SMALL = yolov8("small", (8, 8, 16, 16, 16), (1, 1), Head("dense", 16, 16))


def test_ways_of_a_device() -> None:
    assert [*ways_on("cpu")] == ["eager", "compiled"]
    assert [*ways_on("cuda:1")] == ["eager", "graph", "compiled"]


def test_each_way_is_timed_and_held_against_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A way that computes something else is found out; the detector itself stays as it was."""

    def biased(detector: Detector, image_size: int) -> nn.Module:
        assert image_size == 64
        with torch.no_grad():
            for branch in detector.main.head.boxes:
                last_bias(branch).add_(1.0)
        return detector

    eager = ways_on("cpu")["eager"]
    monkeypatch.setattr(gpu_latency, "ways_on", lambda _: {"eager": eager, "other": biased})
    detector = build(SMALL, 2).deployed()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    found = measure_latencies(detector, 64, "cpu", seconds=0.05)
    assert [*found] == ["eager", "other"]
    assert found["eager"].difference == 0 and 0.05 < found["other"].difference < 2
    assert all(each.timing.batch == 1 and each.timing.p50 > 0 for each in found.values())
    assert all(each.throttled is None for each in found.values())
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    assert next(detector.parameters()).is_contiguous()


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.accuracy
def test_the_compiled_way_computes_the_same() -> None:
    found = measure_latencies(build(SMALL, 2).deployed(), 64, "cpu", seconds=0.05)
    assert [*found] == ["eager", "compiled"]
    assert found["compiled"].difference < 1e-5


@pytest.mark.skipif(os.name != "posix", reason="the stand-in is a script of the shell")
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("0x0000000000000000 0x0000000000000001", False),  # at work, then idle
        ("0x0000000000000002", False),  # clocks that were set
        ("0x0000000000000001 0x0000000000000004", True),  # power
        ("0x0000000000000060", True),  # heat
        ("[Not", None),
    ],
)
def test_a_clock_that_was_held_down_is_told(
    said: str, expected: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    lines = "\n".join(f"echo {word}" for word in said.split())
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/words\n{lines}\ntouch {tmp_path}/said\nexec sleep 60\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with watched_clocks("cuda:3") as is_throttled:
        for _ in range(1000):
            if (tmp_path / "said").exists():
                break
            sleep(0.01)
    assert is_throttled() is expected
    assert "--query-gpu=clocks_event_reasons.active" in (tmp_path / "words").read_text()
    assert "--id=3" in (tmp_path / "words").read_text()


def test_without_nvidia_smi_it_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for device in ("cpu", "cuda:0"):
        with watched_clocks(device) as is_throttled:
            pass
        assert is_throttled() is None


def test_a_row_says_percentiles_difference_and_clock() -> None:
    found = {
        "eager": Latency(Timing(1, 100, 0.004, 0.005, 0.006), False, 0.0),
        "graph": Latency(Timing(1, 20, 0.002, 0.003, None), True, 1e-6),
    }
    row = _latency_row("graph", found["graph"], found)
    assert row["clock s"] == "p50 2.00 ms, p95 3.00 ms"
    assert row["times the first's CPU s"] == "2.00 by the clock"
    assert row["accuracy"] == "outputs within 1.0e-06; clock held down"
    assert _latency_row("eager", found["eager"], found)["accuracy"].endswith("; clock not held down")
