"""A pytest plugin: counts the tests that need the shared material; skipping one although it is there fails.

Under pytest-xdist the workers collect and run the tests, while the process that started them alone prints the
summary and sets the exit status, from the workers' reports. So whether a test needs the material travels with
its reports: pytest-xdist sends `user_properties` along.
"""

import os

import pytest

NEEDS_SHARED = "needs the shared material"
RAN = ("passed", "failed", "error", "xfailed", "xpassed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests are collected: mark what takes the fixture `shared`, itself or through another fixture."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.user_properties.append((NEEDS_SHARED, True))


def shared_tests(config: pytest.Config) -> tuple[int, int]:
    """How many of the tests that need the shared material ran, and how many skipped; 0 and 0 in a worker."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return 0, 0

    def needing(*outcomes: str) -> set[str]:
        reports = [report for outcome in outcomes for report in reporter.stats.get(outcome, [])]
        return {
            report.nodeid
            for report in reports
            if (NEEDS_SHARED, True) in map(tuple, getattr(report, "user_properties", ()))
        }

    skipped = needing("skipped")
    return len(needing(*RAN) - skipped), len(skipped)


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
