"""A study from the command to its record, page and figure; its baseline is what `evaluate` measures."""

import json
import shutil
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import papermill
import pytest

from yolov9bench import __main__ as door
from yolov9bench import records
from yolov9bench.data.coco import label_categories, read_coco
from yolov9bench.errors import DatasetError, SettingsError
from yolov9bench.evaluation import intervals, study_lines
from yolov9bench.evaluation.candidates import Source
from yolov9bench.evaluation.departures import list_departures
from yolov9bench.evaluation.evaluate import evaluate
from yolov9bench.ops.images import read_image
from yolov9bench.predict import batches
from yolov9bench.records import Record
from yolov9bench.records.study import StudyLine, StudyValues, read_study
from yolov9bench.report.study_page import study_markdown, study_text
from yolov9bench.study import study_file
from yolov9bench.verify import is_clean, verify
from yolov9bench.weights import load
from yolov9bench.zoo.protocols import ULTRALYTICS

NOTEBOOK = Path(__file__).parents[1] / "notebooks/protocol.ipynb"


@pytest.fixture(scope="module")
def graded(painted: Path, tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The painted images, with every ninth detection of the untrained network on them for an object.

    So that AP is neither 0 nor 1. Boxes are moved by two pixels, and one object of each image is a crowd.
    """
    folder = Path(shutil.copytree(painted, tmp_path_factory.mktemp("graded") / "tiny"))
    detections = folder / "detections.json"
    evaluate(tiny_weights, painted, split="val", image_size=64, device="cpu", detections=detections)
    file = folder / "annotations/instances_val.json"
    content = json.loads(file.read_text())
    content["annotations"] = []
    for number, found in enumerate(json.loads(detections.read_text())[::9], start=1):
        x, y, width, height = found["bbox"]
        box = {"bbox": [x + 2, y, width, height], "area": width * height, "iscrowd": int(number % 5 == 0)}
        kept = {"image_id": found["image_id"], "category_id": found["category_id"]}
        content["annotations"].append({"id": number, **kept, **box})
    file.write_text(json.dumps(content))
    return folder


@pytest.fixture
def without_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a small study's time goes into them."""
    monkeypatch.setattr(study_lines, "paired_intervals", lambda _, seconds: [None] * len(seconds))


@pytest.fixture(scope="module")
def record(graded: Path, tiny_weights: Path) -> Record:
    """A study of the untrained network under yolov9, whose intervals are of fewer draws, for their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_lines, "paired_intervals", partial(intervals.paired_intervals, draws=50))
        return study_file(tiny_weights, graded, split="val", image_size=64, orders=2, device="cpu")


def line_of(values: StudyValues, name: str) -> StudyLine:
    (found,) = [line for line in values.lines or [] if line.name == name]
    return found


def test_the_baseline_is_what_evaluate_measures(record: Record, graded: Path, tiny_weights: Path) -> None:
    measured = evaluate(tiny_weights, graded, split="val", image_size=64, device="cpu", backend="plain")
    values = read_study(record).values
    assert values.baseline and measured.values["AP"] > 0
    assert values.baseline == {name: measured.values[name] for name in values.baseline}
    assert values.detections == measured.values["detections"]["sha256"]
    assert record.settings["protocol"] == measured.settings["protocol"]
    for part in ("weights_sha256", "annotations_sha256", "image_list_sha256", "images"):
        assert record.inputs[part] == measured.inputs[part]
    assert (record.row, record.kind) == ("yolov9-t", "study")


@pytest.mark.parametrize(
    ("name", "changes"),
    [("square inputs", {"rectangular": False, "group_size": 1}), ("NMS IoU .45", {"nms_iou": 0.45})],
)
def test_a_departure_is_what_evaluate_measures_by_such_a_protocol(
    name: str,
    changes: dict[str, Any],
    record: Record,
    graded: Path,
    tiny_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from yolov9bench.zoo import protocols

    changed = replace(protocols.YOLOV9, **changes)
    monkeypatch.setitem(protocols.PROTOCOLS, "mmyolo", changed)
    measured = evaluate(
        tiny_weights, graded, "mmyolo", split="val", image_size=64, device="cpu", backend="plain"
    )
    line = line_of(read_study(record).values, name)
    assert line.detections == [measured.values["detections"]["sha256"]]
    assert line.metrics is not None and line.metrics["AP"] == measured.values["AP"]


@pytest.mark.usefixtures("without_intervals")
def test_the_network_runs_once_on_each_input(
    painted: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six images by seven kinds of input; random orders need only images whose group's shape is another."""
    decoded: list[str] = []

    def spied(path: Path) -> Any:
        decoded.append(path.name)
        return read_image(path)

    monkeypatch.setattr(batches, "read_image", spied)
    study_file(tiny_weights, painted, split="val", image_size=64, orders=3, device="cpu")
    assert len(decoded) == 6 * 7  # all six are one group, so that no order gives another shape
    assert set(decoded) == {path.name for path in painted.glob("val/*")}


def test_changes_are_differences_and_lie_in_the_table(record: Record) -> None:
    values = read_study(record).values
    assert values.baseline is not None and values.lines is not None
    text, page = study_text(record), study_markdown(record)
    for line in values.lines:
        assert line.metrics is not None and line.AP_change is not None
        assert line.AP_change == pytest.approx(
            float(line.metrics["AP"] or 0) - float(values.baseline["AP"] or 0), abs=1e-12
        )
        assert line.AP_interval is not None and line.AP_interval[0] <= line.AP_interval[1]
        (shown,) = [row for row in text.splitlines() if row.startswith(f"{line.name}  ")]
        change = f"{100 * line.AP_change:+.2f}"
        assert (change if float(change) else " 0.00 ") in shown
        assert all(f"[{report}](https://github.com/" in page for report in line.reports or [])
    order = line_of(values, "order of ties")
    assert order.AP_changes is not None and len(order.AP_changes) == 2
    assert "(2 runs: " in text


def test_an_interval_is_that_of_the_difference(
    graded: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides interpolate, or neither: the pair that is compared is the one of the line's formula."""
    seen: list[tuple[Any, Any]] = []

    def spied(first: Any, seconds: Any) -> Any:
        seen.extend((first, second) for second in seconds)  # the own formula is the last line
        return intervals.paired_intervals(first, seconds, draws=50)

    monkeypatch.setattr(study_lines, "paired_intervals", spied)
    values = read_study(
        study_file(tiny_weights, graded, split="val", image_size=64, orders=2, device="cpu")
    ).values
    once = np.concatenate([[0], np.ones(6, np.int64)]).astype(np.int64)
    for line, (first, second) in zip(values.lines or [], seen, strict=True):
        both = [float(np.nanmean(side.class_precisions(once))) for side in (first, second)]
        is_interpolated = line.name == "own formula"
        assert (both[0] == pytest.approx((values.baseline or {})["AP"])) == is_interpolated
        if is_interpolated:
            assert both[1] == pytest.approx((line.metrics or {})["AP"])
        assert line.AP_interval is not None
        assert np.mean(line.AP_interval) == pytest.approx(both[1] - both[0], abs=1e-9)


@pytest.mark.usefixtures("without_intervals")
def test_the_command_writes_record_page_and_figure(
    graded: Path,
    tiny_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["study", "--checkpoint", tiny_weights, "--dataset", graded, "--split", "val", "--orders", "0"]
    words += ["--image-size", 64, "--protocol", "ultralytics-square", "--limit", 3, "--batch-size", 2]
    words += ["--json", tmp_path / "out.json", "--results", tmp_path / "results"]
    monkeypatch.setattr(sys, "argv", ["yolov9bench", *map(str, words)])
    assert door.main() == 0
    (written,) = records.select(tmp_path / "results", "yolov9-t", "study")
    assert json.loads((tmp_path / "out.json").read_text()) == json.loads(json.dumps(asdict(written)))
    names = [line.name for line in read_study(written).values.lines or []]
    assert names[0] == "rectangular inputs" and "order of ties" not in names
    page = (tmp_path / f"results/studies/yolov9-t-{records.hash8(written)}.md").read_text()
    assert study_markdown(written) in page and page.count("- **") == len(names)
    figure = tmp_path / f"results/studies/yolov9-t-{records.hash8(written)}.png"
    assert f"({figure.name})" in page and figure.read_bytes().startswith(b"\x89PNG")
    assert study_text(written) in capsys.readouterr().out
    assert (written.inputs["images"], written.settings["batch_size"]) == (3, 2)


def test_verify_computes_the_baseline_again(
    record: Record, graded: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs/detections"
    given: dict[str, Any] = {"split": "val", "image_size": 64, "device": "cpu", "backend": "plain"}
    evaluate(tiny_weights, graded, **given, detections=folder)
    annotations = [graded / "annotations/instances_val.json"]
    (outcome,) = verify(tmp_path, [records.write(record, tmp_path)], annotations)
    assert outcome.word == "hash only" and is_clean([outcome], strict=True)
    baseline, (line, *_) = record.values["baseline"] | {"AP50": 0.99}, record.values["lines"]
    false = replace(record, values=record.values | {"baseline": baseline, "lines": [line]})
    (outcome,) = verify(tmp_path, [records.write(false, tmp_path)], annotations)
    assert outcome.word == "false" and "AP50 of the baseline is 0.99, its detections give" in str(outcome)


def test_verify_reads_a_study_and_refuses_a_false_one(record: Record, tmp_path: Path) -> None:
    (outcome,) = verify(tmp_path, [records.write(record, tmp_path)])
    assert outcome.word == "hash only" and "not computed again" in outcome.reasons[0]
    lines = record.values["lines"]
    for number, (key, value, fault) in enumerate(
        [
            ("AP_change", 0.5, "square inputs changes AP by 0.5"),
            ("AP_changes", [0.25], "its runs have another mean"),
            ("AP_interval", "wide", "AP_interval 'wide', which is not a list"),
        ]
    ):
        false = replace(record, values={**record.values, "lines": [{**lines[0], key: value}, *lines[1:]]})
        folder = tmp_path / str(number)
        (outcome,) = verify(tmp_path, [records.write(false, folder)])
        assert outcome.word == "false" and fault in outcome.reasons[0]
    empty = replace(record, values={**record.values, "lines": []})
    (outcome,) = verify(tmp_path, [records.write(empty, tmp_path / "empty")])
    assert outcome.reasons == ("it states no baseline or no departure",)


@pytest.mark.usefixtures("without_intervals")
def test_images_that_cannot_be_decoded(tiny: Path, tiny_weights: Path) -> None:
    """They are left out of every line, and of the truth."""
    (tiny / "val/000002.png").write_bytes(b"nothing")
    asked: dict[str, Any] = {"split": "val", "image_size": 64, "orders": 0, "device": "cpu"}
    with pytest.raises(DatasetError, match=r"000002\.png"):
        study_file(tiny_weights, tiny, **asked)
    found = study_file(tiny_weights, tiny, skip_corrupt=True, **asked)
    assert (found.inputs["images"], found.inputs["images_skipped"]) == (5, ["000002.png"])
    asked |= {"skip_corrupt": True, "backend": "plain"}
    del asked["orders"]
    measured = evaluate(tiny_weights, tiny, **asked)
    assert found.values["baseline"]["AP"] == measured.values["AP"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"protocol": "ultralitics"}, "did you mean 'ultralytics'"),
        ({"image_size": 65}, "image_size 65 is not a multiple of 32"),
        ({"orders": -1}, "orders is -1: give 0 or more"),
        ({"batch_size": 0}, "batch_size is 0: give 1 or more"),
        ({"device": "gpu"}, "a GPU is called cuda"),
    ],
)
def test_what_is_wrong_stops_before_the_network_runs(
    given: dict[str, Any], sentence: str, painted: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "read_image", lambda *_: pytest.fail("an image was read"))
    with pytest.raises(SettingsError, match=sentence):
        study_file(tiny_weights, painted, split="val", **given)


@pytest.mark.slow(15)
def test_the_notebook_shows_table_and_figure(tiny: Path, tiny_weights: Path, tmp_path: Path) -> None:
    given = {"checkpoint": tiny_weights, "dataset": tiny, "results_dir": tmp_path / "results"}
    parameters = {name: str(path) for name, path in given.items()} | {"split": "val", "image_size": 64}
    out = tmp_path / "out.ipynb"
    notebook = papermill.execute_notebook(
        NOTEBOOK, out, parameters, progress_bar=False, kernel_name="python3"
    )
    data = [
        output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output
    ]
    (written,) = records.select(tmp_path / "results", "yolov9-t", "study")
    assert study_markdown(written) in [each.get("text/markdown") for each in data]
    assert sum("image/png" in each for each in data) == 1
    assert written.command[0] == "notebooks/protocol.ipynb" and out.stat().st_size < 1_000_000


@pytest.mark.usefixtures("without_intervals")
@pytest.mark.slow(12)
def test_departures_on_real_images(shared: Path) -> None:
    """yolov8n at 320 px: thresholds and labels cost AP, the input's coordinates move the sizes alone."""
    dataset = read_coco(shared / "coco")
    checkpoint = load(shared / "weights/yolov8n.pt")
    protocol = ULTRALYTICS.at_image_size(320)
    wanted = ("single label", "conf .25", "letterboxed boxes", "float16 NMS")
    chosen = [each for each in list_departures(protocol) if each.name in wanted]
    source = Source(checkpoint.detector.deployed(), dataset, "cpu", protocol.score_threshold, 16)
    categories = label_categories(dataset, checkpoint.names, 80)
    values, _ = study_lines.measure_all(source, protocol, chosen, categories)
    changes = {name: float(line_of(values, name).AP_change or 0) for name in wanted}
    assert changes["single label"] < -0.001 and changes["conf .25"] < -0.03
    assert abs(changes["letterboxed boxes"]) < 0.001 and changes["float16 NMS"] < -0.05
    moved = line_of(values, "letterboxed boxes").metrics or {}
    assert values.baseline is not None
    assert all(abs((moved[size] or 0) - (values.baseline[size] or 0)) > 0.01 for size in ("APs", "APm"))


@pytest.mark.accuracy
@pytest.mark.slow(200)
def test_every_departure_on_real_images(shared: Path) -> None:
    """Points of AP that another implementation of these departures measured; the orders were other ones."""
    values = read_study(study_file(shared / "weights/yolov8n.pt", shared / "coco", device="cpu")).values
    assert (values.baseline or {})["AP"] == pytest.approx(0.3910, abs=1e-4)
    expected = {
        "square inputs": -0.25,
        "area resize": 0,
        "PIL resize": -0.01,
        "sides truncated": -0.03,
        "no scale-up": -0.47,
        "padding 0": 0.17,
        "single label": -0.83,
        "conf .01": -0.37,
        "conf .25": -7.86,
        "NMS IoU .45": -1.05,
        "NMS IoU .65": 0.06,
        "100 boxes": -0.42,
        "class-agnostic NMS": -1.99,
        "crowds dropped": -0.13,
        "letterboxed boxes": 0,
    }
    found = {name: 100 * float(line_of(values, name).AP_change or 0) for name in expected}
    assert found == pytest.approx(expected, abs=0.03)
    orders = 100 * np.array(line_of(values, "order of ties").AP_changes)
    assert len(orders) == 5 and np.abs(orders).max() < 0.8 and np.ptp(orders) > 0.1
    assert -16 < 100 * float(line_of(values, "float16 NMS").AP_change or 0) < -11
    assert -0.3 < 100 * float(line_of(values, "own formula").AP_change or 0) < 0
