"""Progress: few lines for a log, a bar for a person, items unchanged."""

import io
import sys

import pytest

from yolov9bench.io import progress
from yolov9bench.io.progress import Meter, track, watched


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)


def test_track_yields_the_items_and_a_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "letters: 3 of 3 it (100 %), 0 s elapsed\n"


def test_an_error_while_tracking_still_tells_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError):
        for number in track([1, 0], 2, "division", "numbers"):
            1 // number
    assert "division: 1 of 2 numbers (50 %)" in capsys.readouterr().err


def test_lines_of_a_notebook_go_to_its_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    cell, errors = Cell(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", cell)
    monkeypatch.setattr(sys, "stderr", errors)
    assert list(track("ab", 2, "letters")) == ["a", "b"]
    assert (cell.getvalue(), errors.getvalue()) == ("letters: 2 of 2 it (100 %), 0 s elapsed\n", "")


def test_lines_come_at_most_every_few_seconds() -> None:
    clock, stream = Clock(), io.StringIO()
    with Meter(1280, "images", "images", stream=stream, clock=clock) as meter:
        for _ in range(1280):
            clock.now += 1 / 64  # 20 s in all, without rounding
            meter.update()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5  # at 5, 10, 15 and 20 s, and the last
    assert lines[0] == "images: 320 of 1,280 images (25 %), 5 s elapsed, about 15 s left"
    assert lines[-1] == "images: 1,280 of 1,280 images (100 %), 20 s elapsed"


def test_bytes_are_megabytes_and_what_was_there_does_not_speed_up_the_estimate() -> None:
    clock, stream = Clock(), io.StringIO()
    meter = Meter(1_000_000_000, "file", "B", start=500_000_000, stream=stream, clock=clock)
    clock.now += 60
    meter.update(100_000_000)  # 400 MB are left at 100 MB a minute
    assert stream.getvalue() == (
        "file: 600.0 of 1,000.0 MB (60 %), 1 min 00 s elapsed, about 4 min 00 s left\n"
    )
    meter.close()
    meter.close()
    assert len(stream.getvalue().splitlines()) == 2


def test_an_unknown_total_shows_what_is_done() -> None:
    clock, stream = Clock(), io.StringIO()
    with Meter(None, "stream", stream=stream, clock=clock) as meter:
        meter.update(7)
        clock.now += 3700
    assert stream.getvalue() == "stream: 7 it, 1 h 01 min elapsed\n"


class Cell(io.StringIO):
    """A stdout that leads into a notebook's cell."""

    __module__ = "ipykernel.iostream"


def test_a_terminal_or_a_live_notebook_gets_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with monkeypatch.context() as notebook:
        notebook.setattr(sys, "stdout", Cell())
        assert not watched()  # a kernel that papermill started
        notebook.setenv("JPY_SESSION_NAME", "/home/reader/bench.ipynb")
        assert watched()
    monkeypatch.setenv("JPY_SESSION_NAME", "/home/reader/bench.ipynb")
    assert not watched()  # a script that was started from a notebook
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert watched()


def test_the_bar_counts_and_leaves_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "watched", lambda: True)
    assert list(track(range(4), 4, "steps")) == [0, 1, 2, 3]
    assert "steps: 100%" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()
    assert "elapsed" not in terminal.getvalue()
