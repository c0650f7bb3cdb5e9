"""The record of a training: what it says against the run's own files, and where it is found again."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path

import pytest
from record_parts import PARTS, field_names, keys_of
from small_runs import Killed, small_data, small_job, stub_validation

from yolov9bench import records
from yolov9bench.commands import evaluate as evaluate_command
from yolov9bench.config import EvaluateConfig
from yolov9bench.errors import RecordError, TrainingError
from yolov9bench.evaluation import evaluate, intervals
from yolov9bench.records import Record, as_stored
from yolov9bench.records.evidence import checks, evidence
from yolov9bench.records.training import TrainContents, read_train
from yolov9bench.train import record as training_record
from yolov9bench.train import trainer
from yolov9bench.train.job import Job
from yolov9bench.train.trainer import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_data(tmp_path_factory.mktemp("data") / "demo")


@pytest.fixture(scope="module")
def ended(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run of three epochs whose second is the best: only to read."""
    job = small_job(data, tmp_path_factory.mktemp("ended") / "run", seed=3)
    with pytest.MonkeyPatch.context() as patch:
        stub_validation(patch, iter([0.3, 0.5, 0.4]))
        train(job)
    return job


def record_of(job: Job) -> Record:
    (found,) = records.select(job.out)
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_record_says_what_was_trained(ended: Job, data: Path) -> None:
    """Each fact against the files in the folder of the run and of the data."""
    found = record_of(ended)
    assert (found.kind, found.row, found.seed) == ("train", "yolov8-n", 3)
    assert found.values["checkpoints"] == {name: sha256(ended.out / name) for name in ("best.pt", "last.pt")}
    assert (found.values["final"], found.values["best"]) == (
        {"epoch": 3, "AP": 0.4},
        {"epoch": 2, "AP": 0.5},
    )
    assert found.values["steps"] == 9
    for name, images in (("train", 5), ("val", 3)):
        facts = found.inputs["train" if name == "train" else "validation"]
        path = data / "annotations" / f"instances_{name}.json"
        listed = "\n".join(
            f"{each['id']} {each['file_name']}" for each in json.loads(path.read_text())["images"]
        )
        assert facts == {
            "split": name,
            "annotations_sha256": sha256(path),
            "image_list_sha256": hashlib.sha256(listed.encode()).hexdigest(),
            "images": images,
        }
    assert (found.inputs["demo"], found.inputs["classes"], found.inputs["start_sha256"]) == (True, 6, None)
    assert found.settings["recipe"] == as_stored(ended.recipe)
    assert found.settings["departures"] == [
        "the recipe is `demo`, not the row's own",
        "2 images a step, 2 at a time, where 8 were trained on at once",
    ]
    assert (found.settings["batch_size"], found.settings["processes"]) == (2, 1)
    run = json.loads((ended.out / "run.json").read_text())
    assert found.values["parts"] == run["parts"] and len(run["parts"]) == 1
    assert found.environment == run["environment"]
    assert (len(run["parts"][0]["devices"]), found.start) == (1, run["parts"][0]["start"])


def test_the_keys_that_are_written_are_those_that_are_read(ended: Job) -> None:
    stored = json.loads(json.dumps(asdict(record_of(ended))))
    assert keys_of(stored) == field_names(TrainContents)
    assert as_stored(asdict(read_train(record_of(ended)))) == {part: stored[part] for part in PARTS}


def test_a_training_fills_no_cell_of_the_table(ended: Job) -> None:
    assert all(vars(each) == vars(type(each)()) for each in evidence([record_of(ended)]).values())
    assert checks([record_of(ended)]) == []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ten seconds pass between any two looks at the time of a run."""
    ticks = count(0.0, 10.0)
    monkeypatch.setattr(training_record, "perf_counter", lambda: next(ticks))
    yield


@pytest.mark.usefixtures("clock")
def test_a_resumed_run_has_one_record_of_all_its_parts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in its second epoch, after one checkpoint (10 s): the rest has two more (10 and 20 s)."""
    job = small_job(data, tmp_path / "run")
    stub_validation(monkeypatch, iter([0.5, Killed()]))
    with pytest.raises(Killed):
        train(job)
    assert records.select(job.out) == []
    stub_validation(monkeypatch, iter([0.4, 0.3]))
    train(job)
    found = record_of(job)
    assert found.seconds == 10 + 20
    assert found.values["device_hours"] == pytest.approx(30 / 3600, abs=1e-4)
    assert (found.values["best"]["epoch"], found.values["final"]["epoch"]) == (1, 3)
    first, second = found.values["parts"]
    assert found.start == first["start"] <= second["start"]


@pytest.fixture
def copied(ended: Job, tmp_path: Path) -> Job:
    """The run in another folder, where its record is missing."""
    shutil.copytree(ended.out, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/records")
    return replace(ended, out=tmp_path / "run")


def test_a_run_that_was_killed_as_it_ended_gets_its_record_from_the_same_command(
    copied: Job, ended: Job
) -> None:
    """All of it is taken from the run's files; the second time there is nothing left to do."""
    for _ in range(2):
        train(copied)
        assert record_of(copied) == record_of(ended)


def test_a_run_that_stopped_has_no_record(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = small_job(data, tmp_path / "run")

    def diverged(*_: object) -> None:
        raise TrainingError("the loss became nan")

    monkeypatch.setattr(trainer, "fit", diverged)
    with pytest.raises(TrainingError, match="became nan"):
        train(job)
    assert (job.out / "run.json").exists() and records.select(job.out) == []


def test_a_run_of_an_earlier_version_is_told_to_have_no_record(
    copied: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its run.json does not say when it began, so that nobody knows its time."""
    run = json.loads((copied.out / "run.json").read_text())
    del run["parts"]
    (copied.out / "run.json").write_text(json.dumps(run))
    stub_validation(monkeypatch, iter([0.4]))
    train(replace(copied, extend=True, recipe=copied.recipe.varied(run={"epochs": 4})))
    assert "run was begun by an earlier version, so that no record of it is written" in caplog.text
    assert records.select(copied.out) == []


def test_a_row_that_cannot_name_a_folder_is_refused_before_it_is_trained(data: Path, tmp_path: Path) -> None:
    job = small_job(data, tmp_path / "run")
    with pytest.raises(RecordError, match="'my row' is not a row: use a row's id"):
        train(replace(job, row=replace(job.row, id="my row")))
    assert not job.out.exists()


def test_more_epochs_give_a_second_record_and_weights_lead_to_their_own(
    ended: Job, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ended.out, tmp_path / "run")
    longer = replace(ended, out=tmp_path / "run", extend=True, recipe=ended.recipe.varied(run={"epochs": 4}))
    (before,) = records.select(longer.out)
    stub_validation(monkeypatch, iter([0.6]))
    train(longer)
    after = next(each for each in records.select(longer.out) if each != before)
    assert (after.values["best"], len(after.values["parts"])) == ({"epoch": 4, "AP": 0.6}, 2)
    assert after.start == before.start and after.seconds > before.seconds
    monkeypatch.undo()
    monkeypatch.setattr(intervals, "ap_interval", lambda *_: (0.0, 1.0))  # most of the time
    for file, expected in ((longer.out / "best.pt", after), (ended.out / "best.pt", before)):
        named = evaluate.evaluate(file, data, split="val", image_size=64, device="cpu").inputs["training"]
        assert named["sha256"] == hashlib.sha256(records.canonical(expected).encode()).hexdigest()


@pytest.fixture
def project(ended: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose results/runs/train/ has a copy of the run."""
    root = tmp_path / "project"
    shutil.copytree(ended.out, root / "results/runs/train/run")
    (root / "pyproject.toml").write_text("")
    monkeypatch.chdir(root)
    monkeypatch.setattr(intervals, "ap_interval", lambda *_: (0.0, 1.0))  # most of the time
    return root


def named_by(file: Path, data: Path) -> str | None:
    """The file of the training that an evaluation of these weights names."""
    training = evaluate.evaluate(file, data, split="val", image_size=64, device="cpu").inputs["training"]
    return None if training is None else str(training["file"])


def test_a_training_is_found_by_the_hash_of_its_weights_and_never_by_name(
    project: Path, ended: Job, data: Path, tmp_path: Path
) -> None:
    """A copy under another name elsewhere leads to the run; another file in the place of best.pt does not."""
    run, name = project / "results/runs/train/run", records.path_of(record_of(ended), Path()).name
    copy = tmp_path / "elsewhere/mine.pt"
    copy.parent.mkdir()
    shutil.copy(run / "best.pt", copy)
    assert [named_by(each, data) for each in (run / "best.pt", run / "last.pt", copy)] == [name] * 3
    train(replace(ended, out=tmp_path / "other", seed=4, max_steps=1))
    shutil.copy(tmp_path / "other/best.pt", run / "best.pt")
    assert named_by(run / "best.pt", data) is None


def test_a_training_that_was_edited_is_refused_by_name(project: Path, data: Path) -> None:
    (path,) = (project / "results/runs/train/run").glob("records/*/*.json")
    path.write_text(path.read_text().replace('"epoch": 2', '"epoch": 1'))
    with pytest.raises(RecordError, match=rf"{path.name} was changed, renamed or moved"):
        named_by(project / "results/runs/train/run/best.pt", data)


def test_the_command_puts_the_training_beside_the_evaluation(project: Path, ended: Job, data: Path) -> None:
    file, results = project / "results/runs/train/run/best.pt", project / "own"
    given = {"split": "val", "image_size": 64, "device": "cpu", "results": results}
    evaluate_command(EvaluateConfig.from_names({"checkpoint": str(file), "dataset": data, **given}))
    evaluation, training = (records.select(results, kind=kind) for kind in ("evaluate", "train"))
    assert training == [record_of(ended)] and len(evaluation) == 1
