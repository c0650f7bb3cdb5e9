"""A row from a TOML file: read into the objects that it states, or refused by file and key; its verdict."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from painted_detector import __file__ as DETECTOR
from report_records import evaluation

from yolov9bench import __main__ as door
from yolov9bench.errors import BenchError, CheckpointError, SettingsError
from yolov9bench.evaluation.evaluate import evaluate
from yolov9bench.plots import figure_data, performance
from yolov9bench.records import Record, as_stored, select
from yolov9bench.records.comparability import obstacles
from yolov9bench.records.evidence import evidence, own_evaluations
from yolov9bench.records.verdict import verdict
from yolov9bench.report import table
from yolov9bench.verify import verify
from yolov9bench.weights import load
from yolov9bench.zoo.own_rows import has_network_of, read_own_row
from yolov9bench.zoo.protocols import MMYOLO, MMYOLO_TTA, YOLOV9
from yolov9bench.zoo.rows import ROWS
from yolov9bench.zoo.specs import SPECS

STATED = {"box_ap": 50.1, "source": "table 2", "parameters_m": 25.0, "gflops": 100.0}


def as_toml(value: Any) -> str:
    """Plain data as TOML writes it on one line; None is left out, as TOML has none."""
    if isinstance(value, dict):
        pairs = [f"{key} = {as_toml(each)}" for key, each in value.items() if each is not None]
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    return json.dumps(value)


def write_row(folder: Path, **changes: Any) -> Path:
    """A file with these keys in place of the usual ones, less those that are None."""
    (folder / "best.pt").touch()
    usual = {"id": "mine", "spec": "yolov9-c", "checkpoint": "best.pt", "protocol": "yolov9"}
    keys = {key: value for key, value in (usual | changes).items() if value is not None}
    path = folder / "row.toml"
    path.write_text("".join(f"{key} = {as_toml(value)}\n" for key, value in keys.items()))
    return path


def test_a_file_gives_a_row_and_the_checkpoint_beside_it(tmp_path: Path) -> None:
    own = read_own_row(write_row(tmp_path, published=STATED))
    assert own.row is not None and own.published is not None
    assert (own.row.id, own.row.spec, own.row.protocol) == ("mine", SPECS["yolov9-c"], YOLOV9)
    assert (own.row.family, own.row.source, own.checkpoint) == ("yolov9", "official", tmp_path / "best.pt")
    assert asdict(own.published).items() >= STATED.items()
    assert "mine" not in ROWS


def test_tables_give_a_spec_and_a_protocol_of_ones_own(tmp_path: Path) -> None:
    """Whole, or with a base for the protocol; lists become tuples and whole numbers floats."""
    spec = replace(SPECS["yolov9-m"], name="slim", stem=16)
    tta = replace(MMYOLO_TTA, name="six views")
    given = {"spec": asdict(spec), "family": "yolov9", "protocol": asdict(tta)}
    row = read_own_row(write_row(tmp_path, **given)).row
    assert row is not None and (row.spec, row.protocol) == (spec, tta)
    short = {"base": "mmyolo", "name": "mine", "nms_iou": 1, "class_shift": 4096}
    row = read_own_row(write_row(tmp_path, protocol=short)).row
    assert row is not None and row.protocol == replace(MMYOLO, name="mine", nms_iou=1.0, class_shift=4096.0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"spek": "yolov9-c"}, "row.toml: there is no key 'spek'; did you mean 'spec'?"),
        ({"id": None}, "row.toml: id is missing: give a text"),
        ({"id": "yolov9-c"}, "row.toml: id is 'yolov9-c', which the table has already"),
        ({"id": "../up"}, "row.toml: id is '../up': give letters, digits, dots and hyphens"),
        ({"id": 3}, "row.toml: id is 3: give a text"),
        ({"spec": "yolov9-cc"}, "row.toml: there is no spec 'yolov9-cc'; did you mean 'yolov9-c'?"),
        ({"spec": None}, "row.toml: spec is missing: give it, or a detector"),
        ({"spec": {"name": "x"}}, "row.toml: spec.stem is missing: give a whole number"),
        ({"checkpoint": "nowhere.pt"}, "nowhere.pt does not exist: check the path"),
        ({"protocol": "yolo9"}, "row.toml: there is no protocol 'yolo9'; did you mean 'yolov9'?"),
        ({"protocol": {"base": "yolov9", "nms_iou": 0.6}}, "protocol.name must be one that no protocol has"),
        ({"protocol": {"base": "yolov9", "name": "own"}}, "protocol.name must be one that no protocol has"),
        (
            {"protocol": {"base": "yolov9", "name": "x", "nms_iuo": 0.6}},
            "row.toml: protocol: there is no key 'nms_iuo'; did you mean 'nms_iou'?",
        ),
        (
            {"protocol": {"base": "yolov9", "name": "x", "nms_iou": "0.6"}},
            "row.toml: protocol.nms_iou is '0.6': give a number",
        ),
        (
            {"protocol": {"base": "yolov9", "name": "x", "rounding": "ceiling"}},
            "row.toml: protocol.rounding: there is no choice 'ceiling'; did you mean 'ceil'?",
        ),
        ({"protocol": {"base": "yolov9", "name": "x", "image_size": 100}}, "100 is not a multiple of 32"),
        ({"published": {"box_ap": 50.1}}, "row.toml: published.source is missing: give a text"),
        ({"published": {"box_ap": 0.501, "source": "x"}}, "published.box_ap is 0.501: give percent"),
        ({"published": {"box_ap": "50.1", "source": "x"}}, "published.box_ap is '50.1': give a number"),
        ({"recipe": "yolov99"}, "there is no recipe 'yolov99'; did you mean 'yolov9'?"),
        ({"detector": "my.py:detect"}, "row.toml: spec cannot go with detector, which does all itself"),
    ],
)
def test_a_fault_is_one_sentence_with_file_and_key(
    changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(BenchError) as refused:
        read_own_row(write_row(tmp_path, **changes))
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [b"id =", b"\xff"])
def test_what_is_no_toml_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "row.toml").write_bytes(content)
    with pytest.raises(SettingsError, match="is not valid TOML"):
        read_own_row(tmp_path / "row.toml")
    with pytest.raises(SettingsError, match=r"row .*none.toml does not exist: check the path"):
        read_own_row(tmp_path / "none.toml")


def test_from_the_command_line_to_verification(
    tiny_weights: Path, painted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checkpoint was trained for yolov9-t, whose protocol it would have without the file."""
    loaded, results = load(tiny_weights), tmp_path / "results"
    protocol = {"base": "ultralytics", "name": "mine", "image_size": 64}
    spec = asdict(loaded.spec) | {"name": "small"}
    row = write_row(tmp_path, spec=spec, family="yolov9", protocol=protocol, published=STATED)
    (tmp_path / "best.pt").write_bytes(tiny_weights.read_bytes())
    words = ["evaluate", "--row", str(row), "--dataset", str(painted), "--split", "val", "--device", "cpu"]
    door.run(door.parse([*words, "--results", str(results)]))
    (record,) = select(results, "custom")
    own = record.inputs["own"]
    assert record.settings["protocol"] == own["protocol"] and own["protocol"]["name"] == "mine"
    assert (own["name"], own["function"], own["published"]) == ("mine", None, {**STATED})
    said = capsys.readouterr().out
    assert "not comparable: 6 images that are not the whole of COCO val2017" in said
    assert obstacles(record) and evidence([record])["yolov9-t"].ap is None
    (path,) = results.glob("records/custom/*.json")
    (outcome,) = verify(results, [path], [painted / "annotations/instances_val.json"])
    assert outcome.word == "verified"
    by_name = evaluate(tiny_weights, painted, "ultralytics", "val", image_size=64, device="cpu")
    assert by_name.values["AP"] == record.values["AP"]


def test_another_network_is_refused(tiny_weights: Path, painted: Path, tmp_path: Path) -> None:
    row = write_row(tmp_path)
    (tmp_path / "best.pt").write_bytes(tiny_weights.read_bytes())
    with pytest.raises(CheckpointError, match="holds the network small, not yolov9-c as row mine states"):
        evaluate(dataset=painted, split="val", row=row, device="cpu")


def test_the_auxiliary_branch_and_the_class_count_make_no_other_network() -> None:
    row = replace(ROWS["yolov9-c"], id="mine")
    assert has_network_of(row, SPECS["gelan-c"]) and not has_network_of(row, SPECS["gelan-m"])


def test_a_function_described_by_a_file_states_a_figure_too(painted: Path, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(Path(DETECTOR).read_text())
    nothing: dict[str, Any] = dict.fromkeys(("spec", "checkpoint", "protocol"))
    row = write_row(tmp_path, detector="my.py:detect", published=STATED, **nothing)
    record = evaluate(dataset=painted, split="val", row=row)
    own = record.inputs["own"]
    assert (own["name"], own["function"], own["published"]["box_ap"]) == ("mine", "my.py:detect", 50.1)
    assert verdict(record).reasons[0] == "6 images that are not the whole of COCO val2017"


def own_record(ap: float = 0.5012, **changes: Any) -> Record:
    """A whole evaluation on val2017 of a row of one's own, with changes to its own part or the record."""
    own = {"name": "mine", "protocol": as_stored(YOLOV9), "published": STATED} | changes.pop("own", {})
    record = evaluation("yolov9-c", ap, **{"inputs": {"own": own}, **changes})
    return replace(record, row=None)


@pytest.mark.parametrize(
    ("ap", "word"), [(0.5012, "reproduced"), (0.5015, "reproduced"), (0.5025, "not reproduced")]
)
def test_the_verdict_rounds_as_that_of_a_row(ap: float, word: str) -> None:
    """50.12 and 50.15 are at most 0.1 from 50.1 once rounded; 50.25 is rounded to 50.2, 50.26 to 50.3."""
    found = verdict(own_record(ap if word == "reproduced" else 0.5026))
    assert (found.word, found.published) == (word, 50.1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"own": {"published": None}}, "no published figure is stated"),
        ({"own": {"protocol": {"name": "own"}}}, "protocol yolov9, not the stated own"),
        ({"own": {"protocol": None}}, "protocol yolov9, not the stated None"),
        ({"with_": {"nms_iou": 0.6}}, "protocol yolov9 with another nms_iou"),
        ({"dirty": True}, "uncommitted code"),
    ],
)
def test_what_differs_is_not_comparable(changes: dict[str, Any], reason: str) -> None:
    found = verdict(own_record(**changes))
    assert found.word == "not comparable" and reason in found.reasons


def test_the_newest_of_a_name_stands_in_a_section_of_its_own() -> None:
    records = [own_record(0.6, day=1), own_record(day=2), own_record(own={"name": "a"}, day=3)]
    own = own_evaluations(records)
    assert [record.start[9] for record in own] == ["3", "2"]
    text = table.block(evidence(records), [], own=own)
    assert text.partition("### Own detectors")[0].rstrip() == table.block(evidence([]), []).rstrip()
    line = "| mine | yolov9-c | yolov9 | 5,000 | **50.1** | — | *50.1* (table 2) | reproduced | [2026-01-02]"
    assert line in text


def test_only_what_ran_on_all_of_val2017_at_a_stated_cost_is_plotted() -> None:
    subset = evaluation(inputs={"own": {"name": "part", "published": STATED}, "images": 100})
    free = own_record(own={"name": "free", "published": STATED | {"parameters_m": None, "gflops": None}})
    data = figure_data.gather_performance(evidence([]), [subset, free, own_record()])
    assert data["own"] == [{"name": "mine", "measured": 50.12, "parameters_m": 25.0, "gflops": 100.0}]
    assert figure_data.gather_performance(evidence([]), [subset, free]) == figure_data.gather_performance(
        evidence([])
    )
    axes = performance.plot_performance(data).axes[0]
    (star,) = [line for line in axes.lines if line.get_color() == "black"]
    assert star.get_marker() == "*" and np.asarray(star.get_xydata()).tolist() == [[25.0, 50.12]]
    assert "mine" in [text.get_text() for text in axes.texts]
