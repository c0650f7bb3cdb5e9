"""errors.md: every class of error, what has happened and what to do, from the docstrings of `errors`."""

from __future__ import annotations

from inspect import cleandoc

from yolov9bench import errors
from yolov9bench.errors import BenchError

HEAD = """# Errors

<!-- Written by `python -m yolov9bench report` from yolov9bench/errors.py: change that, not this. -->

Every error that a user can correct is one sentence on stderr, which names the offender and ends with the
remedy; the exit status is 2. From Python it is an exception of one of these classes. Ctrl-C ends a command
with one line and status 130, SIGTERM with one line and status 143. A traceback is a fault of this library:
please report it.

| class | what has happened | what to do |
| :- | :- | :- |
"""


def error_classes() -> list[type[BenchError]]:
    """The classes of `errors`, in the order in which they stand there."""
    return [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, BenchError)]


def render_page() -> str:
    """The page as Markdown; a class that is a kind of another one says so."""
    return HEAD + "".join(f"{_line(each)}\n" for each in error_classes())


def _line(kind: type[BenchError]) -> str:
    happened, remedy = (" ".join(part.split()) for part in cleandoc(str(kind.__doc__)).split("\n\n"))
    parent = kind.__bases__[0]
    name = f"`{kind.__name__}`" + (
        f", a `{parent.__name__}`" if parent not in (BenchError, Exception) else ""
    )
    return f"| {name} | {happened} | {remedy} |"
