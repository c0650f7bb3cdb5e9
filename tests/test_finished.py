"""Whether a reproduction has its record already: only where every setting and every input is the same."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from synthetic import small_file

from yolov9bench import records, reproduce
from yolov9bench.config import ReproduceConfig
from yolov9bench.evaluation import evaluate
from yolov9bench.evaluation.settings import choose_protocol
from yolov9bench.records import Record
from yolov9bench.weights import load, save
from yolov9bench.zoo.recipes import DEMO


@dataclass(frozen=True)
class Finished:
    """A reproduction that has run: what was asked for, and the record that it left."""

    given: dict[str, Any]
    record: Record

    def changed(self, **changes: Any) -> ReproduceConfig:
        return ReproduceConfig(**self.given | changes)


def paint(root: Path) -> None:
    """Splits `val` and `train` of two images, one object in each."""
    (root / "annotations").mkdir(parents=True)
    entries = [{"id": number, "file_name": f"{number}.png", "width": 64, "height": 64} for number in (1, 2)]
    boxes = [
        {"id": number, "image_id": number, "category_id": number, "bbox": [8, 8, 20, 20], "area": 400}
        for number in (1, 2)
    ]
    for split in ("val", "train"):
        (root / split).mkdir()
        for entry in entries:
            cv2.imwrite(str(root / split / str(entry["file_name"])), np.full((64, 64, 3), 90, np.uint8))
        content = {
            "info": {"description": split},
            "images": entries,
            "annotations": [box | {"iscrowd": 0} for box in boxes],
            "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}],
        }
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One real evaluation, shared by the tests of this module, which add no record to its folder."""
    root = tmp_path_factory.mktemp("finished")
    paint(root / "set")
    given: dict[str, Any] = {
        "checkpoint": str(small_file(root / "weights.pt")),
        "dataset": str(root / "set"),
        "split": "val",
        "image_size": 64,
        "device": "cpu",
        "results_dir": str(root / "results"),
    }
    return Finished(given, reproduce.reproduce(**given))


@pytest.mark.parametrize(
    "same", [{}, {"protocol": "yolov9"}, {"batch_size": 16}, {"limit": 2}, {"epochs": 3}]
)
def test_the_same_settings_in_other_words_are_finished(ran: Finished, same: dict[str, Any]) -> None:
    """What "auto" and None stand for may be spelt out; epochs do not touch an evaluation."""
    assert reproduce.find_finished(ran.changed(**same)) == ran.record


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": "mmyolo"},
        {"protocol": "ultralytics"},
        {"image_size": 96},
        {"image_size": None},
        {"batch_size": 2},
        {"judge": False},
        {"skip_corrupt": True},
        {"classes": "red"},
        {"classes": "red, blue"},
        {"limit": 1},
        {"split": "train"},
    ],
)
def test_another_setting_is_not_finished(ran: Finished, change: dict[str, Any]) -> None:
    """The record of another protocol, size, judge or list of images would hand its AP on as this one's."""
    assert reproduce.find_finished(ran.changed(**change)) is None


def test_another_annotation_file_is_not_finished(ran: Finished, tmp_path: Path) -> None:
    """The list of images stays, and a box moves."""
    root = Path(shutil.copytree(ran.given["dataset"], tmp_path / "set"))
    assert reproduce.find_finished(ran.changed(dataset=str(root))) == ran.record
    path = root / "annotations/instances_val.json"
    text = path.read_text()
    assert text.count("[8, 8, 20, 20]") == 2
    path.write_text(text.replace("[8, 8, 20, 20]", "[9, 8, 20, 20]", 1))
    assert reproduce.find_finished(ran.changed(dataset=str(root))) is None


def test_other_weights_are_not_finished(ran: Finished, tmp_path: Path) -> None:
    """One weight differs, the network, its names and its row do not."""
    checkpoint = load(ran.given["checkpoint"])
    with torch.no_grad():
        next(checkpoint.detector.parameters()).view(-1)[0] += 1
    path = tmp_path / "other.pt"
    save(path, checkpoint.detector, checkpoint.names, row=checkpoint.row)
    assert reproduce.find_finished(ran.changed(checkpoint=str(path))) is None


def test_another_folder_of_results_is_not_finished(ran: Finished, tmp_path: Path) -> None:
    assert reproduce.find_finished(ran.changed(results_dir=str(tmp_path))) is None


@pytest.mark.parametrize("kind", ["measure", "train"])
def test_a_record_of_another_kind_is_no_evaluation(ran: Finished, tmp_path: Path, kind: str) -> None:
    records.write(replace(ran.record, kind=kind), tmp_path)
    assert reproduce.find_finished(ran.changed(results_dir=str(tmp_path))) is None
    records.write(ran.record, tmp_path)
    assert reproduce.find_finished(ran.changed(results_dir=str(tmp_path))) == ran.record


def test_the_newest_of_one_day_is_the_answer(ran: Finished, tmp_path: Path) -> None:
    """Neither the first, nor the one whose hash comes last, nor the best."""
    hours = [
        replace(
            ran.record,
            start=f"2026-03-01T{hour:02}:00:00+00:00",
            values=ran.record.values | {"AP": (24 - hour) / 100},
        )
        for hour in range(20)
    ]
    chosen = hours[
        : next(n for n in range(2, 20) if records.hash8(hours[n]) < records.hash8(hours[n - 1])) + 1
    ]
    for each in reversed(chosen):
        records.write(each, tmp_path)
    found = reproduce.find_finished(ran.changed(results_dir=str(tmp_path)))
    assert found == chosen[-1]
    assert found.values["AP"] == min(each.values["AP"] for each in chosen)
    assert records.hash8(found) < max(map(records.hash8, chosen))


@pytest.fixture
def trained(
    ran: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], ReproduceConfig]:
    """A training that is over, as files; the function writes the evaluation of its best weights at a size."""
    given = {
        "size": "t",
        "checkpoint": "train",
        "recipe": "demo",
        "image_size": None,
        "results_dir": str(tmp_path),
    }
    parameters = ran.changed(**given)
    out = reproduce.build_job(reproduce.make_plan(parameters)).out
    out.mkdir(parents=True)
    shutil.copy(ran.given["checkpoint"], out / "best.pt")
    (out / "last.pt").write_bytes(b"of other weights")
    monkeypatch.setattr(reproduce, "is_finished", lambda job: job.out == out)

    def evaluated_at(image_size: int) -> ReproduceConfig:
        protocol = asdict(choose_protocol(load(out / "best.pt"), "yolov9", image_size, tta=False))
        settings = ran.record.settings | {"protocol": protocol}
        records.write(replace(ran.record, settings=settings), tmp_path)
        return parameters

    return evaluated_at


def test_a_training_is_finished_by_an_evaluation_at_its_own_size(
    trained: Callable[[int], ReproduceConfig], tmp_path: Path
) -> None:
    """The demo's recipe trains at 192 px, and so is its network evaluated: 640 px are another setting."""
    assert DEMO.augmentation.image_size == 192
    assert reproduce.find_finished(trained(640)) is None
    found = reproduce.find_finished(trained(192))
    assert found is not None
    assert found.settings["protocol"]["image_size"] == 192


def test_a_training_under_way_is_not_finished(
    trained: Callable[[int], ReproduceConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = trained(192)
    assert reproduce.find_finished(parameters) is not None
    monkeypatch.setattr(reproduce, "is_finished", lambda job: False)
    assert reproduce.find_finished(parameters) is None


@pytest.mark.parametrize(("judge", "skip_corrupt", "batch_size"), [(True, False, None), (False, True, 1)])
def test_the_evaluation_gets_every_setting_that_was_asked_for(
    ran: Finished, tmp_path: Path, judge: bool, skip_corrupt: bool, batch_size: int | None
) -> None:
    """And then counts as finished: what is written and what is looked for are the same."""
    asked = {"judge": judge, "skip_corrupt": skip_corrupt, "batch_size": batch_size, "seed": 7}
    given = ran.given | asked | {"results_dir": str(tmp_path)}
    assert reproduce.find_finished(ReproduceConfig(**given)) is None
    found = reproduce.reproduce(**given)
    assert (found.settings["judge"], found.settings["skip_corrupt"]) == (judge, skip_corrupt)
    assert (found.settings["batch_size"], found.seed) == (batch_size or 16, 7)
    assert reproduce.find_finished(ReproduceConfig(**given)) == found


@pytest.mark.parametrize(("asked", "size"), [(None, 192), (96, 96)])
def test_what_was_trained_is_evaluated_at_the_size_of_its_training(
    ran: Finished, monkeypatch: pytest.MonkeyPatch, asked: int | None, size: int
) -> None:
    """The recipe's 192 px unless another size is asked for, and not the 640 px of the protocol."""
    given = {"size": "t", "checkpoint": "train", "recipe": "demo", "image_size": asked}
    plan = reproduce.make_plan(ran.changed(**given))
    sizes: list[int | None] = []

    def run(*arguments: Any, **_: Any) -> None:
        sizes.append(arguments[2].image_size)

    monkeypatch.setattr(evaluate, "evaluate_loaded", run)
    reproduce.run_evaluation(plan, load(ran.given["checkpoint"]), reproduce.load_dataset(plan))
    assert sizes == [size]
