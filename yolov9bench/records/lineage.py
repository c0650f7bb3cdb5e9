"""From weights back to the training that wrote them: which record names a file's hash, and where it lies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from yolov9bench.config import project_root
from yolov9bench.records.contents import EvaluateContents, RecordName, read_evaluate
from yolov9bench.records.record import Record, hash_of, path_of, read, write
from yolov9bench.records.training import read_train


def find_training(weights_sha256: str, file: Path | None) -> Record | None:
    """The newest record of a training that wrote these weights; None where no record names their hash.

    It is looked for beside the weights' `file`, if there is one, where a training leaves its record, and
    among the project's own runs and records. The hash decides, never a name. RecordError for a record that
    names it and cannot be trusted.
    """
    found = [
        read(path)
        for path in training_files(training_folders(file))
        if weights_sha256 in path.read_text(encoding="utf-8", errors="replace")
    ]
    wrote = [each for each in found if weights_sha256 in (read_train(each).values.checkpoints or {}).values()]
    return max(wrote, key=lambda record: (record.start, record.seconds), default=None)


def keep_training(evaluation: Record, file: str | Path | None, results_dir: Path) -> None:
    """Add the training that an evaluation of a file of weights names to the results that hold it."""
    named = read_evaluate(evaluation).inputs
    if named.training is None:
        return
    training = find_training(str(named.weights_sha256), None if file is None else Path(file))
    if training is not None:
        write(training, results_dir)


def training_folders(file: Path | None) -> list[Path]:
    """The folders whose records/ may name the training behind a file of weights."""
    results = project_root() / "results"
    beside = [] if file is None else [file.absolute().parent]
    return [*beside, *run_folders(results), results / "runs", results]


def run_folders(results_dir: Path) -> list[Path]:
    """The folders of the trainings whose runs lie below a folder of results, or beside its records."""
    return sorted(path for place in ("runs/train/*", "train/*") for path in results_dir.glob(place))


def training_files(folders: Iterable[Path]) -> Iterator[Path]:
    """The files of the records of trainings in these folders' records/."""
    for folder in dict.fromkeys(folders):
        yield from sorted(folder.glob("records/*/train-*.json"))


def name_of(record: Record | None) -> RecordName | None:
    """How another record names this one."""
    return None if record is None else RecordName(path_of(record, Path()).name, hash_of(record))


def find_broken_links(record: Record, stated: EvaluateContents, folders: Iterable[Path]) -> list[str]:
    """What is wrong with the training that an evaluation names; `folders`: whose records/ may hold it.

    RecordError for one that was changed since it was written.
    """
    named = stated.inputs.training
    if named is None:
        return []
    training = next((read(each) for each in training_files(folders) if each.name == named.file), None)
    if training is None:
        return [f"its weights' training {named.file} is not there"]
    faults = []
    if hash_of(training) != named.sha256:
        faults.append(f"{named.file} is another training than the record names")
    if stated.inputs.weights_sha256 not in (read_train(training).values.checkpoints or {}).values():
        faults.append(f"its weights are none that {named.file} wrote")
    if training.row != record.row:
        faults.append(f"{named.file} trained {training.row}, not {record.row}")
    return faults
