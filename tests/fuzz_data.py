"""Mutated annotations, images, records, detections, parameters: each is taken or refused in a clear sentence.

python tests/fuzz_data.py --annotations 50000 --images 20000 --detections 20000 --seed 0
python tests/fuzz_data.py --records 10000 --layouts 100000 --parameters 10000 --seed 0

Every mutant follows from --seed and its number, whatever the others were; `test_fuzz_data` runs the first few
of each kind. What is taken must then also be used without a crash: an annotation file is scored, learned on
and batched; a record is verified, judged and put into the table; detections are what other readers find.
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import fuzz_detections
import fuzz_parameters
import fuzz_records
import fuzz_sets

from yolov9bench.errors import BenchError

MOST_CHARACTERS = 5_000  # of a sentence; the path of a file may have most of them
Attack = Callable[[Random], str]  # tries one mutant, and says what became of it

KINDS: dict[str, Callable[[Path], Attack]] = {
    "annotations": fuzz_sets.annotations_in,
    "images": fuzz_sets.images_in,
    "records": fuzz_records.records_in,
    "layouts": fuzz_records.layouts_in,
    "detections": fuzz_detections.detections_in,
    "parameters": fuzz_parameters.parameters_in,
}


@dataclass
class Outcomes:
    """How often each outcome came, and of each kind of crash the first: its mutant's number and traceback."""

    counts: Counter[str] = field(default_factory=Counter)
    crashes: dict[str, str] = field(default_factory=dict)

    def table(self) -> str:
        return "\n".join(f"{count:8,}  {name}" for name, count in self.counts.most_common())


def attack(kind: str, count: int, seed: int, folder: Path, first: int = 0) -> Outcomes:
    """Try `count` mutants of a kind, from the `first` on."""
    found = Outcomes()
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("error")  # a warning of numpy's is a value that was let in
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of metadata, which nothing here uses
        try_one = KINDS[kind](folder)
        for number in range(first, first + count):
            try:
                outcome = try_one(Random(f"{kind} {seed} {number}"))
            except BenchError as error:
                outcome = type(error).__name__
                if not 0 < len(str(error)) < MOST_CHARACTERS:
                    found.crashes.setdefault(
                        f"no sentence, {outcome}", f"mutant {number}: {str(error)[:300]!r}"
                    )
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                outcome = f"crash: {type(error).__name__}"
                where = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
                found.crashes.setdefault(where, f"mutant {number}: {traceback.format_exc()}")
            found.counts[outcome] += 1
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=int, default=0, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first mutant")
    asked = vars(parser.parse_args())
    logging.getLogger("yolov9bench").setLevel(logging.ERROR)
    crashed = False
    for kind in [each for each in KINDS if asked[each]]:
        with tempfile.TemporaryDirectory() as folder:
            found = attack(kind, asked[kind], asked["seed"], Path(folder), asked["first"])
        sys.stdout.write(f"{kind}, {asked[kind]:,} mutants of seed {asked['seed']}\n{found.table()}\n")
        for crash in found.crashes.values():
            sys.stdout.write(f"\n{crash}\n")
        crashed = crashed or bool(found.crashes)
    return int(crashed)


if __name__ == "__main__":
    sys.exit(main())
