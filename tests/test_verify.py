"""Verification of records: a true one, and every kind of lie, each named."""

import gzip
import hashlib
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from stored_records import detections, make_record, truth

from yolov9bench import records, report
from yolov9bench.data.annotations import read_annotations
from yolov9bench.evaluation import rederive
from yolov9bench.io.files import sha256_of
from yolov9bench.predict.predictions import predictions_from_rows, result_json
from yolov9bench.predict.result_files import write_predictions
from yolov9bench.records import as_stored
from yolov9bench.records.detections import keep_detections
from yolov9bench.verify import Outcome, is_clean, verify
from yolov9bench.zoo.protocols import PROTOCOLS

README = "# Bench\n\n<!-- table -->\n<!-- /table -->\n"
Lie = Callable[[Path], None]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with one record, its detections, its annotations and what the report makes of it."""
    root = tmp_path_factory.mktemp("verify") / "project"
    (root / "data").mkdir(parents=True)
    (root / "README.md").write_text(README)
    (root / "data/annotations.json").write_text(json.dumps(truth()))
    record, text = make_record(root / "data/annotations.json", detections())
    records.write(record, root / "results")
    keep_detections(root / "results", text)
    report.write(root / "results", root / "README.md")
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "a record")
    return root


@pytest.fixture
def project(honest: Path, tmp_path: Path) -> Path:
    return shutil.copytree(honest, tmp_path / "project")


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def look(root: Path) -> list[Outcome]:
    return verify(root / "results", annotations=[root / "data/annotations.json"], readme=root / "README.md")


def only(root: Path, pattern: str = "results/records/*/*.json") -> Path:
    (found,) = root.glob(pattern)
    return found


def change(root: Path, **parts: dict[str, Any]) -> None:
    """Edit the record, and give the file the name that its new content has."""
    path = only(root)
    record = records.read(path)
    merged = {name: getattr(record, name) | part for name, part in parts.items()}
    path.unlink()
    records.write(replace(record, **merged), root / "results")


def rewrite(root: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit the record's file under the name it has."""
    path = only(root)
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def other_detections() -> list[dict[str, Any]]:
    return [row | {"bbox": [10.0, 10.0, 20.0, 20.0]} for row in detections()]


def edit_readme(root: Path) -> None:
    text = (root / "README.md").read_text()
    (root / "README.md").write_text(text.replace("*53.0*", "**53.1**"))


def swap_detections(root: Path) -> None:
    text = result_json(predictions_from_rows(other_detections()))
    only(root, "results/detections/*").write_bytes(gzip.compress(text.encode()))


def edit_detections(root: Path) -> None:
    """With their hash mended in the record."""
    only(root, "results/detections/*").unlink()
    text = result_json(predictions_from_rows(other_detections()))
    keep_detections(root / "results", text)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    change(root, values={"detections": {"file": None, "sha256": sha256, "count": 6}})


def edit_annotations(root: Path) -> None:
    content = truth()
    content["annotations"][0]["bbox"][0] = 30.0
    path = root / "data/annotations.json"
    path.write_text(json.dumps(content))
    change(root, inputs={"annotations_sha256": sha256_of(path)})


def raise_threshold(root: Path) -> None:
    change(root, settings={"protocol": as_stored(replace(PROTOCOLS["ultralytics"], score_threshold=0.45))})


def add_without_report(root: Path) -> None:
    record = records.read(only(root))
    records.write(replace(record, start="2026-02-01T00:00:00+00:00", seconds=2.0), root / "results")


def copy_to_another_row(root: Path) -> None:
    records.write(replace(records.read(only(root)), row="yolov9-c"), root / "results")


def name_after_another_hash(root: Path) -> None:
    path = only(root)
    path.rename(path.with_name(f"{path.stem[:-8]}00000000.json"))


def claim_committed_code(root: Path) -> None:
    """A measured AP in the README that no record of committed code holds."""
    text = (root / "README.md").read_text()
    (root / "README.md").write_text(text.replace("| *37.2* |", "| **37.2** · *37.2* |"))


def call_it_whole(root: Path) -> None:
    change(root, inputs={"images": 5000})


def leave_out_a_setting(root: Path) -> None:
    settings = {key: value for key, value in records.read(only(root)).settings.items() if key != "fused"}
    record = replace(records.read(only(root)), settings=settings)
    only(root).unlink()
    records.write(record, root / "results")


def date_it_2099(root: Path) -> None:
    record = replace(records.read(only(root)), start="2099-01-01T00:00:00+00:00")
    only(root).unlink()
    records.write(record, root / "results")


def state_another_schema(content: dict[str, Any]) -> None:
    content["schema"] = 2


LIES: dict[str, tuple[Lie, str]] = {
    "edited README cell": (edit_readme, "README.md: not what the records say"),
    "edited record, renamed to its hash": (
        lambda root: change(root, values={"AP": 0.9}),
        "AP is 0.9, its detections give",
    ),
    "swapped detections": (swap_detections, "are other detections"),
    "edited detections, hash mended": (edit_detections, "AP is .*, its detections give 1.0"),
    "other annotations": (edit_annotations, "AP is .*, its detections give"),
    "changed threshold": (raise_threshold, "the lowest score is 0.4, below the stated threshold 0.45"),
    "stale table": (add_without_report, "table.md.*: not what the records say"),
    "false hash": (name_after_another_hash, "was changed, renamed or moved"),
    "missing record": (lambda root: only(root).unlink(), "removed since it was committed"),
    "duplicated record": (copy_to_another_row, "a copy of custom/evaluate-"),
    "uncommitted code in the table": (claim_committed_code, "README.md: not what the records say"),
    "a subset called whole": (call_it_whole, "5,000 images are stated, and the annotations have 6"),
    "a settings key left out": (leave_out_a_setting, "settings lack fused"),
    "another schema": (
        lambda root: rewrite(root, lambda each: each.update(schema=2)),
        "not a record of schema",
    ),
    "a future date": (date_it_2099, "start 2099-01-01T00:00:00\\+00:00 lies in the future"),
}


def test_an_honest_folder_is_verified(project: Path) -> None:
    assert [(each.word, each.reasons) for each in look(project)] == [("verified", ()), ("verified", ())]
    assert is_clean(look(project), strict=True)


@pytest.mark.parametrize("lie", LIES)
def test_every_lie_is_named(project: Path, lie: str) -> None:
    tell, sentence = LIES[lie]
    tell(project)
    outcomes = look(project)
    said = "\n".join(str(each) for each in outcomes if each.word == "false")
    assert not is_clean(outcomes)
    assert re.search(sentence, said), said


def test_a_lie_that_was_committed_is_named(project: Path) -> None:
    name = only(project).name
    change(project, values={"AP": 0.9})
    report.write(project / "results", project / "README.md")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "another")
    false = {each.name: each.reasons for each in look(project) if each.word == "false"}
    assert false[f"records/custom/{name}"] == ("removed since it was committed",)


@pytest.mark.parametrize("missing", ["detections", "annotations"])
def test_what_is_missing_is_told_and_fails_only_strictly(project: Path, missing: str) -> None:
    if missing == "detections":
        only(project, "results/detections/*").unlink()
    annotations = [] if missing == "annotations" else [project / "data/annotations.json"]
    outcomes = verify(project / "results", annotations=annotations, readme=project / "README.md")
    assert (outcomes[0].word, outcomes[0].reasons) == ("hash only", (f"missing: {missing}",))
    assert is_clean(outcomes)
    assert not is_clean(outcomes, strict=True)


def test_detections_as_arrays_are_verified_by_the_hash_of_their_text(project: Path) -> None:
    """As a run keeps those that are too many to be committed; others under their name are found out."""
    record = records.read(only(project))
    only(project, "results/detections/*").unlink()
    change(project, values={"detections": record.values["detections"] | {"file": "many.npz"}})
    path, own = project / "results/runs/detections/many.npz", [project / "data/annotations.json"]
    for rows, said in (
        (detections(), "verified "),
        (other_detections(), "false .*many.npz are other detections"),
    ):
        write_predictions(path, predictions_from_rows(rows))
        (outcome,) = verify(project / "results", [only(project)], own)
        assert re.match(said, str(outcome)), outcome
    path.write_bytes(path.read_bytes()[:200])
    (outcome,) = verify(project / "results", [only(project)], own)
    assert re.match("false .*many.npz cannot be read", str(outcome)), outcome


def test_outside_a_checkout_the_history_is_not_judged(project: Path) -> None:
    shutil.rmtree(project / ".git")
    assert [each.name for each in look(project) if each.word == "hash only"] == ["history"]


def test_records_are_named_one_by_one_too(project: Path) -> None:
    (outcome,) = verify(project / "results", [only(project)], [project / "data/annotations.json"])
    assert outcome.word == "verified"
    assert str(outcome).startswith("verified   custom/evaluate-2026-01-01-")
    assert asdict(outcome)["reasons"] == ()


def test_each_file_is_read_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two records of the same annotations, which are given twice, beside a file that no record names."""
    record = records.read(only(project))
    other = replace(record, seconds=2.0, settings=record.settings | {"batch_size": 8})
    records.write(other, project / "results")
    report.write(project / "results", project / "README.md")
    spare = project / "data/spare.json"
    spare.write_text(json.dumps(truth() | {"info": {"year": 2000}}))
    done: Counter[tuple[str, str]] = Counter()

    def counted(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, *rest: Any, **named: Any) -> Any:
            done[kind, path.name] += 1
            return function(path, *rest, **named)

        return call

    monkeypatch.setattr(Path, "read_bytes", counted("bytes", Path.read_bytes))
    monkeypatch.setattr(rederive, "sha256_of", counted("hash", sha256_of))
    monkeypatch.setattr(rederive, "read_annotations", counted("annotations", read_annotations))
    own = project / "data/annotations.json"
    outcomes = verify(project / "results", (), [own, own, spare], readme=project / "README.md")
    assert [each.word for each in outcomes] == ["verified"] * 3
    names = {path.name for path in (project / "results/records/custom").iterdir()}
    assert {
        name: count for (kind, name), count in done.items() if kind == "bytes" and name in names
    } == dict.fromkeys(names, 1)
    assert done["hash", own.name] == done["annotations", own.name] == 1
    assert not done["hash", spare.name]
