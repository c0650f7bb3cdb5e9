"""What each command does: a Config, and the function that runs it and prints its answer."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from functools import singledispatch
from typing import Annotated, Any

from tyro.conf import FlagCreatePairsOff

from yolov9bench.config import (
    CheckDataConfig,
    CompareConfig,
    Config,
    EvaluateConfig,
    ExportConfig,
    InspectConfig,
    MeasureConfig,
    PredictConfig,
    ReportConfig,
    ReproduceConfig,
    RowsConfig,
    SecondOpinionConfig,
    SpeedConfig,
    StudyConfig,
    SweepConfig,
    TidyConfig,
    TrainConfig,
    VerifyConfig,
    data_folder,
    project_root,
    results_folder,
)
from yolov9bench.errors import BenchError
from yolov9bench.io.collection import imports_torch
from yolov9bench.ops.ranks import find_ranks
from yolov9bench.records import Record, write

COMMANDS: dict[str, Any] = {
    "rows": Annotated[RowsConfig, FlagCreatePairsOff],  # --json alone, without --no-json
    "inspect": InspectConfig,
    "check-data": CheckDataConfig,
    "predict": Annotated[PredictConfig, FlagCreatePairsOff],
    "evaluate": Annotated[EvaluateConfig, FlagCreatePairsOff],
    "train": Annotated[TrainConfig, FlagCreatePairsOff],
    "reproduce": ReproduceConfig,
    "measure": MeasureConfig,
    "study": Annotated[StudyConfig, FlagCreatePairsOff],
    "speed": SpeedConfig,
    "report": Annotated[ReportConfig, FlagCreatePairsOff],
    "verify": Annotated[VerifyConfig, FlagCreatePairsOff],
    "second-opinion": SecondOpinionConfig,
    "compare": Annotated[CompareConfig, FlagCreatePairsOff],
    "export": Annotated[ExportConfig, FlagCreatePairsOff],
    "tidy": TidyConfig,
    "sweep": Annotated[SweepConfig, FlagCreatePairsOff],
}

# Commands import what they need when they run, so that `rows` and `--help` start without torch.


@singledispatch
def run(config: Config) -> None:
    """Run one command."""
    raise NotImplementedError(type(config).__name__)


@run.register
def rows(config: RowsConfig) -> None:
    from yolov9bench.zoo import ROWS, listing
    from yolov9bench.zoo.rows import row

    chosen = [row(config.row)] if config.row else list(ROWS.values())
    if config.json:
        print(listing.rows_json(chosen))
    else:
        print(listing.row_text(chosen[0]) if config.row else listing.rows_table())


@run.register
def inspect(config: InspectConfig) -> None:
    config.require_paths()
    from yolov9bench.io.files import write_json
    from yolov9bench.weights import inspect as inspect_file

    found = inspect_file(config.file)
    if config.json:
        write_json(config.json, found)
    print(json.dumps(found, indent=2))


@run.register
def check_data(config: CheckDataConfig) -> None:
    config.require_paths()
    from yolov9bench.data import check
    from yolov9bench.io.files import write_json

    findings = check.check_data(config.folder, config.split, config.annotations, config.images)
    if config.json:
        write_json(config.json, [asdict(each) for each in findings])
    print("\n".join(map(str, findings)))
    refused = sum(each.count for each in findings if each.level == "refused")
    if refused:
        raise BenchError(f"{config.folder} cannot be used as it is: correct what is refused above")


@run.register
def predict(config: PredictConfig) -> None:
    config.require_paths()
    with imports_torch():
        from yolov9bench.inference import write_predictions

    for line in write_predictions(**vars(config)):
        print(line)


@run.register
def evaluate(config: EvaluateConfig) -> None:
    config.require_paths()
    with imports_torch():
        from yolov9bench.evaluation.evaluate import evaluate as evaluate_file
    from yolov9bench.records.contents import METRICS
    from yolov9bench.records.lineage import keep_training
    from yolov9bench.records.verdict import verdict

    is_own = config.checkpoint is None
    if is_own and config.results and config.detections is None:
        config = replace(config, detections=config.results / "runs" / "detections")
    given = {name: value for name, value in vars(config).items() if name not in ("json", "results")}
    record = evaluate_file(**given)
    if not find_ranks().is_main:
        return
    if is_own:
        keep_own_detections(record, config)
    keep(record, config)
    if config.results:
        keep_training(record, config.checkpoint, config.results)
    print("\n".join(f"{name:5} {record.values[name]:.5f}" for name in METRICS))
    if is_own and record.inputs["own"]["published"]:
        print(verdict(record))


@run.register
def train(config: TrainConfig) -> None:
    with imports_torch():
        from yolov9bench.train.trainer import train_row

    best = train_row(**vars(config))
    if find_ranks().is_main:
        print(best)


@run.register
def reproduce(config: ReproduceConfig) -> None:
    from yolov9bench.records.verdict import ap_text, images_text, verdict_cells

    with imports_torch():
        from yolov9bench.reproduce import reproduce as reproduce_row

    record = reproduce_row(**asdict(config))
    print(f"{ap_text(record)} on {images_text(record)}")
    print("\n".join(f"{name:14} {text}" for name, text in verdict_cells(record).items()))


@run.register
def measure(config: MeasureConfig) -> None:
    config.require_paths()
    with imports_torch():
        from yolov9bench.profiling.profile import measure_row
    from yolov9bench.profiling.summary import summary

    record = measure_row(config.row, config.device, config.image_size, config.batch_size, config.memory_only)
    keep(record, config)
    print(summary(record))


@run.register
def study(config: StudyConfig) -> None:
    config.require_paths()
    from yolov9bench.io.files import write_json
    from yolov9bench.report.study_page import study_text

    with imports_torch():
        from yolov9bench.study import study_file, write_study

    given = {name: value for name, value in vars(config).items() if name not in ("json", "results")}
    record = study_file(**given)
    if config.json:
        write_json(config.json, asdict(record))
    if config.results:
        for path in write_study(record, config.results):
            print(f"wrote {path}", file=sys.stderr)
    print(study_text(record))


@run.register
def speed(config: SpeedConfig) -> None:
    config.require_paths()
    from tabulate import tabulate

    from yolov9bench.profiling.speed import describe_absent, table_of, write_speed
    from yolov9bench.speed import measure_speed

    found = measure_speed(config)
    print(tabulate(table_of(found), headers="keys"))
    print("\n".join(describe_absent(found)), file=sys.stderr)
    for path in write_speed(found, config.folder):
        print(f"wrote {path}", file=sys.stderr)


def keep(record: Record, config: EvaluateConfig | MeasureConfig) -> None:
    """Write a record where the command says: as a file, into a results folder, or nowhere."""
    from yolov9bench.io.files import write_json

    if config.json:
        write_json(config.json, asdict(record))
    if config.results:
        print(f"record: {write(record, config.results)}", file=sys.stderr)


def keep_own_detections(record: Record, config: EvaluateConfig) -> None:
    """Keep what the record of one's own detector is computed from beside it, as a table's records have it."""
    from yolov9bench.predict.predictions import result_parts
    from yolov9bench.predict.result_files import read_predictions
    from yolov9bench.records.detections import keep_detections

    if config.results and config.detections:
        file = config.detections
        file = file if file.suffix else file / record.values["detections"]["file"]
        keep_detections(config.results, result_parts(read_predictions(file)))


@run.register
def report(config: ReportConfig) -> None:
    config.require_paths()
    from yolov9bench import report as pages

    act = pages.check if config.check else pages.write
    act(results_folder(config.results), None if config.results else project_root() / "README.md")


@run.register
def verify(config: VerifyConfig) -> None:
    config.require_paths()
    from yolov9bench import verify as verification

    outcomes = verification.verify(
        results_folder(config.results),
        config.records,
        config.annotations,
        data_folder(config.data_dir),
        None if config.results else project_root() / "README.md",
    )
    print("\n".join(map(str, outcomes)))
    print(verification.summarize(outcomes))
    if not verification.is_clean(outcomes, config.strict):
        sys.exit(1)


@run.register
def second_opinion(config: SecondOpinionConfig) -> None:
    config.require_paths()
    from yolov9bench.evaluation.second_opinion import give_second_opinion
    from yolov9bench.io.files import write_json

    results, data = results_folder(config.results), data_folder(config.data_dir)
    opinion = give_second_opinion(config.record, results, config.annotations, config.corrected, data)
    if config.json:
        write_json(config.json, asdict(opinion))
    print(opinion)


@run.register
def compare(config: CompareConfig) -> None:
    config.require_paths()
    from yolov9bench.evaluation.compare import compare_files
    from yolov9bench.io.files import write_json
    from yolov9bench.records.verdict import comparison_text

    results, data = results_folder(config.results), data_folder(config.data_dir)
    for each in compare_files(config.records, results, config.annotations, data):
        print(comparison_text(each))
        if config.json:
            write_json(config.json, asdict(each.record))
        if config.keep:
            print(f"record: {write(each.record, results)}", file=sys.stderr)


@run.register
def export(config: ExportConfig) -> None:
    config.require_paths()
    from yolov9bench.io.files import write_text
    from yolov9bench.report.export import render
    from yolov9bench.report.exportable import select_figures

    results = results_folder(config.results)
    figures = select_figures(results, config.records, config.not_comparable)
    text = render(config.form, figures, results, config.source, config.dataset_id, config.task_id)
    if config.out:
        write_text(config.out, text)
    else:
        print(text, end="")


@run.register
def tidy(config: TidyConfig) -> None:
    from yolov9bench.io.notebooks import tidy as tidy_notebook

    for file in config.files:
        tidy_notebook(file)


@run.register
def sweep(config: SweepConfig) -> None:
    from yolov9bench import sweep as sweeps

    given = sweeps.parse_assignments(config.assignments)
    if config.list:
        print(sweeps.list_commands(config.patterns, given, config.device_names))
        return
    outcomes = sweeps.sweep(config.patterns, given)
    print(sweeps.summary(outcomes))
    failed = [outcome.row for outcome in outcomes if outcome.record is None]
    if failed:
        raise BenchError(
            f"{len(failed)} rows failed ({', '.join(failed)}): see above; the same command continues"
        )
