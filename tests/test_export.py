"""What records become for others: parsed again, it states their figures and hashes, and no more."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from report_records import evaluation, measurement

from yolov9bench import __main__ as door
from yolov9bench import records
from yolov9bench.errors import BenchError, RecordError, ReportError
from yolov9bench.records import Record
from yolov9bench.report.export import metafile, model_index
from yolov9bench.report.exportable import select_figures
from yolov9bench.zoo import ROWS
from yolov9bench.zoo.protocols import MMYOLO_TTA

COMMITTED = sorted((Path(__file__).parents[1] / "results").glob("records/*/evaluate-*.json"))
ROW = "yolov8-n-mask-refine"
FEW = {"images": 100, "annotations_sha256": "cd" * 32}


def whole(row: str = ROW, **changes: Any) -> Record:
    """A complete evaluation of AP 37.31 %, with small objects and without large ones."""
    record = evaluation(row, ap=0.3731, **changes)
    others = {"AP50": 0.5284, "AP75": 0.4056, "APs": 0.18751, "APm": 0.405, "APl": -1.0}
    inputs = record.inputs | {"spec": "yolov8-n", "format": "mmyolo"}
    return replace(record, values=record.values | others, inputs=inputs)


def with_tta() -> Record:
    return evaluation(ROW, ap=0.3987, day=2, protocol=asdict(MMYOLO_TTA))


def keys_in(content: Any) -> set[str]:
    """Every key of dictionaries in dictionaries and lists."""
    if isinstance(content, dict):
        return set(content).union(*map(keys_in, content.values()))
    return set().union(*map(keys_in, content)) if isinstance(content, list) else set()


def test_a_model_card_states_every_ap_and_the_record(tmp_path: Path) -> None:
    path = records.write(whole(), tmp_path)
    text = model_index(select_figures(tmp_path, ()), "https://example.org/records")
    content = yaml.safe_load(text)
    (model,) = content["model-index"]
    (result,) = model["results"]
    assert model["name"] == ROW
    assert result["task"]["type"] == "object-detection"
    assert result["dataset"] == {"type": "coco", "name": "COCO 2017 val2017"}
    assert result["source"] == {"name": "yolov9bench", "url": "https://example.org/records"}
    assert {each["type"]: each["value"] for each in result["metrics"]} == {
        "map": 37.31,
        "map_50": 52.84,
        "map_75": 40.56,
        "map_small": 18.751,
        "map_medium": 40.5,
    }
    assert [each["name"] for each in result["metrics"]][:2] == [
        *("box AP, protocol mmyolo", "box AP50, protocol mmyolo")
    ]
    for each in result["metrics"]:
        assert each["args"]["record"] == path.relative_to(tmp_path).as_posix()
        assert records.hash8(whole()) in each["args"]["record"]
        assert each["args"]["weights_sha256"] == whole().inputs["weights_sha256"]
    assert not {"verified", "verifyToken"} & keys_in(content)


def test_a_metafile_keeps_measured_predicted_and_published_apart(tmp_path: Path) -> None:
    """2.5 GiB are 2.7 GB."""
    for record in (whole(), with_tta(), measurement(ROW)):
        records.write(record, tmp_path)
    content = yaml.safe_load(metafile(select_figures(tmp_path, ()), tmp_path))
    (collection,), (model,) = content["Collections"], content["Models"]
    assert collection["Name"] == model["In Collection"] == "YOLOv8 of mmyolo"
    assert collection["Metadata"]["Training Techniques"] == [
        *("SGD with Nesterov", "Weight Decay", "AMP", "Synchronize BN")
    ]
    assert model["Name"] == "yolov8_n_mask-refine_syncbn_fast_8xb16-500e_coco"
    assert (model["Config"], model["Weights"]) == (ROWS[ROW].config, ROWS[ROW].download.url)
    assert model["Metadata"] == {
        "Training Memory (GB)": 2.7,
        "Predicted Training Memory (GiB)": 3.2,
        "Published Training Memory (GB)": 2.5,
        "Epochs": 500,
    }
    assert [each["Metrics"] for each in model["Results"]] == [{"box AP": 37.3}, {"TTA box AP": 39.9}]
    assert [each["Dataset"] for each in model["Results"]] == ["COCO", "COCO"]
    for each, record in zip(model["Results"], (whole(), with_tta()), strict=True):
        assert records.hash8(record) in each["Record"]
        assert each["Weights SHA256"] == record.inputs["weights_sha256"]


def test_only_the_figures_of_the_table_are_taken_unasked(tmp_path: Path) -> None:
    for record in (whole(), whole(day=2), whole(day=3, inputs=FEW), whole(day=4, dirty=True)):
        records.write(record, tmp_path)
    (figure,) = select_figures(tmp_path, ())
    assert figure.record.start.startswith("2026-01-02")
    names = [each.dataset for each in select_figures(tmp_path, (), not_comparable=True)]
    val2017 = "COCO 2017 val2017"
    assert names == [val2017, "annotations cdcdcdcd, 100 images", f"{val2017}, 5,000 images"]


def test_what_is_not_comparable_needs_its_flag_and_says_so(tmp_path: Path) -> None:
    path = records.write(whole(inputs=FEW), tmp_path)
    with pytest.raises(ReportError, match=r"100 images that are not .* add --not-comparable"):
        select_figures(tmp_path, [path])
    content = yaml.safe_load(model_index(select_figures(tmp_path, [path], not_comparable=True)))
    (result,) = content["model-index"][0]["results"]
    assert result["dataset"] == {"type": "other", "name": "annotations cdcdcdcd, 100 images"}
    assert all("not comparable: 100 images" in each["name"] for each in result["metrics"])
    assert "source" not in result


@pytest.mark.parametrize(
    ("record", "kind", "sentence"),
    [
        (measurement(), RecordError, "is of kind measure: give those of evaluations"),
        (replace(whole(), values={}), RecordError, "states no AP within 0..1: name another one"),
        (None, ReportError, "no record in .* may stand as the figure of its model: measure on all images"),
    ],
)
def test_what_cannot_be_exported_is_named(
    tmp_path: Path, record: Record | None, kind: type[BenchError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        select_figures(tmp_path, [records.write(record, tmp_path)] if record else [], not_comparable=True)


def test_a_metafile_has_no_place_for_a_custom_record(tmp_path: Path) -> None:
    path = records.write(replace(whole(), row=None), tmp_path)
    figures = select_figures(tmp_path, [path], not_comparable=True)
    with pytest.raises(ReportError, match="is of no row, which a metafile lists: choose another form"):
        metafile(figures, tmp_path)
    assert yaml.safe_load(model_index(figures))["model-index"][0]["name"].startswith("yolov8-n-")


def answer(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["yolov9bench", "export", *map(str, words)])
    return door.main()


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem[-8:])
def test_committed_records_as_evaluation_results(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ["--form", "eval-results", "--dataset-id", "owner/coco", "--task-id", "val", "--not-comparable"]
    assert answer(monkeypatch, *flags, path, "--out", tmp_path / "coco.yaml") == 0
    (entry,) = yaml.safe_load((tmp_path / "coco.yaml").read_text())
    stated = json.loads(path.read_text())
    assert entry["dataset"] == {"id": "owner/coco", "task_id": "val"}
    assert entry["value"] == pytest.approx(100 * stated["values"]["AP"], abs=5e-4)
    assert entry["date"] == stated["start"][:10]
    for part in (path.name, stated["inputs"]["weights_sha256"], "100 images", "not comparable"):
        assert part in entry["notes"]
    assert set(entry) == {"dataset", "value", "date", "notes"}


def test_eval_results_are_of_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for row in (ROW, "yolov9-c"):
        records.write(whole(row), tmp_path)
    flags = ["--form", "eval-results", "--dataset-id", "owner/coco", "--results", tmp_path]
    assert answer(monkeypatch, *flags) == 2
    assert f"eval-results are of one model, not of {ROW}, yolov9-c: name" in capsys.readouterr().err
