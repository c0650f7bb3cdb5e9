"""Sweeps: which rows run, with what parameters, and that finished ones do not run again."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from record_parts import EMPTY

from yolov9bench import reproduce, sweep
from yolov9bench.config import ReproduceConfig, SweepConfig
from yolov9bench.errors import DatasetError, SettingsError
from yolov9bench.records import select
from yolov9bench.zoo import ROWS

PLAIN = ["yolov8-n", "yolov8-s", "yolov8-m", "yolov8-l", "yolov8-x"]


class Runs:
    """Stands for papermill: notes which rows ran, and fails for some of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failing: tuple[str, ...] = ()) -> None:
        self.rows: list[str] = []
        self.failing = failing
        monkeypatch.setattr(reproduce, "find_finished", self.finished)

    def __call__(self, words: list[str]) -> int:
        self.rows.append(Path(words[4]).stem)
        return int(self.rows[-1] in self.failing)

    def finished(self, parameters: ReproduceConfig) -> Any:
        row = reproduce.make_plan(parameters).row
        assert row is not None
        return RECORD if row.id in self.rows and row.id not in self.failing else None


RECORD = replace(EMPTY, row="yolov8-n", values={"AP": 0.25})


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["yolov8-?"], PLAIN),
        (["yolov9-t", "yolov8-n*"], ["yolov8-n", "yolov8-n-mask-refine", "yolov9-t"]),
        (["*"], list(ROWS)),
    ],
)
def test_patterns_choose_rows_in_the_order_of_the_table(patterns: list[str], expected: list[str]) -> None:
    assert [row.id for row in sweep.choose_rows(patterns)] == expected


def test_every_rows_parameters_name_that_row() -> None:
    for row in ROWS.values():
        assert reproduce.make_plan(ReproduceConfig(**sweep.parameters_of(row, {}))).row == row


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda: sweep.choose_rows(["yolov8-n", "yolov10-*"]),
            "no row matches 'yolov10-[*]': choose from yolov8",
        ),
        (lambda: sweep.parameters_of(ROWS["yolov8-n"], {"size": "s"}), "size is what the rows differ in"),
        (
            lambda: sweep.parse_assignments(["batch_sise=3"]),
            "no parameter 'batch_sise'; did you mean 'batch_size'?",
        ),
        (lambda: sweep.parse_assignments(["limit"]), "'limit' sets nothing: write it as name=value"),
        (lambda: sweep.parse_assignments(["limit=many"]), "limit is 'many': give a value of type int"),
        (lambda: sweep.parse_assignments(["judge=1"]), "judge is '1': give true or false"),
    ],
)
def test_what_makes_no_sweep_is_refused(act: Callable[[], object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        act()


def test_values_get_the_types_of_the_parameters() -> None:
    found = sweep.parse_assignments(["batch_size=32", "judge=False", "data_dir=001", "image_size=640"])
    assert found == {"batch_size": 32, "judge": False, "data_dir": "001", "image_size": 640}


def test_a_failing_row_stops_no_other_and_finished_rows_do_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(monkeypatch, failing=("yolov8-s",))
    given = {"results_dir": str(tmp_path)}
    outcomes = sweep.sweep(["yolov8-?"], given, runs)
    assert runs.rows == PLAIN
    assert [outcome.word for outcome in outcomes] == ["ran", "failed", "ran", "ran", "ran"]
    assert sweep.summary(outcomes).splitlines()[:3] == [
        "4 ran, 1 failed",
        "yolov8-n: ran, AP 0.25000",
        "yolov8-s: failed",
    ]
    again = sweep.sweep(["yolov8-?"], given, runs)
    assert runs.rows == [*PLAIN, "yolov8-s"]
    assert [outcome.word for outcome in again].count("finished before") == 4


def test_a_row_that_cannot_be_planned_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch)
    whole = runs.finished

    def broken(parameters: ReproduceConfig) -> Any:
        if parameters.size == "n":
            raise DatasetError("nothing to see")
        return whole(parameters)

    monkeypatch.setattr(reproduce, "find_finished", broken)
    outcomes = sweep.sweep(["yolov8-n", "yolov8-s"], {"results_dir": str(tmp_path)}, runs)
    assert [outcome.word for outcome in outcomes] == ["failed", "ran"]


def test_listed_commands_are_one_a_row_and_keep_texts(tmp_path: Path) -> None:
    lines = sweep.list_commands(["yolov8-?"], {"data_dir": "a b/001", "limit": 8}).splitlines()
    assert len(lines) == 5
    for name, line in zip(PLAIN, lines, strict=True):
        words = shlex.split(line)
        assert words[:3] == [sys.executable, "-m", "papermill"]
        assert Path(words[4]).name == f"{name}.ipynb"
        pairs = [words[place : place + 3] for place in range(len(words)) if words[place] in ("-p", "-r")]
        assert ["-r", "data_dir", "a b/001"] in pairs
        assert ["-p", "limit", "8"] in pairs
        assert ["-r", "size", name.split("-")[1]] in pairs


def test_listed_commands_have_the_devices_in_turn() -> None:
    lines = sweep.list_commands(["yolov8-?"], {}, ["cuda:0", "cuda:1"]).splitlines()
    found = [words[words.index("device") + 1] for words in map(shlex.split, lines)]
    assert found == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]
    with pytest.raises(SettingsError, match="device is set to 'cpu' for every row"):
        sweep.list_commands(["yolov8-n"], {"device": "cpu"}, ["cuda:0"])
    with pytest.raises(SettingsError, match="give --list too"):
        SweepConfig(rows=(("yolov8-n",),), devices=(("cuda:0",),))


def test_a_sweep_with_tta_says_so_and_keeps_the_plain_notebooks(tmp_path: Path) -> None:
    given = sweep.parse_assignments(["tta=true"]) | {"results_dir": str(tmp_path)}
    (line,) = sweep.list_commands(["yolov8-n-mask-refine"], given).splitlines()
    words = shlex.split(line)
    assert Path(words[4]).name == "yolov8-n-mask-refine-tta.ipynb"
    assert words[words.index("tta") - 1 : words.index("tta") + 2] == ["-p", "tta", "True"]


@pytest.mark.accuracy
@pytest.mark.slow(60)
def test_a_sweep_killed_in_the_middle_goes_on_where_it_was(tmp_path: Path) -> None:
    rows = ["yolov8-n", "yolov9-t"]
    small = ["dataset=demo", "checkpoint=train", "epochs=1", "image_size=64", "limit=4", "judge=false"]
    places = [f"data_dir={tmp_path / 'data'}", f"results_dir={tmp_path / 'results'}"]
    words = [sys.executable, "-m", "yolov9bench", "sweep", "--rows", *rows, "--set", *small, *places]

    def recorded() -> list[str]:
        return [record.row or "" for record in select(tmp_path / "results", kind="evaluate")]

    first = subprocess.Popen(
        words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 300
    while not recorded() and time.monotonic() < until:
        time.sleep(0.2)
    time.sleep(2)  # into the second row
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    assert recorded() == rows[:1]
    second = subprocess.run(words, check=False, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert recorded() == rows
    assert "1 finished before, 1 ran" in second.stdout
    assert (tmp_path / "results/runs/yolov9-t.ipynb").stat().st_size > 0


def test_a_notebook_that_fails_is_no_row_that_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status counts, even where another run has left the record meanwhile."""
    answers = iter([None, RECORD])
    monkeypatch.setattr(reproduce, "find_finished", lambda parameters: next(answers))
    (outcome,) = sweep.sweep(["yolov8-n"], {"results_dir": str(tmp_path)}, lambda words: 1)
    assert (outcome.word, outcome.record) == ("failed", None)
    assert str(outcome) == "yolov8-n: failed"


def test_a_notebook_that_ends_well_and_leaves_no_record_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "find_finished", lambda parameters: None)
    (outcome,) = sweep.sweep(["yolov8-n"], {"results_dir": str(tmp_path)}, lambda words: 0)
    assert outcome.word == "failed"


def test_a_row_that_is_finished_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "find_finished", lambda parameters: RECORD)

    def never(words: list[str]) -> int:
        raise AssertionError("a finished row ran again")

    (outcome,) = sweep.sweep(["yolov8-n"], {"results_dir": str(tmp_path)}, never)
    assert (outcome.word, outcome.record) == ("finished before", RECORD)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [0, 3])
def test_the_status_of_a_process_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """It is run as `python -m` runs a module, with its arguments."""
    (tmp_path / "ends.py").write_text("import sys; sys.exit(int(sys.argv[1]))")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert sweep._run([sys.executable, "-m", "ends", str(status)]) == status


@pytest.mark.parametrize(
    "error", [DatasetError("nothing to see"), RuntimeError("torch is ill"), OSError(28, "full")]
)
def test_whatever_is_wrong_with_a_row_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    runs = Runs(monkeypatch)

    def run(words: list[str]) -> int:
        if "yolov8-n" in words[4]:
            raise error
        return runs(words)

    outcomes = sweep.sweep(["yolov8-n", "yolov8-s"], {"results_dir": str(tmp_path)}, run)
    assert [outcome.word for outcome in outcomes] == ["failed", "ran"]
    assert str(error) in caplog.text


def test_results_that_cannot_be_written_fail_each_row_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    runs = Runs(monkeypatch)
    monkeypatch.setattr(Path, "mkdir", full)
    (outcome,) = sweep.sweep(["yolov8-n"], {"results_dir": str(tmp_path)}, runs)
    assert (outcome.word, runs.rows) == ("failed", [])
    assert "runs cannot be written (No space left on device): make space and run it again." in caplog.text


def test_the_folder_of_the_notebooks_is_made_before_they_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs(monkeypatch)
    folders = []

    def run(words: list[str]) -> int:
        folders.append(Path(words[4]).parent)
        assert folders[-1].is_dir()
        return runs(words)

    sweep.sweep(["yolov9-t"], {"results_dir": str(tmp_path / "new/results")}, run)
    assert folders == [tmp_path / "new/results/runs"]


def test_a_value_may_hold_an_equals_sign_and_be_written_in_capitals() -> None:
    assert sweep.parse_assignments(["data_dir=a=b", "judge=TRUE"]) == {"data_dir": "a=b", "judge": True}


def test_rows_are_counted_from_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "yolov9bench"):
        sweep.sweep(["yolov9-t", "yolov9-s"], {"results_dir": str(tmp_path)}, Runs(monkeypatch))
    said = [message for message in caplog.messages if message.startswith("row ")]
    assert said == ["row 1 of 2: yolov9-t", "row 2 of 2: yolov9-s"]
