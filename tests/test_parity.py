"""The plugin that holds tests to their tolerance and writes what they compared with the references."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import report_records
from comparisons import NOTED, Comparisons

from yolov9bench.records.parity import Comparison, read

ROOT = Path(__file__).parents[1]
ENDED = re.compile(r"(?m)^parity: (.*)$")
INNER = """
import pytest

@pytest.mark.parametrize("found", [1.0, 1.25])
def test_near(parity, found):
    parity("mmyolo", "losses").require_close("total loss", "px", [found, 3.0], [1.0, 3.0], 0.5)

def test_other():
    assert False, "compares nothing, so it does not run"
"""
BEYOND = """
def test_far(parity):
    parity("yolov9", "losses").require_close("total loss", "px", [1.0], [1.51], 0.5)
"""
SKIPPING = "def test_skipping(parity):\n    pytest.skip('no golden')\n"
TWO_TOLERANCES = """
def test_two(parity):
    parity("yolov9", "losses").require("total loss", "px", 0.1, 0.2, 1)
    parity("yolov9", "losses").require("total loss", "px", 0.1, 0.3, 1)
"""


def run(folder: Path, text: str, *options: str, shared: bool = True) -> tuple[int, str]:
    """Run pytest on tests of this text with --parity; the exit status and all that was printed."""
    (folder / "test_inner.py").write_text(INNER + text)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    variables.pop("YOLOV9BENCH_SHARED", None)
    paths = os.pathsep.join([str(Path(__file__).parent), str(ROOT)])
    variables |= {"PYTHONPATH": paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    variables |= {"YOLOV9BENCH_SHARED": str(folder)} if shared else {}
    plugins = [f"-p{name}" for name in ("xdist", "comparisons", "no:cacheprovider")]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "--parity", "parity.json", *options],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "two"])
def test_what_passed_is_written(tmp_path: Path, workers: list[str]) -> None:
    status, said = run(tmp_path, "", *workers)
    assert status == 0, said
    found = read(tmp_path / "parity.json")
    near = Comparison("mmyolo", "losses", "total loss", "px", 0.25, 0.5, 4, "test_inner.py::test_near")
    assert found.comparisons == (near,)
    assert found.environment.commit == report_records.COMMIT or found.environment.commit is None
    assert found.command[0] == "pytest" and found.command[-1 - len(workers)] == "parity.json"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BEYOND, "not written, since not every test passed"),
        (SKIPPING, "not written, since not every test passed"),
        (TWO_TOLERANCES, "not written: .*test_two holds total loss of yolov9 to two tolerances, 0.2 and 0.3"),
    ],
    ids=["beyond", "skipping", "two tolerances"],
)
def test_a_run_that_is_not_clean_writes_nothing(tmp_path: Path, text: str, reason: str) -> None:
    """Not even what passed: an older file stays as it was."""
    (tmp_path / "parity.json").write_text("older")
    status, said = run(tmp_path, text)
    assert status == (0 if text == SKIPPING else 1), said
    assert re.search(rf"(?m)^parity: parity.json: {reason}", said), said
    assert (tmp_path / "parity.json").read_text() == "older"


def test_without_the_shared_material_nothing_runs(tmp_path: Path) -> None:
    status, said = run(tmp_path, "", shared=False)
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "set YOLOV9BENCH_SHARED" in said


def held_by(node: str = "tests/test_x.py::test_y[1]") -> tuple[Comparisons, list[Any]]:
    item: Any = SimpleNamespace(nodeid=node, user_properties=[])
    return Comparisons(item, "mmyolo", "losses"), item.user_properties


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([1.0, 2.5], [1.0, 2.0]),
        ([1.0, math.nan], [1.0, 2.0]),
        ([1.0], [1.0, 2.0]),
        ([[1.0, 2.0]], [1.0, 2.0]),
    ],
    ids=["beyond", "NaN", "missing", "shape"],
)
def test_a_difference_beyond_the_tolerance_fails_and_is_not_noted(found: Any, expected: Any) -> None:
    held, noted = held_by()
    with pytest.raises(AssertionError):
        held.require_close("total loss", "px", found, expected, 0.49)
    assert noted == []


def test_differences_by_hand() -> None:
    held, noted = held_by()
    held.require_close("a", "px", np.array([250, 3], np.uint8), np.array([255, 1], np.uint8), 5)
    held.require_relative("b", [2.2, 0.01], [2.0, 0.0], 0.11, floor=0.1)
    held.require_close("none", "px", [], [])
    found = [Comparison(**value) for name, value in noted if name == NOTED]
    assert [(one.quantity, one.count, one.test) for one in found] == [
        ("a", 2, "tests/test_x.py::test_y"),
        ("b", 2, "tests/test_x.py::test_y"),
    ]
    assert [one.difference for one in found] == pytest.approx([5, 0.1], abs=1e-12)
