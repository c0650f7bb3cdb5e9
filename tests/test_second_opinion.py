"""Second opinions on a stored evaluation, beside numbers counted by hand; what cannot give one is named."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stored_records import detections, make_record, truth

from yolov9bench import __main__ as door
from yolov9bench import records
from yolov9bench.errors import BenchError, DatasetError, RecordError, SettingsError
from yolov9bench.evaluation.diagnostics import calibration
from yolov9bench.evaluation.second_opinion import SecondOpinion, give_second_opinion
from yolov9bench.io.files import sha256_of
from yolov9bench.predict.predictions import predictions_from_rows
from yolov9bench.records.detections import keep_detections


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A results folder with one record and its detections, annotations, and those of another hand."""
    (tmp_path / "own.json").write_text(json.dumps(truth()))
    record, text = make_record(tmp_path / "own.json", detections())
    records.write(record, tmp_path / "results")
    keep_detections(tmp_path / "results", text)
    moved = [
        entry | {"bbox": row["bbox"]} for entry, row in zip(truth()["annotations"], detections(), strict=True)
    ]
    (tmp_path / "other.json").write_text(json.dumps(truth() | {"annotations": moved}))
    return tmp_path


def record_of(folder: Path) -> Path:
    (found,) = folder.glob("results/records/*/*.json")
    return found


def ask(folder: Path, corrected: str | None = "other.json") -> SecondOpinion:
    other = None if corrected is None else folder / corrected
    return give_second_opinion(record_of(folder), folder / "results", [folder / "own.json"], other)


def test_lrp_of_boxes_moved_by_pixels(folder: Path) -> None:
    """A box of 20 px that is n px off has IoU (20 - n) / (20 + n); all are kept, none is missed."""
    lrp = ask(folder).lrp
    for name, offsets in (("blue", (1, 3, 5)), ("red", (2, 4, 6))):
        shifts = [1 - (20 - n) / (20 + n) for n in offsets]
        assert lrp.classes[name].error == pytest.approx(sum(shifts) / 0.5 / 3)
        assert lrp.classes[name].localisation == pytest.approx(sum(shifts) / 3)
        assert lrp.classes[name].threshold == pytest.approx(1 - offsets[-1] / 10)
    assert lrp.error == pytest.approx((lrp.classes["blue"].error + lrp.classes["red"].error) / 2)


def test_annotations_of_another_hand_stand_beside(folder: Path) -> None:
    """They lie where the detections do, so that every AP by them is 1."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    opinion = ask(folder)
    assert opinion.metrics["AP"] == records.read(record_of(folder)).values["AP"] < 0.8
    assert opinion.corrected is not None
    assert opinion.corrected.metrics["AP"] == pytest.approx(1)
    assert (opinion.corrected.sha256, opinion.corrected.annotations) == (sha256_of(folder / "other.json"), 6)
    text = str(opinion)
    assert (
        f"corrected annotations given by the user, 6 annotations, sha256 {opinion.corrected.sha256}" in text
    )
    assert f"AP     {opinion.metrics['AP']:.5f}            1.00000" in text
    assert "corrected" not in str(ask(folder, None))
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_calibration_by_hand() -> None:
    """Bins of a tenth: one false at .05, .1 and .2 each; three from .9 on, of which the second finds nothing
    new; the one on a crowd does not count. Gaps .05, .1, .2 and (.95 + .91 + 1) / 3 - 2 / 3; of the classes
    (.05 + .2 + 2 * .43) / 4 and (.1 + 0) / 2.
    """
    box, crowd = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 40.0, 40.0]
    keys = ("image_id", "category_id", "bbox", "iscrowd", "area")
    objects = [(1, 1, box, 0, 100.0), (1, 1, crowd, 1, 1600.0), (2, 2, box, 0, 100.0)]
    ground_truth = truth() | {"annotations": [dict(zip(keys, each, strict=True)) for each in objects]}
    found = [
        *((1, 1, box, 0.95), (1, 1, [55.0, 55.0, 9.0, 9.0], 0.93), (1, 1, box, 0.91), (2, 2, box, 1.0)),
        *((2, 2, [30.0, 30.0, 5.0, 5.0], 0.1), (2, 1, box, 0.2), (2, 1, box, 0.05)),
    ]
    columns = ("image_id", "category_id", "bbox", "score")
    given = predictions_from_rows([dict(zip(columns, each, strict=True)) for each in found])
    seen = calibration(ground_truth, given)
    gap = (0.95 + 0.91 + 1) / 3 - 2 / 3
    assert seen.error == pytest.approx((0.05 + 0.1 + 0.2 + 3 * gap) / 6)
    assert seen.largest == pytest.approx(gap)
    assert seen.detections == 6
    assert [(each.count, round(each.low, 1)) for each in seen.bins] == [(1, 0), (1, 0.1), (1, 0.2), (3, 0.9)]
    assert seen.bins[-1].right == pytest.approx(2 / 3)
    assert seen.classes == pytest.approx({"red": 0.2775, "blue": 0.05})


def rename_class(folder: Path) -> None:
    content = json.loads((folder / "other.json").read_text())
    content["categories"][1]["name"] = "green"
    (folder / "other.json").write_text(json.dumps(content))


def drop_image(folder: Path) -> None:
    content = json.loads((folder / "other.json").read_text())
    content["images"] = content["images"][:-1]
    content["annotations"] = content["annotations"][:-1]
    (folder / "other.json").write_text(json.dumps(content))


def lie(folder: Path) -> None:
    record = records.read(record_of(folder))
    record_of(folder).unlink()
    records.write(replace(record, values=record.values | {"AP": 0.9}), folder / "results")


def call_it_training(folder: Path) -> None:
    record = records.read(record_of(folder))
    record_of(folder).unlink()
    records.write(replace(record, kind="train"), folder / "results")


@pytest.mark.parametrize(
    ("spoil", "kind", "sentence"),
    [
        (rename_class, DatasetError, "has no category 2 named 'blue', which the record has: give corrected"),
        (drop_image, DatasetError, "has no image 6 named '6.png', which the record has"),
        (lie, RecordError, "is false \\(AP is 0.9, its detections give"),
        (call_it_training, RecordError, "is a record of kind train: give one of an evaluation"),
        (
            lambda folder: shutil.rmtree(folder / "results/detections"),
            RecordError,
            "name the folder .* --results",
        ),
        (
            lambda folder: (folder / "own.json").write_text("{}"),
            RecordError,
            "are not found: give them by --ann",
        ),
        (
            lambda folder: shutil.copy(folder / "own.json", folder / "other.json"),
            SettingsError,
            "are the record's own annotations: give other ones",
        ),
    ],
)
def test_what_gives_no_second_opinion_is_named(
    folder: Path, spoil: Callable[[Path], Any], kind: type[BenchError], sentence: str
) -> None:
    spoil(folder)
    with pytest.raises(kind, match=sentence):
        ask(folder)


def test_the_command_prints_it_and_writes_every_class(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--annotations", "own.json", "--results", "results", "--json", "answer.json"]
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["yolov9bench", "second-opinion", str(record_of(folder)), *words])
    assert door.main() == 0
    assert capsys.readouterr().out == f"{ask(folder, None)}\n"
    answer = json.loads((folder / "answer.json").read_text())
    assert answer["lrp"]["classes"]["red"]["error"] == ask(folder).lrp.classes["red"].error
    assert answer["corrected"] is None
