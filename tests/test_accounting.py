"""The account of tests that need the shared material, in one process and with workers, counted by hand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = """
import os
import pytest

@pytest.fixture(scope="session")
def shared():
    if "YOLOV9BENCH_SHARED" not in os.environ:
        pytest.skip("not here")

@pytest.fixture
def through_another(shared):
    pass

@pytest.fixture
def broken(shared):
    raise ValueError

@pytest.mark.parametrize("number", range(3))
def test_direct(shared, number):
    pass

def test_indirect(through_another):
    pass

def test_other():
    pass

def test_other_that_skips():
    pytest.skip("has nothing to do with it")
"""
FAILING = "def test_failing(shared):\n    assert False\n\ndef test_broken(broken):\n    pass\n"
SKIPPING = "def test_skipping(shared):\n    pytest.skip('a file is missing')\n"
CRASHING = "def test_crashing(shared):\n    os._exit(3)\n"

WORKERS = pytest.mark.parametrize("workers", [[], ["-n", "2", "--dist", "worksteal"]], ids=["alone", "two"])


def run(folder: Path, text: str, here: bool, options: list[str]) -> tuple[int, str, str]:
    """Run pytest on tests of this text; the exit status, the account's line, and all that was printed."""
    (folder / "test_inner.py").write_text(HEAD + text)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    variables.pop("YOLOV9BENCH_SHARED", None)
    variables |= {"PYTHONPATH": str(Path(__file__).parent), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    if here:
        variables["YOLOV9BENCH_SHARED"] = str(folder)
    words = [
        sys.executable,
        "-m",
        "pytest",
        *(f"-p{name}" for name in ("xdist", "accounting", "no:cacheprovider")),
    ]
    ended = subprocess.run(
        [*words, *options],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    (line,) = re.findall(r"(?m)^shared material: .*$", ended.stdout)
    return ended.returncode, line.removeprefix("shared material: "), ended.stdout


@WORKERS
@pytest.mark.parametrize(
    ("text", "here", "status", "account"),
    [
        ("", True, 0, "4 tests ran, 0 skipped"),
        ("", False, 0, "0 tests ran, 4 skipped"),
        (FAILING, True, 1, "6 tests ran, 0 skipped"),
        (SKIPPING, True, 1, "4 tests ran, 1 skipped"),
    ],
    ids=["here", "not here", "failing", "skipping"],
)
def test_count_and_exit_status(
    tmp_path: Path, text: str, here: bool, status: int, account: str, workers: list[str]
) -> None:
    returned, line, said = run(tmp_path, text, here, workers)
    assert (returned, line) == (status, account), said
    assert ("FAILED: YOLOV9BENCH_SHARED is set" in said) == (text == SKIPPING)


def test_a_test_that_ends_its_worker_fails_and_has_not_run(tmp_path: Path) -> None:
    returned, line, said = run(tmp_path, CRASHING, True, ["-n", "2", "--dist", "worksteal"])
    assert (returned, line) == (1, "4 tests ran, 0 skipped"), said
    assert "1 failed, 5 passed, 1 skipped" in said
