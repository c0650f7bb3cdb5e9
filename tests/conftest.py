"""Fixtures for every test: the shared material, and the account of how many tests it served."""

import os
from pathlib import Path

import pytest

NEEDING_SHARED = pytest.StashKey[set[str]]()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The developers' folder of goldens, images and weights: unset, a test skips; set, a gap is an error."""
    place = os.environ.get("YOLOV9BENCH_SHARED")
    if not place:
        pytest.skip("YOLOV9BENCH_SHARED is not set: no shared goldens, images and weights")
    folder = Path(place)
    if not folder.is_dir():
        raise FileNotFoundError(f"YOLOV9BENCH_SHARED is set to {place}, which is no folder")
    return folder


def pytest_collection_finish(session: pytest.Session) -> None:
    """Notes which of the chosen tests need the shared material, directly or through another fixture."""
    session.config.stash[NEEDING_SHARED] = {
        item.nodeid for item in session.items if "shared" in getattr(item, "fixturenames", ())
    }


def shared_tests(config: pytest.Config) -> tuple[int, int]:
    """How many of the tests that need the shared material ran, and how many skipped."""
    needing = config.stash.get(NEEDING_SHARED, set())
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return 0, 0
    skipped = needing & {report.nodeid for report in reporter.stats.get("skipped", [])}
    outcomes = ("passed", "failed", "error", "xfailed", "xpassed")
    ran = needing & {report.nodeid for outcome in outcomes for report in reporter.stats.get(outcome, [])}
    return len(ran - skipped), len(skipped)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """With the shared material at hand nothing that needs it may skip: otherwise the run fails."""
    skipped = shared_tests(session.config)[1]
    if os.environ.get("YOLOV9BENCH_SHARED") and skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """One line that .ci/run and a reader look for."""
    ran, skipped = shared_tests(config)
    terminalreporter.write_line(f"shared material: {ran} tests ran, {skipped} skipped")
    if os.environ.get("YOLOV9BENCH_SHARED") and skipped:
        terminalreporter.write_line("FAILED: YOLOV9BENCH_SHARED is set, so none of them may skip (see -rs)")
