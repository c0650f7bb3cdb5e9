"""Which record fills a cell of the table: the newest of equal ones, of this batch, size, set and device."""

import csv
import io
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from yolov9bench import records
from yolov9bench.io import provenance
from yolov9bench.records import Record
from yolov9bench.records.contents import HALF_SAMPLES
from yolov9bench.records.evidence import checks, evidence
from yolov9bench.report import csv_table, table
from yolov9bench.zoo import ROWS
from yolov9bench.zoo.coco2017 import SPLITS
from yolov9bench.zoo.protocols import MMYOLO_TTA, PROTOCOLS

GIB = 1_073_741_824  # bytes
WHOLE = {
    "weights_sha256": ROWS["yolov9-c"].download.sha256[0],
    "spec": "yolov9-c",
    "classes": 80,
    "images_skipped": [],
    "demo": False,
    "annotations_sha256": SPLITS["val2017"].annotations_sha256,
    "image_list_sha256": "ab" * 32,
    "images": 5000,
}
AP = Record(
    row="yolov9-c",
    kind="evaluate",
    values={"AP": 0.5312, "AP50": 0.7, "AP_interval": None},
    settings={"protocol": asdict(PROTOCOLS["yolov9"])},
    inputs=WHOLE,
    environment={"commit": provenance.code().commit or "1" * 40, "dirty": False, "device": "cpu"},
    seed=0,
    start="2026-01-01T00:00:00+00:00",
    seconds=1.0,
    command=[],
)
MEMORY = Record(
    row="yolov9-c",
    kind="measure",
    values={"memory": {"training": {"plain": {"allocated_bytes": 5 * GIB, "predicted_bytes": 4 * GIB}}}},
    settings={"image_size": 640, "training": {"plain": {"batch_size": 16}}},
    inputs={"weights": "fresh"},
    environment={"dirty": False, "device": "cuda:0"},
    seed=0,
    start="2026-01-01T00:00:00+00:00",
    seconds=1.0,
    command=[],
)


def at(record: Record, hour: int, **parts: Any) -> Record:
    """The same at another hour of one day, with other values, settings, inputs or environment."""
    merged = {name: getattr(record, name) | part for name, part in parts.items()}
    return replace(record, start=f"2026-01-01T{hour:02}:00:00+00:00", **merged)


def subset(**inputs: Any) -> Record:
    return replace(AP, inputs=WHOLE | {"images": 100} | inputs)


def memory_bytes(allocated: int | None, predicted: int | None) -> dict[str, Any]:
    step = {"allocated_bytes": allocated, "predicted_bytes": predicted}
    return {"memory": {"training": {"plain": step}}}


def line_of(text: str, row: str) -> dict[str, str]:
    """A row's line of the CSV file."""
    return next(line for line in csv.DictReader(io.StringIO(text)) if line["row"] == row)


def test_the_newest_of_one_day_counts_whatever_its_hash(tmp_path: Path) -> None:
    """Read from disk, where files lie by their hashes; AP and bytes fall from hour to hour."""
    for hour in range(12):
        records.write(at(AP, hour, values={"AP": (60 - hour) / 100}), tmp_path)
        records.write(at(MEMORY, hour, values=memory_bytes((40 - hour) * GIB, (30 - hour) * GIB)), tmp_path)
    found = evidence(records.select(tmp_path))["yolov9-c"]
    assert found.ap == pytest.approx(49.0)
    assert (found.memory_measured, found.memory_predicted) == (29.0, 19.0)
    by_name = [records.read(path) for path in sorted((tmp_path / "records/yolov9-c").glob("e*.json"))]
    assert len(by_name) == 12
    assert by_name != sorted(by_name, key=lambda record: record.start)  # the names' order is another


@pytest.mark.parametrize("kind", ["train", "measure"])
def test_a_record_of_another_kind_fills_no_ap(kind: str) -> None:
    other = replace(AP, kind=kind)
    assert evidence([other])["yolov9-c"].ap is None
    assert checks([replace(subset(), kind=kind)]) == []


@pytest.mark.parametrize(
    "changed",
    [
        {"inputs": {"demo": True}},
        {"environment": {"dirty": True}},
        {"environment": {"dirty": None}},
        {"settings": {"training": {"plain": {"batch_size": 8}}}},
        {"settings": {"training": {"plain": {"batch_size": 32}}}},
        {"settings": {"image_size": 320}},
        {"settings": {"image_size": 1280}},
    ],
)
def test_another_measurement_fills_no_memory(changed: dict[str, Any]) -> None:
    """The demo's, an uncommitted code's, that of a smaller or larger batch or image; nor does it hide one."""
    other = at(MEMORY, 5, values=memory_bytes(7 * GIB, 7 * GIB), **changed)
    alone = evidence([other])["yolov9-c"]
    assert (alone.memory_measured, alone.memory_predicted) == (None, None)
    both = evidence([MEMORY, other])["yolov9-c"]
    assert (both.memory_measured, both.memory_predicted) == (5.0, 4.0)


def test_memory_is_measured_on_any_gpu_and_in_binary_units() -> None:
    assert evidence([MEMORY])["yolov9-c"].memory_measured == 5.0
    on_cpu = at(MEMORY, 1, environment={"device": "cpu"})
    found = evidence([on_cpu])["yolov9-c"]
    assert (found.memory_measured, found.memory_predicted) == (None, 4.0)
    later = evidence([MEMORY, at(MEMORY, 2, values=memory_bytes(None, 3 * GIB))])["yolov9-c"]
    assert (later.memory_measured, later.memory_predicted) == (5.0, 3.0)


def tta(**changed: Any) -> Record:
    protocol = asdict(MMYOLO_TTA)
    inputs = WHOLE | {"weights_sha256": f"{ROWS['yolov8-n'].download.sha256_prefix}{'0' * 56}"}
    return replace(
        AP,
        row="yolov8-n",
        values=AP.values | {"AP": 0.4},
        settings={"protocol": protocol | changed},
        inputs=inputs,
    )


@pytest.mark.parametrize("images", [0, 4999, 5001, None])
def test_all_images_are_needed_and_no_more(images: int | None) -> None:
    other = replace(AP, inputs=WHOLE | {"images": images})
    assert evidence([other])["yolov9-c"].ap is None


@pytest.mark.parametrize(
    "different",
    [
        {"weights_sha256": "1" * 64},
        {"image_list_sha256": "2" * 64},
        {"images": 50},
    ],
)
def test_checks_of_other_images_or_weights_stand_side_by_side(different: dict[str, Any]) -> None:
    assert len(checks([subset(), subset(**different)])) == 2
    assert len(checks([subset(), at(subset(), 3)])) == 1


def test_checks_of_two_protocols_stand_side_by_side_and_custom_ones_last() -> None:
    custom = replace(subset(), row=None)
    other = replace(subset(), settings={"protocol": asdict(PROTOCOLS["mmyolo"])})
    last_row = replace(subset(), row=list(ROWS)[-1])
    found = [check.record for check in checks([custom, last_row, subset(), other])]
    assert found == [other, subset(), last_row, custom]  # protocols by name


def test_a_line_of_a_check_says_all_of_it() -> None:
    """Every reason, the day, the size of AP in percent, and what a custom record was."""
    record = replace(
        subset(images=1234, weights_sha256="1" * 64),
        values={"AP": 0.4321, "AP_interval": [0.0, 0.25], "AP_interval_method": HALF_SAMPLES},
        environment={"dirty": True},
        start="2026-02-03T04:05:06+00:00",
    )
    text = table.block(evidence([]), checks([record, replace(record, row=None)]))
    lines = [re.split(r" \| ", line.strip("| ")) for line in text[text.index("### Checked") :].splitlines()]
    found = [line for line in lines if len(line) == 7 and line[1] == "yolov9"]
    assert [line[0] for line in found] == ["yolov9-c", "custom: yolov9-c"]
    assert found[0][2:5] == ["1,234", "**43.2**", "0.0 to 25.0"]
    assert (
        found[0][5]
        == "weights other than the published ones; 1,234 of 5,000 images; uncommitted code; code of no commit"
    )
    assert found[0][6].startswith("[2026-02-03](records/yolov9-c/evaluate-2026-02-03-")


def test_the_csv_has_every_measured_figure_in_its_own_column() -> None:
    """Two AP, two figures of memory and two files, all different."""
    plain = replace(
        tta(),
        values={"AP": 0.371234, "AP50": 0.5},
        settings={"protocol": asdict(PROTOCOLS["mmyolo"])},
    )
    memory = replace(MEMORY, row="yolov8-n")
    line = line_of(csv_table.csv_text(evidence([plain, tta(), memory])), "yolov8-n")
    assert (line["box_ap_measured"], line["tta_box_ap_measured"]) == ("37.123", "40.0")
    assert (line["memory_gib_measured"], line["memory_gib_predicted"]) == ("5.0", "4.0")
    assert (line["box_ap_record"], line["tta_box_ap_record"]) == tuple(
        records.path_of(each, Path()).as_posix() for each in (plain, tta())
    )


def test_the_csv_has_the_published_gains() -> None:
    """0.2 points for yolov8-n with mask refine, 37.4 after 37.2; none for a plain row."""
    text = csv_table.csv_text(evidence([]))
    assert line_of(text, "yolov8-n-mask-refine")["box_ap_gain_published"] == "0.2"
    assert line_of(text, "yolov8-n")["box_ap_gain_published"] == ""


def test_a_measured_figure_of_memory_hides_the_predicted_one() -> None:
    cells = table.cells(ROWS["yolov9-c"], evidence([MEMORY])["yolov9-c"], "")
    assert cells[table.HEADER.index("Mem (GB)")] == "**5.0**"


def test_a_row_without_a_published_figure_has_a_dash_or_what_was_measured() -> None:
    row = ROWS["yolov9-c"]
    silent = replace(row, published=replace(row.published, box_ap=None, tta_box_ap=None, memory_gb=None))
    places = [table.HEADER.index(name) for name in ("Mem (GB)", "box AP", "TTA box AP")]
    nothing = table.cells(silent, evidence([])["yolov9-c"], "")
    assert [nothing[place] for place in places] == ["—", "—", "—"]
    measured = table.cells(silent, evidence([AP, MEMORY])["yolov9-c"], "")
    assert [measured[place] for place in places] == ["**5.0**", "**53.1**", "—"]
