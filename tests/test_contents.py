"""What a record of each kind states: every key has one type, and one place that names it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from record_parts import EMPTY, PARTS, field_names, keys_of

from yolov9bench.errors import RecordError
from yolov9bench.evaluation.evaluate import evaluate
from yolov9bench.records import read, select
from yolov9bench.records.comparability import obstacles, read_stated
from yolov9bench.records.comparison import read_comparison
from yolov9bench.records.contents import (
    METRICS,
    EvaluateContents,
    MeasureContents,
    read_evaluate,
    read_measure,
    read_part,
)
from yolov9bench.records.evidence import checks, evidence
from yolov9bench.records.study import read_study
from yolov9bench.records.training import read_train
from yolov9bench.records.verdict import ap_text, images_text, verdict
from yolov9bench.report import table

RESULTS = Path(__file__).parents[1] / "results"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("records/**/*.json")), ids=lambda path: path.parent.name)
def test_every_committed_record_is_read_to_the_last_key(path: Path) -> None:
    """Each key is what its file says; those that later versions added are None."""
    stored = json.loads(path.read_text())
    record = read(path)
    readers: dict[str, Any] = {
        "measure": read_measure,
        "evaluate": read_evaluate,
        "train": read_train,
        "compare": read_comparison,
        "study": read_study,
    }
    stated = asdict(readers[record.kind](record))
    assert without_none({part: stated[part] for part in PARTS}) == without_none(
        {part: stored[part] for part in PARTS}
    )


def without_none(part: Any) -> Any:
    """Plain data less the keys of objects whose value is None."""
    if not isinstance(part, dict):
        return part
    return {key: without_none(value) for key, value in part.items() if value is not None}


def test_a_measurement_without_the_published_set_up_is_read() -> None:
    """As those of before it were written: neither its memory nor the new keys of the steps."""
    step = {"batch_size": 16, "boxes_an_image": 59, "precision": "float16"}
    record = replace(
        EMPTY,
        kind="measure",
        values={"memory": {"training": {"plain": {"predicted_bytes": 3 * 2**30}}}},
        settings={"image_size": 640, "training": {"plain": step}},
        environment={"dirty": False},
    )
    settings = (read_measure(record).settings.training or {})["plain"]
    assert (settings.boxes_an_image, settings.gradient_bytes, settings.assigner_bytes) == (59, None, None)
    found = evidence([record])["yolov9-c"]
    assert (found.memory_predicted, found.memory_published_setup) == (3.0, None)


def test_committed_records_are_there() -> None:
    assert len(select(RESULTS)) == len(list(RESULTS.glob("records/**/*.json"))) >= 6


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("values", {"AP": "0.53"}, "values.AP '0.53', which is not a number"),
        ("values", {"AP": True}, "values.AP True, which is not a number"),
        ("values", {"AP_interval": [0.1, "0.2"]}, "values.AP_interval[1] '0.2', which is not a number"),
        ("values", {"AP_interval": 0.1}, "values.AP_interval 0.1, which is not a list"),
        ("values", {"detections": []}, "values.detections [], which is not an object"),
        ("settings", {"protocol": "yolov9"}, "settings.protocol 'yolov9', which is not an object"),
        ("settings", {"judge": 1}, "settings.judge 1, which is not true or false"),
        ("inputs", {"images": 5000.0}, "inputs.images 5000.0, which is not a whole number"),
        ("inputs", {"images": True}, "inputs.images True, which is not a whole number"),
        ("inputs", {"images_skipped": [1]}, "inputs.images_skipped[0] 1, which is not a text"),
        ("inputs", {"images_skipped": [None]}, "inputs.images_skipped[0] None, which is not a text"),
        ("inputs", {"weights_sha256": 7}, "inputs.weights_sha256 7, which is not a text"),
        ("inputs", {"download": "a"}, "inputs.download 'a', which is not an object"),
        ("inputs", {"download": {"bytes": "5"}}, "inputs.download.bytes '5', which is not a whole number"),
        ("environment", {"dirty": "no"}, "environment.dirty 'no', which is not true or false"),
    ],
)
def test_a_value_of_a_wrong_type_is_named_and_refused(
    part: str, content: dict[str, Any], message: str
) -> None:
    """By its key; verdict and table refuse the record with that sentence, and show none of its figures."""
    parts: dict[str, Any] = {part: content}
    record = replace(EMPTY, **parts)
    with pytest.raises(RecordError) as refused:
        read_evaluate(record)
    assert f": {message}: measure again" in str(refused.value)
    assert obstacles(record) == [str(refused.value)]
    assert verdict(record).measured is None and str(refused.value) in str(verdict(record))
    assert evidence([record])["yolov9-c"].ap is None
    (check,) = checks([record])
    assert check.reasons == (str(refused.value),)
    assert "| yolov9-c | None | — | — | — |" in table.block(evidence([record]), [check])


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("values", {"memory": {"training": {"plain": 7}}}, "values.memory.training.plain 7, which is not an"),
        (
            "values",
            {"memory": {"training": {"plain": {"allocated_bytes": 2.5}}}},
            "values.memory.training.plain.allocated_bytes 2.5, which is not a whole number",
        ),
        ("settings", {"image_size": "640"}, "settings.image_size '640', which is not a whole number"),
    ],
)
def test_a_measurement_of_a_wrong_type_stops_the_report(
    part: str, content: dict[str, Any], message: str
) -> None:
    parts: dict[str, Any] = {part: content}
    record = replace(EMPTY, kind="measure", environment={"dirty": False}, **parts)
    with pytest.raises(RecordError) as refused:
        evidence([record])
    assert message in str(refused.value)


@pytest.mark.parametrize("form", [EvaluateContents, MeasureContents])
def test_a_record_that_states_nothing_is_none_in_every_field(form: type) -> None:
    stated = read_evaluate(EMPTY) if form is EvaluateContents else read_measure(EMPTY)

    def leaves(part: Any) -> list[Any]:
        if not is_dataclass(part):
            return [part]
        return [leaf for field in fields(part) for leaf in leaves(getattr(part, field.name))]

    assert len(leaves(stated)) > 30
    assert set(leaves(stated)) == {None}


def test_a_field_that_older_records_lack_is_none_and_a_difference() -> None:
    """A field that a later version adds, of a plain type or a part of its own."""

    @dataclass(frozen=True)
    class Added:
        colour: str | None

    @dataclass(frozen=True)
    class Later:
        images: int | None
        origin: Added
        sizes: list[int] | None

    globals().update(Added=Added)  # where the hints of a class inside a function are looked up
    try:
        assert read_part(Later, {"images": 3, "more": 1}, "") == Later(3, Added(None), None)
    finally:
        del globals()["Added"]
    assert "unknown classes, not 80" in obstacles(EMPTY)
    assert {"no AP", "uncommitted code", "code of no commit"} < set(obstacles(EMPTY))


def test_what_is_not_stated_is_said_in_words() -> None:
    assert (ap_text(EMPTY), images_text(EMPTY)) == ("no AP", "an unknown number of images")
    whole = replace(EMPTY, values={"AP": 1}, inputs={"images": 5000})
    assert (ap_text(whole), images_text(whole)) == ("AP 1.00000", "5,000 images")
    assert read_stated(whole).values.AP == 1


def test_the_twelve_metrics_come_in_pycocotools_order() -> None:
    assert " ".join(METRICS) == "AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl"


def test_an_evaluation_writes_the_keys_that_are_read(tiny: Path, tiny_weights: Path) -> None:
    record = evaluate(tiny_weights, tiny, split="val", image_size=64, device="cpu")
    assert keys_of(asdict(record)) == field_names(EvaluateContents)
    stored = json.loads(json.dumps(asdict(record)))
    assert asdict(read_evaluate(record)) == {part: stored[part] for part in PARTS}
