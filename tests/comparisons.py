"""A pytest plugin: what tests compare with a reference is held to a tolerance; `--parity FILE` keeps it.

With the option, only tests that take the fixture `parity` run, and FILE is written if all of them passed.
Under pytest-xdist what a worker compared travels with its reports, in `user_properties`.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from yolov9bench.errors import BenchError
from yolov9bench.io import provenance
from yolov9bench.records.parity import Comparison, Parity, Part, Reference, merge, write

NOTED = "compared with a reference"


class Comparisons:
    """What one test compares in one part of a reference: each call fails the test, or is noted."""

    def __init__(self, item: pytest.Item, reference: Reference, part: Part) -> None:
        self.item, self.reference, self.part = item, reference, part

    def require(self, quantity: str, unit: str, difference: float, tolerance: float, count: int) -> None:
        """Fail unless the largest difference of `count` values is within the tolerance; NaN never is."""
        assert difference <= tolerance, (
            f"{quantity} of {self.reference}: {difference} {unit}, not {tolerance}"
        )
        if count:
            test = self.item.nodeid.partition("[")[0]
            noted = Comparison(
                self.reference, self.part, quantity, unit, float(difference), float(tolerance), count, test
            )
            self.item.user_properties.append((NOTED, asdict(noted)))

    def require_close(
        self, quantity: str, unit: str, found: ArrayLike, expected: ArrayLike, tolerance: float = 0.0
    ) -> None:
        """Fail unless two arrays of one shape agree within the tolerance everywhere; of 0: are equal."""
        ours, theirs = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        assert ours.shape == theirs.shape, quantity
        self.require(quantity, unit, float(np.abs(ours - theirs).max(initial=0)), tolerance, ours.size)

    def require_relative(
        self, quantity: str, found: ArrayLike, expected: ArrayLike, tolerance: float, floor: float
    ) -> None:
        """As `require_close`, in parts of the expected value, or of `floor` if that is more."""
        ours, theirs = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        scale = np.maximum(np.abs(theirs), floor)
        self.require_close(quantity, "relative", ours / scale, theirs / scale, tolerance)


Compare = Callable[[Reference, Part], Comparisons]


@pytest.fixture
def parity(request: pytest.FixtureRequest) -> Compare:
    """parity("mmyolo", "losses").require_close(...) and so on, for a test that compares with a golden."""
    return lambda reference, part: Comparisons(request.node, reference, part)


class Writer:
    """In the process that prints the summary: gathers what passed and writes it in the end."""

    def __init__(self, path: Path) -> None:
        self.path, self.start, self.clock = path, datetime.now(UTC), time.monotonic()
        self.noted: list[Comparison] = []
        self.not_passed: set[str] = set()
        self.said = "not written, since not every test passed"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self.not_passed.add(report.nodeid)
        elif report.when == "call":
            given: list[Any] = [value for name, value in report.user_properties if name == NOTED]
            self.noted += [Comparison(**fields) for fields in given]

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus != pytest.ExitCode.OK or self.not_passed or not self.noted:
            return
        try:
            write(self.gathered(), self.path)
            self.said = f"{len(self.noted)} comparisons written"
        except BenchError as error:
            self.said, session.exitstatus = f"not written: {error}", pytest.ExitCode.TESTS_FAILED

    def gathered(self) -> Parity:
        comparisons, seconds = merge(self.noted), round(time.monotonic() - self.clock, 1)
        from yolov9bench.io.machine import describe_environment  # imports torch

        start, command = self.start.isoformat(timespec="seconds"), ["pytest", *provenance.command()[1:]]
        return Parity(comparisons, describe_environment("cpu"), start, seconds, command)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"parity: {self.path.name}: {self.said}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parity",
        metavar="FILE",
        help="run the tests that compare with the references, write how near they are",
    )


def pytest_configure(config: pytest.Config) -> None:
    given = config.getoption("parity")
    if not given:
        return
    if not os.environ.get("YOLOV9BENCH_SHARED"):
        raise pytest.UsageError("--parity compares with the shared material: set YOLOV9BENCH_SHARED")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Writer(Path(given).absolute()))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("parity"):
        return
    others = [item for item in items if "parity" not in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in set(others)]
