"""Processor seconds that reading, choosing and reporting of many records take.

PYTHONPATH=tests python tests/benchmarks/many_records.py --records 10000

They are the records of results/, each written again and again with other starts, below a temporary folder.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from pathlib import Path

from yolov9bench import records, report
from yolov9bench.records.evidence import checks, evidence, own_evaluations

RESULTS = Path(__file__).parents[2] / "results"
START = datetime(2026, 1, 1, tzinfo=UTC)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_copies(count: int, folder: Path) -> None:
    """So many records, each with a start and so a hash of its own."""
    for number, record in enumerate(islice(cycle(records.select(RESULTS)), count)):
        start = (START + timedelta(seconds=number)).isoformat()
        records.write(replace(record, start=start), folder)


def say_seconds(name: str, work: Callable[[], object], rounds: int) -> None:
    """The least processor time of some rounds: others may use the cores as well."""
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    say(f"{name:28} {min(seconds):6.2f} s")


def main() -> None:
    """Read the command line, write the records and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_copies(arguments.records, folder)
        found = records.select(folder)
        say(f"{len(found):,} records")
        say_seconds("read and order", lambda: records.select(folder), arguments.rounds)
        say_seconds("what fills the table", lambda: evidence(found), arguments.rounds)
        say_seconds("checked on subsets", lambda: checks(found), arguments.rounds)
        say_seconds("detectors of one's own", lambda: own_evaluations(found), arguments.rounds)
        say_seconds("report, figures included", lambda: report.write(folder), 1)


if __name__ == "__main__":
    main()
