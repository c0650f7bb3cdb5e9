"""Several processes: who each is, which batches it takes, and an evaluation by torchrun beside one alone."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from yolov9bench.data.coco import read_coco
from yolov9bench.errors import SettingsError
from yolov9bench.evaluation.evaluate import evaluate
from yolov9bench.ops import distributed, ranks
from yolov9bench.ops.distributed import gather
from yolov9bench.ops.ranks import ALONE, Ranks, find_ranks, own_device
from yolov9bench.predict.batches import Batches
from yolov9bench.zoo.protocols import MMYOLO_TTA, PROTOCOLS


def set_ranks(monkeypatch: pytest.MonkeyPatch, **given: str) -> None:
    for name in ranks.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    set_ranks(monkeypatch)
    assert find_ranks() == ALONE == Ranks(0, 1, 0)
    assert find_ranks().is_main and gather("mine") == ["mine"]


def test_torchrun_says_who_a_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    set_ranks(monkeypatch, RANK="5", WORLD_SIZE="8", LOCAL_RANK="1")
    assert find_ranks() == Ranks(5, 8, 1) and not find_ranks().is_main


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"RANK": "0"}, "torchrun sets RANK, WORLD_SIZE, LOCAL_RANK, but here they are"),
        ({"RANK": "0", "WORLD_SIZE": "two", "LOCAL_RANK": "0"}, "but here they are"),
        ({"RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, "a rank is below the number of processes"),
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "a rank is below the number of processes"),
    ],
)
def test_ranks_that_cannot_be_are_refused(
    given: dict[str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_ranks(monkeypatch, **given)
    with pytest.raises(SettingsError, match=sentence):
        find_ranks()


def test_each_process_has_the_gpu_of_its_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with two GPUs; which GPU torch then takes, no test without one can show."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert own_device("cuda", Ranks(5, 8, 1)) == "cuda:1"
    assert own_device("cpu", Ranks(5, 8, 1)) == "cpu"
    assert own_device("cuda:1", ALONE) == "cuda:1"
    with pytest.raises(SettingsError, match="8 processes need a GPU each: give cuda or auto"):
        own_device("cuda:0", Ranks(5, 8, 1))
    with pytest.raises(SettingsError, match="process 2 of this machine has no GPU, there are 2"):
        own_device("cuda", Ranks(2, 3, 2))


@pytest.mark.parametrize(
    ("seen", "named"), [([[], [], [1]], "process 1 has ended"), ([[]], "another process has ended")]
)
def test_a_process_that_ends_a_moment_later_is_named(
    seen: list[list[int]], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connections close before the system shows that it has ended."""
    answers = iter(seen)
    monkeypatch.setattr(distributed, "SETTLING", 0.5)
    monkeypatch.setattr(distributed, "_ended", lambda: next(answers, seen[-1]))
    assert distributed._unanswered().startswith(named)


@pytest.mark.parametrize("protocol", [*PROTOCOLS.values(), MMYOLO_TTA], ids=lambda each: each.name)
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_processes_share_the_batches_of_one(tiny: Path, protocol: Any, world_size: int) -> None:
    """Each batch, with its shapes, is one process's: nothing is twice, nothing is missing."""
    dataset = read_coco(tiny, "val")
    alone = Batches(dataset, protocol, 2).chunks
    shares = [
        Batches(dataset, protocol, 2, ranks=Ranks(rank, world_size)).chunks for rank in range(world_size)
    ]
    assert [
        chunk for place in range(len(alone)) for chunk in [shares[place % world_size][place // world_size]]
    ] == alone
    assert sum(map(len, shares)) == len(alone)


def by_torchrun(processes: int, out: Path, *flags: str) -> dict[str, Any]:
    """The record of an evaluation in several processes on the CPU."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "yolov9bench", "evaluate", *flags, "--device", "cpu", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("AP50 ") == 1  # one process speaks
    found: dict[str, Any] = json.loads(out.read_text())
    return found


@pytest.mark.accuracy
@pytest.mark.slow(25)
def test_several_processes_give_the_record_of_one(tiny: Path, tiny_weights: Path, tmp_path: Path) -> None:
    (tiny / "val" / "000003.png").write_bytes(b"no image")
    flags = ["--checkpoint", str(tiny_weights), "--dataset", str(tiny), "--split", "val", "--skip-corrupt"]
    flags += ["--protocol", "ultralytics", "--image-size", "64", "--batch-size", "2"]
    found = by_torchrun(2, tmp_path / "two.json", *flags)
    alone = evaluate(
        tiny_weights, tiny, "ultralytics", "val", 2, device="cpu", image_size=64, skip_corrupt=True
    )
    assert found["inputs"] == json.loads(json.dumps(alone.inputs))
    assert found["inputs"]["images_skipped"] == ["000003.png"]
    assert found["values"] == json.loads(json.dumps(alone.values))


@pytest.mark.accuracy
@pytest.mark.slow(90)
@pytest.mark.parametrize("protocol", ["ultralytics-square", "ultralytics", "mmyolo+tta"])
def test_real_weights_in_two_and_three_processes(shared: Path, tmp_path: Path, protocol: str) -> None:
    """13 and 5 images are divisible by neither 2 nor 3."""
    flags = ["--checkpoint", str(shared / "weights/yolov8n.pt"), "--dataset", str(shared / "coco")]
    name, tta = protocol.partition("+")[::2]
    flags += ["--protocol", name, *(["--tta", "--limit", "5"] if tta else ["--limit", "13"])]
    records = {count: by_torchrun(count, tmp_path / f"{count}.json", *flags) for count in (1, 2, 3)}
    for count in (2, 3):
        assert records[count]["values"]["AP"] == pytest.approx(records[1]["values"]["AP"], abs=2e-4)
        assert records[count]["inputs"] == records[1]["inputs"]
        found, alone = (records[each]["values"]["detections"]["count"] for each in (count, 1))
        assert abs(found - alone) <= alone / 1000
