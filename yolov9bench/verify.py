"""Whether the records are true: AP computed again from its detections, weights led back to their training.

python -m yolov9bench verify                       # the records in results/, their history, and the report
python -m yolov9bench verify results/records/yolov9-c/evaluate-....json --annotations instances_val2017.json
python -m yolov9bench verify --strict              # what could be checked by hashes alone fails too
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from yolov9bench import records, report
from yolov9bench.errors import BenchError, RecordError, ReportError, printable, require_present
from yolov9bench.evaluation.rederive import (
    Annotations,
    find_annotations,
    find_contradictions,
    find_detections,
    find_wrong_metrics,
)
from yolov9bench.evaluation.rederive_comparison import Compared
from yolov9bench.evaluation.rederive_study import find_wrong_baseline
from yolov9bench.io.files import finished_files
from yolov9bench.io.provenance import Environment
from yolov9bench.records import Record
from yolov9bench.records.comparability import CLOCKS_DIFFER
from yolov9bench.records.comparison import read_comparison
from yolov9bench.records.contents import ADDED_SETTINGS, EvaluateContents, read_evaluate, read_measure
from yolov9bench.records.history import find_altered, is_ancestor
from yolov9bench.records.lineage import find_broken_links, run_folders
from yolov9bench.records.study import find_false_lines, read_study
from yolov9bench.records.training import find_false_claims, read_train

Word = Literal["verified", "hash only", "false"]
NO_AP = "no AP to compute again"
NOT_RERUN = "departures are not computed again, since they need the network"
UNKNOWN_OF_A_FUNCTION = ("dtype", "fused")  # settings of a network


@dataclass(frozen=True)
class Outcome:
    """What became of one record, or of the report: a word, and why; `notes` lessen nothing."""

    name: str
    word: Word
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = "; ".join((*self.reasons, *self.notes))
        return printable(f"{self.word:9}  {self.name}" + (f": {said}" if said else ""))


def verify(
    results_dir: str | Path,
    paths: Sequence[Path] = (),
    annotations: Sequence[Path] = (),
    data_folder: Path | None = None,
    readme: Path | None = None,
) -> list[Outcome]:
    """Check records, all of the results folder if none is named, and then history and report too.

    annotations: files in COCO's format to look a record's own up in, by sha256, beside those under
    `data_folder` (coco/ and demo/). The demo set's are drawn again where they are missing. BenchErrors for
    files that do not exist.
    """
    results_dir = Path(results_dir)
    require_present("results", results_dir)
    for path in (*paths, *annotations):
        if not path.is_file():
            raise RecordError(f"there is no file {path}: check the path")
    chosen = list(paths) or finished_files(results_dir / "records", "**/*.json")
    read = {path: _read(path) for path in chosen}
    good = {path: record for path, record in read.items() if isinstance(record, Record)}
    with find_annotations(good.values(), annotations, data_folder) as known:
        compared = Compared(good, results_dir, known)
        outcomes = [
            check_record(path, record, results_dir, known, compared)
            if isinstance(record, Record)
            else Outcome(_name(path), "false", (record,))
            for path, record in read.items()
        ]
    outcomes = _with_twins(outcomes, read)
    if not paths:
        outcomes += [*check_history(results_dir), *check_report(results_dir, readme, read.values())]
    return outcomes


def check_record(
    path: Path, record: Record, results_dir: Path, annotations: Annotations, compared: Compared
) -> Outcome:
    """One record that is whole: its claims, and its AP computed again where that can be done."""
    name = _name(path)
    try:
        faults = _time_faults(record)
        if record.kind == "train":
            return check_training(path, record, results_dir, annotations)
        if record.kind == "compare":
            return check_comparison(path, record, compared)
        if record.kind == "measure":
            read_measure(record)
            return Outcome(name, "false" if faults else "hash only", tuple(faults) or (NO_AP,))
        if record.kind == "study":
            stated_study = read_study(record)
            faults += find_false_lines(stated_study)
            faults += find_wrong_baseline(stated_study, path, results_dir, annotations)
            return Outcome(name, "false" if faults else "hash only", tuple(faults) or (NOT_RERUN,))
        stated, missing = read_evaluate(record), []
        faults += _missing_settings(stated)
        faults += find_broken_links(record, stated, _folders(path, results_dir))
        found = (stated.values.detections or {}).get("sha256")
        detections = find_detections(str(found), path, results_dir, stated)
        source = annotations.get(str(stated.inputs.annotations_sha256))
        if detections is None:
            missing.append("detections")
        if source is None:
            missing.append("annotations")
        if detections is not None:
            faults += find_contradictions(detections, stated)
        if detections is not None and source is not None and not faults:
            faults += find_wrong_metrics(detections, source, stated)
    except BenchError as error:
        return Outcome(name, "false", (str(error),))
    notes = tuple(_commit_notes(stated.environment))
    if faults:
        return Outcome(name, "false", tuple(faults), notes)
    if missing:
        return Outcome(name, "hash only", (f"missing: {' and '.join(missing)}",), notes)
    return Outcome(name, "verified", (), notes)


def check_training(path: Path, record: Record, results_dir: Path, annotations: Annotations) -> Outcome:
    """The record of a training: its claims, the checkpoints in its run's folder, and its images.

    RecordError for a value of another type. What is elsewhere is a note: no table's figure depends on it.
    """
    from yolov9bench.train import rederive  # here, because it takes torch, which other records do not need

    stated = read_train(record)
    faults, missing = _time_faults(record) + find_false_claims(record, stated), []
    run = rederive.find_run(record, _folders(path, results_dir))
    if run is None:
        missing.append("checkpoints")
    else:
        faults += rederive.find_other_checkpoints(run, stated)
    for data in (stated.inputs.train, stated.inputs.validation):
        content = annotations.get(str(data.annotations_sha256))
        if content is None:
            missing.append(f"annotations of {data.split}")
        else:
            faults += rederive.find_other_images(data, content["images"])
    notes = (*_commit_notes(stated.environment), *(f"missing: {each}" for each in missing))
    if missing and not faults:
        return Outcome(_name(path), "hash only", (NO_AP,), notes)
    return Outcome(_name(path), "false" if faults else "verified", tuple(faults), notes)


def check_comparison(path: Path, record: Record, compared: Compared) -> Outcome:
    """The record of a comparison: its difference, and its interval where both sides' detections are there.

    RecordError for a value of another type.
    """
    faults = _time_faults(record) + compared.find_faults(record)
    notes = tuple(_commit_notes(read_comparison(record).environment))
    if faults:
        return Outcome(_name(path), "false", tuple(faults), notes)
    if not compared.has_matches(record):
        return Outcome(_name(path), "hash only", ("missing: detections or annotations",), notes)
    return Outcome(_name(path), "verified", (), notes)


def check_history(results_dir: Path) -> list[Outcome]:
    """The committed records that are no longer what they were; a note where git cannot tell."""
    altered = find_altered(results_dir)
    if altered is None:
        return [Outcome("history", "hash only", ("no git checkout with its whole history",))]
    return [Outcome(name, "false", (reason,)) for name, reason in altered.items()]


def check_report(results_dir: Path, readme: Path | None, read: Iterable[Record | str]) -> list[Outcome]:
    """Whether table, pages, figures and the README say what the records say.

    read: every record of the folder, or why it cannot be read.
    """
    try:
        unreadable = next((each for each in read if isinstance(each, str)), None)
        if unreadable is not None:
            raise RecordError(unreadable)
        report.check(results_dir, readme, [each for each in read if isinstance(each, Record)])
    except (ReportError, RecordError) as error:
        return [Outcome("report", "false", (str(error),))]
    return [Outcome("report", "verified")]


def is_clean(outcomes: Iterable[Outcome], strict: bool = False) -> bool:
    """Whether nothing is false; with `strict`, whether no AP could be checked by its hash alone either.

    But for what no stored detections can give: what has no AP, and the departures of a study.
    """
    return not any(
        each.word == "false"
        or (strict and each.word == "hash only" and each.reasons not in ((NO_AP,), (NOT_RERUN,)))
        for each in outcomes
    )


def summarize(outcomes: Sequence[Outcome]) -> str:
    """How many of each word, in one line."""
    counts = {
        word: sum(each.word == word for each in outcomes) for word in ("verified", "hash only", "false")
    }
    return ", ".join(f"{count} {word}" for word, count in counts.items())


def _read(path: Path) -> Record | str:
    try:
        return records.read(path)
    except RecordError as error:
        return str(error)


def _name(path: Path) -> str:
    return "/".join(path.absolute().parts[-2:])


def _time_faults(record: Record) -> list[str]:
    future = datetime.fromisoformat(record.start) > datetime.now(UTC) + CLOCKS_DIFFER
    return [f"start {record.start} lies in the future"] if future else []


def _missing_settings(stated: EvaluateContents) -> list[str]:
    own = stated.inputs.own
    unknown = () if own is None or own.function is None else UNKNOWN_OF_A_FUNCTION
    needless = (*ADDED_SETTINGS, *unknown)
    lacking = [key for key, value in vars(stated.settings).items() if value is None and key not in needless]
    return [f"settings lack {', '.join(lacking)}"] if lacking else []


def _folders(path: Path, results_dir: Path) -> list[Path]:
    """Whose records/ may hold the training behind a record: its own folder's, the results', the runs'."""
    return [path.absolute().parents[2], results_dir, results_dir / "runs", *run_folders(results_dir)]


def _commit_notes(environment: Environment) -> list[str]:
    commit, dirty = environment.commit, environment.dirty
    notes = ["uncommitted code"] if dirty is not False else []
    if commit is not None and is_ancestor(commit) is False:
        notes.append(f"commit {commit[:12]} is not in this history")
    return notes


def _with_twins(outcomes: list[Outcome], read: Mapping[Path, Record | str]) -> list[Outcome]:
    """The outcomes, with records that differ from an earlier one in row or start alone made false."""
    seen: dict[str, str] = {}
    judged = []
    for outcome, record in zip(outcomes, read.values(), strict=True):
        if isinstance(record, Record):
            content = records.canonical(replace(record, row=None, start="2000-01-01T00:00:00+00:00"))
            twin = seen.setdefault(content, outcome.name)
            if twin != outcome.name:
                outcome = replace(outcome, word="false", reasons=(*outcome.reasons, f"a copy of {twin}"))
        judged.append(outcome)
    return judged
