"""Many rows, one papermill notebook each: finished rows are left alone, a failing one stops no other.

python -m yolov9bench sweep --rows 'yolov8-*' --set batch_size=32
python -m yolov9bench sweep --rows 'yolov9-*' --list  # one independent command a row
python -m yolov9bench sweep --rows 'gelan-*' --set fill_table=true  # to fill the table
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import cycle
from pathlib import Path
from typing import Any

from yolov9bench import reproduce
from yolov9bench.config import ReproduceConfig, project_root
from yolov9bench.errors import BenchError, SettingsError
from yolov9bench.io.files import make_folder
from yolov9bench.ops.lifeline import run_bound
from yolov9bench.records import Record
from yolov9bench.records.verdict import ap_text
from yolov9bench.zoo.rows import ROWS, Row

NOTEBOOK = "notebooks/reproduce.ipynb"

logger = logging.getLogger("yolov9bench")


@dataclass(frozen=True)
class Outcome:
    """What became of a row: `word` is "finished before", "ran" or "failed"; the record where there is one."""

    row: str
    word: str
    record: Record | None

    def __str__(self) -> str:
        if self.record is None:
            return f"{self.row}: {self.word}"
        return f"{self.row}: {self.word}, {ap_text(self.record)}"


def choose_rows(patterns: Sequence[str]) -> list[Row]:
    """The rows whose ids match a pattern like `yolov8-*`, in any case; SettingsError if none does."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern.lower()) for name in ROWS):
            raise SettingsError(f"no row matches {pattern!r}: choose from {', '.join(ROWS)}")
    wanted = [pattern.lower() for pattern in patterns]
    return [row for name, row in ROWS.items() if any(fnmatchcase(name, pattern) for pattern in wanted)]


def parameters_of(row: Row, given: Mapping[str, Any]) -> dict[str, Any]:
    """A row's parameters for the notebook: those that name it, and the ones that were set; others as ever."""
    naming = {
        "family": row.family,
        "size": row.size,
        "mask_refine": row.id.endswith("-mask-refine"),
        "source": row.source,
    }
    clashing = sorted(naming.keys() & given.keys())
    if clashing:
        raise SettingsError(f"{clashing[0]} is what the rows differ in: choose rows by their ids instead")
    checked = ReproduceConfig.from_names(naming | dict(given))
    return naming | {name: getattr(checked, name) for name in given}


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """`name=value` texts as values of ReproduceConfig's types; SettingsError for what does not fit."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise SettingsError(f"{assignment!r} sets nothing: write it as name=value, like batch_size=32")
        if name in values:
            raise SettingsError(f"{name} is set twice, to {values[name]!r} and {text!r}: set it once")
        values[name] = _parse_value(name, text, ReproduceConfig.type_of(name))
    return values


def _parse_value(name: str, text: str, kind: type) -> Any:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise SettingsError(f"{name} is {text!r}: give true or false")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError as error:
        raise SettingsError(f"{name} is {text!r}: give a value of type {kind.__name__}") from error


def build_command(row: Row, parameters: Mapping[str, Any]) -> list[str]:
    """The papermill command of one row; it depends on no other row, and may run on another machine.

    SettingsError outside the project, where the notebook is not.
    """
    root = project_root()
    if not (root / NOTEBOOK).is_file():
        raise SettingsError(f"there is no {NOTEBOOK} in {root}: run this in the project's folder")
    folder = ReproduceConfig(**parameters).results_folder / "runs"
    words = [sys.executable, "-m", "papermill", str(root / NOTEBOOK)]
    name = f"{row.id}-tta" if parameters.get("tta") else row.id
    words += [str(folder / f"{name}.ipynb"), "--no-progress-bar"]
    for name, value in parameters.items():
        # papermill's -p guesses types, which would turn the folder 001 into 1; -r hands texts on as they are.
        words += ["-r" if isinstance(value, str) else "-p", name, str(value)]
    return words


def list_commands(patterns: Sequence[str], given: Mapping[str, Any], devices: Sequence[str] = ()) -> str:
    """One independent shell command a line; with devices each has one of them, in turn.

    SettingsError for a device that is set for all rows as well.
    """
    if devices and "device" in given:
        raise SettingsError(f"device is set to {given['device']!r} for every row: set it, or give --devices")
    turn = [{"device": name} for name in devices] or [{}]
    return "\n".join(
        shlex.join(build_command(row, parameters_of(row, {**given, **own})))
        for row, own in zip(choose_rows(patterns), cycle(turn), strict=False)
    )


def sweep(
    patterns: Sequence[str],
    given: Mapping[str, Any],
    run: Callable[[list[str]], int] | None = None,
) -> list[Outcome]:
    """Run the notebook of each row that has no record of these inputs and settings yet, and say what became.

    `run` takes a command and returns its exit status; a process of its own if omitted.
    """
    outcomes = []
    rows = choose_rows(patterns)
    planned = [(row, parameters_of(row, given)) for row in rows]
    for number, (row, parameters) in enumerate(planned, start=1):
        logger.info("row %d of %d: %s", number, len(rows), row.id)
        outcome = _sweep_row(row, parameters, run or _run)
        logger.info("%s", outcome)
        outcomes.append(outcome)
    return outcomes


def _sweep_row(row: Row, parameters: dict[str, Any], run: Callable[[list[str]], int]) -> Outcome:
    try:
        found = reproduce.find_finished(ReproduceConfig(**parameters))
        if found is not None:
            return Outcome(row.id, "finished before", found)
        words = build_command(row, parameters)
        make_folder(Path(words[4]).parent)
        status = run(words)
        found = reproduce.find_finished(ReproduceConfig(**parameters)) if status == 0 else None
    except Exception as error:  # whatever is wrong with a row, the others run
        said = str(error) if isinstance(error, BenchError) else f"{row.id}: {type(error).__name__}: {error}"
        logger.error("%s", said)
        found = None
    return Outcome(row.id, "failed" if found is None else "ran", found)


def _run(words: list[str]) -> int:
    """Run `python -m papermill ...`; its kernel sees by itself when it ends."""
    python, _, *module = words
    return run_bound(python, module)


def summary(outcomes: Sequence[Outcome]) -> str:
    """The count of each word, then a line a row."""
    words = [outcome.word for outcome in outcomes]
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    return "\n".join([counts, *map(str, outcomes)])
