"""Whether a record may stand in the table: verdict and table give one answer, and name what differs."""

import subprocess
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from yolov9bench.io import provenance
from yolov9bench.records import Record, read, select, write
from yolov9bench.records.comparability import column_of, commit_exists, differences, obstacles
from yolov9bench.records.evidence import checks, evidence
from yolov9bench.records.verdict import interval_text
from yolov9bench.records.verdict import verdict as verdict_of
from yolov9bench.report import table
from yolov9bench.zoo import ROWS
from yolov9bench.zoo.protocols import MMYOLO_TTA, PROTOCOLS, Protocol, View

COMMIT = provenance.code().commit or "1" * 40
VAL2017 = "e8c7f7908f1d7278341fae127d0da654f102f11bd7b21d8aeefa635b8c810b6f"
PLAIN = {"mmyolo": "yolov8-n-mask-refine", "yolov9": "yolov9-c", "ultralytics": "ultralytics-yolov8n"}


def perfect(row: str = "yolov9-c", protocol: Any = None, **changes: Any) -> Record:
    """A record that may stand in the table, with changes to `values`, `inputs`, `environment` or `start`."""
    asset = ROWS[row].download
    weights = asset.sha256[0] if asset.sha256 else f"{asset.sha256_prefix}{'0' * 56}"
    inputs = {
        "weights_sha256": weights,
        "classes": 80,
        "demo": False,
        "annotations_sha256": VAL2017,
        "image_list_sha256": "ab" * 32,
        "images": 5000,
        "images_skipped": [],
    }
    published = ROWS[row].published
    settings = asdict(ROWS[row].protocol) if protocol is None else protocol
    ap = published.tta_box_ap if len(settings.get("views") or ()) == 6 else published.box_ap
    return Record(
        row=changes.get("row_id", row),
        kind=changes.get("kind", "evaluate"),
        values=changes.get("values", {"AP": (ap or 40.0) / 100, "AP_interval": None}),
        settings={"protocol": settings},
        inputs=inputs | changes.get("inputs", {}),
        environment={"commit": COMMIT, "dirty": False} | changes.get("environment", {}),
        seed=0,
        start=changes.get("start", "2026-01-01T00:00:00+00:00"),
        seconds=1.0,
        command=[],
    )


def refused(record: Record, row: str) -> str:
    """The reasons, after making sure that verdict and table refuse the record alike."""
    verdict = verdict_of(record)
    assert verdict.word == "not comparable"
    found = evidence([record])[row]
    assert (found.ap, found.tta_ap) == (None, None)
    if record.kind == "evaluate" and record.inputs.get("demo") is not True:
        (check,) = checks([record])
        assert set(check.reasons) <= set(verdict.reasons)
    return str(verdict)


def test_any_choice_of_classes_is_refused() -> None:
    """Also one of all classes, and one that is none; an empty one is a record of all of them."""
    every = {f"class {number}": f"class {number}" for number in range(80)}
    record = perfect("yolov9-c")
    for classes, reason in (
        ({"person": "person"}, "1 chosen class"),
        ({"car": "vehicle", "bus": "vehicle"}, "2 chosen classes"),
        (every, "80 chosen classes"),
        (["person"], "classes ['person'], which is not an object"),
        ({"person": 1}, "person 1, which is not a text"),
    ):
        chosen = replace(record, settings=record.settings | {"classes": classes})
        assert reason in refused(chosen, "yolov9-c")
    assert obstacles(replace(record, settings=record.settings | {"classes": {}})) == []


def test_checks_of_one_choice_hide_no_other() -> None:
    short = perfect("yolov9-c", inputs={"images": 4999})
    some = replace(short, settings=short.settings | {"classes": {"person": "person"}})
    assert [each.record for each in checks([short, some, some])] == [short, some]


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    return value + 32 if isinstance(value, int | float) else f"{value}-other"


@pytest.mark.parametrize(("protocol", "row"), PLAIN.items())
def test_a_perfect_record_passes_both(protocol: str, row: str, tmp_path: Path) -> None:
    published = ROWS[row].published.box_ap
    for record in (perfect(row), read(write(perfect(row), tmp_path))):
        assert ROWS[row].protocol.name == protocol and obstacles(record) == []
        assert str(verdict_of(record)) == f"reproduced: box AP {published}, published {published}"
        assert evidence([record])[row].ap == pytest.approx(published)
        assert checks([record]) == []


def test_a_perfect_tta_record_passes_both(tmp_path: Path) -> None:
    row = PLAIN["mmyolo"]
    record = perfect(row, asdict(MMYOLO_TTA))
    for each in (record, read(write(record, tmp_path))):
        assert column_of(each) == "TTA box AP"
        assert str(verdict_of(each)) == "reproduced: TTA box AP 39.9, published 39.9"
        found = evidence([each])[row]
        assert found.ap is None and found.tta_ap == pytest.approx(39.9)


@pytest.mark.parametrize("field", [field.name for field in fields(Protocol)])
@pytest.mark.parametrize(("protocol", "row"), PLAIN.items())
def test_every_setting_of_a_protocol_counts_alone(protocol: str, row: str, field: str) -> None:
    own = asdict(PROTOCOLS[protocol])
    text = refused(perfect(row, own | {field: other(own[field])}), row)
    assert (f"another {field}" if field != "name" else f"protocol {protocol}-other, not the row's") in text
    lacking = {key: value for key, value in own.items() if key != field}
    assert ("protocol None" if field == "name" else field) in refused(perfect(row, lacking), row)


def test_a_setting_that_the_protocol_does_not_have_counts(tmp_path: Path) -> None:
    settings = asdict(PROTOCOLS["yolov9"]) | {"soft_nms": True}
    assert "protocol yolov9 with another soft_nms" in refused(perfect(protocol=settings), "yolov9-c")


def tta_changes() -> list[tuple[str, dict[str, Any]]]:
    """Every setting of mmyolo's test-time augmentation changed alone, by its place."""
    own = asdict(MMYOLO_TTA)
    changed = [
        (field.name, own | {field.name: other(own[field.name])})
        for field in fields(Protocol)
        if field.name not in ("name", "views")
    ]
    for index, view in enumerate(own["views"]):
        for field in fields(View):
            views = list(own["views"])
            views[index] = view | {field.name: other(view[field.name])}
            changed.append((f"views[{index}].{field.name}", own | {"views": views}))
    return [*changed, ("views", own | {"views": own["views"][:1]}), ("views", own | {"views": None})]


@pytest.mark.parametrize(
    ("place", "settings"), tta_changes(), ids=lambda each: each if type(each) is str else ""
)
def test_every_setting_of_test_time_augmentation_counts_alone(place: str, settings: dict[str, Any]) -> None:
    row = PLAIN["mmyolo"]
    assert f"protocol mmyolo+tta with another {place}" in refused(perfect(row, settings), row)


def test_views_in_another_order_are_another_protocol() -> None:
    own = asdict(MMYOLO_TTA)
    turned = own | {"views": own["views"][::-1]}
    assert "views[0].scale" in refused(perfect(PLAIN["mmyolo"], turned), PLAIN["mmyolo"])


def test_made_up_records_that_once_filled_the_table_or_passed_as_reproduced() -> None:
    square = asdict(PROTOCOLS["yolov9"])
    square |= {"rectangular": False, "max_candidates": 100, "shrinking": "linear"}
    text = refused(perfect(protocol=square, values={"AP": 0.52}), "yolov9-c")
    assert "another shrinking, rectangular, max_candidates" in text
    moved = asdict(PROTOCOLS["yolov9"]) | {"nms_coordinates": "original", "class_shift": 0}
    assert "another nms_coordinates, class_shift" in refused(perfect(protocol=moved), "yolov9-c")
    one_view = asdict(MMYOLO_TTA) | {"merge_iou": 0.1, "views": [asdict(View())]}
    row = PLAIN["mmyolo"]
    assert "another views, merge_iou" in refused(perfect(row, one_view, values={"AP": 0.3}), row)
    assert "uncommitted code" in refused(perfect(environment={"dirty": True}), "yolov9-c")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"values": {"AP_interval": None}}, "no AP"),
        ({"values": {"AP": None}}, "no AP"),
        ({"values": {"AP": "0.53"}}, "AP '0.53', which is not a number"),
        ({"values": {"AP": True}}, "AP True, which is not a number"),
        ({"values": {"AP": 53.0}}, "AP 53.0, which is not within 0..1"),
        ({"values": {"AP": -1}}, "AP -1, which is not within 0..1"),
        ({"environment": {"dirty": None}}, "uncommitted code"),
        ({"environment": {"commit": None}}, "code of no commit"),
        ({"environment": {"commit": "HEAD"}}, "commit 'HEAD', which cannot be one"),
        ({"inputs": {"demo": True}}, "the embedded demo set"),
        ({"inputs": {"demo": None}}, "the embedded demo set"),
        ({"inputs": {"classes": 1}}, "1 classes, not 80"),
        ({"inputs": {"classes": None}}, "unknown classes, not 80"),
        ({"inputs": {"images_skipped": ["1.jpg"]}}, "1 image skipped"),
        ({"inputs": {"images_skipped": None}}, "an unknown number of images skipped"),
        ({"inputs": {"images": 4999}}, "4,999 of 5,000 images"),
        ({"inputs": {"annotations_sha256": None}}, "not the whole of COCO val2017"),
        ({"inputs": {"weights_sha256": "0" * 64}}, "weights other than the published ones"),
        ({"inputs": {"weights_sha256": None}}, "weights other than the published ones"),
    ],
)
def test_what_else_is_refused(changes: dict[str, Any], reason: str) -> None:
    assert reason in refused(perfect(**changes), "yolov9-c")


def test_a_record_of_another_kind_or_of_no_known_row_is_refused() -> None:
    assert "a record of kind train" in refused(perfect(kind="train"), "yolov9-c")
    for row in (None, "yolov99"):
        assert "unknown checkpoint" in refused(perfect(row_id=row), "yolov9-c")


def test_a_start_may_be_a_day_ahead_of_the_clock_and_no_more() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for ahead, reasons in ((timedelta(days=1), 0), (timedelta(days=1, seconds=1), 1)):
        assert len(obstacles(perfect(start=(now + ahead).isoformat()), now)) == reasons
    soon = datetime.now(UTC) + timedelta(days=2)
    assert "which lies in the future" in refused(perfect(start=soon.isoformat()), "yolov9-c")


def git(folder: Path, *words: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", folder, *author, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_commit_must_be_one_of_the_checkout_where_there_is_one(tmp_path: Path) -> None:
    """Unknown in a whole clone; not to be told without one, or in a shallow clone."""
    whole, shallow = tmp_path / "whole", tmp_path / "shallow"
    git(tmp_path, "init", "-q", "whole")
    git(whole, "commit", "-q", "--allow-empty", "-m", "first")
    git(whole, "commit", "-q", "--allow-empty", "-m", "second")
    first = git(whole, "rev-parse", "HEAD~1")
    git(tmp_path, "clone", "-q", "--depth=1", whole.as_uri(), "shallow")
    assert commit_exists(first, whole) and not commit_exists("0" * 40, whole)
    tree = git(whole, "rev-parse", "HEAD^{tree}")
    assert not commit_exists(tree, whole)
    assert commit_exists(first, shallow) and commit_exists("0" * 40, tmp_path)


@pytest.mark.skipif(provenance.code().commit is None, reason="not in a git checkout")
def test_a_commit_that_does_not_exist_is_refused() -> None:
    found = refused(perfect(environment={"commit": "0" * 40}), "yolov9-c")
    assert "commit 000000000000, which this checkout does not have" in found


def test_a_row_without_a_published_tta_figure_is_measured_but_not_judged() -> None:
    record = perfect("yolov8-n", asdict(MMYOLO_TTA))
    assert str(verdict_of(record)) == "not comparable: no published TTA figure is known"
    assert evidence([record])["yolov8-n"].tta_ap == pytest.approx(40.0)


def test_a_tta_figure_may_differ_by_a_tenth_of_the_published_tta_figure() -> None:
    row = PLAIN["mmyolo"]  # box AP 37.4, TTA box AP 39.9
    for ap, word in ((0.400, "reproduced"), (0.401, "not reproduced"), (0.374, "not reproduced")):
        assert verdict_of(perfect(row, asdict(MMYOLO_TTA), values={"AP": ap})).word == word


def test_differences_are_told_by_their_place() -> None:
    own = {"a": 1, "b": {"c": [1, {"d": 2}]}, "e": True}
    assert differences(own, own) == []
    assert differences({"a": 1.0, "b": {"c": [1, {"d": 3}]}, "e": 1}, own) == ["b.c[1].d", "e"]
    assert differences({"b": {"c": [1]}, "f": 0}, own) == ["a", "b.c", "e", "f"]


def test_an_interval_is_explained_by_its_method() -> None:
    """Older records have a bootstrap's percentiles, which lie high; the table says so while it shows one."""
    ends = {"AP": 0.5, "AP_interval": [0.45, 0.56]}
    older = perfect(inputs={"images": 100}, values=ends)
    newer = perfect(inputs={"images": 100}, values=ends | {"AP_interval_method": "half-samples"})
    caveat = "bootstrap's percentile interval, which lies high on few images: of 60 synthetic sets"
    assert f"is 45.0 to 56.0. It is a {caveat}" in interval_text(older)
    assert "is 45.0 to 56.0. It is that of AP on all such images" in interval_text(newer)
    pages = [table.block(evidence([record]), checks([record])) for record in (older, newer)]
    assert caveat in pages[0].split("### Checked on subsets")[1] and "45.0 to 56.0 (percentiles)" in pages[0]
    assert "percentile" not in pages[1] and "45.0 to 56.0" in pages[1]


def test_committed_records_stay_readable() -> None:
    root = Path(__file__).parents[1] / "results"
    assert select(root) and select(root, kind="measure")
