"""Comparisons of two evaluations: by hand, refused, shown in table and figure, and lied about."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record_parts import EMPTY
from report_records import evaluation
from stored_records import detections, make_record, truth

from yolov9bench import __main__ as door
from yolov9bench import records, reproduce
from yolov9bench.errors import RecordError
from yolov9bench.evaluation.compare import compare_files, match_detections
from yolov9bench.evaluation.intervals import paired_interval
from yolov9bench.plots.checks import plot_checks
from yolov9bench.plots.figure_data import gather_checks
from yolov9bench.predict.predictions import predictions_from_rows
from yolov9bench.records import Record, as_stored
from yolov9bench.records.comparison import ALIKE, neighbours, read_comparison, select_comparisons
from yolov9bench.records.detections import keep_detections
from yolov9bench.records.evidence import checks, evidence
from yolov9bench.records.verdict import comparison_text
from yolov9bench.report import csv_table, table
from yolov9bench.verify import Outcome, verify
from yolov9bench.zoo.protocols import PROTOCOLS

README = "# Bench\n\n<!-- table -->\n<!-- /table -->\n"


def better() -> list[dict[str, Any]]:
    """Every object found exactly: AP 1."""
    return [row | {"bbox": [10.0, 10.0, 20.0, 20.0]} for row in detections()]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two records on the same six images, under two protocols, with their detections."""
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / "data/annotations.json").write_text(json.dumps(truth()))
    for name, rows in (("ultralytics", detections()), ("yolov9", better())):
        record, text = make_record(root / "data/annotations.json", rows)
        settings = record.settings | {"protocol": as_stored(PROTOCOLS[name])}
        records.write(replace(record, settings=settings), root / "results")
        keep_detections(root / "results", text)
    return root


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["yolov9bench", "compare", *words])
    return door.main()


def compare_all(root: Path) -> Record:
    (found,) = compare_files((), root / "results", [root / "data/annotations.json"])
    return found.record


def stored(root: Path, **changes: dict[str, Any]) -> Record:
    """The comparison by committed code, with changes, in the results."""
    record = compare_all(root)
    parts = {"environment": {"dirty": False, "commit": None}} | changes
    merged = {name: getattr(record, name) | part for name, part in parts.items()}
    record = replace(record, **merged)
    records.write(record, root / "results")
    return record


def look(root: Path, annotations: bool = True) -> dict[str, Outcome]:
    given = [root / "data/annotations.json"] if annotations else []
    paths = sorted((root / "results/records").rglob("*.json"))
    return {each.name.split("/")[1].split("-")[0]: each for each in verify(root / "results", paths, given)}


def test_the_difference_is_that_of_the_metrics_and_the_interval_is_paired(project: Path) -> None:
    record = compare_all(project)
    first, second = sorted(
        records.select(project / "results"), key=lambda each: str(each.settings["protocol"]["name"])
    )
    stated = read_comparison(record)
    assert (stated.inputs.first.sha256, stated.inputs.second.sha256) == tuple(
        map(records.hash_of, (first, second))
    )
    assert second.values["AP"] == pytest.approx(1.0)
    assert stated.values.AP_difference == second.values["AP"] - first.values["AP"]
    own, theirs = (
        match_detections(truth(), predictions_from_rows(rows)) for rows in (detections(), better())
    )
    interval = paired_interval(own, theirs)
    assert interval is not None and stated.values.AP_interval == pytest.approx(interval, abs=1e-12)
    assert (stated.inputs.images, record.row, record.kind) == (6, None, "compare")


def test_an_evaluation_is_nothing_beside_itself(project: Path) -> None:
    path = sorted((project / "results/records").rglob("*.json"))[0]
    (found,) = compare_files((path, path), project / "results", [project / "data/annotations.json"])
    assert (found.difference, found.interval) == (0.0, [0.0, 0.0])
    assert not found.is_told_apart
    assert comparison_text(found).endswith("95 % interval +0.00 to +0.00, so that they cannot be told apart")


def test_what_was_compared_is_not_compared_again(project: Path) -> None:
    stored(project)
    assert compare_files((), project / "results", [project / "data/annotations.json"]) == []


def test_the_command_prints_and_keeps(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--results", str(project / "results"), "--annotations", str(project / "data/annotations.json")]
    assert run([*given, "--keep"], monkeypatch) == 0
    said = capsys.readouterr().out
    assert re.fullmatch(
        r"custom under yolov9 beside custom under ultralytics, 6 images: \+\d+\.\d\d AP; 95 % .*\n", said
    )
    assert [record.kind for record in records.select(project / "results", kind="compare")] == ["compare"]


def with_other_images(root: Path) -> list[Path]:
    first, second = sorted((root / "results/records").rglob("*.json"))
    record = records.read(second)
    other = replace(record, inputs=record.inputs | {"image_list_sha256": "0" * 64})
    return [first, records.write(other, root / "results")]


def with_a_measurement(root: Path) -> list[Path]:
    first = sorted((root / "results/records").rglob("*.json"))[0]
    return [first, records.write(replace(EMPTY, kind="measure"), root / "results")]


def without_detections(root: Path) -> list[Path]:
    for file in (root / "results/detections").iterdir():
        file.unlink()
    return sorted((root / "results/records").rglob("*.json"))


@pytest.mark.parametrize(
    ("prepare", "sentence"),
    [
        (with_other_images, "are not on the same images, annotations and classes"),
        (with_a_measurement, "is no evaluation with an AP"),
        (without_detections, "the detections of .* are not in .*: name the folder"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    project: Path, prepare: Callable[[Path], list[Path]], sentence: str
) -> None:
    paths = prepare(project)
    with pytest.raises(RecordError, match=sentence):
        compare_files(paths, project / "results", [project / "data/annotations.json"])


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["a.json"], "records are 1: give two"),
        (["--json", "out.json"], "json is for the comparison of two records"),
        (["a.json", "b.json"], "a.json"),
    ],
)
def test_bad_parameters_are_refused(
    given: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(given, monkeypatch) == 2
    assert sentence in capsys.readouterr().err


class TestVerify:
    def test_an_honest_comparison_is_verified(self, project: Path) -> None:
        stored(project)
        assert {name: each.word for name, each in look(project).items()} == {
            "compare": "verified",
            "evaluate": "verified",
        }

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"values": {"AP_difference": 0.1}}, r"AP_difference is 0\.1, its records give 0\."),
            ({"values": {"AP_interval": [0.1, 0.2]}}, r"AP_interval is \[0\.1, 0\.2\], the detections"),
            ({"values": {"AP_interval": None}}, r"AP_interval is None, the detections"),
            ({"values": {"AP_interval": [0.1]}}, "has not two ends"),
            ({"settings": {"draws": 10}}, "the detections of its records give"),
            ({"settings": {"draws": 0}}, "from 0 half-samples"),
            (
                {"inputs": {"first": {"file": "evaluate-x.json", "sha256": "0" * 64}}},
                r"it compares evaluate-x\.json, which is not there",
            ),
        ],
    )
    def test_a_lie_is_named(self, project: Path, changes: dict[str, Any], sentence: str) -> None:
        stored(project, **changes)
        outcome = look(project)["compare"]
        assert outcome.word == "false"
        assert re.search(sentence, str(outcome)), str(outcome)

    def test_an_edited_evaluation_is_no_longer_the_one_compared(self, project: Path) -> None:
        stored(project)
        path = next(each for each in (project / "results/records").rglob("evaluate-*.json"))
        record = records.read(path)
        path.unlink()
        records.write(replace(record, values=record.values | {"AP": 0.9}), project / "results")
        outcome = look(project)["compare"]
        assert outcome.word == "false" and "which is not there" in str(outcome)

    def test_without_annotations_the_hash_alone_is_checked(self, project: Path) -> None:
        stored(project)
        outcome = look(project, annotations=False)["compare"]
        assert (outcome.word, outcome.reasons) == ("hash only", ("missing: detections or annotations",))

    def test_an_edited_interval_of_an_evaluation_is_named(self, project: Path) -> None:
        path = next(each for each in (project / "results/records").rglob("evaluate-*.json"))
        record = records.read(path)
        path.unlink()
        values = record.values | {"AP_interval": [0.0, 1.0], "AP_interval_method": "half-samples"}
        path = records.write(replace(record, values=values), project / "results")
        (outcome,) = verify(project / "results", [path], [project / "data/annotations.json"])
        assert outcome.word == "false" and "AP_interval is [0.0, 1.0], its detections give" in str(outcome)


def comparison(first: Record, second: Record, interval: list[float] | None, **environment: Any) -> Record:
    """A made-up record that compares two made-up evaluations."""
    names = [
        {"file": records.path_of(each, Path()).name, "sha256": records.hash_of(each)}
        for each in (first, second)
    ]
    return replace(
        EMPTY,
        row=None,
        kind="compare",
        values={"AP_difference": 0.0123, "AP_interval": interval},
        settings={"draws": 1000},
        inputs=dict(zip(("first", "second"), names, strict=True)) | {"images": 5000},
        environment={"dirty": False} | environment,
    )


C, E = evaluation("yolov9-c", 0.53), evaluation("yolov9-e", 0.5423)


@pytest.mark.parametrize(
    ("interval", "cell", "told"),
    [
        ([-0.001, 0.02], f"**54.2** {ALIKE} · *55.6*", f"no ({ALIKE})"),
        ([0.001, 0.02], "**54.2** · *55.6*", "yes"),
        (None, f"**54.2** {ALIKE} · *55.6*", f"no ({ALIKE})"),
    ],
)
def test_rows_that_cannot_be_told_apart_are_marked(
    interval: list[float] | None, cell: str, told: str
) -> None:
    found = [C, E, comparison(C, E, interval)]
    compared = select_comparisons(found, neighbours(evidence(found), checks(found)))
    text = table.block(evidence(found), [], compared=compared)
    line = next(line for line in text.splitlines() if line.startswith("| YOLOv9-e |"))
    assert line.split(" | ")[7] == cell
    above = next(line for line in text.splitlines() if line.startswith("| YOLOv9-c |"))
    assert ALIKE not in above
    (shown,) = [line for line in text.splitlines() if line.startswith("| yolov9-c, yolov9 |")]
    ends = "—" if interval is None else f"{100 * interval[0]:+.2f} to +2.00"
    assert shown.split(" | ")[1:6] == ["yolov9-e, yolov9", "5,000", "**+1.23**", ends, told]
    lines = {
        line["row"]: line
        for line in csv.DictReader(io.StringIO(csv_table.csv_text(evidence(found), compared)))
    }
    assert lines["yolov9-e"]["box_ap_difference_from_above"] == "1.23"
    assert lines["yolov9-e"]["box_ap_difference_high"] == ("" if interval is None else "2.0")
    assert lines["yolov9-c"]["box_ap_difference_from_above"] == ""


@pytest.mark.parametrize("state", [True, None])
def test_a_comparison_by_uncommitted_code_is_not_shown(state: bool | None) -> None:
    found = [C, E, comparison(C, E, [0.0, 0.1], dirty=state)]
    assert select_comparisons(found, neighbours(evidence(found), [])) == []


def test_the_newest_comparison_counts_and_only_of_what_is_shown() -> None:
    older = comparison(C, E, [0.001, 0.1])
    newer = replace(comparison(C, E, [-0.1, 0.1]), start="2026-01-02T00:00:00+00:00")
    pairs = neighbours(evidence([C, E]), [])
    assert [each.record for each in select_comparisons([older, newer], pairs)] == [newer]
    again = evaluation("yolov9-e", 0.55, day=2)  # the newest evaluation, which was not compared
    assert select_comparisons([older], neighbours(evidence([C, E, again]), [])) == []


def test_rows_on_other_images_are_no_neighbours() -> None:
    other = evaluation("yolov9-e", 0.55, inputs={"image_list_sha256": "cd" * 32})
    assert neighbours(evidence([C, other]), []) == []
    assert neighbours(evidence([C, E]), []) == [(C, E)]


def test_the_figure_marks_what_cannot_be_told_apart() -> None:
    """Between the two lines, at the right of the axes; and the key says what it means."""
    interval = {"AP_interval": [0.3, 0.5]}
    plain, square = (
        replace(
            EMPTY,
            row="ultralytics-yolov8n",
            values={"AP": ap} | interval,
            settings={"protocol": {"name": name}},
            inputs={"images": 100, "demo": False, "image_list_sha256": "ab"},
        )
        for ap, name in ((0.391, "ultralytics"), (0.389, "ultralytics-square"))
    )
    found = [plain, square, comparison(plain, square, [-0.01, 0.01])]
    compared = select_comparisons(found, neighbours(evidence(found), checks(found)))
    data = gather_checks(checks(found), compared)
    assert [line.get("alike") for line in data["measurements"]] == [None, True]
    figure = plot_checks(data)
    (axes,) = figure.axes
    assert [(text.xy) for text in axes.texts if text.get_text() == ALIKE] == [(1.0, 0.5)]  # type: ignore[attr-defined]
    assert "cannot be told apart" in [text.get_text() for text in figure.legends[0].get_texts()]
    bare = plot_checks(gather_checks(checks(found)))
    assert ALIKE not in [text.get_text() for text in bare.axes[0].texts]


def test_reproduce_compares_with_what_stands_beside_it(
    tiny: Path, tiny_weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given: dict[str, Any] = {"checkpoint": str(tiny_weights), "dataset": str(tiny), "split": "val"}
    given |= {"limit": 3, "judge": False, "results_dir": str(tmp_path / "out"), "image_size": 64}
    caplog.set_level("INFO", logger="yolov9bench")
    first = reproduce.reproduce(**given, protocol="ultralytics")
    assert records.select(tmp_path / "out", kind="compare") == []
    second = reproduce.reproduce(**given, protocol="yolov9")
    (record,) = records.select(tmp_path / "out", kind="compare")
    stated = read_comparison(record)
    assert [stated.inputs.first.sha256, stated.inputs.second.sha256] == [
        records.hash_of(first),
        records.hash_of(second),
    ]
    assert " under yolov9 beside " in caplog.text
