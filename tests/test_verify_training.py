"""Verification from an evaluation to the training of its weights and to its data: a true chain, and lies."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from record_parts import EMPTY
from small_runs import small_data, small_job, stub_validation

from yolov9bench import records, reproduce
from yolov9bench.records import Record, as_stored
from yolov9bench.records.lineage import name_of
from yolov9bench.records.training import find_false_claims, read_train, recipe_hash
from yolov9bench.train.trainer import train
from yolov9bench.verify import Outcome, is_clean, verify
from yolov9bench.zoo import RECIPES

Lie = Callable[[Path], object]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run of one epoch, the evaluation of its weights, and both records in results/."""
    root = tmp_path_factory.mktemp("chain") / "project"
    data, out = small_data(root / "data"), root / "results/runs/train/run"
    with pytest.MonkeyPatch.context() as patch:
        stub_validation(patch, count(0.5))
        best = train(small_job(data, out, epochs=1))
    given: dict[str, Any] = {"checkpoint": str(best), "dataset": str(data), "split": "val"}
    given |= {"image_size": 64, "device": "cpu", "judge": False, "results_dir": str(root / "results")}
    reproduce.reproduce(**given)
    return root


@pytest.fixture
def project(honest: Path, tmp_path: Path) -> Path:
    return shutil.copytree(honest, tmp_path / "project")


def path_of(root: Path, kind: str) -> Path:
    (found,) = (root / "results/records").glob(f"*/{kind}-*.json")
    return found


def look(root: Path, *annotations: str) -> dict[str, Outcome]:
    """The outcomes by kind, with the annotations of these splits; of both if none is named."""
    paths = sorted((root / "results/records").rglob("*.json"))
    files = [root / f"data/annotations/instances_{name}.json" for name in annotations or ("train", "val")]
    outcomes = verify(root / "results", paths, files)
    return {each.name.split("/")[1].partition("-")[0]: each for each in outcomes}


def change(root: Path, kind: str, **changes: Any) -> Record:
    """Edit a record, parts of it key by key, and give its file the name that its new content has."""
    path = path_of(root, kind)
    record = records.read(path)
    merged = {
        name: getattr(record, name) | value if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    path.unlink()
    changed = replace(record, **merged)
    records.write(changed, root / "results")
    return changed


def mend(root: Path, training: Record) -> None:
    """Let the evaluation name the edited training, so that it alone is false."""
    named = name_of(training)
    assert named is not None
    change(root, "evaluate", inputs={"training": asdict(named)})


def change_training(root: Path, **parts: Any) -> None:
    """Everywhere: in results/ and in the run's own folder, with the evaluation that names it."""
    (own,) = (root / "results/runs/train/run").glob("records/*/*.json")
    own.unlink()
    training = change(root, "train", **parts)
    records.write(training, root / "results/runs/train/run")
    mend(root, training)


def other_recipe(root: Path) -> dict[str, Any]:
    recipe = records.read(path_of(root, "train")).settings["recipe"]
    return dict(recipe | {"optimizer": recipe["optimizer"] | {"learning_rate": 0.5}})


def swap_checkpoint(root: Path) -> None:
    with (root / "results/runs/train/run/best.pt").open("ab") as file:
        file.write(b"more")


def name_another_hash(root: Path) -> None:
    last = records.read(path_of(root, "train")).values["checkpoints"]["last.pt"]
    change_training(root, values={"checkpoints": {"best.pt": "0" * 64, "last.pt": last}})


def edit_recipe_in_place(root: Path) -> None:
    path = path_of(root, "train")
    path.write_text(path.read_text().replace('"learning_rate": 0.002', '"learning_rate": 0.5'))


def edit_recipe(root: Path) -> None:
    """Under its new name, which the evaluation does not know; the run's own folder has the true one."""
    training = change(root, "train", settings={"recipe": other_recipe(root)})
    path = path_of(root, "evaluate")
    record = records.read(path)
    path.unlink()
    named = record.inputs["training"] | {"file": name_of(training).file}  # type: ignore[union-attr]
    records.write(replace(record, inputs=record.inputs | {"training": named}), root / "results")


def remove_training(root: Path) -> None:
    path_of(root, "train").unlink()
    shutil.rmtree(root / "results/runs/train/run/records")


def evaluate_other_weights(root: Path) -> None:
    change(root, "evaluate", inputs={"weights_sha256": "1" * 64})


def name_another_row(root: Path) -> None:
    change(root, "evaluate", row="yolov8-s")


LIES: dict[str, tuple[Lie, str, str]] = {
    "other checkpoint": (swap_checkpoint, "train", r"best\.pt in run is another one \(sha256 \w{8}…\)"),
    "other hash": (name_another_hash, "train", r"best\.pt in run is another one"),
    "other hash, seen from the evaluation": (name_another_hash, "evaluate", "weights are none that train-"),
    "other weights": (evaluate_other_weights, "evaluate", "its weights are none that train-.* wrote"),
    "other row": (name_another_row, "evaluate", "train-.* trained yolov8-n, not yolov8-s"),
    "training gone": (remove_training, "evaluate", "its weights' training train-.*json is not there"),
    "recipe edited": (edit_recipe_in_place, "train", "was changed, renamed or moved"),
    "recipe edited, renamed": (edit_recipe, "evaluate", "is another training than the record names"),
    "recipe edited everywhere": (
        lambda root: change_training(root, settings={"recipe": other_recipe(root)}),
        "train",
        r"last\.pt in run was trained by another recipe",
    ),
    "departures": (
        lambda root: change_training(root, settings={"departures": []}),
        "train",
        "its recipe departs from the row's by .*the recipe is `demo`.*, and it says",
    ),
    "hours": (
        lambda root: change_training(root, values={"device_hours": 400.0}),
        "train",
        "device_hours is 400.0, its seconds and processes give 0",
    ),
    "fewer images": (
        lambda root: change_training(
            root, inputs={"train": records.read(path_of(root, "train")).inputs["train"] | {"images": 4}}
        ),
        "train",
        "the images of train are not the first 4 of its annotations by id",
    ),
    "counts": (
        lambda root: change(root, "evaluate", values={"counts": {"images": 9, "detections": 0}}),
        "evaluate",
        "9 images were run and 3 are stated; 0 detections were kept and",
    ),
    "future": (
        lambda root: change_training(root, start="2099-01-01T00:00:00+00:00"),
        "train",
        "start 2099-01-01T00:00:00\\+00:00 lies in the future",
    ),
}


def test_a_true_chain_is_verified(project: Path) -> None:
    outcomes = look(project)
    assert {name: (each.word, each.reasons) for name, each in outcomes.items()} == {
        "evaluate": ("verified", ()),
        "train": ("verified", ()),
    }


@pytest.mark.parametrize("lie", LIES)
def test_every_lie_is_named(project: Path, lie: str) -> None:
    tell, kind, sentence = LIES[lie]
    tell(project)
    outcome = look(project)[kind]
    assert outcome.word == "false"
    assert re.search(sentence, str(outcome)), str(outcome)


def test_what_lies_elsewhere_is_a_note_and_no_lie(project: Path) -> None:
    """No cell of the table depends on it, so that a strict check passes too."""
    change_training(project, inputs={"demo": False})  # the demo set's annotations would be drawn
    shutil.rmtree(project / "results/runs/train")
    outcome = look(project, "val")["train"]
    assert (outcome.word, outcome.reasons) == ("hash only", ("no AP to compute again",))
    assert {"missing: checkpoints", "missing: annotations of train"} <= set(outcome.notes)
    assert is_clean([outcome], strict=True)


def test_a_run_that_goes_on_answers_for_its_earlier_record_no_more(project: Path) -> None:
    """With more epochs its checkpoints are other ones, and run.json says so."""
    path = project / "results/runs/train/run/run.json"
    run = json.loads(path.read_text())
    path.write_text(json.dumps(run | {"parts": run["parts"] * 2}))
    swap_checkpoint(project)
    assert look(project)["train"].word == "hash only"


@pytest.mark.parametrize(("rate", "faults"), [(0.01, 0), (0.02, 1)])
def test_a_recipe_called_the_rows_own_is_held_against_the_table(rate: float, faults: int) -> None:
    """Without the run's files too: 0.01 is the learning rate of yolov8-n."""
    recipe = RECIPES["yolov8-n"].varied(optimizer={"learning_rate": rate})
    record = replace(
        EMPTY,
        kind="train",
        row="yolov8-n",
        values={"checkpoints": {"best.pt": "0" * 64}, "device_hours": 2.0},
        settings={
            "recipe": as_stored(recipe),
            "departures": ["float32 throughout"],
            "row_recipe_sha256": recipe_hash(RECIPES["yolov8-n"]),
            "processes": 2,
        },
        seconds=3600,
    )
    found = find_false_claims(record, read_train(record))
    assert len(found) == faults
    assert not faults or "another optimizer.learning_rate" in found[0]
    earlier = replace(record, settings=record.settings | {"row_recipe_sha256": "0" * 64})
    assert find_false_claims(earlier, read_train(earlier)) == []  # of a recipe that was corrected since
