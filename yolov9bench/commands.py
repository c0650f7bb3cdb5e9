"""What each command does: a Config, and the function that runs it and prints its answer."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, fields, replace
from functools import singledispatch
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import FlagCreatePairsOff

from yolov9bench.config import (
    CheckDataConfig,
    Config,
    EvaluateConfig,
    InspectConfig,
    MeasureConfig,
    PredictConfig,
    ReportConfig,
    ReproduceConfig,
    RowsConfig,
    SweepConfig,
    TidyConfig,
    TrainConfig,
    VerifyConfig,
    project_root,
)
from yolov9bench.errors import BenchError
from yolov9bench.ops.ranks import find_ranks
from yolov9bench.records import Record

COMMANDS: dict[str, Any] = {
    "rows": Annotated[RowsConfig, FlagCreatePairsOff],  # --json alone, without --no-json
    "inspect": InspectConfig,
    "check-data": CheckDataConfig,
    "predict": Annotated[PredictConfig, FlagCreatePairsOff],
    "evaluate": Annotated[EvaluateConfig, FlagCreatePairsOff],
    "train": Annotated[TrainConfig, FlagCreatePairsOff],
    "reproduce": ReproduceConfig,
    "measure": MeasureConfig,
    "report": Annotated[ReportConfig, FlagCreatePairsOff],
    "verify": Annotated[VerifyConfig, FlagCreatePairsOff],
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
    from yolov9bench.inference import write_predictions

    given = {field.name: getattr(config, field.name) for field in fields(config)}
    for line in write_predictions(**given):
        print(line)


@run.register
def evaluate(config: EvaluateConfig) -> None:
    config.require_paths()
    from yolov9bench.evaluation.evaluate import evaluate as evaluate_file
    from yolov9bench.records.contents import METRICS
    from yolov9bench.records.verdict import verdict

    is_own = config.checkpoint is None
    if is_own and config.results and config.detections is None:
        config = replace(config, detections=config.results / "runs" / "detections")
    given = {field.name: getattr(config, field.name) for field in fields(config)}
    record = evaluate_file(
        **{name: value for name, value in given.items() if name not in ("json", "results")}
    )
    if not find_ranks().is_main:
        return
    if is_own:
        keep_own_detections(record, config)
    keep(record, config)
    print("\n".join(f"{name:5} {record.values[name]:.5f}" for name in METRICS))
    if is_own and record.inputs["own"]["published"]:
        print(verdict(record))


@run.register
def train(config: TrainConfig) -> None:
    from yolov9bench.train.trainer import train_row

    best = train_row(**{field.name: getattr(config, field.name) for field in fields(config)})
    if find_ranks().is_main:
        print(best)


@run.register
def reproduce(config: ReproduceConfig) -> None:
    from yolov9bench.records.verdict import ap_text, images_text, verdict_cells
    from yolov9bench.reproduce import reproduce as reproduce_row

    record = reproduce_row(**asdict(config))
    print(f"{ap_text(record)} on {images_text(record)}")
    print("\n".join(f"{name:14} {text}" for name, text in verdict_cells(record).items()))


@run.register
def measure(config: MeasureConfig) -> None:
    config.require_paths()
    from yolov9bench.profiling.profile import measure_row
    from yolov9bench.profiling.summary import summary

    record = measure_row(config.row, config.device, config.image_size, config.batch_size, config.memory_only)
    keep(record, config)
    print(summary(record))


def keep(record: Record, config: EvaluateConfig | MeasureConfig) -> None:
    """Write a record where the command says: as a file, into a results folder, or nowhere."""
    from yolov9bench import records
    from yolov9bench.io.files import write_json

    if config.json:
        write_json(config.json, asdict(record))
    if config.results:
        print(f"record: {records.write(record, config.results)}", file=sys.stderr)


def keep_own_detections(record: Record, config: EvaluateConfig) -> None:
    """Keep what the record of one's own detector is computed from beside it, as a table's records have it."""
    from yolov9bench.records.detections import keep_detections

    if config.results and config.detections:
        file = config.detections
        file = file if file.suffix else file / record.values["detections"]["file"]
        keep_detections(config.results, file.read_text(encoding="utf-8"))


@run.register
def report(config: ReportConfig) -> None:
    config.require_paths()
    from yolov9bench import report as pages

    root = project_root()
    act = pages.check if config.check else pages.write
    act(config.results or root / "results", None if config.results else root / "README.md")


@run.register
def verify(config: VerifyConfig) -> None:
    config.require_paths()
    from yolov9bench import verify as verification

    root = project_root()
    outcomes = verification.verify(
        config.results or root / "results",
        config.records,
        config.annotations,
        root / "data" if config.data_dir == "auto" else Path(config.data_dir),
        None if config.results else root / "README.md",
    )
    print("\n".join(map(str, outcomes)))
    print(verification.summarize(outcomes))
    if not verification.is_clean(outcomes, config.strict):
        sys.exit(1)


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
