"""Two of a kind at once: trainings in one folder, reports and reproductions in one results folder."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from report_records import evaluation
from small_runs import FILES, run_content, small_data, small_job

from yolov9bench import records, report
from yolov9bench.data.coco import read_coco
from yolov9bench.errors import BusyError
from yolov9bench.io import locks
from yolov9bench.io.files import atomic_path
from yolov9bench.io.locks import wait_for_turn
from yolov9bench.records.record import hash_of
from yolov9bench.train.trainer import train

SPEED = ("seconds", "images_per_second", "parts", "start")


def test_a_second_training_in_a_folder_is_refused_and_the_first_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins after each epoch of the first, which ends as if it had been alone."""
    monkeypatch.setattr(locks, "PATIENCE", 0.0)
    data, refusals = small_data(tmp_path / "data"), []
    job, whole = small_job(data, tmp_path / "run", epochs=2), small_job(data, tmp_path / "whole", epochs=2)

    def begin_again(log: list[Any]) -> None:
        with pytest.raises(
            BusyError, match=r"run is in use by process \d+ on \S+ since .*: wait until"
        ) as said:
            train(job)
        refusals.append(str(said.value))

    train(job, begin_again)
    train(whole)
    assert len(refusals) == 2
    assert sorted(path.name for path in job.out.iterdir()) == FILES
    assert run_content(job.out, SPEED) == run_content(whole.out, SPEED)


def test_a_record_that_is_being_written_is_none_yet(tmp_path: Path) -> None:
    path = records.write(evaluation(), tmp_path)
    with atomic_path(path.with_name("evaluate-2026-01-02-00000000.json")) as fresh:
        fresh.write_text("{")
        assert [hash_of(each) for each in records.select(tmp_path)] == [hash_of(evaluation())]
        fresh.write_text(path.read_text())
    assert len(list(path.parent.iterdir())) == 2


@pytest.mark.usefixtures("quick_figures")
def test_a_report_waits_for_its_turn_and_then_shows_what_is_there(tmp_path: Path) -> None:
    records.write(evaluation(), tmp_path)
    with wait_for_turn(tmp_path / ".report.lock", "tests"):
        second = threading.Thread(target=report.write, args=(tmp_path,))
        second.start()
        second.join(0.3)
        assert second.is_alive() and not (tmp_path / "table.md").exists()
        records.write(evaluation("yolov9-e", ap=0.556), tmp_path)
    second.join()
    report.check(tmp_path)
    assert "**55.6**" in (tmp_path / "table.md").read_text()
    assert not (tmp_path / ".report.lock").exists()


@pytest.mark.slow(6)
def test_a_demo_set_that_several_want_is_drawn_once(tmp_path: Path) -> None:
    code = (
        "import sys, logging; from pathlib import Path; from yolov9bench.data.demo import make_demo; "
        "logging.basicConfig(level='INFO'); make_demo(Path(sys.argv[1]), train=30, val=3)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "new/demo")]
    several = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    said = [each.communicate()[1] for each in several]
    assert [each.returncode for each in several] == [0] * 4, said
    assert sum("drawing train" in each for each in said) == 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["demo"]
    assert len(read_coco(tmp_path / "new/demo", "train").images) == 30


@pytest.mark.accuracy
@pytest.mark.slow(90)
def test_eight_reproductions_share_a_results_folder(
    painted: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    """Each leaves its record with its detections, whichever others it was compared with, and no strays."""
    results = tmp_path / "results"
    words = [sys.executable, "-m", "yolov9bench", "reproduce", "--checkpoint", str(tiny_weights)]
    words += ["--dataset", str(painted), "--split", "val", "--protocol", "ultralytics", "--image-size", "64"]
    words += ["--results-dir", str(results), "--data-dir", str(tmp_path / "data"), "--fill-table"]
    several = [
        subprocess.Popen(
            [*words, "--seed", str(seed)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for seed in range(8)
    ]
    said = [each.communicate()[0] for each in several]
    assert [each.returncode for each in several] == [0] * 8, "\n".join(said)
    found = records.select(results, kind="evaluate")
    assert sorted(each.seed for each in found if each.seed is not None) == list(range(8))
    assert len({each.values["AP"] for each in found}) == 1
    assert not [path for path in results.rglob("*") if ".fresh" in path.name or ".lock" in path.name]
    report.write(results)
    report.check(results)


@pytest.mark.accuracy
@pytest.mark.slow(60)
def test_of_four_equal_reproductions_that_train_one_trains(tmp_path: Path) -> None:
    """The others say which process does, with status 2, and the same command later finds the work done.

    Its epochs outlast the start of all four beside other tests: who comes after the end finds the work done.
    """
    results = tmp_path / "results"
    words = [sys.executable, "-m", "yolov9bench", "reproduce", "--family", "yolov8", "--size", "n"]
    words += ["--dataset", "demo", "--checkpoint", "train", "--epochs", "60", "--image-size", "64"]
    words += ["--limit", "4", "--results-dir", str(results), "--data-dir", str(tmp_path / "data")]
    several = [
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [each.communicate()[1] for each in several]
    assert sorted(each.returncode for each in several) == [0, 2, 2, 2], said
    trained = next(each.pid for each in several if each.returncode == 0)
    for each, lines in zip(several, said, strict=True):
        if each.returncode == 2:
            assert f"is in use by process {trained} on " in lines.splitlines()[-1]
    again = subprocess.run(words, check=True, capture_output=True, text=True)
    assert "is finished: 60 epochs" in again.stderr
    (run,) = (results / "runs/train").iterdir()
    assert len(json.loads((run / "run.json").read_text())["parts"]) == 1
