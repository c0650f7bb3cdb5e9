"""Whose file a checkpoint is where no hash is published: its row's own download, and no other file."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from yolov9bench import reproduce
from yolov9bench.config import ReproduceConfig
from yolov9bench.data import download
from yolov9bench.errors import CheckpointError, DownloadError
from yolov9bench.evaluation.settings import row_id
from yolov9bench.io import provenance
from yolov9bench.nn import build
from yolov9bench.records import Record
from yolov9bench.records.comparability import is_unpinned, obstacles
from yolov9bench.records.evidence import checks, evidence
from yolov9bench.records.verdict import verdict as verdict_of
from yolov9bench.report import csv_table, table
from yolov9bench.weights import load, save
from yolov9bench.zoo import ROWS, SPECS
from yolov9bench.zoo.coco2017 import SPLITS
from yolov9bench.zoo.rows import FORMATS, Asset, unlike

ROW = "yolov9-t"
OURS: dict[Any, str] = {**FORMATS, "official": "yolov9bench"}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is served, with the file of a row of which no hash is known: an untrained yolov9-t."""
    folder = tmp_path / "site"
    save(folder / "tiny.pt", build(SPECS["yolov9-t-80"], classes=80), None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("yolov9bench.zoo.rows.FORMATS", OURS)  # our own format stands for the official one
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        asset = Asset("tiny.pt", f"http://127.0.0.1:{server.server_port}/tiny.pt", "gelan")
        monkeypatch.setitem(ROWS, ROW, replace(ROWS[ROW], assets=(asset,)))
        yield folder
        server.shutdown()
        thread.join()


def parameters(tiny: Path, tmp_path: Path, **given: Any) -> dict[str, Any]:
    places = {"data_dir": str(tmp_path / "data"), "results_dir": str(tmp_path / "results")}
    chosen = {"size": "t", "dataset": str(tiny), "split": "val", "protocol": "yolov9", "image_size": 64}
    return chosen | {"judge": False} | places | given


@pytest.fixture
def eighty(tiny: Path) -> Path:
    """`tiny` with the categories that an 80-class file without names is taken to have."""
    path = tiny / "annotations/instances_val.json"
    text = path.read_text()
    start = text.index('"categories"')
    names = ", ".join(f'{{"id": {number}, "name": "class {number}"}}' for number in range(1, 81))
    path.write_text(f'{text[:start]}"categories": [{names}]}}')
    return tiny


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_rows_own_download_gives_the_row_and_says_that_its_hash_is_unpinned(
    site: Path, eighty: Path, tmp_path: Path
) -> None:
    found = reproduce.reproduce(**parameters(eighty, tmp_path))
    served = site / "tiny.pt"
    assert (found.row, found.inputs["weights_sha256"]) == (ROW, sha256(served))
    asset = ROWS[ROW].download
    assert found.inputs["download"] == {
        "url": asset.url,
        "bytes": served.stat().st_size,
        "hash": "unpinned",
    }
    assert (found.inputs["format"], found.inputs["classes"]) == ("yolov9bench", 80)
    assert is_unpinned(found)
    assert not any("weights" in reason for reason in verdict_of(found).reasons)
    plan = reproduce.make_plan(ReproduceConfig(**parameters(eighty, tmp_path)))
    words = reproduce.describe(plan, reproduce.load_checkpoint(plan), reproduce.load_dataset(plan))
    assert words["row"] == ROW and words["checkpoint"].endswith("…, hash unpinned")


def test_the_same_file_by_path_or_put_there_by_hand_gets_no_row(
    site: Path, eighty: Path, tmp_path: Path
) -> None:
    by_path = reproduce.reproduce(**parameters(eighty, tmp_path, checkpoint=str(site / "tiny.pt")))
    assert by_path.row is None and by_path.inputs["download"] is None
    by_hand = tmp_path / "data/checkpoints/tiny.pt"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes((site / "tiny.pt").read_bytes())
    found = reproduce.reproduce(**parameters(eighty, tmp_path, checkpoint="download"))
    assert found.row is None and found.inputs["download"] is None
    assert "unknown checkpoint" in str(verdict_of(found))


def test_another_hash_in_a_second_run_is_refused_with_both(site: Path, tmp_path: Path) -> None:
    asset = ROWS[ROW].download
    first = download.checkpoint(asset, tmp_path)
    seen = download.origin(asset, tmp_path)
    assert seen == download.Origin(asset.url, first.bytes, first.sha256)
    assert download.checkpoint(asset, tmp_path) == first  # again, without a transfer
    first.path.unlink()
    (site / "tiny.pt").write_bytes(b"other content")
    for _ in range(2):
        with pytest.raises(DownloadError) as refused:
            download.checkpoint(asset, tmp_path)
        for part in (str(first.path), first.sha256, sha256(site / "tiny.pt"), "tiny.pt.origin.json"):
            assert part in str(refused.value)
    assert download.origin(asset, tmp_path) == seen


def test_a_lead_that_does_not_hold_is_an_unpinned_file(site: Path, tmp_path: Path) -> None:
    """A hash that was seen in one place only warns; the file then needs an origin like any other."""
    asset = replace(ROWS[ROW].download, sha256=("0" * 64,), hash_sources=1)
    fetched = download.checkpoint(asset, tmp_path)
    assert "instead of" in fetched.warnings[0]
    assert download.origin(asset, tmp_path) is not None
    pinned = replace(asset, name="other.pt", sha256=(fetched.sha256,))
    download.checkpoint(pinned, tmp_path)
    assert download.origin(pinned, tmp_path) is None


def test_a_note_of_another_address_or_of_no_sense_is_refused(site: Path, tmp_path: Path) -> None:
    asset = ROWS[ROW].download
    download.checkpoint(asset, tmp_path)
    with pytest.raises(DownloadError, match=r"was fetched from http.*tiny\.pt, not http://elsewhere"):
        download.checkpoint(replace(asset, url="http://elsewhere/tiny.pt"), tmp_path)
    (tmp_path / "checkpoints/tiny.pt.origin.json").write_text("[]")
    with pytest.raises(DownloadError, match=r"tiny\.pt\.origin\.json cannot be read"):
        download.checkpoint(asset, tmp_path)


@pytest.mark.parametrize(
    ("spec", "classes", "fault"),
    [
        ("yolov9-t-80", 2, "2 classes, not 80"),
        ("gelan-s", 80, "network gelan-s, not yolov9-t-80"),
    ],
)
def test_a_download_of_another_content_is_refused(
    site: Path, tmp_path: Path, spec: str, classes: int, fault: str
) -> None:
    save(site / "tiny.pt", build(SPECS[spec], classes=classes), None)
    plan = reproduce.make_plan(ReproduceConfig(size="t", data_dir=str(tmp_path)))
    with pytest.raises(
        CheckpointError, match=rf"tiny\.pt is not the file of yolov9-t \({fault}\): delete it"
    ):
        reproduce.load_checkpoint(plan)


def test_a_converted_file_is_the_gelan_of_its_size() -> None:
    """It lacks the auxiliary branch, and with it the only difference to GELAN."""
    row = ROWS["yolov9-c"]
    assert unlike(row, "official", SPECS["gelan-c"], 80) == unlike(row, "official", row.spec, 80) == []
    for content in (("mmyolo", row.spec, 80), ("official", SPECS["gelan-e"], 80), ("official", None, 80)):
        assert len(unlike(row, *content)) == 1
    assert unlike(row, "official", row.spec, 20) == ["20 classes, not 80"]


def unpinned(**changes: Any) -> Record:
    """A made-up perfect record of gelan-c, of which no hash is known, with changes to its inputs."""
    row = ROWS["gelan-c"]
    inputs = {
        "weights_sha256": "ab" * 32,
        "download": {"url": row.download.url, "bytes": 51_000_000, "hash": "unpinned"},
        "format": "official",
        "spec": "gelan-c",
        "classes": 80,
        "demo": False,
        "annotations_sha256": SPLITS["val2017"].annotations_sha256,
        "images": 5000,
        "images_skipped": [],
    }

    return Record(
        row="gelan-c",
        kind="evaluate",
        values={"AP": 0.525, "AP_interval": None},
        settings={"protocol": asdict(row.protocol)},
        inputs={key: value for key, value in (inputs | changes).items() if value is not None},
        environment={"commit": provenance.code().commit or "1" * 40, "dirty": False},
        seed=0,
        start="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        command=[],
    )


def test_verdict_and_table_say_hash_unpinned_beside_the_figure() -> None:
    found = [unpinned()]
    assert obstacles(found[0]) == []
    text = "reproduced: box AP 52.5 (hash unpinned), published 52.5"
    assert str(verdict_of(found[0])) == text
    assert "**52.5** (hash unpinned) · *52.5*" in table.block(evidence(found), checks(found))
    (line,) = [
        line for line in csv_table.csv_text(evidence(found)).splitlines() if line.startswith("gelan-c,")
    ]
    assert "hash unpinned" in line


@pytest.mark.parametrize(
    "changes",
    [
        {"download": None},
        {"download": {"url": "http://elsewhere/gelan-c.pt", "bytes": 51_000_000, "hash": "unpinned"}},
        {"download": {"url": ROWS["gelan-c"].download.url, "bytes": 51_000_000}},
        {"download": {"url": ROWS["gelan-c"].download.url, "hash": "unpinned"}},
        {"download": {"url": ROWS["gelan-c"].download.url, "bytes": 0, "hash": "unpinned"}},
        {"weights_sha256": None},
        {"weights_sha256": ROWS["yolov9-c"].download.sha256[0]},
        {"format": "mmyolo"},
        {"format": None},
        {"spec": "gelan-e"},
        {"spec": None},
        {"classes": 79},
    ],
)
def test_an_unpinned_record_needs_address_size_and_content_of_the_row(changes: dict[str, Any]) -> None:
    record = unpinned(**changes)
    assert obstacles(record) and not is_unpinned(record)
    assert verdict_of(record).word == "not comparable"
    assert evidence([record])["gelan-c"].ap is None


def test_a_row_whose_hash_is_pinned_takes_no_other() -> None:
    url = ROWS["yolov9-c"].download.url
    download_of = {"url": url, "bytes": 51_477_927, "hash": "unpinned"}
    record = replace(unpinned(download=download_of), row="yolov9-c")
    assert "weights other than the published ones" in obstacles(record)


def test_our_own_untrained_file_is_no_download(tiny_weights: Path) -> None:
    assert row_id(load(tiny_weights)) == ROW
