"""The door of the command line: `python -m yolov9bench COMMAND`, and `--help` for the commands."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

from yolov9bench.config import Parameters, plain_type
from yolov9bench.errors import BenchError
from yolov9bench.records import Record

# Commands import what they need when they run, so that `rows` starts without torch.


def rows(arguments: argparse.Namespace) -> None:
    from yolov9bench.zoo import ROWS, listing
    from yolov9bench.zoo.rows import row

    chosen = [row(arguments.row)] if arguments.row else list(ROWS.values())
    if arguments.json:
        print(listing.rows_json(chosen))
    else:
        print(listing.row_text(chosen[0]) if arguments.row else listing.rows_table())


def inspect(arguments: argparse.Namespace) -> None:
    from yolov9bench.io.files import write_json
    from yolov9bench.weights import inspect as inspected

    found = inspected(arguments.file)
    if arguments.json:
        write_json(arguments.json, found)
    print(json.dumps(found, indent=2))


def evaluate(arguments: argparse.Namespace) -> None:
    from yolov9bench.evaluation.evaluate import evaluate as evaluated

    apart = ("json", "results", "command")
    record = evaluated(**{name: value for name, value in vars(arguments).items() if name not in apart})
    keep(record, arguments)
    print(
        "\n".join(
            f"{name:5} {value:.5f}" for name, value in record.values.items() if isinstance(value, float)
        )
    )


def train(arguments: argparse.Namespace) -> None:
    from yolov9bench.reproduce import trained

    given = {name: value for name, value in vars(arguments).items() if name != "command"}
    print(trained(**given))


def reproduce(arguments: argparse.Namespace) -> None:
    from yolov9bench.reproduce import reproduce as reproduced
    from yolov9bench.reproduce import verdict

    record = reproduced(**{field.name: getattr(arguments, field.name) for field in fields(Parameters)})
    print(f"AP {record.values['AP']:.5f} on {record.inputs['images']:,} images")
    print(verdict(record))


def measure(arguments: argparse.Namespace) -> None:
    from yolov9bench.profiling.profile import measure_row, summary

    record = measure_row(arguments.row, arguments.device, arguments.image_size, arguments.batch_size)
    keep(record, arguments)
    print(summary(record))


def keep(record: Record, arguments: argparse.Namespace) -> None:
    """Write a record where the arguments say: as a file, into a results folder, or nowhere."""
    from yolov9bench import records
    from yolov9bench.io.files import write_json

    if arguments.json:
        write_json(arguments.json, asdict(record))
    if arguments.results:
        print(f"record: {records.write(record, arguments.results)}", file=sys.stderr)


def report(arguments: argparse.Namespace) -> None:
    from yolov9bench import report as reported
    from yolov9bench.config import project_root

    root = project_root()
    results = arguments.results or root / "results"
    act = reported.check if arguments.check else reported.write
    act(results, None if arguments.results else root / "README.md")


def tidy(arguments: argparse.Namespace) -> None:
    from yolov9bench.io.notebooks import tidy as tidied

    for file in arguments.files:
        tidied(file)


def sweep(arguments: argparse.Namespace) -> None:
    from yolov9bench import sweep as sweeping

    given = sweeping.parsed(arguments.set)
    if arguments.list:
        print(sweeping.listed(arguments.rows, given))
        return
    outcomes = sweeping.sweep(arguments.rows, given)
    print(sweeping.summary(outcomes))
    failed = [outcome.row for outcome in outcomes if outcome.record is None]
    if failed:
        raise BenchError(
            f"{len(failed)} rows failed ({', '.join(failed)}): see above; the same command goes on"
        )


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser("python -m yolov9bench", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], None], purpose: str) -> argparse.ArgumentParser:
        added = commands.add_parser(run.__name__, help=purpose, description=purpose)
        added.set_defaults(command=run)
        return added

    listed = command(rows, "every row, or one with its Spec and Recipe")
    listed.add_argument("row", nargs="?", help="a row id")
    listed.add_argument("--json", action="store_true", help="as JSON")
    inspected = command(inspect, "what a checkpoint holds")
    inspected.add_argument("file", type=Path)
    inspected.add_argument("--json", type=Path, metavar="OUT", help="write the answer to a file as well")
    add_evaluate(command(evaluate, "COCO metrics of a checkpoint on a data set"))
    add_train(command(train, "a row by its own recipe, in a folder that the same command continues"))
    add_reproduce(command(reproduce, "a row from its checkpoint to a verdict, as the notebook does"))
    add_measure(command(measure, "what a row costs: parameters, GFLOPs, time and memory"))
    reported = command(report, "write the table, its pages and its figures from the records")
    reported.add_argument("--check", action="store_true", help="write nothing; fail if anything differs")
    reported.add_argument(
        "--results", type=Path, metavar="DIR", help="another folder; leaves README.md alone"
    )
    tidied = command(tidy, "take machine paths and widgets out of executed notebooks, in place")
    tidied.add_argument("files", type=Path, nargs="+", metavar="NOTEBOOK")
    add_sweep(command(sweep, "the notebook of many rows; finished rows are left alone"))
    return top


def add_sweep(added: argparse.ArgumentParser) -> None:
    # "extend": a flag that is given twice adds to the first, and does not replace it without a word.
    added.add_argument(
        "--rows",
        nargs="+",
        action="extend",
        required=True,
        metavar="PATTERN",
        help="row ids, like 'yolov8-*'",
    )
    added.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="parameters of the notebook, for every row",
    )
    added.add_argument("--list", action="store_true", help="run nothing, print one independent command a row")


def add_evaluate(added: argparse.ArgumentParser) -> None:
    added.add_argument("--checkpoint", type=Path, required=True, metavar="FILE")
    added.add_argument("--dataset", type=Path, required=True, metavar="DIR", help="a folder in COCO's format")
    added.add_argument("--protocol", default="auto", help="auto: that of the checkpoint's format")
    added.add_argument("--split", default="val2017")
    added.add_argument("--batch-size", type=int, default=16)
    added.add_argument("--limit", type=int, help="only the first image ids")
    added.add_argument("--device", default="auto")
    added.add_argument("--image-size", type=int, help="pixels; the protocol's if omitted")
    added.add_argument("--tta", action="store_true", help="merge mmyolo's six views of each image")
    added.add_argument("--judge", action="store_true", help="pycocotools must agree to 1e-12")
    added.add_argument("--skip-corrupt", action="store_true", help="leave out images that cannot be decoded")
    added.add_argument("--detections", type=Path, metavar="OUT", help="write the detections as COCO results")
    add_record(added)


def add_train(added: argparse.ArgumentParser) -> None:
    added.add_argument("--row", required=True, help="a row id")
    added.add_argument("--dataset", required=True, help="a folder in COCO's format, or demo")
    added.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="last.pt, best.pt, log, settings"
    )
    added.add_argument("--epochs", type=int, help="the recipe's if omitted")
    added.add_argument("--image-size", type=int, help="pixels; the recipe's if omitted")
    added.add_argument("--batch-size", type=int, help="images of one iteration; the recipe's if omitted")
    added.add_argument("--recipe", default="auto", help="auto: the row's own; small: for little data")
    added.add_argument("--seed", type=int, default=0)
    added.add_argument("--max-steps", type=int, help="end after so many steps of the optimiser")
    added.add_argument("--device", default="auto")
    added.add_argument("--precision", default="auto", choices=["auto", "float32", "float16", "bfloat16"])
    added.add_argument("--learning-rate", type=float, help="after warm-up; the recipe's if omitted")
    added.add_argument("--start", type=Path, metavar="FILE", help="a checkpoint to fine-tune")
    added.add_argument("--split", default="val2017", help="for validation")
    added.add_argument(
        "--train-split", default="auto", help="auto: the split of that name with train for val"
    )


def add_measure(added: argparse.ArgumentParser) -> None:
    added.add_argument("row", help="a row id")
    added.add_argument("--device", default="auto")
    added.add_argument("--image-size", type=int, default=640, help="pixels")
    added.add_argument("--batch-size", type=int, default=16, help="images of a training step")
    add_record(added)


def add_record(added: argparse.ArgumentParser) -> None:
    """Where `keep` is to write the record."""
    added.add_argument("--json", type=Path, metavar="RECORD", help="write the record")
    added.add_argument("--results", type=Path, metavar="DIR", help="add the record to DIR/records")


def add_reproduce(added: argparse.ArgumentParser) -> None:
    """A flag for every field of Parameters."""
    for field in fields(Parameters):
        flag, kind = f"--{field.name.replace('_', '-')}", plain_type(field.name)
        if kind is bool:
            added.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            added.add_argument(flag, type=kind, default=field.default)


def main() -> int:
    """Run one command; an error that a user can mend is one sentence on stderr and status 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    arguments = parser().parse_args()
    try:
        arguments.command(arguments)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
