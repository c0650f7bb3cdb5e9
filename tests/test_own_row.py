"""A row of the user's own works everywhere as an object, and is looked up nowhere."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import small_data

from yolov9bench import reproduce
from yolov9bench.config import ReproduceConfig
from yolov9bench.errors import SettingsError
from yolov9bench.evaluation.evaluate import evaluate
from yolov9bench.records import select
from yolov9bench.records.verdict import verdict
from yolov9bench.train import trainer
from yolov9bench.train.job import Job
from yolov9bench.train.trainer import train_row
from yolov9bench.weights import load, save
from yolov9bench.zoo import ROWS
from yolov9bench.zoo.protocols import MMYOLO
from yolov9bench.zoo.rows import Row

OWN = replace(ROWS["yolov9-t"], id="my-row", size="tiny", protocol=MMYOLO, assets=())


@pytest.fixture
def own_weights(tiny_weights: Path, tmp_path: Path) -> Path:
    loaded = load(tiny_weights)
    save(tmp_path / "own.pt", loaded.detector, loaded.names, row=OWN.id)
    return tmp_path / "own.pt"


def test_a_checkpoint_of_an_unknown_row_is_refused_with_the_remedy(own_weights: Path, tiny: Path) -> None:
    with pytest.raises(SettingsError, match=r"row 'my-row', which is not .*: give a protocol, or that Row"):
        evaluate(own_weights, tiny, split="val", image_size=64)


def test_a_protocol_or_the_row_itself_evaluates_it(own_weights: Path, tiny: Path) -> None:
    """Both are the same evaluation, by the Row's own protocol, and the record names the row."""
    by_name = evaluate(own_weights, tiny, "mmyolo", "val", image_size=64)
    by_row = evaluate(own_weights, tiny, split="val", image_size=64, row=OWN)
    assert by_row.settings == by_name.settings and by_row.values == by_name.values
    assert by_row.settings["protocol"]["name"] == "mmyolo"
    assert by_row.row == "my-row" and "unknown checkpoint" in str(verdict(by_row))


def test_another_rows_object_does_not_stand_in(own_weights: Path, tiny: Path) -> None:
    with pytest.raises(SettingsError, match="'my-row'"):
        evaluate(own_weights, tiny, split="val", image_size=64, row=ROWS["yolov9-t"])


def test_reproduce_takes_a_row_object_with_a_checkpoint_of_its_own(
    own_weights: Path, tiny: Path, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"checkpoint": str(own_weights), "dataset": str(tiny), "split": "val"}
    given |= {"image_size": 64, "judge": False, "results_dir": str(tmp_path / "out")}
    found = reproduce.reproduce(OWN, **given)
    assert (found.row, found.settings["protocol"]["name"]) == ("my-row", "mmyolo")
    assert select(tmp_path / "out", "my-row") == [found]
    assert reproduce.find_finished(ReproduceConfig(**given), OWN) == found
    plan = reproduce.make_plan(ReproduceConfig(**given), OWN)
    words = reproduce.describe(plan, reproduce.load_checkpoint(plan), reproduce.load_dataset(plan))
    assert (words["row"], words["protocol"]) == ("my-row", "mmyolo")


def test_a_row_without_a_file_is_not_fetched() -> None:
    with pytest.raises(SettingsError, match="'my-row' names no file to fetch"):
        reproduce.make_plan(ReproduceConfig(device="cpu"), OWN)


@pytest.mark.parametrize("row", [OWN, replace(OWN, id="other")])
def test_a_training_takes_a_row_object(row: Row, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, jobs = small_data(tmp_path / "data"), []

    def noting(job: Job) -> Path:
        jobs.append(job)
        return job.out

    monkeypatch.setattr(trainer, "train", noting)
    given: dict[str, Any] = {"split": "val", "recipe": "demo", "device": "cpu"}
    assert train_row(row, data, tmp_path / "run", **given) == tmp_path / "run"
    plan = reproduce.make_plan(
        ReproduceConfig(checkpoint="train", dataset=str(data), results_dir=str(tmp_path), **given), row
    )
    jobs.append(reproduce.build_job(plan))
    assert [job.row for job in jobs] == [row, row]
    assert jobs[0].recipe == jobs[1].recipe and jobs[1].out.name.startswith(f"{row.id}-")
