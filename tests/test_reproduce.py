"""From parameters to a verdict: what counts as reproduced, and what is refused before work begins."""

import gzip
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from small_runs import FILES

from yolov9bench import records, reproduce
from yolov9bench.config import ReproduceConfig, from_root
from yolov9bench.errors import DownloadError, SettingsError
from yolov9bench.io import provenance
from yolov9bench.predict.result_files import read_predictions
from yolov9bench.records import Record
from yolov9bench.records.verdict import verdict as verdict_of
from yolov9bench.records.verdict import verdict_table
from yolov9bench.zoo import ROWS
from yolov9bench.zoo.coco2017 import SPLITS
from yolov9bench.zoo.protocols import MMYOLO_TTA, PROTOCOLS

WHOLE = SPLITS["val2017"]
COMMIT = provenance.code().commit or "1" * 40  # one that this checkout has, where there is one


def record(row: str = "yolov9-c", ap: float | None = 0.53, **changes: Any) -> Record:
    """A complete evaluation of a row's own weights on val2017, with changes to its inputs or settings."""
    weights = ROWS[row].download.sha256[0]
    inputs = {
        "weights_sha256": changes.get("weights", weights),
        "classes": 80,
        "demo": changes.get("demo", False),
        "annotations_sha256": changes.get("annotations", WHOLE.annotations_sha256),
        "images": changes.get("images", 5000),
        "images_skipped": [],
    }
    protocol = asdict(
        replace(PROTOCOLS[changes.get("protocol", ROWS[row].protocol.name)], **changes.get("with_", {}))
    )
    return Record(
        row=changes.get("row_id", row),
        kind="evaluate",
        values={"AP": ap, "AP_interval": None},
        settings={"protocol": protocol},
        inputs=inputs,
        environment={"commit": COMMIT, "dirty": False},
        seed=0,
        start="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        command=[],
    )


@pytest.mark.parametrize(
    ("ap", "word"),
    [
        (0.5300, "reproduced"),
        (0.5314, "reproduced"),  # 53.1
        (0.5286, "reproduced"),  # 52.9
        (0.5316, "not reproduced"),  # 53.2
        (0.5284, "not reproduced"),  # 52.8
        (0.4600, "not reproduced"),
    ],
)
def test_figures_are_rounded_and_may_differ_by_a_tenth(ap: float, word: str) -> None:
    verdict = verdict_of(record(ap=ap))
    assert (verdict.word, verdict.published) == (word, 53.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"images": 100}, "100 of 5,000 images"),
        ({"annotations": "0" * 64, "images": 100}, "100 images that are not the whole of COCO val2017"),
        ({"weights": "0" * 64}, "weights other than the published ones"),
        ({"weights": ROWS["yolov9-e"].download.sha256[0]}, "weights other than the published ones"),
        ({"protocol": "mmyolo"}, "protocol mmyolo, not the row's yolov9"),
        ({"with_": {"score_threshold": 0.25}}, "protocol yolov9 with another score_threshold"),
        ({"with_": {"image_size": 320}}, "protocol yolov9 with another image_size"),
        ({"row_id": None}, "unknown checkpoint"),
        ({"demo": True}, "the embedded demo set"),
    ],
)
def test_what_stands_in_the_way_of_a_comparison_is_said(changes: dict[str, Any], reason: str) -> None:
    verdict = verdict_of(record(**changes))
    assert verdict.word == "not comparable"
    assert reason in str(verdict)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"ap": 0.5316},
            ("53.0", "53.2", "+0.2", "not reproduced", "rounded to 0.1, differ by more than 0.1"),
        ),
        ({"ap": 0.5286}, ("53.0", "52.9", "-0.1", "reproduced", "rounded to 0.1, differ by at most 0.1")),
        ({"images": 100}, ("53.0", "53.0", "+0.0", "not comparable", "100 of 5,000 images")),
        ({"ap": None}, ("53.0", "—", "—", "not comparable", "no AP")),
        ({"row_id": None}, ("—", "53.0", "—", "not comparable", "unknown checkpoint")),
    ],
)
def test_a_verdict_shows_its_numbers_whatever_its_word(
    changes: dict[str, Any], expected: tuple[str, ...]
) -> None:
    found = record(**changes)
    heading, _, line = verdict_table(found).splitlines()
    names, texts = ([part.strip() for part in each.split("|")[1:-1]] for each in (heading, line))
    assert names == ["figure", "published", "measured", "difference", "95 % interval", "verdict", "why"]
    assert texts[0] == "box AP (%)" and texts[4] == "—"
    assert tuple(texts[1:4] + texts[5:6]) == expected[:4] and expected[4] in texts[6]


def test_a_verdict_shows_the_interval_and_a_bar_stays_in_its_cell() -> None:
    found = record(images=100, with_={"name": "a|b"})
    found = replace(found, values={"AP": 0.5, "AP_interval": [0.4444, 0.5555]})
    assert "| 44.4 to 55.5 " in verdict_table(found)
    assert r"protocol a\|b, not the row's yolov9" in verdict_table(found)


def test_every_obstacle_is_named() -> None:
    text = str(verdict_of(record(images=8, protocol="mmyolo", weights="0" * 64)))
    assert text.count(";") == 2


def test_a_row_without_a_published_figure_is_not_comparable(monkeypatch: pytest.MonkeyPatch) -> None:
    row = ROWS["yolov9-c"]
    silent = replace(row, published=replace(row.published, box_ap=None))
    monkeypatch.setitem(ROWS, "yolov9-c", silent)
    assert "no published figure" in str(verdict_of(record()))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"checkpoint": "download", "dataset": "demo"}, "other classes than the demo set"),
        ({"family": "yolo9"}, "yolo9"),
        ({"size": "q"}, "'q'"),
        ({"source": "offical"}, "offical"),
        ({"protocol": "mmyol"}, r"did you mean 'mmyolo'\?"),
        ({"image_size": 600}, "take 576 or 608"),
        ({"device": "tpu"}, "'tpu'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_bad_values_are_refused_before_anything_is_fetched(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        reproduce.make_plan(ReproduceConfig(**given))


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """No host answers."""
    asset = replace(ROWS["yolov9-t"].download, url="http://127.0.0.1:9/yolov9-t-converted.pt")
    monkeypatch.setitem(ROWS, "yolov9-t", replace(ROWS["yolov9-t"], assets=(asset,)))


@pytest.mark.parametrize("named", [{"checkpoint": "download"}, {"dataset": "coco"}])
@pytest.mark.usefixtures("unreachable")
def test_what_is_asked_for_by_name_and_cannot_be_fetched_ends_in_a_sentence(
    named: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1.*by hand"):
        reproduce.reproduce(size="t", data_dir=str(tmp_path), results_dir=str(tmp_path), **named)


@pytest.mark.usefixtures("unreachable")
def test_without_a_network_auto_becomes_a_demonstration_and_says_so(tmp_path: Path) -> None:
    plan = reproduce.resolve_sources(reproduce.make_plan(ReproduceConfig(size="t", data_dir=str(tmp_path))))
    assert (plan.config.checkpoint, plan.config.dataset) == ("train", "demo")
    assert "not a measurement of yolov9-t" in plan.note and "127.0.0.1 cannot be reached" in plan.note
    job = reproduce.build_job(plan)
    assert (job.train.split, job.validation.split, job.recipe.name) == ("train", "val", "demo")


@pytest.mark.accuracy
@pytest.mark.slow(20)
def test_a_demonstration_ends_in_a_marked_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = reproduce.reproduce(
        size="t",
        checkpoint="train",
        dataset="demo",
        epochs=1,
        image_size=64,
        limit=4,
        data_dir=str(tmp_path / "data"),
        results_dir=str(tmp_path / "out"),
    )
    assert caplog.text.count("This is a demonstration") == 1
    assert found.inputs["demo"] is True
    assert found.settings["protocol"]["image_size"] == 64
    assert "the embedded demo set" in str(verdict_of(found))
    (run,) = (tmp_path / "out/runs/train").iterdir()
    assert sorted(path.name for path in run.iterdir()) == FILES


def test_an_unknown_checkpoint_gets_a_record_and_no_comparison(
    tiny: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    """Trained for a row by its own word, but not the published file."""
    found = reproduce.reproduce(
        checkpoint=str(tiny_weights),
        dataset=str(tiny),
        split="val",
        image_size=64,
        results_dir=str(tmp_path / "out"),
    )
    assert found.row == "yolov9-t"
    assert "weights other than the published ones" in str(verdict_of(found))
    assert records.select(tmp_path / "out", "yolov9-t") == [found]
    stored = tmp_path / "out/runs/detections" / found.values["detections"]["file"]
    assert len(read_predictions(stored)) == found.values["detections"]["count"]


def test_a_published_file_given_by_path_finds_its_row(shared: Path, tmp_path: Path) -> None:
    found = reproduce.reproduce(
        checkpoint=str(shared / "weights/yolov8n.pt"),
        dataset=str(shared / "coco"),
        limit=2,
        results_dir=str(tmp_path),
    )
    assert found.row == "ultralytics-yolov8n"
    assert found.settings["protocol"] == json.loads(json.dumps(asdict(PROTOCOLS["ultralytics"])))
    assert str(shared) not in json.dumps(asdict(found)), "a record holds no paths"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"protocol": "yolov9"}, "test-time augmentation is defined for protocol mmyolo, not 'yolov9'"),
        ({"image_size": 640}, "image_size 640 cannot go with tta"),
    ],
)
def test_what_cannot_go_with_tta_is_refused_before_anything_is_fetched(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        reproduce.make_plan(ReproduceConfig(family="yolov8", size="n", tta=True, **given))


def test_tta_runs_is_recorded_and_is_found_again(tiny: Path, tiny_weights: Path, tmp_path: Path) -> None:
    """The plain evaluation of the same file is another one, and is not taken for it."""
    given: dict[str, Any] = {"checkpoint": str(tiny_weights), "dataset": str(tiny), "split": "val"}
    given |= {"limit": 2, "judge": False, "results_dir": str(tmp_path / "out")}
    found = reproduce.reproduce(**given, tta=True)
    assert json.loads(json.dumps(found.settings["protocol"])) == json.loads(json.dumps(asdict(MMYOLO_TTA)))
    again = reproduce.find_finished(ReproduceConfig(**given, tta=True))
    assert again is not None and records.hash8(again) == records.hash8(found)
    assert reproduce.find_finished(ReproduceConfig(**given)) is None
    plan = reproduce.make_plan(ReproduceConfig(**given, tta=True))
    words = reproduce.describe(plan, reproduce.load_checkpoint(plan), reproduce.load_dataset(plan))
    assert words["protocol"] == "mmyolo+tta"


def test_a_record_fills_the_table_only_if_that_is_asked_for(
    tiny: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it lies among the runs, where no report looks, and is found again there."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").write_text("")
    monkeypatch.chdir(root)
    given: dict[str, Any] = {"checkpoint": str(tiny_weights), "dataset": str(tiny), "split": "val"}
    given |= {"limit": 2, "judge": False, "protocol": "ultralytics", "image_size": 64}
    own = reproduce.reproduce(**given)
    assert records.select(root / "results") == []
    assert [records.hash8(each) for each in records.select(root / "results/runs")] == [records.hash8(own)]
    assert reproduce.find_finished(ReproduceConfig(**given)) is not None
    assert reproduce.find_finished(ReproduceConfig(**given, fill_table=True)) is None
    filling = reproduce.reproduce(**given, fill_table=True)
    assert [records.hash8(each) for each in records.select(root / "results")] == [records.hash8(filling)]
    (kept,) = (root / "results/detections").iterdir()
    text = gzip.decompress(kept.read_bytes())
    assert hashlib.sha256(text).hexdigest() == filling.values["detections"]["sha256"]
    assert from_root(kept) == f"results/detections/{kept.name}"
    assert from_root(tiny) == str(tiny)
