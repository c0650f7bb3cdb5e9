"""How far a long job is: a tqdm bar for somebody watching, a sparse line for a log."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TextIO, TypeVar

from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]

T = TypeVar("T")

SECONDS_BETWEEN_LINES = 5.0


def track(items: Iterable[T], total: int | None, label: str, unit: str = "it") -> Iterator[T]:
    """Yield the items unchanged and show how many are done; `total` is None where it is unknown."""
    with Meter(total, label, unit) as meter:
        for item in items:
            yield item
            meter.update()


class Meter:
    """Progress of one job, advanced by `update` and ended by `close` (or by leaving its `with` block).

    `total` and `start` count `unit`s; the unit "B" is bytes, shown in MB of 10^6 bytes. `start` is what an
    earlier run has done: it counts as done, but not in the estimate of the rest. Plain lines go to `stream`
    if one is given; otherwise stderr shows a tqdm bar where a person watches (`watched`) and plain lines
    elsewhere, on stdout in a notebook, which paints stderr as if something were wrong.
    """

    def __init__(
        self,
        total: int | None,
        label: str,
        unit: str = "it",
        start: int = 0,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._label, self._unit, self._start = total, label, unit, start
        self._stream = stream or (sys.stdout if _in_notebook() else sys.stderr)
        self._clock = clock
        self._done = start
        self._began = self._last_line = clock()
        self._bar = _bar(total, label, unit, start) if stream is None and watched() else None
        self._closed = False

    def update(self, amount: int = 1) -> None:
        """Count `amount` more units as done; a line follows only when the last one is a few seconds old."""
        self._done += amount
        if self._bar is not None:
            self._bar.update(amount)
        elif self._clock() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._write_line()

    def close(self) -> None:
        """End the bar, or write the last line; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._bar is not None:
            self._bar.close()
        else:
            self._write_line()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_line(self) -> None:
        self._last_line = self._clock()
        with suppress(OSError):  # a log on a full disk ends no run, as logging holds it too
            self._stream.write(self._line(self._last_line - self._began) + "\n")
            self._stream.flush()

    def _line(self, elapsed: float) -> str:
        took = f"{duration(elapsed)} elapsed"
        if not self._total:
            return f"{self._label}: {counted(self._done, self._unit)}, {took}"
        share = f"{_count(self._done, self._unit)} of {counted(self._total, self._unit)}"
        line = f"{self._label}: {share} ({100 * self._done // self._total} %), {took}"
        advanced, rest = self._done - self._start, self._total - self._done
        if advanced > 0 and rest > 0:
            line += f", about {duration(elapsed * rest / advanced)} left"
        return line


def watched() -> bool:
    """Whether a person sees the progress as it happens: a terminal, or a notebook opened in Jupyter.

    A Jupyter server names the session in JPY_SESSION_NAME when it starts a kernel; papermill does not.
    """
    return (_in_notebook() and bool(os.environ.get("JPY_SESSION_NAME"))) or sys.stderr.isatty()


def _in_notebook() -> bool:
    # Where stdout leads, not whether ipykernel was imported: a program that starts kernels imports it too.
    return type(sys.stdout).__module__.startswith("ipykernel.")


def _bar(total: int | None, label: str, unit: str, start: int) -> Any:
    # The text bar in Jupyter too: tqdm's notebook bar is a widget, and a saved notebook should hold none.
    return tqdm(total=total, desc=label, unit=unit, initial=start, unit_scale=unit == "B", file=sys.stderr)


def counted(count: int, unit: str) -> str:
    """A number with its unit, which is given in the plural: 1 image, 2,000 images, 1 batch; MB for "B"."""
    if count == 1 and unit != "B":
        irregular = {"batches": "batch", "boxes": "box", "classes": "class", "entries": "entry"}
        unit = irregular.get(unit, unit.removesuffix("s"))
    return f"{_count(count, unit)} {'MB' if unit == 'B' else unit}"


def _count(count: int, unit: str) -> str:
    return f"{count / 1e6:,.1f}" if unit == "B" else f"{count:,}"


def duration(seconds: float) -> str:
    """Hours and minutes, minutes and seconds, or seconds, in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
